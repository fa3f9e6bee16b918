"""How much of a search's best score was luck, told by training its winner again.

Of many equal networks one is always the luckiest. So the best score of a search is held against
the best that as many runs of the network would reach that the search started from, with that
network's own mean and the spread from run to run of all that was trained again, and the winner
against its own new trainings.
"""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from scipy import stats

from refit.figures import picture as pictures
from refit.figures.labels import amount
from refit.figures.picture import COLOURS, GREY, Picture, listed, nothing_finished, theme

DRAWS = 20_000  # of a best score; their quantiles are then certain to a hundredth of their spread
ROLES = {"default": GREY, "winner": COLOURS[1]}


def best_of(count: int, scores: pd.Series, *others: pd.Series) -> tuple[float, float, float]:
    """The best of `count` new runs of one network: its median, and its 95 % prediction interval.

    `scores` are runs of that network, fractions, and `others` those of networks with the same
    spread, each around its own mean; runs are taken to be normally distributed, and that few runs
    know mean and spread badly is taken into account. NaN with fewer than two.
    """
    known = len(scores)
    if known < 2:
        return (math.nan,) * 3
    groups = [runs for runs in (scores, *others) if len(runs) > 1]
    freedom = sum(len(runs) - 1 for runs in groups)
    squares = sum(((runs - runs.mean()) ** 2).sum() for runs in groups)
    random = np.random.default_rng(0)
    spreads = np.sqrt(squares / random.chisquare(freedom, DRAWS))
    means = scores.mean() + spreads / math.sqrt(known) * random.standard_normal(DRAWS)
    bests = means + spreads * stats.norm.ppf(random.random(DRAWS) ** (1 / count))
    low, middle, high = np.quantile(np.clip(bests, 0, 1), [0.025, 0.5, 0.975])
    return float(middle), float(low), float(high)


def trained_again(
    search: Mapping[str, float], default: str, retrained: Mapping[str, pd.Series]
) -> pd.DataFrame:
    """What a search's default and winner score when they are trained again with other seeds.

    `search` maps the trials to their scores; `retrained` the default and the winner to those of
    new trainings, in which the search's own have no part, indexed so that pairs share an index.
    Columns: row, trial, score in the search, mean, standard deviation and n of the new trainings,
    lower and upper (95 % interval of the mean, Student's t), shrinkage (score in the search less
    mean). The last row is the paired difference. Without scores there is no row.
    """
    scores, again = _finite(search), {name: _finite(new) for name, new in retrained.items()}
    if default not in scores or len(scores) < 2:
        return pd.DataFrame(columns=["row", "trial"])
    winner = scores.drop(default).idxmax()
    nothing = pd.Series(dtype=float)
    first, second = (again.get(name, nothing) for name in (default, winner))
    lead = scores[winner] - scores[default], (second - first).dropna()
    rows = []
    for row, trial, score, new in (
        ("default", default, scores[default], first),
        ("winner", winner, scores[winner], second),
        ("winner − default", "", *lead),
    ):
        facts = {"row": row, "trial": trial, "score in the search": score, "mean": new.mean()}
        facts |= {"standard deviation": new.std(), "n": len(new)}
        # NaN with fewer than two new trainings.
        ends = stats.t.interval(0.95, len(new) - 1, new.mean(), new.sem())
        rows.append(facts | dict(zip(("lower", "upper"), ends, strict=True)))
    table = pd.DataFrame(rows)
    return table.assign(shrinkage=table["score in the search"] - table["mean"])


def _finite(scores: Mapping[str, float] | pd.Series) -> pd.Series:
    return pd.Series(scores, dtype=float).replace([np.inf, -np.inf], np.nan).dropna()


@theme()
def best_of_search(
    search: Mapping[str, float],
    default: str,
    retrained: Mapping[str, pd.Series],
    title: str,
    published: float | None = None,
) -> Picture:
    """The scores of a search and the best that luck alone gives, above the new trainings.

    Band and error bars are 95 % intervals, of the best by luck and of the means of new trainings.
    Arguments as for `trained_again`; `published` is the report's best score.
    """
    scores, table = _finite(search), trained_again(search, default, retrained)
    if table.empty:
        return nothing_finished(title)
    picture = Picture(title, 4.4)
    upper, lower = picture.panels(2, 1, sharex=True, height_ratios=(3, 2))[:, 0]
    sns.histplot(x=scores, ax=upper, color=COLOURS[5], bins=30, label="trials of the search")
    upper.set(ylabel="trials")
    upper.yaxis.get_major_locator().set_params(integer=True)
    first, *others = (_finite(retrained.get(name, {})) for name in table["trial"][:2])
    luck = best_of(len(scores), first, *others)
    if not math.isnan(luck[0]):
        upper.axvspan(*luck[1:], color=GREY, alpha=0.2, lw=0, label="best by luck alone")
        upper.axvline(luck[0], color=GREY, ls="--", label="its median")
    upper.axvline(scores.max(), color=COLOURS[1], label="best of the search")
    if published is not None:
        upper.axvline(published, color=COLOURS[2], ls=":", lw=2.4, label="published best")
    _draw_again(lower, table, retrained)
    lower.set(xlabel="test accuracy", ylabel="")
    (marks, names), (more_marks, more_names) = pictures.keys(upper), pictures.keys(lower)
    picture.explain(marks + more_marks, names + more_names)
    lost = f"{len(search) - len(scores)} of {len(search)} trials have no finite score."
    told = _verdict(scores, default, luck, table)
    return picture.say(*told, lost if len(search) > len(scores) else "")


def _draw_again(panel: Axes, table: pd.DataFrame, retrained: Mapping[str, pd.Series]) -> None:
    """A row for the default and one for the winner: new trainings, their mean, the old score."""
    pair = table[table["row"].isin(ROLES)]
    frames = [
        pd.DataFrame({"row": row, "score": _finite(retrained.get(trial, {})).to_numpy()})
        for row, trial in pair[["row", "trial"]].itertuples(index=False)
    ]
    again = pd.concat(frames)
    style = {"x": "score", "y": "row", "order": [*ROLES], "ax": panel, "legend": False}
    sns.stripplot(again, **style, hue="row", palette=ROLES, alpha=0.6, jitter=False)
    style = {"fmt": "|", "color": "#222222", "capsize": 4, "ms": 12, "label": "mean trained again"}
    panel.errorbar(pair["mean"], [0, 1], xerr=pair["upper"] - pair["mean"], **style)
    marks = {"marker": "D", "ls": "", "mfc": "white", "mec": "#222222", "zorder": 5}
    panel.plot(pair["score in the search"], [0, 1], **marks, label="score in the search")
    panel.set_ylim(1.5, -0.5)


def _verdict(
    scores: pd.Series, default: str, luck: tuple[float, float, float], table: pd.DataFrame
) -> list[str]:
    """Whether luck alone explains the best score, and what is left of it in new trainings."""
    best = scores.max()
    winners = scores.index[scores == best]
    tied = f", a tie of {len(winners)} trials" if len(winners) > 1 else ""
    told = [f"The best of {len(scores)} trials is {listed(winners)} ({amount(best)}){tied}."]
    if math.isnan(luck[0]):
        return [*told, "How far runs of one network differ is not known."]
    beyond = {True: "more than luck alone gives", False: "no more than luck alone gives"}
    told.append(
        f"As many runs of the default {default} would reach {amount(luck[0])} "
        f"({amount(luck[1])} to {amount(luck[2])}): the best is {beyond[bool(best > luck[2])]}."
    )
    _, winner, lead = table.to_dict("records")
    if winner["n"]:
        side = "less" if winner["shrinkage"] > 0 else "more"
        told.append(
            f"Trained again, {winner['trial']} reaches {amount(winner['mean'])} on average, "
            f"{amount(abs(winner['shrinkage']))} {side} than in the search (n = {winner['n']})."
        )
    if lead["n"] > 1:
        told.append(
            f"Its lead over the default is then {lead['mean']:+.4f} "
            f"({lead['lower']:+.4f} to {lead['upper']:+.4f}).".replace("-", "−")
        )
    return told
