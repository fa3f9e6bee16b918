"""Where things are: one place for the folders that environment variables can move.

`REFIT_RUNS`, `REFIT_REPORTS` and `DATA_DIR` move the results, the pages and the data sets. Relative
values are taken from the checkout, because kernels run in other folders than the commands that
start them. Everything else lives in the checkout.
"""

import contextlib
import os
from pathlib import Path

from refit.errors import DeclarationError

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parents[1]
EXPERIMENTS = ROOT / "experiments"
NOTEBOOKS = ROOT / "notebooks"
# The results of record: see `refit.run_directory.archive`.
PACKS = ROOT / "results" / "packs"
# Trained networks: see `refit.exports.networks`.
NETWORKS = ROOT / "results" / "networks"


def runs() -> Path:
    """The folder of run directories, `runs/` in the checkout unless `REFIT_RUNS` names another."""
    return _named("REFIT_RUNS") or ROOT / "runs"


def keep_runs_in(folder: Path | None) -> None:
    """Let the runs, with cache, log and times, be in a folder from now on, in kernels and trainings
    too; None stands for the folder that the user's environment names."""
    if _moved and os.environ.get("REFIT_RUNS") == _moved[0]:
        os.environ.pop("REFIT_RUNS")
        os.environ.update({"REFIT_RUNS": _moved[1]} if _moved[1] else {})
    _moved.clear()
    if folder is not None:
        _moved.extend([str(folder), os.environ.get("REFIT_RUNS", "")])
        os.environ["REFIT_RUNS"] = str(folder)


# Where a study has moved the runs to, and where they were before.
_moved: list[str] = []


def reports() -> Path:
    """The folder of generated pages, `reports/` unless `REFIT_REPORTS` names another."""
    return _named("REFIT_REPORTS") or ROOT / "reports"


def data() -> Path | None:
    """The folder that holds the user's data sets (`DATA_DIR`), or None where none is named."""
    return _named("DATA_DIR")


def cache() -> Path:
    """The folder of decoded, memory-mapped arrays."""
    return runs() / "cache"


def home() -> Path | None:
    """The user's home; None where there is none, or nothing can be kept there, as for a container's
    user without an entry among the system's."""
    try:
        found = Path.home()
    except RuntimeError:
        return None
    is_own = found != Path(found.anchor) and found.is_dir() and os.access(found, os.W_OK)
    return found if is_own else None


def provide_home() -> None:
    """Libraries keep settings and caches at home, and some stop where there is none: lend them a
    folder beside the results."""
    if home() is None:
        os.environ["HOME"] = str(runs() / "home")
        with contextlib.suppress(OSError):  # told of by what needs the folder of runs itself
            Path.home().mkdir(parents=True, exist_ok=True)


def folder(variable: str, value: str | Path, base: Path | None = None) -> Path:
    """The whole path of a folder that a user named, be it there or not yet.

    A relative one begins at `base`, by default where the process runs. Raises DeclarationError,
    which names the `variable`, for what is no folder.
    """
    try:
        path = ((base or Path.cwd()) / Path(value).expanduser()).resolve()
        if path.is_dir() or not path.exists():
            return path
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise DeclarationError(f"{variable}: {value!r} cannot be a folder ({error})") from error
    raise DeclarationError(f"{variable}: {path} is not a folder")


def _named(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return folder(variable, value, ROOT) if value else None
