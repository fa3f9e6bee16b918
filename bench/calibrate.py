"""How often a verdict is wrong, and how often a true difference is found: `make calibrate`.

Accuracies are made up, with as many claims as an experiment's declaration has. A third of them are
true, by so many standard deviations of one training; the rest compare trials that do not differ, so
that each verdict on them is wrong. All draws of a cell are decided at once, by the package's own
prior; the first of them are also judged one by one, by `claims.judge`, which must say the same.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy import special, stats

from refit import files, paths
from refit.experiments import expand
from refit.experiments.declaration import FULL, Declaration, Profile, Source, Sweep
from refit.experiments.predicates import Claim
from refit.run_directory.log import RunLog
from refit.verdicts import claims, moderated, words
from refit.verdicts.interval_tests import LEVEL

EXPERIMENTS = ("cifar10", "fmnist_zoo")
SEEDS = (3, 5)
EFFECTS = (0.0, 2.0, 3.0)  # standard deviations of one training
TRUE_SHARE = 1 / 3
DEVIATION = 0.01
# By how much trials' deviations differ (of the logarithm), and on how many images each is measured.
CONDITIONS = {
    "equal spreads": (0.0, 0),
    "unequal spreads": (0.6, 0),
    "unequal spreads, 1,000 images": (0.6, 1000),
}
# Where nothing is true a single wrong verdict is all that there is, so it takes more draws to know.
DRAWS = {0.0: 4000, 2.0: 1000, 3.0: 1000}
JUDGED = 2
# What five seeds must find, by the size of the difference.
POWER = {2.0: 0.25, 3.0: 0.85}
CAPS = (2.0, 3.0, 4.0, 30.0)
RECORD = "calibration.md"
PAGE = """# How often verdicts are wrong

Made by `make calibrate`: accuracies are made up and judged, with as many claims as the
declarations of cifar10 and fmnist_zoo have. A third of them are true, by so many
standard deviations of one training; the others compare equal trials. The first
{judged} draws of every cell were also judged by `claims.judge`, with the same verdicts.

Wrong: where nothing is true, the share of experiments with any verdict; else the false
discovery rate, the mean share of wrong verdicts among those given; with its Monte Carlo
standard error. Power: the share of true differences found. A difference of two trainings
scatters 1.4 times as much as one of them.

## Are the goals met?

Wrong verdicts in at most {level:.0%} of experiments where nothing is true.

{}

The prior that pools spreads is worth at most so many degrees of freedom; with more, true
differences of spread are taken for chance, with less, fewer differences are found.

| at most | wrong where nothing is true, worst cell | goals |
|---|---|---|
{}

## All cells

| claims | seeds | condition | difference | draws | wrong | power |
|---|---|---|---|---|---|---|
{}
"""


@dataclass(frozen=True)
class Cell:
    """What was made up: `effect` 0 means that no claim is true."""

    claims: int
    seeds: int
    condition: str
    effect: float

    @property
    def true(self) -> np.ndarray:
        """Which claims are true."""
        return np.arange(self.claims) < round(TRUE_SHARE * self.claims * (self.effect > 0))

    @property
    def images(self) -> int:
        return CONDITIONS[self.condition][1] or 10_000


def accuracies(cell: Cell, draws: int) -> np.ndarray:
    """Made-up accuracies by draw, claim, side and seed; always the same of a cell."""
    uneven, images = CONDITIONS[cell.condition]
    place = list(CONDITIONS).index(cell.condition)
    random = np.random.default_rng([cell.claims, cell.seeds, place, int(10 * cell.effect)])
    deviation = DEVIATION * np.exp(uneven * random.normal(size=(draws, cell.claims, 2, 1)))
    values = 0.8 + deviation * random.normal(size=(draws, cell.claims, 2, cell.seeds))
    # In a claim's own terms: the root mean square of its two deviations.
    typical = np.sqrt((deviation**2).mean(axis=2))
    values[:, :, 0] += cell.effect * typical * cell.true[:, None]
    return np.round(values * images) / images if images else values


def decide(
    cell: Cell, values: np.ndarray, most: float = moderated.MOST_PRIOR_FREEDOM
) -> np.ndarray:
    """The verdicts on accuracies, by draw and claim: 1 reproduced, -1 contradicted, 0 none."""
    differences = values[:, :, 0] - values[:, :, 1]
    step = 1 / cell.images
    variances = np.maximum(differences.var(axis=2, ddof=1) / 2, step**2)
    counts = np.full(cell.claims, cell.seeds)
    priors = [moderated.prior_of(each, counts, most) for each in variances]
    moved = [
        prior.moderate(each, cell.seeds - 1) for prior, each in zip(priors, variances, strict=True)
    ]
    freedom = np.array([[freedom] for _, freedom in moved])
    error = np.sqrt(2 * np.maximum([each for each, _ in moved], step**2) / cell.seeds)
    means = differences.mean(axis=2)
    p = 2 * special.stdtr(freedom, -np.abs(means) / error)
    return np.sign(means) * (stats.false_discovery_control(p, axis=1) <= LEVEL)


def judge(cell: Cell, values: np.ndarray) -> np.ndarray:
    """The same as `decide` of a single draw, by the public entry point."""
    declaration, frame = _experiment(cell)
    log = RunLog(frame.assign(test_accuracy=values.ravel()), pd.DataFrame())
    verdicts = claims.judge(declaration, FULL, log)["verdict"]
    return verdicts.map({words.REPRODUCED: 1, words.CONTRADICTED: -1}).fillna(0).to_numpy()


def rates(cell: Cell, draws: int = 0, **settings: float) -> dict[str, object]:
    """What a cell's verdicts are worth.

    `wrong` is the false discovery rate, which is, where nothing is true, the share of experiments
    with any verdict; `error` its Monte Carlo standard error, `power` the share of true differences
    found.
    """
    verdicts = decide(cell, accuracies(cell, draws or DRAWS[cell.effect]), **settings)
    found = (verdicts > 0) & cell.true
    decided = (verdicts != 0).sum(axis=1)
    wrong = (decided - found.sum(axis=1)) / np.maximum(decided, 1)
    power = found[:, cell.true].mean() if cell.effect else np.nan
    error = wrong.std() / np.sqrt(len(wrong))
    return vars(cell) | {"draws": len(wrong), "wrong": wrong.mean(), "error": error, "power": power}


def cells() -> list[Cell]:
    """All cells, with the numbers of claims that can be decided in principle."""
    counts = [sum(bool(each.holds) for each in expand.load(n).claims) for n in EXPERIMENTS]
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
        sweeps={"pairs": Sweep.model_construct(title="pairs", seeds={FULL: cell.seeds})},
        source=Source.model_construct(processor="CPU"),
    )
    names = [(f"{side}{n}", seed) for n in range(cell.claims) for side in "ab"
             for seed in range(cell.seeds)]  # fmt: skip
    frame = pd.DataFrame(names, columns=["trial", "seed"])
    frame = frame.assign(title=frame["trial"])
    return declaration, frame.assign(
        sweep="pairs", status="done", planned_epochs=1, published_epochs=1, test_images=cell.images
    )


def main() -> None:
    """Measure all cells, check some draws of each against the entry point, write the table."""
    for cell in cells():
        for values in accuracies(cell, JUDGED):
            if (judge(cell, values) != decide(cell, values[None])[0]).any():
                raise SystemExit(f"{cell}: claims.judge decides otherwise")
    tables = {cap: pd.DataFrame([rates(cell, most=cap) for cell in cells()]) for cap in CAPS}
    files.write_bytes(paths.ROOT / "reports" / RECORD, _page(tables).encode())


def goals(table: pd.DataFrame) -> dict[str, bool]:
    """Whether some cells meet the goals, each said in words with what was measured."""
    null, five = table[table["effect"] == 0], table[table["seeds"] == 5]
    worst = null.loc[null["wrong"].idxmax()]
    said = (
        f"at most {worst['wrong']:.3f} ± {worst['error']:.3f} of experiments have a wrong verdict"
    )
    found = {said: worst["wrong"] <= LEVEL}
    for effect, least in POWER.items():
        if len(powers := five.loc[five["effect"] == effect, "power"]):
            said = f"five seeds find at least {powers.min():.3f} of differences of {effect:g}"
            found[f"{said} standard deviations (goal {least})"] = powers.min() >= least
    return found


def _page(tables: dict[float, pd.DataFrame]) -> str:
    table = tables[moderated.MOST_PRIOR_FREEDOM]
    said = []
    for (condition, seeds), group in table.groupby(["condition", "seeds"], sort=False):
        found = [f"{text}: {'met' if met else 'NOT MET'}" for text, met in goals(group).items()]
        said.append(f"- {condition.capitalize()}, {seeds} seeds: {'; '.join(found)}.")
    compared, rows = [], []
    for cap, measured in tables.items():
        mark = " (used)" if measured is table else ""
        worst = measured.loc[measured["effect"] == 0, "wrong"].max()
        missed = "; ".join(f"missed: {text}" for text, met in goals(measured).items() if not met)
        compared.append(f"| {cap:g}{mark} | {worst:.3f} | {missed or 'met'} |")
    for row in table.itertuples():
        power = "" if np.isnan(row.power) else f"{row.power:.2f}"
        start = f"| {row.claims} | {row.seeds} | {row.condition} | {row.effect:g} | {row.draws} |"
        rows.append(f"{start} {row.wrong:.3f} ± {row.error:.3f} | {power} |")
    return PAGE.format(*map("\n".join, (said, compared, rows)), judged=JUDGED, level=LEVEL)


if __name__ == "__main__":
    main()
