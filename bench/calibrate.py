"""How often a verdict is wrong, and how often a true difference is found: `make calibrate`.

Logs are made up and pushed through `claims.judge`, with as many claims as an experiment's
declaration has. A third of them are true, by so many standard deviations of one training; the
rest compare trials that do not differ, so that each verdict on them is wrong.
"""

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from refit import files, paths
from refit.experiments import expand
from refit.experiments.declaration import FULL, Declaration, Profile, Source, Sweep
from refit.experiments.predicates import Claim
from refit.run_directory.log import RunLog
from refit.verdicts import claims, words

EXPERIMENTS = ("cifar10", "fmnist_zoo")
SEEDS = (3, 5)
EFFECTS = (0.0, 2.0, 3.0)  # standard deviations of one training
TRUE_SHARE = 1 / 3
DEVIATION = 0.01
# Where nothing is true a single wrong verdict is all that there is, so it takes more draws to know.
MORE_DRAWS = 3
# By how much trials' deviations differ (of the logarithm), and on how many images each is measured.
CONDITIONS = {
    "equal spreads": (0.0, 0),
    "unequal spreads": (0.6, 0),
    "unequal spreads, 1,000 images": (0.6, 1000),
}
MINUTES = 8
PROCESSES = 2
RECORD = "calibration.md"


@dataclass(frozen=True)
class Cell:
    """What was made up: `effect` 0 means that no claim is true."""

    claims: int
    seeds: int
    condition: str
    effect: float


def decisions(cell: Cell, draws: int) -> pd.DataFrame:
    """One row per draw: how many verdicts were given, how many of them wrong, and found of true."""
    place = list(CONDITIONS).index(cell.condition)
    random = np.random.default_rng([cell.claims, cell.seeds, place, int(10 * cell.effect)])
    declaration, frame = _experiment(cell)
    true = np.arange(cell.claims) < round(TRUE_SHARE * cell.claims * (cell.effect > 0))
    rows = []
    for _ in range(draws):
        results = frame.assign(test_accuracy=_accuracies(cell, true, random).ravel())
        verdicts = claims.judge(declaration, FULL, RunLog(results, pd.DataFrame()))["verdict"]
        decided = verdicts.isin([words.REPRODUCED, words.CONTRADICTED]).to_numpy()
        found = (verdicts == words.REPRODUCED).to_numpy() & true
        rows.append((decided.sum(), (decided & ~found).sum(), found.sum(), true.sum()))
    return pd.DataFrame(rows, columns=["decided", "wrong", "found", "true"])


def rates(cell: Cell, draws: int) -> dict[str, object]:
    """The false discovery rate of a cell, and its power (none where nothing is true)."""
    table = decisions(cell, draws)
    wrong = (table["wrong"] / table["decided"].clip(lower=1)).mean()
    power = table["found"].sum() / table["true"].sum() if cell.effect else np.nan
    return vars(cell) | {"draws": draws, "wrong": wrong, "power": power}


def cells() -> list[Cell]:
    """All cells, with the numbers of claims that can be decided in principle."""
    counts = []
    for name in EXPERIMENTS:
        declared = expand.load(name).claims
        counts.append(sum(bool(claim.holds) for claim in declared))
    return [Cell(*each) for each in product(counts, SEEDS, CONDITIONS, EFFECTS)]


def _experiment(cell: Cell) -> tuple[Declaration, pd.DataFrame]:
    """A declaration with claims about a pair of trials each, and its log without measurements."""
    compared = {"is": "difference", "metric": "test_accuracy", "low": 0}
    judged = [
        Claim.model_validate(
            {
                "id": str(number), "weight": "detail", "by": "stated", "statement": "a above b",
                "quote": "a above b", "place": "made up",
                "holds": [compared | {"a": f"a{number}", "b": f"b{number}"}],
            }
        )
        for number in range(cell.claims)
    ]  # fmt: skip
    declaration = Declaration.model_construct(
        claims=judged,
        profiles={FULL: Profile(description="made up")},
        sweeps={"pairs": Sweep.model_construct(seeds={FULL: cell.seeds})},
        source=Source.model_construct(processor="CPU"),
    )
    names = [(f"{side}{n}", seed) for n in range(cell.claims) for side in "ab"
             for seed in range(cell.seeds)]  # fmt: skip
    frame = pd.DataFrame(names, columns=["trial", "seed"])
    images = CONDITIONS[cell.condition][1] or 10_000
    return declaration, frame.assign(
        sweep="pairs", status="done", planned_epochs=1, published_epochs=1, test_images=images
    )


def _accuracies(cell: Cell, true: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Accuracies by claim, side and seed."""
    uneven, images = CONDITIONS[cell.condition]
    shape = (cell.claims, 2, 1)
    deviation = DEVIATION * np.exp(uneven * random.normal(size=shape))
    values = 0.8 + deviation * random.normal(size=(cell.claims, 2, cell.seeds))
    # In a claim's own terms: the root mean square of its two deviations.
    typical = np.sqrt((deviation**2).mean(axis=1))
    values[:, 0] += cell.effect * typical * true[:, None]
    return np.round(values * images) / images if images else values


def main(arguments: Sequence[str] = ()) -> None:
    """Measure all cells, each as often as the time allows, and write the table."""
    minutes = float(arguments[0]) if arguments else MINUTES
    every = cells()
    started = time.monotonic()
    decisions(every[-1], 3)
    each = (time.monotonic() - started) / 3
    weights = [1 if cell.effect else MORE_DRAWS for cell in every]
    draws = max(10, int(minutes * 60 * PROCESSES / each / sum(weights)))
    with ProcessPoolExecutor(PROCESSES) as pool:
        rows = list(pool.map(rates, every, [draws * weight for weight in weights]))
    files.write_bytes(paths.ROOT / "reports" / RECORD, _page(pd.DataFrame(rows)).encode())


def _page(table: pd.DataFrame) -> str:
    lines = [
        "# How often verdicts are wrong",
        "",
        "Made by `make calibrate`: logs are made up and judged, with as many claims as the",
        "declarations of cifar10 and fmnist_zoo have. A third of them are true, by so many",
        "standard deviations of one training; the others compare equal trials.",
        "",
        "Wrong: the false discovery rate, the mean share of wrong verdicts among those given.",
        "Power: the share of true differences found. A difference of two trainings scatters 1.4",
        "times as much as one of them.",
        "",
        "| claims | seeds | condition | difference | draws | wrong | power |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in table.itertuples():
        power = "" if np.isnan(row.power) else f"{row.power:.2f}"
        start = f"| {row.claims} | {row.seeds} | {row.condition} | {row.effect:g} | {row.draws} |"
        lines.append(f"{start} {row.wrong:.3f} | {power} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main(sys.argv[1:])
