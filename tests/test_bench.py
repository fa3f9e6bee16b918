"""The benchmark's smallest measurement, as make runs it, and how goals are judged."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from bench.measure import Series
from refit import paths


def test_benchmark_writes_a_table_and_the_raw_numbers(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "bench", "resume", "--tiny", "--rounds", "2"],
        cwd=paths.ROOT, env=os.environ | {"REFIT_REPORTS": str(tmp_path)}, check=True,
    )  # fmt: skip
    page = (tmp_path / "bench_resume.md").read_text()
    assert "| resume check of 20 finished trials | refit | 0." in page
    assert "|  | 2 |  | at most 1 s | yes |" in page
    raw = pd.read_csv(tmp_path / "bench_resume.csv")
    assert list(raw["round"]) == [1, 2]
    assert ((raw["value"] > 0) & (raw["value"] < 1)).all()


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        ({"most": 3.0}, "yes"),
        ({"most": 2.9}, "no"),
        ({"least": 3.0}, "yes"),
        ({"least": 3.1}, "no"),
        ({"least_ratio": 2.0}, "yes"),
        ({"least_ratio": 2.1}, "no"),
        ({"most_ratio": 2.0}, "yes"),
        ({"most_ratio": 1.9}, "no"),
        ({}, ""),
    ],
)
def test_goal_is_met_by_the_median_or_by_the_median_ratio_of_the_rounds(goal, met):
    other = Series("what", "refit", [1.0, 1.0, 40.0])
    one = Series("what", "another way", [2.0, 3.0, 80.0], against=other, **goal)
    assert (one.median, one.ratio, one.met) == (3.0, 2.0, met)
