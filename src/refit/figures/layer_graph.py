"""Layer graphs of networks side by side, drawn from the layer tables that trainings leave.

The reports show diagrams that Keras drew of their models. These are drawn without Keras, from what
is stored beside a result (see `refit.models.layers.layer_table`), so that a page needs no network.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch, Patch

from refit.errors import ReportError
from refit.figures.old_picture import COLOURS, Picture, legend_columns, nothing_finished

# What a layer's type has in its name, by kind; the first that fits counts.
KINDS = {
    "convolution": ("Conv",),
    "normalisation": ("Normalization",),
    "activation": ("Activation", "LU", "Softmax"),
    "pooling": ("Pooling",),
    "dropout": ("Dropout",),
    "dense": ("Dense",),
}
OTHER = "other"
HUES = dict(zip([*KINDS, OTHER], COLOURS, strict=True))
# Their names say more than that they are networks.
CONTAINERS = ("Functional", "Sequential", "Model")
BOX, GAP = 0.3, 0.2  # inches
COLUMN, MOST_COLUMNS = 3.6, 3  # inches, networks side by side
LONGEST = 24  # characters that fit beside a shape
NEEDED = ("name", "type", "output_shape", "parameters")


def draw(networks: Mapping[str, Sequence[Mapping[str, Any]]]) -> Picture:
    """A column per network: a box per layer with type, output shape and number of parameters.

    `networks` maps names to layer tables, rows with name, type (Keras class), output_shape (without
    the batch) and parameters, in the order of Keras' own summary. They are drawn as chains; a row
    may have `inputs`, the names of the layers before it, and what is no chain is then said beside
    its arrow, as "3 copies" of a layer that is its own neighbour. Raises ReportError where a row
    lacks something.
    """
    for name, layers in networks.items():
        for layer in layers:
            if missing := [key for key in NEEDED if key not in layer]:
                raise ReportError(f"a layer of {name} lacks {', '.join(missing)}")
    if not any(networks.values()):
        return nothing_finished("layer graphs")
    columns = min(MOST_COLUMNS, len(networks))
    rows = math.ceil(len(networks) / columns)
    tables = list(networks.items())
    heights = [
        max(_height(layers) for _, layers in tables[first : first + columns])
        for first in range(0, len(tables), columns)
    ]
    described = "; ".join(f"{name}: {_total(layers)}" for name, layers in tables)
    picture = Picture(COLUMN * columns + 0.2, sum(heights) + 0.5 * rows + 0.5, described)
    panels = picture.panels(rows, columns, height_ratios=heights)
    for panel, (name, layers) in zip(panels.flat, tables, strict=False):
        panel.set_title(name, fontweight="bold")
        _draw_chain(panel, layers)
    for place, panel in enumerate(panels.flat):
        panel.set(xlim=(0, COLUMN), ylim=(heights[place // columns], 0))
        panel.set_axis_off()
    shown = {_kind(layer["type"]) for _, layers in tables for layer in layers}
    handles = [_patch(kind) for kind in HUES if kind in shown]
    columns = legend_columns(handles, 50 * columns)
    picture.legend(handles=handles, loc="outside lower center", ncols=columns)
    return picture


def _height(layers: Sequence[Mapping[str, Any]]) -> float:
    """Inches that a column needs: its headings, boxes and arrows, and the totals below."""
    return GAP + len(layers) * (BOX + GAP) + GAP


def _total(layers: Sequence[Mapping[str, Any]]) -> str:
    parameters = sum(layer["parameters"] for layer in layers)
    return f"{len(layers)} layer{'' if len(layers) == 1 else 's'}, {parameters:,} parameters"


def _kind(layer_type: str) -> str:
    found = (kind for kind, parts in KINDS.items() if any(part in layer_type for part in parts))
    return next(found, OTHER)


def _shades(kind: str) -> dict[str, Any]:
    """A pale face, on which text is readable, and an edge of the kind's colour."""
    return {"fc": [0.72 + 0.28 * part for part in to_rgb(HUES[kind])], "ec": HUES[kind], "lw": 1.2}


def _patch(kind: str) -> Patch:
    return Patch(**_shades(kind), label=kind)


def _draw_chain(panel: Axes, layers: Sequence[Mapping[str, Any]]) -> None:
    """Boxes from top to bottom, in inches from the panel's upper left corner."""
    left, right = 0.08, COLUMN - 0.08
    places = {left + 0.08: "left", 2.62: "right", right - 0.08: "right"}
    small = {"fontsize": 8.5, "color": "#555555", "va": "center"}
    if not layers:
        panel.text(COLUMN / 2, GAP, "no finished trials", **small, ha="center")
        return
    for (place, side), heading in zip(
        places.items(), ("layer", "output", "parameters"), strict=True
    ):
        panel.text(place, GAP / 2, heading, **small, ha=side)
    before, top = None, GAP
    for layer in layers:
        arrow, note = _way(layer, before)
        if arrow and before is not None:
            ends = {"xy": (COLUMN / 2, top), "xytext": (COLUMN / 2, top - GAP)}
            style = {"arrowstyle": "-|>", "color": "#444444", "shrinkA": 0, "shrinkB": 0, "lw": 1}
            panel.annotate("", **ends, arrowprops=style)
        panel.text(COLUMN / 2 + 0.12, top - GAP / 2, note, **small)
        corner, size = (left, top), (right - left, BOX)
        style = {"boxstyle": "round,pad=0,rounding_size=0.06", **_shades(_kind(layer["type"]))}
        panel.add_patch(FancyBboxPatch(corner, *size, **style))
        texts = (_name(layer), _shape(layer["output_shape"]), f"{layer['parameters']:,}")
        for (place, side), text in zip(places.items(), texts, strict=True):
            panel.text(place, top + BOX / 2, text, ha=side, va="center", fontsize=9)
        before, top = layer["name"], top + BOX + GAP
    panel.text(COLUMN / 2, top - GAP / 4, _total(layers), ha="center", va="center", fontsize=9.5)


def _way(layer: Mapping[str, Any], before: str | None) -> tuple[bool, str]:
    """Whether a layer takes the output of the one before it, and what else it takes, in words."""
    inputs = Counter(layer.get("inputs") or [before])
    notes = [f"{inputs[before]} copies"] if inputs[before] > 1 else []
    others = [
        name if count == 1 else f"{count} copies of {name}"
        for name, count in inputs.items()
        if name != before
    ]
    # The first layer's only input is that of the network, which no row describes.
    if others and (before is not None or inputs.total() > 1):
        notes.append(f"{'and ' if inputs[before] else ''}from {', '.join(others)}")
    return inputs[before] > 0, ", ".join(notes)


def _name(layer: Mapping[str, Any]) -> str:
    text = layer["name"] if layer["type"] in CONTAINERS else layer["type"]
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _shape(sizes: Sequence[int]) -> str:
    return " × ".join(map(str, sizes))
