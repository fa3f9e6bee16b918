"""From a notebook to a page: papermill runs it, nbconvert renders it, an index lists all pages.

Pages are complete in themselves: they open from a file, offline, and run no script but their own,
and plotly's, from a file beside them, where they have figures to explore.
"""

import ast
import math
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import nbformat
import papermill
import zmq
from bs4 import BeautifulSoup
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from papermill.execute import ERROR_MARKER_TAG, raise_for_execution_errors
from pydantic import NonNegativeInt, TypeAdapter, ValidationError
from traitlets import default
from traitlets.config import Config

from refit.errors import ReportError
from refit.files import read_json, write_bytes, write_json
from refit.pages import tables
from refit.pages.templating import PLOTLY, TEMPLATES, page, trusted
from refit.run_directory.directory import PAGE
from refit.verdicts import scoreboard

PROFILES = {
    "smoke": "A few trials of every sweep on embedded data, trained briefly: it shows that"
    " everything runs, and its numbers are not comparable with the published ones.",
    "small": "The real images, cut down so that an experiment takes an hour or two on a laptop:"
    " rankings and the direction of effects can be judged, numbers cannot.",
    "full": "As published: all images, all trials, all epochs.",
}
# Marks the cells whose output is deterministic, for nbval.
COMPARED = "# NBVAL_CHECK_OUTPUT"
# Of an output's representations the first that a page can show without foreign scripts.
SHOWN = ["text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/plain"]


class NotebookFailed(ReportError):  # noqa: N818 - says what happened, as a sentence
    """A cell raised an error. `cell` is its number in brackets, as in `In [4]`."""

    def __init__(self, notebook: Path, cell: int | None, error: str, message: str):
        super().__init__(f"{notebook}: cell In [{cell}] failed with {error}: {message}")
        self.cell, self.error, self.message = cell, error, message


class CurrentPython(AsyncKernelManager):
    """Starts kernels with the Python that runs now, and talks with them in cipher.

    An installed kernel called "python3" may belong to another environment; here no installed
    kernels are looked at, which leaves the one that ipykernel makes for this interpreter. Without
    keys every kernel would warn that other users of the machine can listen.
    """

    def __init__(self, **options):
        super().__init__(**options)
        self.curve_publickey, self.curve_secretkey = zmq.curve_keypair()

    @default("kernel_spec_manager")
    def _only_this_python(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


def execute(notebook: Path, output: Path, parameters: Mapping[str, Any]) -> None:
    """Run a notebook from top to bottom in this Python and this folder and keep it as `output`.

    `parameters` replace those of the cell tagged `parameters`. `output` appears when the run has
    ended, also when it failed: then it holds everything up to the failing cell, with papermill's
    banner. Raises ReportError for a parameter that the notebook does not have, where papermill
    would only warn, or that is of another type there, and NotebookFailed for a failing cell.
    """
    notebook, output = Path(notebook), Path(output)
    _check_parameters(notebook, parameters)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.stem}.partial.ipynb")
    try:
        _run(notebook, partial, parameters)
    except PapermillExecutionError as error:
        raise NotebookFailed(notebook, error.exec_count, error.ename, error.evalue) from None
    finally:
        if partial.exists():
            partial.replace(output)


def _check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> None:
    try:
        known = papermill.inspect_notebook(notebook)
    except FileNotFoundError:
        raise ReportError(f"{notebook}: there is no such notebook") from None
    except (ValueError, nbformat.ValidationError) as error:
        raise ReportError(f"{notebook} is not a notebook that can be run: {error}") from error
    if unknown := sorted(set(parameters) - set(known)):
        choices = ", ".join(known) or "none: no cell is tagged 'parameters'"
        raise ReportError(f"{notebook} has no parameter {', '.join(unknown)}; it has {choices}")
    for name, value in parameters.items():
        # A text would be true, whatever it says, where True or False is meant.
        with suppress(ValueError, SyntaxError):
            example = ast.literal_eval(known[name]["default"])
            if type(value) is not type(example):
                raise ReportError(
                    f"{notebook}: parameter {name} is {value!r}; give a {type(example).__name__}, "
                    f"as {example!r} is"
                )


def _run(notebook: Path, partial: Path, parameters: Mapping[str, Any]) -> None:
    try:
        papermill.execute_notebook(
            notebook,
            partial,
            parameters=dict(parameters),
            kernel_name=NATIVE_KERNEL_NAME,
            kernel_manager_class=CurrentPython,
            progress_bar=False,
        )
    except DeadKernelError:
        # papermill leaves no trace of it: note it in the last started cell, like any other error.
        executed = nbformat.read(partial, nbformat.NO_CONVERT)
        started = [cell for cell in executed.cells if cell.metadata.papermill.start_time]
        message = "the kernel was killed, perhaps because memory ran out"
        started[-1].outputs.append(
            nbformat.v4.new_output(
                "error", ename="DeadKernelError", evalue=message, traceback=[message]
            )
        )
        raise_for_execution_errors(executed, str(partial))


def refresh(notebook: Path) -> None:
    """Run a notebook as committed and keep in it only the outputs that nbval compares.

    Those are the outputs of the cells that begin with nbval's mark; all others stay empty, so that
    a committed notebook never shows results of a machine. Raises NotebookFailed.
    """
    source = nbformat.read(notebook, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        executed = Path(folder) / notebook.name
        execute(notebook, executed, {})
        outputs = {cell.id: cell.get("outputs") for cell in nbformat.read(executed, 4).cells}
    code = [cell for cell in source.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        compared = cell.source.startswith(COMPARED)
        cell.outputs = outputs[cell.id] if compared else []
        # nbval takes outputs without a number for damage.
        cell.execution_count = number if compared else None
    write_bytes(notebook, nbformat.writes(source).encode())


def render(executed: Path, page_path: Path, title: str) -> None:
    """Write an executed notebook as one self-contained HTML file.

    Code is folded, outputs are open, level-two headings make the contents. A notebook that failed
    gets a banner that leads to the failing cell. Figures to explore need plotly's script, which is
    put beside the page. Raises ReportError where `executed` is no notebook.
    """
    try:
        notebook = nbformat.read(executed, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise ReportError(f"{executed} cannot be read as a notebook: {error}") from error
    failure = _failure(notebook)
    if notebook.cells and ERROR_MARKER_TAG in notebook.cells[0].metadata.get("tags", []):
        del notebook.cells[0]  # papermill's banner; the page has its own
    exporter = HTMLExporter(
        config=Config(
            NbConvertBase={"display_data_priority": SHOWN},
            # Of a progress bar only its last state.
            CoalesceStreamsPreprocessor={"enabled": True},
        ),
        extra_template_basedirs=[str(TEMPLATES)],
        template_name="notebook",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        anchor_link_text="",
    )
    cells, _ = exporter.from_notebook_node(notebook)
    soup = BeautifulSoup(cells, "html.parser")
    explorable = soup.select_one(".explorable") is not None
    if explorable:
        _provide_plotly(Path(page_path).with_name(PLOTLY))
    html = page(
        "report.html.j2",
        explorable=explorable,
        title=title,
        failure=failure,
        headings=[
            {"anchor": heading["id"], "text": heading.get_text()}
            for heading in soup.select("h2[id]")
        ],
        has_heading=soup.h1 is not None,
        cells=trusted(cells),
    )
    write_bytes(Path(page_path), html.encode())


def _provide_plotly(path: Path) -> None:
    """Copy the installed plotly's script to `path`, unless that is what lies there."""
    script = (resources.files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    if not path.exists() or path.read_bytes() != script:
        write_bytes(path, script)


def _failure(notebook: NotebookNode) -> str:
    """Which cell failed and how, in a few words; empty where none did."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return f"Cell In [{cell.execution_count}] raised {output.ename}: {output.evalue}"
    return ""


@dataclass(frozen=True)
class PageEntry:
    """One page's line in the index. `name` is the page's file name without its ending.

    `digests` are the SHA-256 sums of the measurements that the page was made from, by file name;
    `inputs` and `outputs` are those of `refit.pages.freshness`.
    """

    name: str
    title: str
    status: Literal["finished", "failed"]
    summary: str
    trials_done: NonNegativeInt
    trials_total: NonNegativeInt
    seconds: float
    data: str
    hardware: str = ""
    digests: dict[str, str] = field(default_factory=dict)
    inputs: str = ""
    outputs: str = ""


def record_page(folder: Path, entry: PageEntry) -> None:
    """Keep a page's entry as folder/<name>/page.json, from which later runs write the index."""
    write_json(Path(folder) / entry.name / PAGE, asdict(entry))


def write_index(folder: Path) -> Path:
    """Write folder/index.html over all recorded pages, of this run and of earlier ones.

    The folder's name is the profile. A record that cannot be read gets a row that says so. Below
    the pages stands the scoreboard, whose counts are also stored as verdicts.json and .csv.
    """
    folder = Path(folder)
    board = scoreboard.collect(folder)
    board.save(folder)
    entries, damaged = [], []
    for path in sorted(folder.glob(f"*/{PAGE}")):
        try:
            entry = TypeAdapter(PageEntry).validate_python(read_json(path))
            entries.append(asdict(entry) | {"duration": _duration(entry.seconds)})
        except ValidationError:
            damaged.append(str(path.relative_to(folder)))
    html = page(
        "index.html.j2",
        title=f"Reproduced reports, profile {folder.name}",
        explanation=PROFILES.get(folder.name, ""),
        entries=entries,
        damaged=damaged,
        tables=[trusted(table.data) for table in tables.scoreboard_tables(board).values()],
    )
    index = folder / "index.html"
    write_bytes(index, html.encode())
    return index


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "time unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
