"""What the networks see: a row of training images, or of the frames of a clip, for each class."""

from collections.abc import Sequence

import numpy as np

from refit.figures.picture import TEXT, WIDTH, Picture, listed, nothing_finished, shortened, theme

NAMES = 1.5  # inches left of the images, for the classes


def images(
    pixels: np.ndarray, labels: np.ndarray, names: Sequence[str], title: str, per_class: int = 6
) -> Picture:
    """The first images of every class. `pixels` is uint8 (n, height, width, channels)."""
    rows = _first(labels, names, per_class)
    chosen = [[pixels[place] for place in places] for places in rows]
    return _sheet(chosen, labels, names, title, per_class, "images")


@theme()
def clips(
    pixels: np.ndarray, labels: np.ndarray, names: Sequence[str], title: str, frames: int = 6
) -> Picture:
    """Frames of the first clip of every class, evenly spaced from its first to its last.

    `pixels` is uint8 (n, frames, height, width, 3); of a memory map only what is drawn is read.
    """
    length = pixels.shape[1]
    times = np.linspace(0, length - 1, min(frames, length)).round().astype(int)
    rows = _first(labels, names, 1)
    chosen = [[pixels[place, time] for place in places for time in times] for places in rows]
    picture = _sheet(chosen, labels, names, title, len(times), "clips")
    for panel, time in zip(picture.axes, times, strict=False):
        panel.set_title(f"frame {time + 1}" if time == times[0] else f"{time + 1}")
    return picture.say(f"Time runs from left to right: {len(times)} of {length} frames.")


def _first(labels: np.ndarray, names: Sequence[str], most: int) -> list[np.ndarray]:
    """The places of the first images of each class."""
    return [np.flatnonzero(labels == label)[:most] for label in range(len(names))]


@theme()
def _sheet(
    rows: Sequence[Sequence[np.ndarray]],
    labels: np.ndarray,
    names: Sequence[str],
    title: str,
    columns: int,
    what: str,
) -> Picture:
    """Images in rows with the names of their classes; the caption has how many there are."""
    if not len(labels):
        return nothing_finished(title)
    height, width = next(row[0].shape[:2] for row in rows if row)
    size = min(1.2, (WIDTH - NAMES) / columns)
    picture = Picture(title, 0.7 + len(rows) * (size * height / width + 0.06))
    for panels, row, name in zip(picture.panels(len(rows), columns), rows, names, strict=False):
        for panel in panels:
            panel.set(xticks=[], yticks=[])
            panel.grid(visible=False)
        for panel, image in zip(panels, row, strict=False):
            panel.imshow(np.squeeze(image), cmap="gray", vmin=0, vmax=255)
        if not row:
            panels[0].text(0.5, 0.5, f"no {what}", ha="center", va="center", fontsize=TEXT)
        panels[0].set_ylabel(shortened(name, 22), rotation=0, ha="right", va="center")
    return picture.say(_counted(np.bincount(labels, minlength=len(names)), names, what))


def _counted(counts: np.ndarray, names: Sequence[str], what: str) -> str:
    """How many images the classes have: the same, or from the fewest to the most."""
    fewest, most = counts.min(), counts.max()
    if fewest == most:
        return f"Each of the {len(names):,} classes has {most:,} training {what}."
    rarest, commonest = (
        listed(name for name, count in zip(names, counts, strict=True) if count == end)
        for end in (fewest, most)
    )
    return (
        f"{counts.sum():,} training {what} of {len(names):,} classes: "
        f"most are of {commonest} ({most:,}), fewest of {rarest} ({fewest:,})."
    )
