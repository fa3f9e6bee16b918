"""A notebook: papermill runs it, nbconvert turns its cells into HTML."""

import ast
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
import papermill
import zmq
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from markupsafe import Markup
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillException, PapermillExecutionError
from papermill.execute import ERROR_MARKER_TAG, raise_for_execution_errors
from traitlets import default
from traitlets.config import Config

from refit.errors import ReportError
from refit.files import write_bytes
from refit.pages.templating import TEMPLATES, trusted

# Marks the cells whose output is deterministic, for nbval.
COMPARED = "# NBVAL_CHECK_OUTPUT"
# Of an output's representations the first that a page can show without foreign scripts.
SHOWN = ["text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/plain"]


# A kernel on a busy machine or a network's disk takes minutes; one that is dead is noticed at once.
START_SECONDS = 600


class NotebookFailed(ReportError):  # noqa: N818 - says what happened, as a sentence
    """A cell raised an error, or no kernel ran any."""


class CurrentPython(AsyncKernelManager):
    """Starts kernels with the Python that runs now, not that of an installed kernel.

    Without keys every kernel would warn that other users of the machine can listen.
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
    would only warn, or that is of another type there, and NotebookFailed for a failing cell or a
    kernel that does not start.
    """
    _check_parameters(notebook, parameters)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.stem}.partial.ipynb")
    try:
        _run(notebook, partial, parameters)
    except PapermillExecutionError as error:
        place = f"{notebook}: cell In [{error.exec_count}]"
        raise NotebookFailed(f"{place} failed with {error.ename}: {error.evalue}") from None
    except (PapermillException, DeadKernelError, RuntimeError) as error:
        reason = f"{type(error).__name__}: no kernel ran it: {error}"
        raise NotebookFailed(f"{notebook}: failed with {reason}") from error
    finally:
        if partial.exists():
            partial.replace(output)


def _check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> None:
    try:
        known = papermill.inspect_notebook(notebook)
    except (OSError, ValueError, nbformat.ValidationError) as error:
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
    """Run a notebook in a kernel that neither the user's start-up files of IPython reach, nor what
    lies in this folder under a module's name."""
    try:
        with tempfile.TemporaryDirectory() as settings:
            papermill.execute_notebook(
                notebook,
                partial,
                parameters=dict(parameters),
                kernel_name=NATIVE_KERNEL_NAME,
                kernel_manager_class=CurrentPython,
                extra_arguments=[
                    f"--ipython-dir={settings}",
                    "--InteractiveShellApp.ignore_cwd=1",
                    "--log-level=CRITICAL",
                ],
                start_timeout=START_SECONDS,
                progress_bar=False,
            )
    except DeadKernelError:
        # papermill leaves no trace of it: note it in the last started cell, like any other error.
        executed = nbformat.read(partial, nbformat.NO_CONVERT)
        started = [cell for cell in executed.cells if cell.metadata.papermill.start_time]
        if not started:
            raise
        said = "the kernel was killed, perhaps because memory ran out"
        error = {"ename": "DeadKernelError", "evalue": said, "traceback": [said]}
        started[-1].outputs.append(nbformat.v4.new_output("error", **error))
        raise_for_execution_errors(executed, str(partial))


def untrained(notebook: Path, output: Path) -> Path:
    """Write what a notebook can tell before anything is trained: no data, training or results."""
    content, heading, kept = nbformat.read(notebook, as_version=4), "", []
    for cell in content.cells:
        is_code = cell.cell_type == "code"
        if not is_code and cell.source.startswith("## "):
            heading = cell.source.splitlines()[0].removeprefix("## ")
        if is_code and heading == "Claims":
            cell.source = "display(article.claims(study), article.figures(study))"
        if heading not in ("Training", "Results") and not (is_code and heading == "Data"):
            kept.append(cell)
    content.cells = kept
    write_bytes(output, nbformat.writes(content).encode())
    return output


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
    code = (cell for cell in source.cells if cell.cell_type == "code")
    for number, cell in enumerate(code, start=1):
        compared = cell.source.startswith(COMPARED)
        cell.outputs = outputs[cell.id] if compared else []
        # nbval takes outputs without a number for damage.
        cell.execution_count = number if compared else None
    write_bytes(notebook, nbformat.writes(source).encode())


def cells(executed: Path) -> tuple[Markup, str]:
    """The cells of an executed notebook as HTML, and which one failed and how, if one did.

    Code is folded, outputs are open, parameters stand last. Raises ReportError where `executed` is
    no notebook.
    """
    try:
        notebook = nbformat.read(executed, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise ReportError(f"{executed} cannot be read as a notebook: {error}") from error
    failures = [
        f"Cell In [{cell.execution_count}] raised {output.ename}: {output.evalue}"
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]
    if notebook.cells and ERROR_MARKER_TAG in notebook.cells[0].metadata.get("tags", []):
        del notebook.cells[0]  # papermill's banner; the page has its own
    notebook.cells.sort(key=lambda cell: "parameters" in str(cell.metadata.get("tags")))
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
    html, _ = exporter.from_notebook_node(notebook)
    return trusted(html), "".join(failures[:1])
