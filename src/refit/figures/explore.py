"""A sweep to explore: its trials as lines or dots that can be filtered, above parallel coordinates.

The static picture of the sweep stands first, and wherever no page script runs it is all there is.
On a report's page `pages/templates/explore.js` draws both figures in its place once they are
scrolled into view, with a filter for every setting.
"""

import html
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML

from refit.figures.labels import amount
from refit.figures.picture import COLOURS, Picture, in_order, shortened, written

SYMBOLS = ("circle", "square", "diamond", "triangle-up")  # where there are more values than colours
SCALE = [[0, COLOURS[4]], [0.5, COLOURS[2]], [1, COLOURS[0]]]  # of the last metric, upwards
FONT = {"family": "system-ui, Segoe UI, Arial, DejaVu Sans, sans-serif", "color": "#1D232B"}
LONGEST = 14  # characters of a tick; hovering shows the whole value


def sweep(
    results: pd.DataFrame,
    settings: Mapping[str, str],
    metrics: Mapping[str, str],
    title: str,
    picture: Picture,
    curves: pd.DataFrame | None = None,
) -> HTML:
    """The picture of a sweep, with its trials folded into it for whoever wants to explore them.

    `results`: a row per trial and seed with trial, the settings, the metrics and, if known,
    diverged; seeds are averaged. `settings` and `metrics` map columns to labels; the last metric
    colours the parallel coordinates. With `curves`, a row per trial, seed and epoch with the last
    metric, trials are lines over epochs; without, dots of the last metric against the first.

    A trial that diverged stands at the end of an axis; one without a value is left out, and the
    caption says how many are.
    """
    trials, left_out = _trials(results, settings, metrics)
    values = {column: _values(trials[column]) for column in settings if len(trials)}
    values = {column: known for column, known in values.items() if len(known) > 1}
    if left_out:
        picture.say(f"Not among the trials to explore: {left_out} without a value.")
    if not values:
        return HTML(picture._repr_html_())
    names = {column: settings[column] for column in values}
    labels = list(metrics.values())
    x = labels[0] if curves is None or curves.empty else "epoch"
    data = {
        "settings": [{"label": names[column], "values": known} for column, known in values.items()],
        "places": [
            [known.index(written(row[column])) for column, known in values.items()]
            for row in trials.to_dict("records")
        ],
        "colours": COLOURS,
        "symbols": SYMBOLS,
        "titles": [f"{title}: {labels[-1]} by {x}", f"{title}: settings and what they reach"],
        "trials": _members(trials, curves, names, metrics),
        "parallel": _parallel(trials, values, names, metrics),
    }
    # No "<" is left that could end the script: a page shows every name as it is written.
    content = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    return HTML(
        f'<div class="explorable">{picture._repr_html_()}'
        f'<script type="application/json">{content}</script></div>'
    )


def _trials(
    results: pd.DataFrame, settings: Mapping[str, str], metrics: Mapping[str, str]
) -> tuple[pd.DataFrame, int]:
    """A row per trial, means over its seeds, and how many trials lack a metric."""
    if results.empty:
        return results, 0
    groups = results.groupby("trial", sort=False)
    trials = groups[[*settings]].first().assign(seeds=groups.size())
    for metric in metrics:
        trials[metric] = groups[metric].agg(lambda scores: scores.mean(skipna=False))
        if "loss" in metric and "diverged" in results:
            trials.loc[groups["diverged"].any(), metric] = np.inf
    known = trials.dropna(subset=[*metrics]).reset_index()
    return known, len(trials) - len(known)


def _values(column: pd.Series) -> list[str]:
    """The values of a setting as texts, in order; what is missing stands last, as a dash."""
    known = list(dict.fromkeys(map(written, in_order(column.dropna()))))
    return [*known, written(None)] if column.isna().any() else known


def _members(
    trials: pd.DataFrame,
    curves: pd.DataFrame | None,
    names: Mapping[str, str],
    metrics: Mapping[str, str],
) -> dict[str, Any]:
    """A plotly figure with a trace for every trial, in their order; the page colours them."""
    first, last = next(iter(metrics)), list(metrics)[-1]
    lines = {} if curves is None or curves.empty else _lines(curves, last)
    x, y = ("epoch", metrics[last]) if lines else (metrics[first], metrics[last])
    traces = []
    for row in trials.to_dict("records"):
        told = [f"<b>{_text(row['trial'])}</b>"]
        told += [f"{_text(name)}: {_text(written(row[c]))}" for c, name in names.items()]
        told += [f"{_text(name)}: {amount(row[m], 4)}" for m, name in metrics.items()]
        told += [f"mean of {row['seeds']} seeds"] if row["seeds"] > 1 else []
        ends = _finite(pd.Series([row[first]])), _finite(pd.Series([row[last]]))
        places = lines.get(row["trial"], ([], [])) if lines else ends
        hover = "<br>".join(told) + ("<br>epoch %{x}: %{y:.4g}" if lines else "")
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if lines else "markers",
                "x": list(places[0]),
                "y": list(places[1]),
                "marker": {"size": 4 if lines else 10},
                "line": {"width": 1.5},
                "hovertemplate": f"{hover}<extra></extra>",
            }
        )
    epochs = {"dtick": max(1, max(x[-1] for x, _ in lines.values()) // 8)} if lines else {}
    axis = {"gridcolor": "#E1E5EA", "zeroline": False, "automargin": True}
    layout = _layout(top=20) | {
        "height": 400,
        "hovermode": "closest",
        "xaxis": axis | epochs | {"title": {"text": _text(x)}},
        "yaxis": axis | {"title": {"text": _text(y)}},
        "legend": {"orientation": "h", "yanchor": "top", "y": -0.2},
    }
    return {"data": traces, "layout": layout}


def _lines(curves: pd.DataFrame, metric: str) -> dict[str, tuple[list[int], list[float | None]]]:
    """Epochs and a metric, mean over seeds, by trial; where it is not finite the line breaks."""
    means = curves.groupby(["trial", "epoch"])[metric].mean().reset_index("epoch")
    return {
        str(trial): (rows["epoch"].tolist(), _finite(rows[metric]))
        for trial, rows in means.groupby("trial")
    }


def _parallel(
    trials: pd.DataFrame,
    values: Mapping[str, list[str]],
    names: Mapping[str, str],
    metrics: Mapping[str, str],
) -> dict[str, Any]:
    """A plotly figure of parallel coordinates: a line through the settings and metrics of a trial.

    Its ticks are shown as they are; all other texts may have tags, and so are escaped.
    """
    dimensions: list[dict[str, Any]] = [
        {
            "label": _text(names[column]),
            "values": [known.index(written(value)) for value in trials[column]],
            "tickvals": list(range(len(known))),
            "ticktext": [shortened(value, LONGEST) for value in known],
            "range": [-0.15, len(known) - 0.85],
        }
        for column, known in values.items()
    ]
    dimensions += [{"label": _text(name)} | _scale(trials[key]) for key, name in metrics.items()]
    colour = dimensions[-1]["values"]
    lines = {
        "type": "parcoords",
        "dimensions": dimensions,
        # A few failures shall not take all of the colours.
        "line": {"color": colour, "colorscale": SCALE, "cmin": float(np.quantile(colour, 0.1))},
        "unselected": {"line": {"color": "#B8BEC6", "opacity": 0.12}},
        "labelfont": {"size": 13},
        "tickfont": {"size": 12},
        "rangefont": {"size": 1, "color": "rgba(0,0,0,0)"},  # it would repeat the highest tick
    }
    return {"data": [lines], "layout": _layout(top=60) | {"height": 370}}


def _scale(scores: pd.Series) -> dict[str, Any]:
    """Values, and ticks where plotly's own would not do: infinite ones stand above all others."""
    finite = scores[np.isfinite(scores)]
    if len(finite) == len(scores):
        return {"values": scores.tolist()}
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    top = high + 0.15 * ((high - low) or abs(high) or 1.0)
    ticks = np.linspace(low, high, 4).tolist()
    return {
        "values": scores.where(np.isfinite(scores), top).tolist(),
        "tickvals": [*ticks, top],
        "ticktext": [*(f"{tick:.3g}" for tick in ticks), "infinite"],
    }


def _finite(scores: pd.Series) -> list[float | None]:
    return [float(score) if np.isfinite(score) else None for score in scores]


def _layout(top: int) -> dict[str, Any]:
    return {
        "template": {},
        "font": FONT,
        "hoverlabel": {"bgcolor": "white", "align": "left", "font": FONT},
        "margin": {"l": 60, "r": 60, "t": top, "b": 30},
    }


def _text(value: Any) -> str:
    """Text for plotly, which reads tags and fills in placeholders: names show as written."""
    return html.escape(str(value), quote=False).replace("%{", "&#37;{")
