"""Clips of moving digits, written in the layout of the gestures: video that needs no download.

One of scikit-learn's digits moves over a background of coloured tiles: to the left, to the right,
up, down, or not at all. It moves inside the central square and comes in again on the opposite side,
and it starts anywhere with equal probability; so every frame by itself has its digit anywhere,
whatever the class, and only the change from frame to frame tells the classes apart. A digit that
grows would not do: its size would show in a single frame. One clip in four shows any way,
whatever its label, which can be learnt by heart only: networks overfit on it, as on the gestures.

The clips are written once, into a folder below the cache, and then read like the user's own.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from refit import paths
from refit.data import cache, gesture
from refit.data.arrays import Decoded
from refit.data.digits import TEST_IMAGES
from refit.errors import DataError

# Raised when other clips would be written.
VERSION = 2
SEED = 0
LABELLED_BY_CHANCE = 0.25  # of the clips
COUNTS = {"train": 300, "val": 100}
FRAMES = 30
# How far a frame moves the digit, as (down, right), by class.
WAYS = {"Left": (0, -1), "Right": (0, 1), "Up": (-1, 0), "Down": (1, 0), "Still": (0, 0)}
# The course's two sizes: most are 120x160, and every so many 360x360, which take longer to write.
# Their distance and the number of classes have no common divisor, so that all classes have some.
SQUARE = 120
MARGIN = 20
ENLARGED = 3
EVERY_LARGE = 21
TILE = 20
DIGIT_SCALE = 6  # from 8x8 to 48x48 pixels
# The digit's place in the palette, which begins with the tiles.
INK = 255
FINGERPRINT_FILE = "fingerprint.txt"
STAND_IN = (
    "Clips of scikit-learn's digits that move stand in for the clips of gestures, so that a first "
    "run needs no download; the figures cannot be compared with the published ones."
)


def fingerprint(data_dir: Path | None) -> str:
    """A constant, because the clips are made of what comes with the pinned scikit-learn."""
    return f"sklearn-digit-clips-{VERSION}"


def read(data_dir: Path | None) -> Decoded:
    """List 300 clips to learn from and 100 to test on, five classes, written where they are not.

    Raises DataError where they cannot be written.
    """
    decoded = gesture.read_folder(_folder())
    return replace(
        decoded,
        source=f"{len(decoded.learning)} and {len(decoded.test)} clips of {FRAMES} frames in which "
        f"a digit bundled with scikit-learn moves over tiles ({', '.join(decoded.class_names)}), "
        "most of 120x160 pixels, some of 360x360, and a quarter shows any way, whatever its label; "
        "digits of the test clips are in no other.",
        stand_in=STAND_IN,
        embedded=True,
    )


def _folder() -> Path:
    """The folder of the clips, written first where it is missing or was damaged."""
    folder = paths.cache() / f"digit-clips-{VERSION}"
    if not _is_whole(folder):
        with cache.published(folder, is_whole=_is_whole) as fresh:
            _write(fresh)
    return folder


def _is_whole(folder: Path) -> bool:
    try:
        written = (folder / FINGERPRINT_FILE).read_text("utf-8")
        return written == gesture.list_clips(folder).fingerprint()
    except (OSError, ValueError, DataError):
        return False


def _write(folder: Path) -> None:
    from sklearn.datasets import load_digits  # a second to import, seldom needed

    images = load_digits().images
    digits = {"train": images[:-TEST_IMAGES], "val": images[-TEST_IMAGES:]}
    for part, count in COUNTS.items():
        rows = []
        for number in range(count):
            name, way = f"digit_{number:04}", list(WAYS)[number % len(WAYS)]
            generator = np.random.default_rng([SEED, list(COUNTS).index(part), number])
            clip = folder / part / f"{name}_{way}_new"
            clip.mkdir(parents=True)
            enlarged = number % EVERY_LARGE == EVERY_LARGE - 1
            shown = generator.choice(list(WAYS)) if generator.random() < LABELLED_BY_CHANCE else way
            for frame, image in enumerate(_frames(digits[part], shown, enlarged, generator)):
                image.save(clip / f"{name}_{frame:05}.png")
            rows.append(f"{clip.name};{way}_new;{list(WAYS).index(way)}\n")
        (folder / f"{part}.csv").write_text("".join(rows), "utf-8")
    (folder / FINGERPRINT_FILE).write_text(gesture.list_clips(folder).fingerprint(), "utf-8")


def _frames(
    digits: np.ndarray, way: str, enlarged: bool, generator: np.random.Generator
) -> Iterator[Image.Image]:
    """The frames of one clip. What is drawn does not depend on the way, so neither does a frame."""
    margin = 0 if enlarged else MARGIN
    rows, columns = SQUARE // TILE, (SQUARE + 2 * margin) // TILE
    tiles = np.arange(rows * columns, dtype=np.uint8).reshape(rows, columns)
    background = np.kron(tiles, np.ones((TILE, TILE), np.uint8))
    palette = generator.integers(0, 128, (256, 3), dtype=np.uint8)
    palette[INK] = generator.integers(160, 256, 3)
    shape = digits[generator.integers(len(digits))] > 7
    shape = shape.repeat(DIGIT_SCALE, 0).repeat(DIGIT_SCALE, 1)
    digit = np.pad(shape, (0, SQUARE - len(shape)))
    start = generator.integers(0, SQUARE, 2)
    # Half the square to all of it in one clip: even four sampled frames tell the direction.
    speed = generator.uniform(0.5, 1) * SQUARE / (FRAMES - 1)
    for number in range(FRAMES):
        place = start + np.rint(speed * number * np.array(WAYS[way])).astype(int)
        frame = background.copy()
        square = frame[:, margin : margin + SQUARE]
        square[np.roll(digit, place, (0, 1))] = INK
        if enlarged:
            frame = frame.repeat(ENLARGED, 0).repeat(ENLARGED, 1)
        image = Image.fromarray(frame)
        image.putpalette(palette.tobytes())
        yield image
