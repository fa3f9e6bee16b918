"""Figures that a reader can explore: scatter plots and parallel coordinates of a grid's trials.

Each is a static picture with plotly's figure folded into it. Where no page script runs, in Jupyter
or on paper, the picture is all there is; on a report's page `templates/explore.js` draws the
figure over it and links the figures of one group.
"""

import base64
import html
import math
import re
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from IPython.display import HTML

from refit.errors import ReportError
from refit.figures.old_picture import COLOURS, Picture, save, shortened
from refit.pages.templating import fill

# Where there are more values than colours, the symbols tell them apart.
SYMBOLS = ("circle", "square", "diamond", "triangle-up")
# The lines of parallel coordinates, from the lowest to the highest value of the last metric.
SCALE = [[0, COLOURS[4]], [0.5, COLOURS[2]], [1, COLOURS[0]]]
# A legend has no room for more characters; hovering shows the whole value.
LEGEND_LENGTH = 16
FONT = {"family": "system-ui, Segoe UI, Arial, DejaVu Sans, sans-serif", "color": "#1D232B"}
STYLE = {
    "template": go.layout.Template(),
    "font": FONT,
    "title": {"x": 0.005, "y": 1, "yanchor": "top", "pad": {"t": 8}, "font": {"size": 13}},
    "hoverlabel": {"bgcolor": "white", "align": "left", "font": FONT},
}


def scatter(
    results: pd.DataFrame,
    x: str,
    y: str,
    axes: Mapping[str, str],
    labels: Mapping[str, str],
    group: str,
    static: Picture,
    folder: Path,
) -> HTML:
    """One panel for each hyper-parameter, all of the same trials, each coloured by its own.

    `results`: one row per trial with its name in `trial`, numbers in the columns `x` and `y`, and
    the hyper-parameters. `axes` maps a hyper-parameter's column to its label, `labels` does so for
    `x` and `y`. Figures of one `group` are linked: what is chosen in one lights up in all. `static`
    is shown wherever scripts do not run, and saved as folder/<group>_<x>_<y>.png.

    Trials whose x or y is missing or infinite are left out, and the title says how many. Raises
    ReportError for missing columns, for x or y that are not numbers, for several rows of one trial
    and for a group that is not made of letters, digits, - and _.
    """
    shown, note = _finite(results, [x, y], axes)
    keep = {"group": group, "static": static, "folder": folder, "name": f"{group}_{x}_{y}"}
    if shown.empty:
        return _explorable(None, **keep)
    names = {name: labels.get(name, name) for name in (x, y)}
    hover = _hover(shown, {**names, **axes})
    figure = go.Figure(layout=STYLE | {"hovermode": "closest", "plot_bgcolor": "#EAEAF2"})
    figure.update_layout(
        title_text=note, dragmode="select", meta=[_text(names[x]), _text(names[y])]
    )
    for number, (column, label) in enumerate(axes.items(), start=1):
        panel = "" if number == 1 else str(number)
        figure.update_layout(_panel(panel, label))
        values = shown[column].map(_value)
        for place, value in enumerate(_categories(shown, column)):
            chosen = values == value
            figure.add_scatter(
                x=shown.loc[chosen, x].tolist(),
                y=shown.loc[chosen, y].tolist(),
                ids=shown.loc[chosen, "trial"].astype(str).tolist(),
                hovertext=hover[chosen].tolist(),
                name=_text(shortened(value, LEGEND_LENGTH)),
                marker=_marker(place),
                xaxis=f"x{panel}",
                yaxis=f"y{panel}",
                legend=f"legend{panel}",
            )
    figure.update_traces(
        mode="markers", hoverinfo="text", showlegend=True, unselected_marker_opacity=0.1
    )
    return _explorable(figure, **keep)


def parallel(
    results: pd.DataFrame,
    axes: Mapping[str, str],
    metrics: Mapping[str, str],
    group: str,
    static: Picture,
    folder: Path,
) -> HTML:
    """Parallel coordinates: a line for each trial through its hyper-parameters and metrics.

    `results`: one row per trial with its name in `trial`. `axes` maps the hyper-parameters' columns
    to labels, `metrics` those of the measured numbers; the last metric gives a line its colour.
    What is brushed here lights up in the scatter plots of the same `group`. `static` is shown
    wherever scripts do not run, and saved as folder/<group>_parallel.png.

    Trials with a missing or infinite metric are left out, and the title says how many. Raises
    ReportError where there is no metric, and otherwise as `scatter` does.
    """
    if not metrics:
        raise ReportError("parallel coordinates need a metric to colour the lines by")
    shown, note = _finite(results, list(metrics), axes)
    keep = {"group": group, "static": static, "folder": folder, "name": f"{group}_parallel"}
    if shown.empty:
        return _explorable(None, **keep)
    dimensions = []
    for column, label in axes.items():
        categories = _categories(shown, column)
        places = {value: place for place, value in enumerate(categories)}
        dimensions.append(
            {
                "label": _text(label),
                "values": [places[_value(value)] for value in shown[column]],
                "tickvals": list(range(len(categories))),
                # Unlike all other texts these are shown as they are, so they are not escaped.
                "ticktext": [shortened(value, LEGEND_LENGTH) for value in categories],
                "range": [-0.15, len(categories) - 0.85],
            }
        )
    for column, label in metrics.items():
        dimensions.append({"label": _text(label), "values": shown[column].tolist()})
    colours = {"color": dimensions[-1]["values"], "colorscale": SCALE, "showscale": True}
    title = {"text": dimensions[-1]["label"], "side": "right"}
    figure = go.Figure(layout=STYLE | {"height": 430})
    figure.update_layout(title_text=note, margin={"l": 60, "r": 30, "t": 80, "b": 30})
    figure.add_parcoords(
        ids=shown["trial"].astype(str).tolist(),
        dimensions=dimensions,
        line=colours | {"colorbar": {"title": title, "thickness": 14, "outlinewidth": 0}},
        unselected={"line": {"color": "#B8BEC6", "opacity": 0.12}},
        labelfont={"size": 13},
        tickfont={"size": 12},
        rangefont={"size": 1, "color": "rgba(0,0,0,0)"},  # it would repeat the highest tick
    )
    return _explorable(figure, **keep)


def _panel(panel: str, label: str) -> dict[str, Any]:
    """The axes and the legend of a panel; the page places them, and writes the axes' titles."""
    style = {"gridcolor": "white", "zeroline": False, "nticks": 6}
    linked = [{"matches": axis} if panel else {} for axis in "xy"]
    return {
        f"xaxis{panel}": style | linked[0] | {"anchor": f"y{panel}"},
        f"yaxis{panel}": style | linked[1] | {"anchor": f"x{panel}"},
        f"legend{panel}": {"yanchor": "top", "title": {"text": f"<b>{_text(label)}</b>"}},
    }


def _finite(
    results: pd.DataFrame, numbers: Sequence[str], axes: Mapping[str, str]
) -> tuple[pd.DataFrame, str]:
    """The trials whose `numbers` are all finite, and a sentence about the others.

    A table without rows may lack columns: nothing has been trained yet.
    """
    if not axes:
        raise ReportError("a figure to explore needs a hyper-parameter")
    if results.empty:
        return results, ""
    if missing := sorted({"trial", *numbers, *axes} - set(results.columns)):
        raise ReportError(f"the table for this figure lacks the columns {', '.join(missing)}")
    for name in numbers:
        if not pd.api.types.is_numeric_dtype(results[name]):
            raise ReportError(f"the column {name} holds no numbers")
    if (again := results["trial"].duplicated()).any():
        twice = results.loc[again, "trial"].iloc[0]
        raise ReportError(f"trial {twice} has several rows: average its seeds first")
    finite = np.isfinite(results[list(numbers)].astype(float)).all(axis=1)
    shown = results[finite].reset_index(drop=True)
    left_out = len(results) - len(shown)
    trials = "1 trial is" if left_out == 1 else f"{left_out} trials are"
    return shown, f"{trials} left out: a value is infinite or missing" if left_out else ""


def _hover(shown: pd.DataFrame, columns: Mapping[str, str]) -> pd.Series:
    """What a reader sees who points at a trial: its name and its values, a line each."""
    lines = f"<b>{{}}</b>{''.join('<br>{}: {}' for _ in columns)}"
    texts = [
        lines.format(
            _text(row["trial"]),
            *(_text(part) for name in columns for part in (columns[name], _value(row[name], 5))),
        )
        for row in shown.to_dict("records")
    ]
    return pd.Series(texts)


def _categories(shown: pd.DataFrame, column: str) -> list[str]:
    """The values of a hyper-parameter as texts: numbers by size, others as they first appear."""
    values = shown[column].tolist()
    known = [value for value in values if pd.isna(value) is not True]
    if all(isinstance(value, Real) for value in known):
        values = sorted(known) + values  # what is missing stays last
    return list(dict.fromkeys(map(_value, values)))


def _value(value: Any, digits: int = 12) -> str:
    """A value as a reader writes it: 16, not 16.0, and a dash where there is none."""
    if pd.isna(value) is True:  # of a list it would be an array
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, Real) and math.isfinite(value):
        return str(int(value)) if value == round(value) else format(value, f".{digits}g")
    return str(value)


def _text(value: Any) -> str:
    """Text for plotly, which reads a few HTML tags: escaped, names show as they are written."""
    return html.escape(str(value), quote=False)


def _marker(place: int) -> dict[str, Any]:
    return {
        "color": COLOURS[place % len(COLOURS)],
        "symbol": SYMBOLS[place // len(COLOURS) % len(SYMBOLS)],
        "size": 9,
        "opacity": 0.85,
        "line": {"color": "white", "width": 0.8},
    }


def _explorable(
    figure: go.Figure | None, group: str, static: Picture, folder: Path, name: str
) -> HTML:
    """The picture with the figure folded into it; without a figure only the picture."""
    if not re.fullmatch(r"[\w-]+", group, re.ASCII):
        raise ReportError(f"group {group!r} is not made of letters, digits, - and _")
    save(static, folder, re.sub(r"[^A-Za-z0-9_-]+", "-", name))
    return HTML(
        fill(
            "explorable.html.j2",
            group=group,
            picture=base64.b64encode(static.png()).decode(),
            description=static.description,
            figure=None if figure is None else figure.to_plotly_json(),
        )
    )
