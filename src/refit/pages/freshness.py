"""Whether a page still says what making it again would say, so that this can be left out.

Making a page means running its notebook, for seconds to minutes. So beside a page stands a digest
of all that it was made from and those of all that was made; while they hold, it stays as it is.
"""

import hashlib
import json
import platform
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from refit import files, paths
from refit.pages.templating import PLOTLY
from refit.run_directory.directory import PAGE
from refit.study import Study

PACKAGE = Path(__file__).parent.parent


def is_unchanged(study: Study, parameters: Mapping[str, Any]) -> bool:
    """Whether a run of the notebook with these parameters would make the page that is there.

    False wherever a trial has no result, because the run would try it again.
    """
    entry = files.read_json(study.pages / PAGE)
    if not isinstance(entry, dict) or entry.get("status") != "finished":
        return False
    return (
        entry.get("trials_done") == entry.get("trials_total")
        and entry.get("inputs") == inputs(study, recipe(study, parameters))
        and entry.get("digests") == digests(study.pages.with_suffix(".html"))
    )


def recipe(study: Study, parameters: Mapping[str, Any]) -> str:
    """The digest of what says how the page is made, whatever the trainings have left.

    Notebook, declaration, this package's source, the trials, which name their data by fingerprint,
    the parameters, and the versions of all packages. Taken before the page is made, so that a
    change in the meantime is noticed by the next run.
    """
    own = [path for path in sorted(PACKAGE.rglob("*")) if "__pycache__" not in path.parts]
    return _digest(
        files.digest(paths.NOTEBOOKS / f"{study.name}.ipynb"),
        files.digest(paths.EXPERIMENTS / f"{study.name}.yaml"),
        _contents(own, PACKAGE),
        [str(trial.directory) for trial in study.trials],
        sorted(parameters.items()),
        packages(),
        platform.python_version(),
    )


@cache
def packages() -> tuple[str, ...]:
    """All installed packages with their versions, which cannot change while they are in use."""
    return tuple(sorted(f"{found.name} {found.version}" for found in distributions()))


def inputs(study: Study, made_by: str) -> str:
    """The digest of a recipe and of what trainings and searches have left in the runs.

    Of these files, which can be large, size and time of change stand for the content.
    """
    # What lies directly in the folder is about the run: its progress, the executed notebook.
    found = sorted(study.runs.glob("*/**/*"))
    return _digest(made_by, [(_name(path, study.runs), *_state(path)) for path in found])


def digests(page: Path) -> dict[str, str]:
    """The SHA-256 sums of a page and of all that lies with it, by path beside the index.

    What is missing is left out, and so is the record that holds these sums.
    """
    beside = page.with_suffix("")
    made = [page, *sorted(path for path in beside.rglob("*") if path.name != PAGE)]
    with suppress(OSError, ValueError):
        if PLOTLY in page.read_text("utf-8"):
            made.append(page.with_name(PLOTLY))
    return dict(_contents([path for path in made if path.is_file()], page.parent))


def _state(path: Path) -> tuple[int, ...]:
    """Size and time of change of a file; empty for a folder and for what has just gone."""
    try:
        state = path.stat()
    except OSError:
        return ()
    return (state.st_size, state.st_mtime_ns) if stat.S_ISREG(state.st_mode) else ()


def _contents(found: Iterable[Path], folder: Path) -> list[tuple[str, str]]:
    return [(_name(path, folder), files.digest(path)) for path in found]


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
