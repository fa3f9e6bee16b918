"""Figures of clips: what the networks see of each class, frame by frame."""

import numpy as np

from refit.data.arrays import Dataset
from refit.errors import ReportError
from refit.figures.old_picture import Picture, nothing_finished, shortened

WIDEST = 11.0  # inches of a page's column
NAMES = 1.8  # inches left of the frames, for the classes


def frames(dataset: Dataset, frames: int = 6, per_class: int = 1) -> Picture:
    """Frames of the first training clips of every class, a row per clip, time from left to right.

    The training images are uint8 (n, frames, height, width, 3). The frames are evenly spaced from
    a clip's first to its last; a shorter clip has fewer. Of a memory map only they are read. Raises
    ReportError where the images are no clips, or where no frame is asked for.
    """
    images, labels = dataset.train.images, dataset.train.labels
    if len(images.shape) != 5:
        raise ReportError(f"images of shape {images.shape} are no clips: these have five axes")
    if frames < 1 or per_class < 1:
        raise ReportError(f"{frames} frames of {per_class} clips per class cannot be drawn")
    if not len(images):
        return nothing_finished("frames of the training clips")
    _, length, height, width, _ = images.shape
    chosen = _evenly_spaced(length, frames)
    clips = _clips(np.asarray(labels), dataset.class_names, per_class)
    size = min(1.3, (WIDEST - NAMES) / len(chosen))
    inches = NAMES + size * len(chosen), 0.8 + 1.04 * size * height / width * len(clips)
    names = ", ".join(dataset.class_names)
    picture = Picture(*inches, f"frames of training clips: {names}")
    panels = picture.panels(len(clips), len(chosen))
    for row, (name, position) in zip(panels, clips, strict=True):
        for panel, frame in zip(row, chosen, strict=True):
            panel.set(xticks=[], yticks=[])
            panel.grid(visible=False)
            if position is not None:
                panel.imshow(images[position, frame])
        if position is None:
            row[0].text(0.5, 0.5, "no clip", transform=row[0].transAxes, ha="center", va="center")
        row[0].set_ylabel(shortened(name), rotation=0, ha="right", va="center")
    for panel, frame in zip(panels[0], chosen, strict=True):
        panel.set_title(f"{'frame ' if frame == chosen[0] else ''}{frame + 1}", fontsize=9)
    picture.note(f"time →   {len(chosen)} of {length} frames, evenly spaced")
    return picture


def _evenly_spaced(length: int, wanted: int) -> list[int]:
    """Positions from the first to the last of `length` frames; the middle one if one is wanted."""
    if wanted == 1:
        return [length // 2]
    return np.linspace(0, length - 1, min(wanted, length)).round().astype(int).tolist()


def _clips(
    labels: np.ndarray, names: tuple[str, ...], per_class: int
) -> list[tuple[str, int | None]]:
    """A row per clip: the class's name, at its first one, and the position if there is any."""
    rows: list[tuple[str, int | None]] = []
    for label, name in enumerate(names):
        positions = np.flatnonzero(labels == label)[:per_class].tolist() or [None]
        rows += zip([name, *[""] * (len(positions) - 1)], positions, strict=True)
    return rows
