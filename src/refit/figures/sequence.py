"""Runs in the order in which a report made them, and which of two sequences is like its losses.

Who trains run after run in one process may carry weights from one to the next without meaning to.
Then a loss tells how late its run came, and not how good its settings are. So the published losses
stand beside two sequences of the same runs, one with new weights for each and one that carries
them on.
"""

import math

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from scipy import stats

from refit.figures import picture as pictures
from refit.figures.picture import COLOURS, GREY, Picture, listed, nothing_finished, theme

PUBLISHED, FRESH, CARRIED = "published", "new weights", "carried-over weights"
LINES = {PUBLISHED: "#222222", FRESH: COLOURS[0], CARRIED: COLOURS[1]}
FEWEST = 3  # runs that are compared: two are always in line
# What makes a sequence like the published one: whether more is better, and how it is written.
MEASURES = {
    "rank correlation": (True, "{:.2f}"),
    "steps in the same direction": (True, "{:.0%}"),
    "deviation in decades": (False, "{:.2f}"),
}


def runs(
    results: pd.DataFrame,
    fresh: str,
    carried: str,
    published: pd.Series,
    numbers: pd.Series | dict[str, int],
    settings: list[str],
) -> pd.DataFrame:
    """The table for `losses` and `fit`: a row per run, source of its loss, and seed.

    `results`: a row per trial and seed with sweep, trial, status, seed, train_loss, carried_over
    (the trial whose weights it took) and the settings, of which labels are made. The sweeps `fresh`
    and `carried` have the same runs in the same order; `published` maps the fresh trials to final
    training losses, `numbers` to their numbers in the report. Columns: place, number, label,
    session (a new one where a carried run takes no weights), source, seed, loss. A diverged loss is
    infinite.
    """
    new, old = (
        results[results["sweep"] == sweep].drop_duplicates("trial").reset_index(drop=True)
        for sweep in (fresh, carried)
    )
    labels = new[settings].map(pictures.written).agg(" ".join, axis=1) if len(new) else []
    starts = old.reindex(columns=["carried_over"])["carried_over"].isna()
    known = pd.DataFrame({"trial": new["trial"], "label": labels, "session": starts.cumsum()})
    known["number"] = known["trial"].map(dict(numbers))
    known["place"] = known.index
    same = dict(zip(old["trial"], new["trial"], strict=True))
    done = results[results["status"].eq("done") & results["sweep"].isin([fresh, carried])]
    measured = pd.DataFrame(
        {
            "trial": done["trial"].replace(same),
            "source": done["sweep"].map({fresh: FRESH, carried: CARRIED}),
            "seed": done["seed"],
            "loss": done["train_loss"].astype(float).fillna(np.inf),
        }
    )
    printed = published.rename("loss").rename_axis("trial").reset_index().assign(source=PUBLISHED)
    return known.merge(pd.concat([printed, measured]), on="trial")


@theme()
def losses(rows: pd.DataFrame, title: str) -> Picture:
    """Final training losses from run to run: as published, with new and with carried-over weights.

    `rows` as from `runs`; points are means over seeds, error bars reach from the lowest to the
    highest. A line ends where a session does; a diverged run is a cross at the upper edge.
    """
    if rows["source"].isin([FRESH, CARRIED]).sum() == 0:
        return nothing_finished(title)
    picture = Picture(title, 5.2)
    panel = picture.panels()[0, 0]
    style = {"hue": "source", "hue_order": [*LINES], "palette": LINES, "style": "source"}
    style |= {"style_order": [*LINES], "markers": ["o", "s", "^"], "dashes": ["", (2, 1), (1, 1)]}
    style |= {"errorbar": ("pi", 100), "err_style": "bars"}
    finite = rows[np.isfinite(rows["loss"]) & (rows["loss"] > 0)]
    for _, part in finite.groupby("session"):
        sns.lineplot(part, x="place", y="loss", ax=panel, **style)
    pictures.logarithmic(panel, "y")
    lost = rows[np.isinf(rows["loss"])]
    top = panel.set_ylim(panel.get_ylim())[1]  # the crosses shall not move it
    for source, part in lost.groupby("source"):
        panel.plot(part["place"], [top] * len(part), "x", color=LINES[source], clip_on=False)
    _name_runs(panel, rows)
    picture.explain(*pictures.keys(panel))
    table = fit(rows)
    facts = [f"{row.falls} {row.sequence}" for row in table.itertuples() if row.steps]
    falls = f"Of {table['steps'].max()} steps the loss falls in: {', '.join(facts)}."
    return picture.say(verdict(table), falls if facts else "", _gaps(rows))


def _name_runs(panel: Axes, rows: pd.DataFrame) -> None:
    """Numbers and settings of the runs below the axis, and a line before each new session."""
    known = rows.drop_duplicates("place").sort_values("place")
    names = [f"{number:.0f}: {label}" for number, label in known[["number", "label"]].to_numpy()]
    panel.set_xticks(known["place"], names, rotation=90)
    panel.set(xlabel="run, in the order of the report", ylabel="final training loss (nats)")
    for place in known["place"][known["session"].diff() > 0]:
        panel.axvline(place - 0.5, color=GREY, ls="--", lw=1)
        where = {"xycoords": ("data", "axes fraction"), "xytext": (3, -11)}
        panel.annotate("restart", (place - 0.5, 1), **where, textcoords="offset points")


def _gaps(rows: pd.DataFrame) -> str:
    """Which runs have no loss, or an infinite one, by the source of the losses."""
    known = rows.drop_duplicates("place").set_index("place")["number"]
    told = []
    for source, part in rows.groupby("source", sort=False):
        diverged = part.loc[np.isinf(part["loss"]), "place"].unique()
        missing = known.index.difference(part["place"])
        for fact, places in (("diverged", diverged), ("missing", missing)):
            if len(places):
                told.append(f"{fact} ({source}): run {listed(known[places].astype(int))}")
    return f"{'; '.join(told).capitalize()}." if told else ""


def fit(rows: pd.DataFrame) -> pd.DataFrame:
    """How like the published losses each sequence is; `rows` as from `runs`.

    Only runs count that have a published loss and one in every sequence that was run at all, so
    that all are measured by the same. Columns: sequence, n (such runs), diverged (of them), steps
    (between neighbours of one session), falls (of them), and of the sequences that were run the
    rank correlation (Spearman's), the share of steps that go as the published one, and the
    deviation: the root mean square of the difference of the logarithms to base 10, less its mean,
    for data and networks are not the report's; 0.3 is a factor of two. An infinite loss ranks
    highest and deviates infinitely. Measures of fewer than three runs are NaN, as is a correlation
    with what is constant.
    """
    frame = rows.pivot_table(index=["session", "place"], columns="source", values="loss")
    frame = frame.where(frame > 0).reindex(columns=[*LINES]).dropna(axis=1, how="all")
    everywhere = frame.notna().all(axis=1) & np.isfinite(frame.get(PUBLISHED, math.nan))
    pairs = everywhere & everywhere.groupby("session").shift(fill_value=False)
    pairs &= frame.index.get_level_values("place").diff() == 1
    before = frame.shift()  # of two infinite losses neither is higher
    ways = ((frame > before).astype(int) - (frame < before).astype(int))[pairs]
    table = []
    for source in frame:
        losses, steps = frame.loc[everywhere, source], ways[source]
        facts = {"sequence": source, "n": len(losses), "diverged": int(np.isinf(losses).sum())}
        facts |= {"steps": len(steps), "falls": int((steps < 0).sum())}
        if source != PUBLISHED and len(losses) >= FEWEST:
            likeness = _likeness(frame.loc[everywhere, PUBLISHED], losses)
            same = float((steps == ways[PUBLISHED]).mean()) if len(steps) else math.nan
            facts |= dict(zip(MEASURES, (likeness[0], same, likeness[1]), strict=True))
        table.append(facts)
    columns = ["sequence", "n", "diverged", "steps", "falls", *MEASURES]
    return pd.DataFrame(table, columns=columns)


def _likeness(published: pd.Series, losses: pd.Series) -> tuple[float, float]:
    """Rank correlation with the published losses, and deviation from them in decades."""
    correlation = math.nan
    if published.nunique() > 1 and losses.nunique() > 1:
        correlation = float(stats.spearmanr(published.rank(), losses.rank()).statistic)
    if np.isinf(losses).any():
        return correlation, math.inf
    return correlation, float((np.log10(losses) - np.log10(published)).std(ddof=0))


def verdict(table: pd.DataFrame) -> str:
    """A sentence that says which sequence is more like the published losses, from `fit`'s table.

    Values count as they are written: what reads as equal is a tie.
    """
    scores = table.set_index("sequence")[[*MEASURES]].reindex([FRESH, CARRIED])
    won: dict[str, list[str]] = {CARRIED: [], FRESH: [], "both alike": []}
    for measure, (more, form) in MEASURES.items():
        values = scores[measure]
        if values.isna().any():
            continue
        best, *others = values.sort_values(ascending=not more, kind="stable").items()
        here, there = (form.format(value + 0.0).replace("-", "−") for _, value in (best, *others))
        if here == there:
            won["both alike"].append(f"{measure} {here}")
        else:
            won[str(best[0])].append(f"{measure} {here} against {there}")
    count = int(table["n"].min()) if len(table) else 0
    if not any(won.values()):
        return f"Too little to tell which sequence is like the published one: {count} runs."
    parts = [
        f"{name} by {len(facts)} of {sum(map(len, won.values()))} measures ({', '.join(facts)})"
        for name, facts in sorted(won.items(), key=lambda item: -len(item[1]))
        if facts
    ]
    return f"More like the published losses, in {count} runs: {'; '.join(parts)}."
