"""Figures of a tuning: what each setting is worth, and how much of the best score was luck.

The highest of many scores lies above what its network scores when it is trained again, for of many
equal networks one is always the luckiest. So a search is shown here in three ways: by the mean of
each setting's value over all others, by its order beside the published one, and by its best score
beside the best that equal networks would reach. Every function takes tables (see `run_log`),
mostly with one row per trial, seeds averaged. Higher scores are better.
"""

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy import integrate, special, stats

from refit.errors import ReportError
from refit.figures import old_picture as picture
from refit.figures import plots
from refit.figures.old_picture import (
    COLOURS,
    Picture,
    checked,
    count_trials,
    finite,
    nothing_finished,
)
from refit.figures.sweep_plots import DARK, GREY, PALE, in_order, spread
from refit.verdicts.interval_tests import half_width

SHUFFLES = 50_000  # more than the orders of eight optimizers, which are so all tried
# Where errors differ by more than this factor, an axis of accuracies shows only the worst.
STRETCH = 4
STRETCHED_TICKS = (0.1, 0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 1.0)
HOLLOW = {"marker": "D", "ls": "", "mfc": "white", "mec": COLOURS[1], "mew": 1.8, "ms": 7}
MEAN = {"marker": "o", "ls": "", "ms": 6, "color": DARK, "zorder": 5}
TRIANGLE = {"marker": "v", "ls": "", "ms": 7, "color": COLOURS[1], "clip_on": False, "zorder": 6}
HEADING = {"weight": "bold", "size": 11}  # of a legend that stands above the panels
SINGLE = {"marker": "o", "ls": "", "ms": 4.5, "mew": 0, "color": PALE, "zorder": 2}
CURSE = [
    "row",
    "trial",
    "score in the search",
    "retrained mean",
    "standard deviation",
    "n",
    "shrinkage",
    "lower",
    "upper",
]


def combinations(
    rows: pd.DataFrame, axes: Mapping[str, str], metric: str, numbers: Mapping[str, int]
) -> pd.DataFrame:
    """A grid's trials from the best to the worst, with the numbers that the report gives them.

    `rows`: one row per trial with the settings, the metric and seconds. `axes` maps the columns of
    the settings to their headings; `numbers` maps trials to their places, from 1, in the grid as
    published, of which the profile may have left out some. Columns: rank, combination, trial, the
    headings, the metric, seconds. Equal values share the better rank; what is not finite has none
    and stands last. Raises ReportError if a column is missing.
    """
    columns = ["rank", "combination", "trial", *axes.values(), metric, "seconds"]
    rows = checked(rows, {"trial", *axes, metric, "seconds"})
    if rows.empty:
        return pd.DataFrame(columns=columns)
    rows = rows.rename(columns=axes).sort_values(metric, ascending=False, kind="stable")
    ranks = rows[metric].rank(ascending=False, method="min").astype("Int64")
    places = rows["trial"].map(dict(numbers)).astype("Int64")
    return rows.assign(rank=ranks, combination=places)[columns].reset_index(drop=True)


def main_effects(
    rows: pd.DataFrame, axes: Mapping[str, str], metric: str, title: str, label: str = ""
) -> Picture:
    """A panel per setting: the mean of the metric at each of its values, over all other settings.

    `rows`: one row per trial with the settings and the metric. `axes` maps the settings' columns to
    the names of the panels; `label` names the metric. Bars are 95 % intervals of the means, by
    Student's t over the trials with that value; pale dots are the trials. Trials far below all
    others are triangles at the edge of the panel. Raises ReportError if a column is missing, and
    where there are trials but no settings.
    """
    label = label or metric.replace("_", " ")
    points, note = finite(checked(rows, {"trial", metric, *axes}), {metric: label})
    if points.empty:
        return nothing_finished(title)
    if not axes:
        raise ReportError("main effects are those of settings, and none is named")
    columns = min(4, len(axes))
    lines = math.ceil(len(axes) / columns)
    described = f"{title}: mean {label} of {count_trials(points)} by {', '.join(axes.values())}"
    figure = Picture(11, 0.7 + 3.4 * lines, described)
    panels = figure.panels(lines, columns, sharey=True).ravel()
    floor = _floor(points[metric])
    for panel, (axis, name) in zip(panels, axes.items(), strict=False):
        _draw_effect(panel, points.dropna(subset=axis), axis, metric, floor)
        panel.set_xlabel(name)
    for panel in panels[::columns]:
        panel.set_ylabel(label)
    for panel in panels[len(axes) :]:
        panel.set_visible(False)
    mean, (bottom, top) = points[metric].mean(), panels[0].get_ylim()
    panels[0].set_ylim(bottom, top)
    for panel, axis in zip(panels, axes, strict=False):
        panel.axhline(mean, color=GREY, lw=0.9, ls="--", zorder=1)
        if len(low := points[points[metric] < floor].dropna(subset=axis)):
            places = low[axis].map(in_order(points[axis].dropna()).index)
            panel.plot(places + 0.3 * spread(len(low)), [bottom] * len(low), **TRIANGLE)
    handles = [
        Line2D([], [], **MEAN, label="mean, with its 95 % interval"),
        Line2D([], [], **SINGLE, label="one trial"),
        Line2D([], [], color=GREY, lw=0.9, ls="--", label=f"mean of all: {mean:.4f}"),
    ]
    heading = {"title": title, "title_fontproperties": HEADING}
    figure.legend(handles=handles, loc="outside upper center", ncols=3, **heading)
    low = (points[metric] < floor).sum()
    below = f"Triangles: {low} of {len(points)} trials, down to {points[metric].min():.4f}"
    figure.note(". ".join(filter(None, [below if low else "", note])))
    return figure


def _draw_effect(panel: Axes, points: pd.DataFrame, axis: str, metric: str, floor: float) -> None:
    order = in_order(points[axis])
    means, halves = np.full((2, len(order)), np.nan)
    for place, value in enumerate(order):
        scores = points.loc[points[axis] == value, metric]
        means[place], halves[place] = _interval(scores)
        shown = scores[scores >= floor]
        panel.plot(place + 0.5 * spread(len(shown)), shown, **SINGLE)
    panel.plot(range(len(order)), means, color=DARK, lw=1.0, zorder=4)
    panel.errorbar(range(len(order)), means, halves, **MEAN, capsize=4, elinewidth=1.8)
    panel.set_xticks(range(len(order)), map(picture.written, order))
    panel.set_xlim(-0.6, len(order) - 0.4)
    panel.grid(axis="x", visible=False)
    panel.set_title(f"means differ by {np.ptp(means):.4f}" if len(order) > 1 else "", fontsize=9)


def _floor(scores: pd.Series) -> float:
    """What ordinary scores exceed (Tukey's outer fence): a failed training flattens the others."""
    low, high = scores.quantile([0.25, 0.75])
    return low - 3 * (high - low) if high > low else -math.inf


def _interval(scores: pd.Series) -> tuple[float, float]:
    """Mean, and half of its 95 % interval by Student's t; the half is NaN for a single score."""
    count = len(scores)
    if count < 2:
        return float(scores.mean()), math.nan
    return float(scores.mean()), half_width(scores.to_numpy(float), count)


def ranking(
    rows: pd.DataFrame,
    setting: str,
    published: Mapping[str, float],
    metric: str = "test_accuracy",
    label: str = "test accuracy",
) -> Picture:
    """The values of a setting in their published order, with the score here beside the published.

    `rows`: one row per trial with the setting and the metric, a fraction; trials with one value are
    averaged. `published` maps the values, as printed, to the published scores; upper and lower case
    are not told apart. The note has the rank correlations. Where a few values are far behind, the
    axis is stretched towards 1. Raises ReportError if a column is missing.
    """
    rows = checked(rows, {"trial", setting, metric})
    found = {} if rows.empty else rows.groupby(setting)[metric].mean()
    here = _by_name(found)
    printed = {name.casefold(): name for name in [*found.keys(), *published]}
    scores = _by_name(published).sort_values(ascending=False)
    names = list(dict.fromkeys([*scores.index, *here.index]))
    frame = pd.DataFrame({"published": scores, "reproduced": here}, index=names, dtype=float)
    ranks = frame.rank(ascending=False, method="min")
    frame["title"] = [
        f"{printed[name]}  (published {_ordinal(first)}, here {_ordinal(second)})"
        for name, first, second in ranks.itertuples()
    ]
    values = frame["reproduced"]
    frame = frame.assign(trial=frame["title"], lower=values, upper=values)
    figure = plots.published_against_reproduced(frame.reset_index(drop=True), label)
    if values.notna().any():
        _stretch(figure.axes[0], frame[["published", "reproduced"]], label)
        figure.note(_in_words(rank_agreement(here, scores)))
    return figure


def rank_agreement(measured: Mapping[str, float], published: Mapping[str, float]) -> pd.DataFrame:
    """How alike two orders are, by Spearman's and by Kendall's rank correlation.

    Both map names to scores; upper and lower case are not told apart, and names without both scores
    do not count. Columns: coefficient, value (-1 to 1), p (the share of random orders that agree as
    well, for Spearman with more than eight names from a sample of them), n. Fewer than three names,
    or equal scores throughout, have no value.
    """
    both = pd.DataFrame({"here": _by_name(measured), "there": _by_name(published)})
    both = both.replace([np.inf, -np.inf], np.nan).dropna()
    results = {"Spearman's rho": (math.nan, math.nan), "Kendall's tau": (math.nan, math.nan)}
    if len(both) > 2 and (both.nunique() > 1).all():
        ranks = both.rank()
        shuffles = stats.PermutationMethod(n_resamples=SHUFFLES, rng=0)
        results = {
            "Spearman's rho": stats.pearsonr(
                ranks["here"], ranks["there"], alternative="greater", method=shuffles
            ),
            "Kendall's tau": stats.kendalltau(both["here"], both["there"], alternative="greater"),
        }
    frame = [(name, float(value), float(p), len(both)) for name, (value, p) in results.items()]
    return pd.DataFrame(frame, columns=["coefficient", "value", "p", "n"])


def _by_name(scores: Mapping[str, float]) -> pd.Series:
    return pd.Series({str(name).casefold(): value for name, value in scores.items()}, dtype=float)


def _ordinal(rank: float) -> str:
    if math.isnan(rank):
        return "–"
    number = int(rank)
    endings = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number % 100 in (11, 12, 13) else endings.get(number % 10, 'th')}"


def _in_words(agreement: pd.DataFrame) -> str:
    count = agreement["n"].iloc[0]
    if agreement["value"].isna().any():
        return f"No rank correlation: {count} with both scores, or all scores equal"
    values = [
        f"{row.coefficient} {row.value:.2f} (p = {row.p:.2g})" for row in agreement.itertuples()
    ]
    meaning = "p: the share of random orders that agree as well"
    return f"The two orders of {count}: {', '.join(values)}; {meaning}".replace("-", "−")


def _stretch(panel: Axes, scores: pd.DataFrame, label: str) -> None:
    """Make the axis logarithmic in the error where the best would otherwise lie in one place."""
    lowest, highest = np.nanmin(scores), np.nanmax(scores)
    if highest > 1 or 1 - lowest < STRETCH * (1 - highest + 1e-3):
        return
    functions = (
        lambda score: -np.log(np.maximum(1.001 - score, 1e-4)),
        lambda y: 1.001 - np.exp(-y),
    )
    panel.set_xscale("function", functions=functions)
    panel.set_xlim(lowest - 0.06 * (1 - lowest), highest + 0.08 * (1.001 - highest))
    start, end = panel.get_xlim()
    panel.set_xticks([tick for tick in STRETCHED_TICKS if start <= tick <= end])
    panel.set_xlabel(f"{label} (the axis is stretched towards 1)")


def expected_maximum(count: int) -> float:
    """The mean of the highest of `count` independent standard normal numbers.

    In standard deviations above the mean: 0 of one, 2.43 of 81. Raises ReportError for none.
    """
    if count < 1:
        raise ReportError(f"the highest of {count} numbers does not exist")

    def tails(x: float) -> float:
        below, above = (count * special.log_ndtr(side) for side in (x, -x))
        return -math.expm1(below) - math.exp(above)

    # The mean of any number is what lies above its distribution function on the right of zero,
    # less what lies below it on the left. Nothing is left of either beyond 40.
    return float(integrate.quad(tails, 0, 40, points=(1, 4, 8), limit=200)[0])


def winners_curse(
    values: Mapping[str, float], default: str, retrained: Mapping[str, Sequence[float] | pd.Series]
) -> pd.DataFrame:
    """What the default, the winner of a search and others score when they are trained again.

    `values` maps the trials of the search to their scores, `retrained` trials to the scores of new
    trainings, in which the search's own have no part; these are paired by their index where they
    are series, as `RunLog.measure` returns them, else by their place. The winner has the highest
    score of the search.

    Columns: row (default, winner, retrained, or a difference to the default), trial, score in the
    search, retrained mean, standard deviation, n, shrinkage (score in the search minus retrained
    mean), lower and upper (95 % interval of the retrained mean, by Student's t). The rows of
    differences are paired. Without a finite score in the search there is no row.
    """
    search = _finite(values)
    if search.empty:
        return pd.DataFrame(columns=CURSE)
    again = {trial: _finite(scores) for trial, scores in retrained.items()}
    winner = search.idxmax()
    roles = dict.fromkeys(retrained, "retrained") | {winner: "winner"}
    roles[default] = "default, which is the winner" if default == winner else "default"
    order = list(dict.fromkeys([default, winner, *retrained]))
    nothing = pd.Series(dtype=float)
    rows = [
        _curse(roles[trial], trial, search.get(trial, math.nan), again.get(trial, nothing))
        for trial in order
    ]
    for trial in order[1:]:
        lead = (again.get(trial, nothing) - again.get(default, nothing)).dropna()
        score = search.get(trial, math.nan) - search.get(default, math.nan)
        rows.append(_curse(f"{roles[trial]} − default", trial, score, lead))
    return pd.DataFrame(rows, columns=CURSE)


def _finite(scores: Mapping[str, float] | Sequence[float] | pd.Series) -> pd.Series:
    return pd.Series(scores, dtype=float).replace([np.inf, -np.inf], np.nan).dropna()


def _curse(role: str, trial: str, search: float, scores: pd.Series) -> tuple:
    mean, half = _interval(scores)
    spread = float(scores.std()) if len(scores) > 1 else math.nan
    count = len(scores)
    return (role, trial, search, mean, spread, count, search - mean, mean - half, mean + half)


def best_of_many(
    values: Mapping[str, float],
    default: str,
    retrained: Mapping[str, Sequence[float] | pd.Series],
    published_best: float | None,
    title: str,
    label: str = "test accuracy",
    titles: Mapping[str, str] | None = None,
) -> Picture:
    """The winner's curse: scores of a search, the best that luck alone gives, and new trainings.

    `values`, `default` and `retrained` are as for `winners_curse`; `titles` names trials. Above,
    the scores of the search are counted; a dashed line is the highest score to be expected of as
    many equal networks: their mean plus `expected_maximum` times the run-to-run standard deviation
    of the retrained. Below, a line per trial: its score in the search, those of its new trainings,
    and their mean with its 95 % interval.
    """
    search = _finite(values)
    if search.empty:
        return nothing_finished(title)
    curse = winners_curse(values, default, retrained)
    curse = curse.drop_duplicates("trial", ignore_index=True)  # without the differences
    described = f"{title}: {label} in a search ({len(search)} trials) and in new trainings"
    figure = Picture(11, 4.6 + 0.5 * len(curse), described)
    heights = (2.6, 0.6 + 0.5 * len(curse))
    upper, lower = figure.panels(2, 1, sharex=True, height_ratios=heights)[:, 0]
    floor = _floor(search)
    drawn = search[search >= floor]
    alone = {"bins": 1, "range": (search.max() - 0.001, search.max() + 0.001)}
    bins = {"bins": min(30, max(8, len(drawn) // 3))} if drawn.nunique() > 1 else alone
    upper.hist(drawn, **bins, color=PALE, ec="white", lw=0.6)
    upper.set_ylabel("trials of the search")
    upper.yaxis.get_major_locator().set_params(integer=True)
    handles = [Patch(color=PALE, label=f"trials of the search ({len(search)})")]
    deviation = _run_to_run(retrained)
    handles += _lines((upper, lower), search, deviation, published_best)
    _draw_retrained(lower, curse, retrained, titles or {})
    lower.set_xlabel(label)
    handles.append(Line2D([], [], **HOLLOW, label="score in the search"))
    if curse["n"].any():
        handles.append(Line2D([], [], **SINGLE, label="trained again"))
        handles.append(Line2D([], [], **MEAN, label="mean of these, with its 95 % interval"))
    heading = {"title": title, "title_fontproperties": HEADING}
    figure.legend(handles=handles, loc="outside upper center", ncols=2, fontsize=9, **heading)
    lost, low = len(values) - len(search), len(search) - len(drawn)
    facts = {
        f"Not drawn: {low} with lower scores, down to {search.min():.4f}": low,
        f"{lost} of {len(values)} trials have no finite score": lost,
        "How far runs of one network differ is not known": not math.isfinite(deviation),
    }
    figure.note(". ".join(fact for fact, true in facts.items() if true))
    return figure


def _run_to_run(retrained: Mapping[str, Sequence[float] | pd.Series]) -> float:
    """The standard deviation of new trainings around the mean of their trial, over all trials."""
    groups = [scores for scores in map(_finite, retrained.values()) if len(scores) > 1]
    if not groups:
        return math.nan
    squares = sum(((scores - scores.mean()) ** 2).sum() for scores in groups)
    return math.sqrt(squares / sum(len(scores) - 1 for scores in groups))


def _lines(
    panels: Sequence[Axes], search: pd.Series, deviation: float, published_best: float | None
) -> list[Line2D]:
    """Vertical lines through all panels, and their entries in the legend."""
    mean, count = search.mean(), len(search)
    marks = [(mean, f"their mean: {mean:.4f}", {"color": GREY, "lw": 1.2})]
    if math.isfinite(deviation):
        factor = expected_maximum(count)
        lucky = mean + factor * deviation
        sum_of = f"{mean:.4f} + {factor:.2f} × {deviation:.4f} = {lucky:.4f}"
        text = f"best to expect of {count} equal networks: {sum_of}"
        marks.append((lucky, text, {"color": DARK, "lw": 1.8, "ls": "--"}))
    best = {"color": COLOURS[1], "lw": 1.8}
    marks.append((search.max(), f"best of the search: {search.max():.4f}", best))
    if published_best is not None:
        style = {"color": COLOURS[2], "lw": 2.2, "ls": ":"}
        marks.append((published_best, f"published best: {published_best:.4f}", style))
    for panel in panels:
        for place, _, style in marks:
            panel.axvline(place, **style, zorder=1.5)
    return [Line2D([], [], **style, label=text) for _, text, style in marks]


def _draw_retrained(
    panel: Axes,
    curse: pd.DataFrame,
    retrained: Mapping[str, Sequence[float] | pd.Series],
    titles: Mapping[Hashable, str],
) -> None:
    names = []
    for place, row in curse.iterrows():
        scores = _finite(retrained.get(row["trial"], []))
        panel.plot(scores, place + 0.5 * spread(len(scores)), **SINGLE)
        half = row["upper"] - row["retrained mean"]
        panel.errorbar(row["retrained mean"], place, xerr=half, **MEAN, capsize=4, elinewidth=1.8)
        panel.plot(row["score in the search"], place, **HOLLOW, zorder=6)
        interval = f" ± {half:.4f}" if math.isfinite(half) else ""
        fact = f"{row['retrained mean']:.4f}{interval}, n = {row['n']}"
        title = titles.get(row["trial"], row["trial"])
        names.append(f"{row['row']}: {title}\n{fact if row['n'] else 'not trained again'}")
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.grid(axis="y", visible=False)
