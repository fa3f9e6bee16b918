"""Where things are: one place for the folders that environment variables can move.

`REFIT_RUNS`, `REFIT_REPORTS` and `DATA_DIR` move the results, the pages and the data sets. Relative
values are taken from the checkout, because kernels run in other folders than the commands that
start them. Everything else lives in the checkout.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "experiments"
NOTEBOOKS = ROOT / "notebooks"


def runs() -> Path:
    """The folder of run directories, `runs/` in the checkout unless `REFIT_RUNS` names another."""
    return _named("REFIT_RUNS") or ROOT / "runs"


def reports() -> Path:
    """The folder of generated pages, `reports/` unless `REFIT_REPORTS` names another."""
    return _named("REFIT_REPORTS") or ROOT / "reports"


def data() -> Path | None:
    """The folder that holds the user's data sets (`DATA_DIR`), or None where none is named."""
    return _named("DATA_DIR")


def cache() -> Path:
    """The folder of decoded, memory-mapped arrays."""
    return runs() / "cache"


def _named(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return (ROOT / Path(value).expanduser()).resolve() if value else None
