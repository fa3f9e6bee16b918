"""Verdicts on made-up logs are rarely wrong, and find what is there; `make calibrate` says more."""

import pytest

from bench.calibrate import Cell, decisions


@pytest.mark.parametrize(
    ("seeds", "condition"), [(5, "equal spreads"), (3, "unequal spreads, 1,000 images")]
)
def test_where_nothing_differs_few_experiments_have_a_verdict(seeds, condition):
    """At a true rate of five percent, 6 of 30 draws or more have one in 0.3 % of the cases."""
    table = decisions(Cell(30, seeds, condition, 0.0), draws=30)
    assert (table["decided"] > 0).sum() <= 5


@pytest.mark.parametrize(("effect", "power"), [(2.0, 0.25), (3.0, 0.85)])
def test_five_seeds_find_what_differs(effect, power):
    table = decisions(Cell(60, 5, "unequal spreads", effect), draws=5)
    assert table["found"].sum() >= power * table["true"].sum()
    assert table["wrong"].sum() <= 0.1 * table["decided"].sum()
