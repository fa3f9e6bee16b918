"""Clips of moving digits, drawn when they are decoded: video that needs no download.

One of scikit-learn's digits moves over a background of coloured tiles: to the left, to the right,
up, down, or not at all. It moves inside the central square and comes in again on the opposite side,
and it starts anywhere with equal probability; so every frame by itself has its digit anywhere,
whatever the class, and only the change from frame to frame tells the classes apart. A digit that
grows would not do: its size would show in a single frame. One clip in four shows any way,
whatever its label, which can be learnt by heart only: networks overfit on it, as on the gestures.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from refit.data import gesture
from refit.data.arrays import Clips, Decoded, Part
from refit.data.digits import TEST_IMAGES

# Raised when other clips would be drawn.
VERSION = 2
SEED = 0
LABELLED_BY_CHANCE = 0.25  # of the clips
COUNTS = {"train": 300, "val": 100}
FRAMES = 30
# How far a frame moves the digit, as (down, right), by class.
WAYS = {"Left": (0, -1), "Right": (0, 1), "Up": (-1, 0), "Down": (1, 0), "Still": (0, 0)}
# The course's two sizes: most are 120x160, and every so many 360x360, which take longer to read.
# Their distance and the number of classes have no common divisor, so that all classes have some.
SQUARE = 120
MARGIN = 20
ENLARGED = 3
EVERY_LARGE = 21
TILE = 20
DIGIT_SCALE = 6  # from 8x8 to 48x48 pixels
# The digit's place in the palette, which begins with the tiles.
INK = 255
STAND_IN = (
    "Clips of scikit-learn's digits that move stand in for the clips of gestures, so that a first "
    "run needs no download; the figures cannot be compared with the published ones."
)


def fingerprint(data_dir: Path | None) -> str:
    """A constant, because the clips are made of what comes with the pinned scikit-learn."""
    return f"sklearn-digit-clips-{VERSION}"


def read(data_dir: Path | None) -> Decoded:
    """List 300 clips to learn from and 100 to test on, five classes."""
    learning, test = map(_part, COUNTS)
    return Decoded(
        learning=learning,
        test=test,
        class_names=tuple(WAYS),
        source=f"{len(learning)} and {len(test)} clips of {FRAMES} frames in which a digit bundled "
        f"with scikit-learn moves over tiles ({', '.join(WAYS)}), most of 120x160 pixels, some of "
        "360x360, and a quarter shows any way, whatever its label; digits of the test clips are in "
        "no other.",
        stand_in=STAND_IN,
        embedded=True,
    )


def _part(part: str) -> Part:
    """The clips of a part, in the order in which a folder of as many gestures is taken."""
    order = gesture.drawn_order(COUNTS[part])
    entries = [(part, int(number)) for number in order]
    return Part(Clips(entries, decode), (order % len(WAYS)).astype(np.int32), order)


def decode(
    entries: Sequence[tuple[str, int]], frames: int, side: int, resampling: str
) -> Iterator[np.ndarray]:
    """Draw one clip after another: uint8 (frames, side, side, 3)."""
    from sklearn.datasets import load_digits  # a second to import, seldom needed

    images = load_digits().images
    digits = {"train": images[:-TEST_IMAGES], "val": images[-TEST_IMAGES:]}
    positions = gesture.sampled("digit_clips", FRAMES, frames)
    for part, number in entries:
        generator = np.random.default_rng([SEED, list(COUNTS).index(part), number])
        way, enlarged = list(WAYS)[number % len(WAYS)], number % EVERY_LARGE == EVERY_LARGE - 1
        if generator.random() < LABELLED_BY_CHANCE:
            way = generator.choice(list(WAYS))
        drawn = list(_frames(digits[part], way, enlarged, generator))
        yield np.stack([gesture.squared(drawn[at], side, resampling) for at in positions])


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
