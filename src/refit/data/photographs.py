"""The user's own photographs, a folder per class: what a transfer of learned features starts from.

The report of the transfer learning does not name its data, so any set of photographs can take their
place; who has the report's own says so in the experiment file, by `of_the_report`. They are the
first of NAMES below the data folder that is there: a folder, a zip archive of that name, or a
folder with an archive and no images in it; or the data folder itself, where it has `train` and a
validation folder and is neither CIFAR-10 nor clips of gestures. All may stand in one more folder.

With `train` and one of `validation`, `valid`, `val` or `test`, the first in this order, each with a
folder per class, the former are learned from and the latter are the test images; what is there
besides is ignored. With class folders alone, a fifth of each class becomes the test images, drawn
with a fixed seed.

A photograph is turned upright as its EXIF orientation says, because networks learned their features
from upright ones, made RGB and squashed to 224x224 by Pillow's bilinear filter. Keras's
image_dataset_from_directory squashes likewise, but reads no EXIF and, where it reduces, samples
pixels where Pillow averages them.
"""

import hashlib
import re
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refit.data import cifar10, gesture, images
from refit.data.arrays import Decoded
from refit.data.folders import candidates, is_there, is_visible
from refit.errors import DataError

NAMES = (
    "cats-and-dogs", "cats-and-dogs-small", "cats_and_dogs", "cats_and_dogs_filtered",
    "photographs",
)  # fmt: skip
TRAIN = "train"
VALIDATION = ("validation", "valid", "val", "test")
# Names of folders that are parts of a data set, among them Kaggle's test1, rather than classes.
PART = re.compile("(train|test|valid|val|dev|eval)(ing|ation|uation)?[-_ ]?(set)?[-_ ]?[0-9]*")
SIDE = 224
RESAMPLING = "bilinear"
TEST_FRACTION = 0.2
SPLIT_SEED = 0
# In bytes, of all decoded images together: they are held in memory until they are in the cache.
MOST_MEMORY = 8 * 2**30
STAND_IN = (
    "The user's photographs stand in for those of the report, which does not name its data; the "
    "figures cannot be compared with the published ones, what raises or lowers them can."
)


class Found(NamedTuple):
    """Both parts of the photographs in a folder or archive."""

    root: Path
    learning: images.Listing
    test: images.Listing

    def fingerprint(self) -> str:
        both = self.learning.fingerprint() + self.test.fingerprint()
        return hashlib.sha256(both.encode()).hexdigest()[:12]


def fingerprint(data_dir: Path | None) -> str:
    """A hash of the names and sizes of all image files, and which part they belong to."""
    return _find(data_dir).fingerprint()


def stamp(data_dir: Path | None) -> str:
    """What changes with the content of the files, whatever their names and sizes."""
    found = _find(data_dir)
    return found.learning.stamp() + found.test.stamp()


def read(data_dir: Path | None) -> Decoded:
    """Read all photographs, 224x224 colour, labelled by their folders' names in sorted order.

    They are taken in an order drawn with a fixed seed. Raises DataError naming the file or folder
    that is missing, damaged or cannot be used.
    """
    found = _find(data_dir)
    learning, test = (images.read_part(part, SIDE, RESAMPLING) for part in found[1:])
    names = found.learning.class_names
    shown = ", ".join(names) if len(names) <= 10 else f"{', '.join(names[:10])} and others"
    is_split = found.learning.place == found.test.place
    how = f", {TEST_FRACTION:.0%} of each class for testing" if is_split else ""
    return Decoded(
        learning=learning,
        test=test,
        class_names=names,
        source=f"Photographs of {len(names)} classes ({shown}): {len(learning):,} and "
        f"{len(test):,} image files of {found.root.name} in the user's data folder{how}, "
        f"fingerprint {found.fingerprint()}, squashed to {SIDE}x{SIDE}.",
        stand_in=STAND_IN,
    )


def _find(data_dir: Path | None) -> Found:
    """The first place that holds photographs, checked as far as this needs no decoding."""
    for folder in candidates(data_dir, *NAMES)[1:]:
        archive = folder.with_name(f"{folder.name}.zip")
        if folder.is_dir() or is_there(archive):
            return _checked(_parts(_packed(folder) if folder.is_dir() else archive))
    has = [is_there(data_dir / name) for name in (TRAIN, *VALIDATION)] if data_dir else [False]
    if has[0] and any(has[1:]) and gesture.find(data_dir) != data_dir:
        found = _parts(data_dir)
        if found.learning.class_names != cifar10.CLASS_NAMES:
            return _checked(found)
    raise DataError(
        f"No photographs were found in {data_dir or 'DATA_DIR, which is not set'}: set DATA_DIR to "
        f"a folder with {', '.join(NAMES[:-1])} or {NAMES[-1]} in it, a folder or a zip archive, "
        f"which holds {TRAIN} and {VALIDATION[0]} with a folder of images per class each, or just "
        "a folder of images per class."
    )


def _packed(folder: Path) -> Path:
    """The only archive of a folder without images and other folders; else the folder itself."""
    found = [path for path in folder.iterdir() if is_visible(path.name)]
    archives = [path for path in found if path.suffix.lower() == ".zip"]
    others = (path for path in found if path.is_dir() or images.is_image(path.name))
    return archives[0] if len(archives) == 1 and not any(others) else folder


def _parts(root: Path) -> Found:
    """The two parts in a folder or an archive: its own, or else drawn from each class."""
    tree = images.list_tree(root)
    places = tree.places()
    for train in (place for place in places if place[-1:] == (TRAIN,)):
        beside = [(*train[:-1], name) for name in VALIDATION]
        validation = next((place for place in beside if place in places), None)
        if validation is None:
            raise DataError(
                f"{root}: has {'/'.join(train)}, but beside it none of {', '.join(VALIDATION)} "
                "with class folders."
            )
        return Found(root, tree.listing(train), tree.listing(validation))
    # Test images are drawn from each class in turn, so that all have the same share of them.
    listing, generator = tree.classes(), np.random.default_rng(SPLIT_SEED)
    learning, test = [], []
    for _, group in groupby(listing.entries, key=lambda entry: entry.label):
        entries = list(group)
        drawn = generator.permutation(len(entries)) < max(1, round(TEST_FRACTION * len(entries)))
        for entry, chosen in zip(entries, drawn, strict=True):
            (test if chosen else learning).append(entry)
    return Found(root, replace(listing, entries=learning), replace(listing, entries=test))


def _checked(found: Found) -> Found:
    names = found.learning.class_names
    parts = [name for name in names if PART.fullmatch(name.lower())]
    if len(parts) > 1 or parts == list(names) != []:
        raise DataError(
            f"{found.root}: its images stand in {' and '.join(parts)}, which are names of parts "
            f"and no classes; put the images of each class into a folder of its own, such as "
            f"{TRAIN}/cat, {TRAIN}/dog, {VALIDATION[0]}/cat and {VALIDATION[0]}/dog."
        )
    one_sided = set(names).symmetric_difference(found.test.class_names)
    if one_sided or len(names) < 2:
        raise DataError(
            f"{found.root}: {', '.join(sorted(one_sided) or names)} has images in only one of its "
            "two parts or is the only class; needed are at least 2 classes with images in both, or "
            "of at least 2 images where they are still to be split."
        )
    count, size = len(found.learning.entries) + len(found.test.entries), SIDE * SIDE * 3
    if count * size > MOST_MEMORY:
        raise DataError(
            f"{found.root}: its {count:,} images would take {count * size / 2**30:.1f} GiB of "
            f"memory; use fewer, at most {MOST_MEMORY // size:,}."
        )
    return found
