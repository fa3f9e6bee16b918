"""The vocabulary in which a declaration states its claims.

A predicate turns a sentence of a report into something that a measurement can decide. All of them
reduce, seed by seed, to one number and an interval in which the claim wants that number to lie; see
`refit.verdicts.claims` for how they are judged.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from refit.experiments.metrics import CURVE_METRICS, Metric, Name, Strict

Epochs = tuple[PositiveInt, PositiveInt]


class Selection(Strict):
    """Trials chosen by their hyper-parameters, reduced to one number by `take`.

    With `of_best` it is that of the trial which has, of the same seed, the highest `by`.
    `where` maps dotted paths of a trial to the wanted value or list of values, for example
    `{optimizer.learning_rate: [0.1, 0.2]}`.
    """

    sweep: Name | None = None
    where: dict[str, Any] = {}
    take: Literal["mean", "max", "min", "of_best"]
    by: Metric = "best_val_accuracy"


Trials = Name | Selection


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
    statistic: Literal["last", "mean", "min", "max"] = "last"

    def subjects(self) -> list[Trials]:
        """The trials that the predicate speaks of, by name or as selections."""
        spoken: list[Any] = [getattr(self, field, None) for field in ("a", "b", "trial")]
        spoken += getattr(self, "trials", []) + getattr(self, "among", [])
        spoken += [name for pair in getattr(self, "pairs", []) for name in pair]
        return [trial for trial in spoken if trial is not None]

    @model_validator(mode="after")
    def _epochs_fit(self) -> "Predicate":
        check_epochs(self.metric, self.epochs, self.statistic)
        return self


class OnCurve(Predicate):
    """A predicate about the shape of one trial's curve."""

    trial: Name

    @model_validator(mode="after")
    def _has_a_curve(self) -> "OnCurve":
        if self.metric not in CURVE_METRICS:
            raise ValueError(f"{self.metric} has no curve; known: {', '.join(CURVE_METRICS)}")
        if self.statistic != "last":
            raise ValueError("statistic does not apply: the whole curve is looked at")
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


class Greater(Predicate):
    """`a` lies above `b` by more than `by`, paired by seed."""

    kind: Literal["greater"] = Field(alias="is")
    a: Trials
    b: Trials
    by: float = 0.0


class Difference(Bounded):
    """`a` minus `b`, paired by seed, lies in the interval."""

    kind: Literal["difference"] = Field(alias="is")
    a: Trials
    b: Trials


class Ratio(Bounded):
    """`a` over `b`, paired by seed, lies in the interval."""

    kind: Literal["ratio"] = Field(alias="is")
    a: Trials
    b: Trials


class Value(Bounded):
    """A trial's number lies in the interval."""

    kind: Literal["value"] = Field(alias="is")
    trial: Trials


class Order(Predicate):
    """The trials stand in this order, each above the next (`descending`) or below it."""

    kind: Literal["order"] = Field(alias="is")
    trials: list[Trials] = Field(min_length=2)
    direction: Literal["descending", "ascending"]


class Best(Predicate):
    """The best of several trials, those `among` which are named or all of a `sweep`, is one of
    `winners`."""

    kind: Literal["best"] = Field(alias="is")
    among: list[Name] = []
    sweep: Name | None = None
    winners: list[Name] = Field(min_length=1)
    smallest: bool = False

    def subjects(self) -> list[Trials]:
        whole = [Selection(sweep=self.sweep, take="max")] if self.sweep else []
        return [*self.among, *self.winners, *whole]

    @model_validator(mode="after")
    def _winners_take_part(self) -> "Best":
        if bool(self.among) == bool(self.sweep):
            raise ValueError("give either among or sweep")
        if self.sweep:
            return self
        if len(self.among) < 2:
            raise ValueError("among: at least two trials are compared")
        if strangers := set(self.winners) - set(self.among):
            raise ValueError(f"winners {sorted(strangers)} are not among the trials compared")
        if set(self.winners) == set(self.among):
            raise ValueError("every trial compared is a winner, so that the claim cannot fail")
        return self


class Growing(Predicate):
    """The difference of each pair (first minus second) exceeds that of the pair before."""

    kind: Literal["growing"] = Field(alias="is")
    pairs: list[tuple[Name, Name]] = Field(min_length=2)


class Effect(Predicate):
    """The setting `axis` at `a` gives more than at `b` by more than `by`, all else being equal.

    Compared are matched pairs of one sweep's grid: trials that differ in nothing but `axis`. `a`
    and `b` are values, or lists of values whose mean counts. The pairs are the replicates (seeds
    are averaged within), so the doubt is about the mean effect over the grid.
    """

    kind: Literal["effect"] = Field(alias="is")
    sweep: Name
    axis: str
    a: Any
    b: Any
    by: float = 0.0

    def subjects(self) -> list[Trials]:
        return [
            Selection(sweep=self.sweep, where={self.axis: value}, take="mean")
            for value in (self.a, self.b)
        ]

    def axes(self) -> list[str]:
        return [self.axis]

    def levels(self) -> list[Any]:
        """All values of the axis that are compared."""
        sides = (self.a, self.b)
        return [value for side in sides for value in (side if isinstance(side, list) else [side])]


class Separates(Predicate):
    """Each of the settings `strong` tells the trials of a sweep apart better than any of `weak`.

    How well a setting does so is the share of the variance of the metric's ranks that lies between
    its values (the correlation ratio), which infinite times do not upset.
    """

    kind: Literal["separates"] = Field(alias="is")
    sweep: Name
    strong: list[str] = Field(min_length=1)
    weak: list[str] = Field(min_length=1)

    def subjects(self) -> list[Trials]:
        return [Selection(sweep=self.sweep, take="mean")]

    def axes(self) -> list[str]:
        return [*self.strong, *self.weak]

    def levels(self) -> list[Any]:
        return []


class Repeats(Bounded):
    """Training again with another seed moves the metric by an amount in the interval.

    The amount is the absolute difference of the first two seeds, divided by their mean where
    `relative`; the trials that have two are the replicates.
    """

    kind: Literal["repeats"] = Field(alias="is")
    trial: Trials
    relative: bool = False


class Confuses(Bounded):
    """The share of the test images of class `actual` that a trial takes for `predicted`."""

    kind: Literal["confuses"] = Field(alias="is")
    trial: Name
    actual: str
    predicted: str
    metric: Metric = "test_accuracy"


class Trend(OnCurve):
    """A curve rises or falls by at least `by` from the start to the end of its least-squares line,
    or is `flat`: changes by at most `by` either way."""

    kind: Literal["trend"] = Field(alias="is")
    direction: Literal["rising", "falling", "flat", "not rising"]
    by: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _flat_has_a_width(self) -> "Trend":
        if self.direction == "flat" and self.by == 0:
            raise ValueError("flat needs by: no measured curve changes by exactly nothing")
        return self


class Minimum(OnCurve):
    """A curve has its minimum within epochs `between` and ends at least `rise` above it."""

    kind: Literal["minimum"] = Field(alias="is")
    between: Epochs
    rise: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _between_fits(self) -> "Minimum":
        check_epochs(self.metric, self.between, "last")
        return self


class Share(Bounded, OnCurve):
    """At least the fraction `at_least` of a curve's epochs lies in the interval."""

    kind: Literal["share"] = Field(alias="is")
    at_least: PositiveFloat = Field(le=1)


class LargestRise(OnCurve):
    """No epoch lifts a curve by more than `at_most` above the epoch before; or one does by
    `at_least`."""

    kind: Literal["largest_rise"] = Field(alias="is")
    at_most: float | None = Field(None, ge=0)
    at_least: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _one_bound(self) -> "LargestRise":
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("give either at_most or at_least")
        return self


class Chance(Predicate):
    """An accuracy stays within `tolerance` of guessing, one over the number of classes."""

    kind: Literal["chance"] = Field(alias="is")
    trial: Name
    tolerance: PositiveFloat

    @model_validator(mode="after")
    def _is_an_accuracy(self) -> "Chance":
        if not self.metric.endswith("accuracy"):
            raise ValueError(f"guessing has an accuracy, not a {self.metric}")
        return self


class Diverges(Predicate):
    """A trial's loss becomes infinite or not a number."""

    kind: Literal["diverges"] = Field(alias="is")
    trial: Name
    metric: Metric = "train_loss"


AnyPredicate = Annotated[
    Greater
    | Difference
    | Ratio
    | Value
    | Order
    | Best
    | Growing
    | Effect
    | Separates
    | Repeats
    | Confuses
    | Trend
    | Minimum
    | Share
    | LargestRise
    | Chance
    | Diverges,
    Field(discriminator="kind"),
]


class Claim(Strict):
    """A sentence of the report that a measurement can decide, or the reason why none can.

    `by` is `stated` where the text says it and `table` where only the numbers do. `holds` is a list
    of predicates that must all be true. `contradicted_by_report` marks claims against which the
    report's own numbers speak; they are judged all the same.
    """

    id: str
    by: Literal["stated", "table"]
    statement: str
    evidence: str
    contradicted_by_report: bool = False
    holds: list[AnyPredicate] = []
    undecidable: str = ""
    note: str = ""

    @model_validator(mode="after")
    def _decidable_or_not(self) -> "Claim":
        if bool(self.holds) == bool(self.undecidable):
            raise ValueError("a claim has either predicates (holds) or a reason (undecidable)")
        return self
