"""Where things are: one place for the folders that environment variables can move.

`REFIT_RUNS`, `REFIT_REPORTS` and `DATA_DIR` move the results, the pages and the data sets; relative
values are taken from the current folder. Everything else lives in the checkout.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "experiments"
NOTEBOOKS = ROOT / "notebooks"


def runs() -> Path:
    """The folder of run directories, `runs/` in the checkout unless `REFIT_RUNS` names another."""
    return Path(os.environ.get("REFIT_RUNS") or ROOT / "runs").resolve()


def reports() -> Path:
    """The folder of generated pages, `reports/` unless `REFIT_REPORTS` names another."""
    return Path(os.environ.get("REFIT_REPORTS") or ROOT / "reports").resolve()


def data() -> Path | None:
    """The folder that holds the user's data sets (`DATA_DIR`), or None where none is named."""
    named = os.environ.get("DATA_DIR")
    return Path(named).expanduser().resolve() if named else None


def cache() -> Path:
    """The folder of decoded, memory-mapped arrays."""
    return runs() / "cache"
