"""Figures and tables of runs that were made one after another, in a fixed order.

Who trains run after run in one process may carry weights from one to the next without meaning to.
Then a loss tells how late its run came, and not how good its settings are. So the published losses
stand here beside two sequences of the same runs, one with new weights for each of them and one that
carries them on, and three measures say which is more like the report. Means are over seeds; a
diverged loss is infinite.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy import stats

from refit.figures.old_picture import (
    COLOURS,
    Picture,
    checked,
    legend_columns,
    nothing_finished,
    slanted,
)
from refit.figures.run_views import logarithmic, printed
from refit.figures.sweep_plots import CROSS, DARK, GREY
from refit.figures.transfer_plots import HEADING
from refit.run_directory.log import RunLog

SEQUENCES = {"fresh": "new weights for every run", "carried": "weights carried from run to run"}
SHORT = {"published": "published", "fresh": "new weights", "carried": "carried-over weights"}
STYLES = {
    "published": {"color": DARK, "ls": "--", "marker": "o", "ms": 5, "lw": 1.4, "zorder": 3},
    "fresh": {"color": COLOURS[0], "marker": "s", "ms": 4.5, "lw": 1.8, "zorder": 4},
    "carried": {"color": COLOURS[1], "marker": "^", "ms": 5.5, "lw": 1.8, "zorder": 5},
}
ROWS = {"number", "label", "session", *STYLES}
MOST_NAMED = 6  # runs in a note; of more only their number is said
FEWEST = 3  # runs: two are always in line
# The measures of `fit`: whether more is better, what they are called, and how they are written.
MEASURES = {
    "rank correlation": (True, "rank correlation", "{:.2f}"),
    "same direction": (True, "steps in the published direction", "{:.0%}"),
    "deviation": (False, "deviation in decades", "{:.2f}"),
}
FIT = ["sequence", "n", "diverged", "steps", "published falls", "falls", *MEASURES]


def of_log(
    log: RunLog, fresh: str, carried: str, published: pd.DataFrame, numbers: Mapping[str, int]
) -> pd.DataFrame:
    """The table for `losses` and `fit`, from a log with the same grid in two sweeps.

    `fresh` and `carried` are the sweeps' names; `published` is as for `order`, `numbers` maps the
    fresh trials to their numbers in the report. Labels are optimizer, epochs and factor. Sessions
    begin with the carried trials that start from no other.
    """
    rows = log.results.drop_duplicates("trial")
    new, old = (rows[rows["sweep"] == sweep].set_index("trial") for sweep in (fresh, carried))
    partners = dict(zip(new.index, old.index, strict=True))
    settings = ("optimizer", "published_epochs", "reduce_lr_on_plateau.factor")
    runs = {row.Index: "{} {} ×{:g}".format(*row[1:]) for row in new[[*settings]].itertuples()}
    sources = old.reindex(columns=["carried_over"])["carried_over"]
    starts = [number for number, first in enumerate(sources.isna(), start=1) if first]
    losses = {trial: log.measure(trial, "train_loss") for trial in [*new.index, *old.index]}
    means = {trial: values.mean() for trial, values in losses.items() if len(values)}
    continued = {trial: means[partners[trial]] for trial in runs if partners[trial] in means}
    return order(runs, published, means, continued, starts).assign(
        number=[numbers[trial] for trial in runs]
    )


def order(
    runs: Mapping[str, str],
    published: pd.DataFrame,
    fresh: Mapping[str, float],
    carried: Mapping[str, float],
    starts: Sequence[int] = (1,),
) -> pd.DataFrame:
    """The table for `losses` and `fit`: a row per run, in the order in which the report made them.

    `runs` maps the trials, in that order, to short labels; `published` are the published numbers
    (see `ledger.figures`); `fresh` and `carried` map the trials to final training losses,
    infinite where a training diverged; `starts` are the numbers, from 1, of the runs with which
    sessions begin. Columns: number, trial, label, session (from 1), published, fresh, carried.
    """
    numbers = np.arange(1, len(runs) + 1)
    frame = pd.DataFrame({"number": numbers, "trial": list(runs), "label": list(runs.values())})
    frame["session"] = np.maximum(np.searchsorted(sorted(starts), numbers, side="right"), 1)
    sources = printed(published, "train_loss"), fresh, carried
    for name, values in zip(STYLES, sources, strict=True):
        frame[name] = frame["trial"].map(dict(values)).astype(float)
    return frame


def losses(rows: pd.DataFrame, title: str) -> Picture:
    """Final training losses from run to run: as published, with new and with carried-over weights.

    `rows`: one row per run, in order, with number, label, session, and the losses published, fresh
    and carried, NaN where there is none. The axis of losses is logarithmic. A line ends where a
    session does; a diverged run is a cross at the upper edge, a missing one a gap. Raises
    ReportError if a column is missing.
    """
    drawn = checked(rows, ROWS).reset_index(drop=True)
    if drawn.empty or rows[list(SEQUENCES)].isna().all(axis=None):
        return nothing_finished(title)
    points = drawn[list(STYLES)].where(drawn[list(STYLES)] > 0)
    lost = np.isinf(rows.reset_index(drop=True)[list(STYLES)].astype(float))
    wide = 11 if len(drawn) > 8 else 8
    picture = Picture(wide, 5.4, f"{title}: final training loss of {_described(drawn, points)}")
    panel = picture.panels(1, 1)[0, 0]
    for name, style in STYLES.items():
        for _, values in points[name].groupby(drawn["session"]):
            panel.plot(values.index, values, **style)
    logarithmic(panel)
    for name, aside in zip(STYLES, (0, -0.13, 0.13), strict=True):
        if len(places := lost.index[lost[name]] + aside):
            tops = [panel.get_ylim()[1]] * len(places)
            panel.plot(places, tops, **CROSS, color=STYLES[name]["color"])
    _mark_runs(panel, drawn)
    panel.set_ylabel("final training loss")
    names = {"published": "published", **SEQUENCES}
    handles = [Line2D([], [], **style, label=names[name]) for name, style in STYLES.items()]
    if lost.any(axis=None):
        handles.append(Line2D([], [], color=GREY, **CROSS, label="diverged"))
    heading = {"title": title, "title_fontproperties": HEADING}
    columns = legend_columns(handles, 14 * wide)
    picture.legend(handles=handles, loc="outside upper center", ncols=columns, **heading)
    facts = {"Diverged": lost, "Gaps": points.isna() & ~lost}
    told = {fact: _named(where, drawn["number"]) for fact, where in facts.items()}
    picture.note(". ".join(f"{fact}: {runs}" for fact, runs in told.items() if runs))
    return picture


def _described(rows: pd.DataFrame, points: pd.DataFrame) -> str:
    """The runs and, of each line, its points and between which losses they lie."""
    count = f"{len(rows)} run{'' if len(rows) == 1 else 's'} in order"
    sessions = rows["session"].nunique()
    within = f" in {sessions} sessions" if sessions > 1 else ""
    lines = [
        f"{SHORT[name]} {len(known)}, from {known.iloc[0]:.4g} to {known.iloc[-1]:.4g}"
        for name in points
        if len(known := points[name].dropna())
    ]
    return f"{count}{within}; {'; '.join(lines)}"


def _named(where: pd.DataFrame, numbers: pd.Series) -> str:
    """Which runs are meant, line by line; no words if none are."""
    facts = []
    for name in where:
        runs = numbers[where[name]]
        few = f"{'run' if len(runs) == 1 else 'runs'} {', '.join(f'{run:.0f}' for run in runs)}"
        text = few if len(runs) <= MOST_NAMED else f"{len(runs)} of {len(numbers)} runs"
        facts += [f"{SHORT[name]}, {text}"] if len(runs) else []
    return "; ".join(facts)


def _mark_runs(panel: Axes, rows: pd.DataFrame) -> None:
    """Numbers and labels of the runs below the axis, and a line before each new session."""
    labels = rows["label"].astype(str).tolist()
    panel.set_xticks(rows.index, [f"{number:.0f}" for number in rows["number"]])
    # The labels are those of minor ticks, which matplotlib drops where there are major ones.
    panel.xaxis.remove_overlapping_locs = False
    panel.set_xticks(rows.index, labels, minor=True, **slanted(labels, 90))
    panel.tick_params(axis="x", which="minor", pad=17, length=0, labelsize=8.5)
    panel.set(xlabel="run, in the order of the report", xlim=(-0.6, len(rows) - 0.4))
    words = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 8.5}
    begins = rows["session"].ne(rows["session"].shift()) & (rows.index > 0)
    for place in rows.index[begins]:
        panel.axvline(place - 0.5, color=GREY, ls=":", lw=1.4, zorder=1)
        panel.annotate("restart", (place - 0.5, 1), (0, 3), ha="center", color=GREY, **words)


def fit(rows: pd.DataFrame) -> pd.DataFrame:
    """How like the published losses each sequence is; `rows` as for `losses`.

    Only runs count that have a published loss and one in every sequence that was run at all, so
    that both are measured by the same. Columns: sequence, n (such runs), diverged (of them), steps
    (between neighbours of one session, where the published loss moves), how many of them fall as
    published and here, rank correlation (Spearman's), same direction (the share of steps that go
    as the published one), and deviation: the root mean square of the difference of the logarithms
    to base 10, less its mean, for data and networks are not the report's; 0.3 is a factor of two.
    An infinite loss ranks highest and deviates infinitely. Measures of fewer than three runs are
    NaN, as is a correlation with what is constant. Raises ReportError if a column is missing.
    """
    checked(rows, ROWS)
    frame = rows.reindex(columns=["session", *STYLES]).astype(float)
    frame = frame.where(frame > 0)  # logarithms
    run = [name for name in SEQUENCES if frame[name].notna().any()]
    compared = frame[run].notna().all(axis=1) & np.isfinite(frame["published"])
    steps = compared & compared.shift(fill_value=False)
    steps &= frame["session"].eq(frame["session"].shift())
    before = frame.shift()
    ways = (frame > before).astype(int) - (frame < before).astype(int)
    ways = ways[steps & (ways["published"] != 0)]
    found = [_fit_one(frame[compared], ways, name, name in run) for name in SEQUENCES]
    return pd.DataFrame(found, columns=FIT)


def _fit_one(frame: pd.DataFrame, ways: pd.DataFrame, name: str, run: bool) -> tuple:
    if not run:
        return (name, 0, 0, 0, 0, 0, math.nan, math.nan, math.nan)
    pair = frame[["published", name]]
    falls = [int((ways[column] < 0).sum()) for column in pair]
    correlation = direction = deviation = math.nan
    diverged = int(np.isinf(pair[name]).sum())
    if len(pair) >= FEWEST:
        if (pair.nunique() > 1).all():
            correlation = float(stats.spearmanr(*pair.rank().to_numpy().T).statistic)
        if len(ways):
            direction = float((ways[name] == ways["published"]).mean())
        gaps = np.log10(pair[name]) - np.log10(pair["published"])
        deviation = math.inf if diverged else float(gaps.std(ddof=0))
    return (name, len(pair), diverged, len(ways), *falls, correlation, direction, deviation)


def which_fits(table: pd.DataFrame, demonstration: bool = False) -> str:
    """A sentence that says which sequence is more like the published losses, from `fit`'s table.

    Values count as they are written, with two digits: what reads as equal is equal. With
    `demonstration` it adds that demonstration clips say nothing about the report.
    """
    scores = table.set_index("sequence").reindex(list(SEQUENCES))[list(MEASURES)]
    scores = scores.astype(float).round(2).dropna(axis=1)
    count = int(table["n"].min()) if len(table) else 0
    said = " Measured on demonstration clips, which say nothing about the report."
    note = said if demonstration else ""
    if scores.empty:
        runs = f"{count} run{'' if count == 1 else 's'} can be compared"
        return f"Too little to tell which sequence fits the published losses better: {runs}.{note}"
    won: dict[str, list[str]] = {"carried": [], "fresh": [], "": []}
    for measure, values in scores.items():
        winner, words = _compared(str(measure), values)
        won[winner].append(words)
    fits = {name: f"{SHORT[name]} fit the published losses better" for name in SEQUENCES}
    fits[""] = "both fit the published losses alike"
    told = [
        f"{fits[name]} by {len(won[name])} of {scores.shape[1]} measures: {', '.join(won[name])}"
        for name in sorted(won, key=lambda name: (not name, -len(won[name])))
        if won[name]
    ]
    opening = "the measures disagree: " if won["carried"] and won["fresh"] else ""
    unlike = "rank correlation" in scores and scores["rank correlation"].max() <= 0
    caveat = "; neither is ordered as they are" if unlike else ""
    sentence = f"{opening}{'; '.join(told)}{caveat} ({count} runs compared)."
    return sentence[0].upper() + sentence[1:] + note


def _compared(measure: str, values: pd.Series) -> tuple[str, str]:
    """The sequence that is better by a measure, none if both are alike, and the values in words."""
    more, words, form = MEASURES[measure]
    order = values.sort_values(ascending=not more).index
    best, other = (_number(values[name], form) for name in order)
    equal = values.nunique() == 1
    return ("", f"{words} {best}") if equal else (order[0], f"{words} {best} against {other}")


def _number(value: float, form: str) -> str:
    # A zero is added because minus nothing reads oddly.
    return form.format(value + 0.0).replace("inf", "infinite").replace("-", "−")
