"""Verdicts on made-up logs are rarely wrong, and find what is there; `make calibrate` says more."""

import numpy as np
import pytest

from bench.calibrate import CONDITIONS, POWER, Cell, accuracies, decide, judge, rates

# Draws enough that a rate of four in a hundred is not taken for one of five.
DRAWS = 1000
UNEQUAL = [name for name, (uneven, _) in CONDITIONS.items() if uneven]


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("condition", UNEQUAL)
def test_where_nothing_differs_few_experiments_have_a_verdict(seeds, condition):
    found = rates(Cell(96, seeds, condition, 0.0), DRAWS)
    assert found["wrong"] <= 0.05


def test_a_prior_that_is_worth_more_would_decide_wrongly():
    assert rates(Cell(96, 3, "unequal spreads", 0.0), DRAWS, most=30)["wrong"] > 0.06


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("effect", POWER)
def test_five_seeds_find_what_differs(effect, condition):
    found = rates(Cell(96, 5, condition, effect), draws=200)
    assert found["power"] >= POWER[effect]
    assert found["wrong"] <= 0.05


@pytest.mark.parametrize("condition", CONDITIONS)
def test_claims_are_judged_as_the_calibration_decides(condition):
    cell = Cell(60, 5, condition, 2.0)
    made = accuracies(cell, 2)
    verdicts = [judge(cell, each) for each in made]
    assert np.array_equal(verdicts, decide(cell, made))
    assert np.any(verdicts)
