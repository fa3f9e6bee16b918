"""Trial digests: results of record hang on them, so none may change by accident.

`digests.csv` holds them for one seed of every profile, with the same fingerprint for all data sets,
because a fresh clone lacks the data. Of `full` no line may ever change; where one of another
profile changes on purpose, write the table anew by `python -m tests.test_digests` and say why in
the commit.
"""

import csv
from pathlib import Path

import pytest

from refit.data import sets
from refit.experiments import expand

TABLE = Path(__file__).with_name("digests.csv")
COLUMNS = ("experiment", "profile", "sweep", "trial", "seed", "digest")


def _fixed(spec, data_dir):
    return spec.model_copy(update={"fingerprint": "fixed"})


def digests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The rows of the table as the declarations give them today."""
    monkeypatch.setattr(sets, "resolve", _fixed)
    rows = []
    for name in expand.names():
        declaration = expand.load(name)
        for profile in declaration.profiles:
            rows += [
                (name, profile, trial.sweep, trial.name, str(trial.seed), trial.digest)
                for trial in expand.expand(declaration, profile, 1)
            ]
    return rows


def test_no_digest_changes(monkeypatch):
    with TABLE.open(encoding="utf-8", newline="") as file:
        committed = [tuple(row) for row in csv.reader(file)]
    assert committed == [COLUMNS, *digests(monkeypatch)]


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        rows = digests(patch)
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
