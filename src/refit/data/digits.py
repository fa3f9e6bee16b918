"""scikit-learn's bundled digits (Alpaydin and Kaynak 1998): real images that need no download.

They let a first run and the tests exercise everything in seconds. Their figures say nothing about
the published ones, so the data call themselves a stand-in.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from refit.data.arrays import Decoded, Part, merge_pairs, resize

SIDE = 28
COLOUR_SIDE = 32
# The last images in file order, fixed for all splits; 1,500 of the 1,797 are left to learn from.
TEST_IMAGES = 297
STAND_IN = (
    "scikit-learn's bundled digits stand in for the published images, so that a first run needs "
    "no download; the figures cannot be compared with the published ones."
)


def fingerprint(data_dir: Path | None) -> str:
    """A constant, because the images come with the pinned scikit-learn."""
    return "sklearn-digits"


def read(data_dir: Path | None) -> Decoded:
    """Read 1,500 images to learn from and 297 to test on, scaled from 8x8 to 28x28, ten classes.

    The original values 0 to 16 are stretched to 0 to 255 and scaled with Pillow's bicubic filter.
    """
    from sklearn.datasets import load_digits  # a second to import, seldom needed

    bundled = load_digits()
    grey = np.rint(bundled.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    images = resize(grey, SIDE, "bicubic")
    everything = Part(images, bundled.target.astype(np.int32), np.arange(len(images)))
    return Decoded(
        learning=everything.take(slice(None, -TEST_IMAGES)),
        test=everything.take(slice(-TEST_IMAGES, None)),
        class_names=tuple(str(digit) for digit in range(10)),
        source=f"The {len(images):,} digits bundled with scikit-learn, scaled from 8x8 to "
        f"{SIDE}x{SIDE}; the last {TEST_IMAGES} in file order are the test images.",
        stand_in=STAND_IN,
        embedded=True,
    )


def read_colour(data_dir: Path | None) -> Decoded:
    """Read the digits in colour: blended over patches of scikit-learn's two photographs, 32x32.

    A pixel of the digit covers the photograph as far as it is inked, in a colour drawn for each
    digit; patches and colours come from a fixed seed.
    """
    from sklearn.datasets import load_sample_images

    grey = read(data_dir)
    generator = np.random.default_rng(0)
    photographs = load_sample_images().images
    source = (
        "The digits bundled with scikit-learn, blended in drawn colours over patches of its two "
        f"photographs, {COLOUR_SIDE}x{COLOUR_SIDE}; the last {TEST_IMAGES} are the test images."
    )
    learning = _over_photographs(grey.learning, photographs, generator)
    test = _over_photographs(grey.test, photographs, generator)
    return replace(grey, learning=learning, test=test, source=source)


def _over_photographs(
    part: Part, photographs: list[np.ndarray], generator: np.random.Generator
) -> Part:
    ink = resize(part.images, COLOUR_SIDE, "bicubic") / 255
    images = np.empty((len(part), COLOUR_SIDE, COLOUR_SIDE, 3), np.uint8)
    for cover, target in zip(ink, images, strict=True):
        photograph = photographs[generator.integers(len(photographs))]
        row, column = (generator.integers(s - COLOUR_SIDE + 1) for s in photograph.shape[:2])
        patch = photograph[row : row + COLOUR_SIDE, column : column + COLOUR_SIDE]
        colour = generator.integers(0, 256, 3)
        target[...] = np.rint(patch * (1 - cover) + colour * cover)
    return replace(part, images=images)


def read_pairs(data_dir: Path | None) -> Decoded:
    """Read the digits with neighbouring digits merged into five classes."""
    return merge_pairs(read(data_dir), STAND_IN)
