"""The schema of an experiment file: what a report published and how to repeat it.

A declaration is the only place where a report's numbers live. Every class here refuses unknown
keys, so that a misspelt one is an error before anything is trained, not a silent default.
"""

from decimal import Decimal
from typing import Any, Literal

from pydantic import Field, PositiveInt, ValidationError, model_validator

from refit.errors import DeclarationError
from refit.experiments.metrics import CURVE_METRICS, Metric, Name, Printed, Strict
from refit.experiments.predicates import Claim, Trials, check_epochs
from refit.experiments.yaml_file import explain

ProfileName = Literal["smoke", "small", "full"]
# As published: the one profile whose results are held against the report.
FULL = "full"


class Retrain(Strict):
    """Train the winner of a grid and its `default` again, each `repetitions` times.

    The best of many trainings owes part of its score to luck; other seeds take that away.
    """

    default: Name
    repetitions: int = Field(ge=2)
    metric: Metric = "test_accuracy"


class CarryOver(Strict):
    """Train the trials of a sweep in their order, each from the weights with which the one before
    ended; those that `restarts` names begin with new weights, as the first one does."""

    restarts: list[Name] = []


class Search(Strict):
    """Keras Tuner over the grid of a sweep, to see what it finds for how many epochs.

    `metric` is what the tuners maximise, read at the last epoch of a training. RandomSearch and
    BayesianOptimization may try `trials` points, the latter `initial_points` of them at random;
    Hyperband trains for at most `hyperband_epochs`. Each search is repeated with other seeds.
    """

    tuners: list[Literal["random", "bayesian", "hyperband"]] = Field(min_length=1)
    metric: Metric = "val_accuracy"
    trials: PositiveInt
    initial_points: PositiveInt
    hyperband_epochs: PositiveInt
    repeats: PositiveInt

    @model_validator(mode="after")
    def _fits(self) -> "Search":
        if not self.metric.endswith("accuracy") or self.metric not in CURVE_METRICS:
            raise ValueError(f"the tuners maximise an accuracy with a curve, not {self.metric}")
        if self.initial_points > self.trials:
            raise ValueError(f"{self.initial_points} initial points for {self.trials} trials")
        return self


class Sweep(Strict):
    """A named set of trials: a list of entries, or a grid; each is laid over `base`.

    In a file, `entries_from` may name JSON of the gesture report's kind in place of entries.

    `trials` is the declared count at full scale. `name` is the pattern of a grid's trial names,
    for example `vgg2-lr{learning_rate}`: the last part of each axis may stand in braces; `titles`
    is that of their titles, which else are the names. Where it is `optional`, a failure, such as a
    missing package, leaves the rest of the experiment whole. `seeds` is how often each trial is
    trained, by profile, which is settled before anything is.
    """

    title: str
    trials: PositiveInt
    seeds: dict[ProfileName, PositiveInt] = {}
    published: bool = True
    note: str = ""
    base: dict[str, Any] = {}
    entries: list[dict[str, Any]] = []
    grid: dict[str, list[Any]] = {}
    name: str = ""
    titles: str = ""
    search: Search | None = None
    retrain: Retrain | None = None
    carry_over: CarryOver | None = None
    optional: bool = False

    def replicates(self, profile: str) -> int:
        """How many seeds a verdict takes: as declared, else 3 where trainings are as published."""
        return self.seeds.get(profile, 3 if profile == FULL else 1)  # type: ignore[call-overload]

    @model_validator(mode="after")
    def _list_or_grid(self) -> "Sweep":
        if (self.search or self.retrain or self.titles) and not self.grid:
            raise ValueError("only a grid has titles, can be searched, or have a winner to retrain")
        if bool(self.entries) == bool(self.grid) or bool(self.grid) != bool(self.name):
            raise ValueError("a sweep has either entries or a grid with a name pattern")
        return self


class Cut(Strict):
    """How a profile shortens a sweep. What is not named stays as published.

    `epoch_fraction` scales the published epochs (rounded up) and `max_epochs` caps them. A `grid`
    names fewer values for some axes, `keep` trials that stay all the same, `only` the ones that do;
    `skip` says why none does. `changes` are settings of every trial, such as the width of a network
    that is too costly: what is trained then is not what was published, and the pages say so.
    """

    epoch_fraction: float = Field(1.0, gt=0, le=1)
    max_epochs: PositiveInt | None = None
    data: dict[str, Any] = {}
    grid: dict[str, list[Any]] = {}
    keep: list[Name] = []
    only: list[Name] = []
    changes: dict[str, Any] = {}
    search: dict[str, Any] = {}
    retrain: dict[str, Any] = {}
    max_seeds: PositiveInt | None = None
    skip: str = ""


class Profile(Strict):
    """How much of the experiment is run.

    `comparable` is false where the data cannot bear a verdict about the report. `data_sets`
    replaces data sets by name (published: used), `data` changes settings of all of them.
    """

    description: str
    comparable: bool = True
    data_sets: dict[str, str] = {}
    data: dict[str, Any] = {}
    cut: Cut = Cut()
    sweeps: dict[str, Cut] = {}

    def of(self, sweep: str) -> Cut:
        """What is left of a sweep."""
        return self.sweeps.get(sweep, self.cut)


class Figure(Strict):
    """One published number: `text` as printed, `value` in the metric's own unit.

    `epochs` is None for the value at the end of the training, else the first and last epoch
    (counted from 1) over which `statistic` is taken. `rounding` tells how the report shortened it:
    `approximate` are numbers that its author read from a plot. Numbers that the report chose for
    being high have a `rank` among those of the whole sweep `best_of`.
    """

    place: str
    trial: Trials
    metric: Metric
    text: Printed
    percent: bool = False
    epochs: tuple[PositiveInt, PositiveInt] | None = None
    statistic: Literal["last", "mean", "min", "max"] = "last"
    rounding: Literal["rounded", "truncated", "approximate"] = "rounded"
    best_of: Name | None = None
    rank: PositiveInt = 1

    @property
    def value(self) -> float:
        return float(Decimal(self.text) / 100) if self.percent else float(self.text)

    @property
    def precision(self) -> float:
        """One unit of the last printed digit, in the metric's own unit."""
        exponent = Decimal(self.text).as_tuple().exponent
        return float(Decimal(10) ** exponent / (100 if self.percent else 1))

    @model_validator(mode="after")
    def _epochs_fit(self) -> "Figure":
        check_epochs(self.metric, self.epochs, self.statistic)
        return self


class FigureTable(Strict):
    """A table of the report: a row per trial, or, where `trial` is given, a row per epoch.

    `best_of` names the sweep whose best trials it lists, by its first column and from the top.
    """

    place: str
    columns: list[Metric]
    percent: list[Metric] = []
    rounding: Literal["rounded", "truncated", "approximate"] = "rounded"
    trial: Name | None = None
    best_of: Name | None = None
    rows: dict[str | int, list[Printed | None]]

    @model_validator(mode="after")
    def _rows_fit(self) -> "FigureTable":
        numbers = len(self.columns)
        for key, row in self.rows.items():
            if len(row) != numbers:
                raise ValueError(f"row {key!r} has {len(row)} numbers for {numbers} columns")
            if isinstance(key, int) != (self.trial is not None):
                raise ValueError(f"row {key!r}: rows are epochs where trial is given, else trials")
        return self

    def figures(self) -> list[Figure]:
        return [
            Figure(
                place=self.place,
                trial=self.trial or str(key),
                metric=metric,
                text=text,
                percent=metric in self.percent,
                epochs=(key, key) if isinstance(key, int) else None,
                rounding=self.rounding,
                best_of=self.best_of if metric == self.columns[0] else None,
                rank=rank,
            )
            for rank, (key, row) in enumerate(self.rows.items(), start=1)
            for metric, text in zip(self.columns, row, strict=True)
            if text is not None
        ]


class Published(Strict):
    tables: list[FigureTable]
    readings: list[Figure] = []

    @property
    def figures(self) -> list[Figure]:
        return [figure for table in self.tables for figure in table.figures()] + list(self.readings)


class Note(Strict):
    """A numbered assumption of ours, or an anomaly of the report with the reading taken."""

    id: str
    text: str
    reading: str = ""


class Source(Strict):
    """The report: title, the framework it used, its hardware and how it measured."""

    title: str
    framework: str
    hardware: str
    processor: Literal["CPU", "GPU", "not stated"]
    data: str
    method: str


class Declaration(Strict):
    name: Name
    title: str
    question: str
    expected_time: str
    source: Source
    seed: int = Field(ge=0, lt=2**31)
    classes: PositiveInt
    data: dict[str, Any]
    sweeps: dict[Name, Sweep]
    profiles: dict[ProfileName, Profile]
    published: Published
    claims: list[Claim]
    assumptions: list[Note]
    anomalies: list[Note] = []

    @model_validator(mode="after")
    def _consistent(self) -> "Declaration":
        for group in ("claims", "assumptions", "anomalies"):
            ids = [item.id for item in getattr(self, group)]
            if twice := sorted({id for id in ids if ids.count(id) > 1}):
                raise ValueError(f"{group}: id {twice[0]!r} stands twice")
        if taken := {"lock", "search"} & set(self.sweeps):
            raise ValueError(f"sweeps.{taken.pop()}: is a name that refit uses beside sweeps")
        for name, profile in self.profiles.items():
            if strangers := set(profile.sweeps) - set(self.sweeps):
                raise ValueError(
                    f"profile {name} cuts unknown sweeps {sorted(strangers)}; "
                    f"known: {', '.join(self.sweeps)}"
                )
        return self

    def plan(self, profile: str, sweep: str, kind: Literal["search", "retrain"]) -> Any:
        """A sweep's `search` or `retrain` as a profile changes it.

        Raises DeclarationError where the sweep declares none, or the changes do not fit.
        """
        declared = getattr(self.sweeps.get(sweep), kind, None)
        if declared is None:
            raise DeclarationError(f"{self.name}: sweep {sweep} declares no {kind}")
        changes = getattr(self.profiles[profile].of(sweep), kind)  # type: ignore[index]
        try:
            return declared.model_validate(declared.model_dump() | changes)
        except ValidationError as error:
            raise DeclarationError(explain(error)) from error
