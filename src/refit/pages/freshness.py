"""Whether a page still says what making it again would say, so that this can be left out.

Making a page means running its notebook, for seconds to minutes. So beside a page stands a digest
of all that it was made from and those of all that was made; while they hold, it stays as it is.
"""

import hashlib
import json
import platform
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


def is_unchanged(study: Study, parameters: Mapping[str, Any]) -> bool:
    """Whether a run of the notebook with these parameters would make the page that is there.

    False wherever a trial has no result, because the run would try it again.
    """
    entry = files.read_object(study.pages / PAGE)
    return (
        entry.get("status") == "finished"
        and entry.get("trials_done") == entry.get("trials_total")
        and entry.get("inputs") == inputs(study, recipe(study, parameters))
        and entry.get("digests") == digests(study.pages)
    )


def recipe(study: Study, parameters: Mapping[str, Any]) -> str:
    """The digest of what says how the page is made, whatever the trainings have left.

    Notebook, declaration, this package's source, the trials, which name their data by fingerprint,
    the parameters, and the versions of all packages. Taken before the page is made, so that a
    change in the meantime is noticed by the next run.
    """
    own = [path for path in sorted(paths.PACKAGE.rglob("*")) if "__pycache__" not in path.parts]
    return _digest(
        files.digest(paths.NOTEBOOKS / f"{study.name}.ipynb"),
        files.digest(paths.EXPERIMENTS / f"{study.name}.yaml"),
        _contents(own, paths.PACKAGE),
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
    states = []
    # What lies directly in the folder is about the run: its progress, the executed notebook.
    for path in sorted(study.runs.glob("*/**/*")):
        with suppress(FileNotFoundError):  # it has just gone
            state = path.stat()
            seen = (state.st_size, state.st_mtime_ns) if path.is_file() else ()
            states.append((str(path.relative_to(study.runs)), *seen))
    return _digest(made_by, states)


def digests(pages: Path) -> dict[str, str]:
    """The SHA-256 sums of a page and of all in its folder `pages`, by path beside the index.

    What is missing is left out, and so is the record that holds these sums.
    """
    page = pages.with_name(f"{pages.name}.html")
    made = [page, *sorted(path for path in pages.rglob("*") if path.name != PAGE)]
    with suppress(OSError, ValueError):
        if PLOTLY in page.read_text("utf-8"):
            made.append(page.with_name(PLOTLY))
    return _contents(made, page.parent)


def _contents(found: Iterable[Path], folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): files.digest(path) for path in found if path.is_file()
    }


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
