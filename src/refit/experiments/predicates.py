"""The vocabulary in which a declaration states its claims.

A predicate turns a sentence of a report into something that a measurement can decide: one number
per replicate, and the interval in which the claim wants it. Every kind says in its docstring what
its replicates are; `refit.verdicts.contrasts` measures them.
"""

import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from refit.experiments.metrics import CURVE_METRICS, Metric, Name, Strict

Epochs = tuple[PositiveInt, PositiveInt]
# What a part of a curve is reduced to. `change` is that of its least-squares line from start to
# end, `largest_rise` that from one epoch to the next.
Statistic = Literal["last", "mean", "min", "max", "change", "largest_rise"]


class Selection(Strict):
    """Trials chosen by sweep, name or hyper-parameters, reduced to one number per seed by `take`.

    `where` maps dotted paths of a trial to the wanted value or list of values, for example
    `{optimizer.learning_rate: [0.1, 0.2]}`; `without` leaves trials out by name. `best` is an
    honest selection: the trial that does best in the other seeds, measured in this one. `max` and
    `min` are the extremes of each seed, and `of_best` the number of the trial that has, of the same
    seed, the best `by`: so a report that trained once selects, and so its figures are compared.
    """

    sweep: Name | None = None
    trials: list[Name] = []
    where: dict[str, Any] = {}
    without: list[Name] = []
    take: Literal["mean", "max", "min", "best", "of_best"] = "mean"
    by: Metric | None = None
    smallest: bool = False

    def score(self, metric: str) -> str:
        """The metric by which the best is chosen: `by`, else the usual one of `take`."""
        return self.by or ("best_val_accuracy" if self.take == "of_best" else metric)


Trials = Name | Selection


class Gap(Strict):
    """How far trials lie above others, of the same seed."""

    of: Trials
    over: Trials


def check_epochs(metric: str, epochs: Epochs | None, statistic: str) -> None:
    """Raise ValueError where a part of a curve is asked for that the metric cannot have."""
    if (epochs or statistic != "last") and metric not in CURVE_METRICS:
        raise ValueError(
            f"{metric} has one value per trial, so neither epochs nor a statistic can be given"
        )
    if epochs and epochs[0] > epochs[1]:
        raise ValueError(f"epochs {epochs} run backwards")


class Predicate(Strict):
    """What all predicates share: the metric, and the epochs over which a curve is read."""

    metric: Metric
    epochs: Epochs | None = None
    statistic: Statistic = "last"

    def subjects(self) -> list[Trials]:
        """The trials that the predicate speaks of, by name or as selections."""
        spoken: list[Any] = [getattr(self, field, None) for field in ("trial", "a", "b")]
        spoken += getattr(self, "trials", [])
        sides = [[s.of, s.over] if isinstance(s, Gap) else [s] for s in spoken if s is not None]
        return [trial for side in sides for trial in side]

    @model_validator(mode="after")
    def _epochs_fit(self) -> "Predicate":
        check_epochs(self.metric, self.epochs, self.statistic)
        return self


class Bounded(Predicate):
    """A predicate with an interval; at least one end is given."""

    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _bounds_fit(self) -> "Bounded":
        if self.low is None and self.high is None:
            raise ValueError("give low, high or both")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low} lies above high {self.high}")
        return self


class Value(Bounded):
    """The number of a trial lies in the interval. Replicates: seeds.

    With `inside` the number is the share of the curve's epochs whose value lies between these two.
    """

    kind: Literal["value"] = Field(alias="is")
    trial: Trials
    inside: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _inside_a_curve(self) -> "Value":
        if self.inside and self.metric not in CURVE_METRICS:
            raise ValueError(f"inside: {self.metric} has no curve")
        if self.inside and isinstance(self.trial, Selection):
            raise ValueError("inside: the epochs of a curve are counted, so name one trial")
        return self


class Comparison(Bounded):
    """`a` minus `b`, or `a` over `b`, lies in the interval. Replicates: seeds that both sides have.

    "More" is a difference with `low: 0`, "no more" one with `high` at the width that counts as
    none, "the same" one with both. A side may itself be a `Gap`.
    """

    kind: Literal["difference", "ratio"] = Field(alias="is")
    a: Trials | Gap
    b: Trials | Gap


class InSweep(Predicate):
    """A predicate about settings that a sweep varies."""

    sweep: Name

    def subjects(self) -> list[Trials]:
        return [Selection(sweep=self.sweep)]


class Effect(InSweep, Bounded):
    """The setting `axis` at `a` gives so much more than at `b`, all else being equal.

    Replicates: matched pairs of one sweep's grid, trials that differ in nothing but `axis`, each
    averaged over its seeds first. `a` and `b` are values, or lists of values whose mean counts.
    """

    kind: Literal["effect"] = Field(alias="is")
    axis: str
    a: Any
    b: Any

    def subjects(self) -> list[Trials]:
        """One for each value of the axis that is compared."""
        sides = (side if isinstance(side, list) else [side] for side in (self.a, self.b))
        levels = [level for side in sides for level in side]
        return [Selection(sweep=self.sweep, where={self.axis: level}) for level in levels]

    def axes(self) -> list[str]:
        return [self.axis]


class Separates(InSweep):
    """Each of the settings `strong` tells the trials of a sweep apart better than any of `weak`.

    How well a setting does so is the share of the variance of the metric's ranks that lies between
    its values, adjusted for their number (epsilon squared, Kelley 1935); ranks are not upset by
    infinite times. Replicates: seeds, each of which has the whole grid.
    """

    kind: Literal["separates"] = Field(alias="is")
    strong: list[str] = Field(min_length=1)
    weak: list[str] = Field(min_length=1)

    def axes(self) -> list[str]:
        return [*self.strong, *self.weak]


class Order(Predicate):
    """The trials stand in about this order: their rank correlation with it is `at_least` so high.

    Kendall's, which is 1 for the order itself and 0 for chance; of k pairs of trials each one that
    stands the other way round takes 2/k off. Replicates: seeds that all trials have.
    """

    kind: Literal["order"] = Field(alias="is")
    trials: list[Trials] = Field(min_length=3)
    direction: Literal["descending", "ascending"]
    at_least: float = Field(gt=0, lt=1)


class Share(Bounded):
    """So many of the trials have a number in the interval: `at_least` this share of them.

    Replicates: the trials of a selection, each by the median of its seeds; of a single trial its
    seeds. "All" is read as nine in ten, "most" as more than half, unless a note says otherwise.
    """

    kind: Literal["share"] = Field(alias="is")
    trial: Trials
    at_least: PositiveFloat = Field(lt=1)

    @model_validator(mode="after")
    def _counts_every_trial(self) -> "Share":
        if isinstance(self.trial, Selection) and self.trial.take != "mean":
            raise ValueError("take: every trial of the selection is counted")
        return self


class Repeats(Bounded):
    """Training again with another seed moves the metric by an amount in the interval.

    The amount is the mean absolute difference between the seeds of a trial, divided by their mean
    where `relative`. Replicates: trials that have at least two seeds.
    """

    kind: Literal["repeats"] = Field(alias="is")
    trial: Trials
    relative: bool = False


class Confuses(Bounded):
    """The share of the test images of class `actual` that a trial takes for `predicted`.

    Replicates: seeds.
    """

    kind: Literal["confuses"] = Field(alias="is")
    trial: Name
    actual: str
    predicted: str
    metric: Metric = "test_accuracy"


AnyPredicate = Annotated[
    Value | Comparison | Effect | Separates | Order | Share | Repeats | Confuses,
    Field(discriminator="kind"),
]


Need = Literal["labels", "videos", "weights", "computing", "hardware", "data", "size"]
OBTAINABLE = ("labels", "videos", "weights", "computing")


class Undecidable(Strict):
    """What a claim needs to be decided that the project lacks, and why, in one sentence.

    What is `OBTAINABLE` bars a verdict only where it is missing: the labels where others stand in,
    the videos where embedded clips do, weights and computing where nothing was trained. Of other
    hardware or data predicates may show something, and judge nothing. What has no size cannot be
    measured.
    """

    needs: Need
    why: str = Field(min_length=1)


class Change(Strict):
    """When and why a predicate came to mean something else after its trainings were seen."""

    date: datetime.date
    why: str = Field(min_length=1)


class Claim(Strict):
    """A sentence of the report that a measurement can decide, or the reason why none can.

    `quote` is verbatim, `place` says where in the report it stands and `statement` what is judged.
    `by` is `stated` where the text says it and `table` where only the numbers do. `holds` is a list
    of predicates that must all be true. `undecidable` says what is missing; beside it predicates
    stand wherever something can be measured. `contradicted_by_report` marks claims against which
    the report's own numbers speak; they are judged all the same.
    """

    id: str
    weight: Literal["headline", "detail"]
    quote: str = Field(min_length=1)
    place: str = Field(min_length=1)
    statement: str = Field(min_length=1)
    by: Literal["stated", "table"]
    contradicted_by_report: bool = False
    holds: list[AnyPredicate] = []
    undecidable: Undecidable | None = None
    note: str = ""
    changed: list[Change] = []

    @model_validator(mode="after")
    def _decidable_or_not(self) -> "Claim":
        if not self.holds and not self.undecidable:
            raise ValueError("a claim has predicates (holds) or a reason why not (undecidable)")
        needs = self.undecidable.needs if self.undecidable else ""
        if needs == "size" and self.holds:
            raise ValueError("undecidable: what needs a size cannot have predicates (holds)")
        if needs in OBTAINABLE and not self.holds:
            raise ValueError(f"undecidable: what needs {needs} has predicates (holds) all the same")
        return self
