"""The user's own photographs, a folder per class: what a transfer of learned features starts from.

The report of the transfer learning does not name its data, so any set of photographs can take their
place. They are taken from the first of these below the data folder that is there:

1. `cats-and-dogs`, `cats-and-dogs-small`, `cats_and_dogs`, `cats_and_dogs_filtered`, then
   `photographs`, each as a folder or, where there is none, as a zip archive of that name. A folder
   may also hold just one archive, and in both all may stand in one more folder.
2. The data folder itself. Since it may hold other data sets, it counts only with class folders in
   `train` and in a validation folder that are not those of CIFAR-10, or where at least two of its
   folders hold images and all others are empty.

Two layouts are understood. With `train` and one of `validation`, `valid`, `val` or `test`, the
first in this order, each with a folder per class, the former are learned from and the latter are
the test images; what is there besides is ignored. With the class folders alone, a fifth of each
class becomes the test images, drawn with a fixed seed.

A photograph is turned upright as its EXIF orientation says, because networks learned their features
from upright ones, made RGB and squashed to 224x224 by Pillow's bilinear filter. Keras's
image_dataset_from_directory squashes likewise, but reads no EXIF and, where it reduces, samples
pixels where Pillow averages them.
"""

import hashlib
from dataclasses import replace
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from refit.data import cifar10, images
from refit.data.arrays import Decoded, Description
from refit.data.folders import candidates
from refit.errors import DataError

NAMES = (
    "cats-and-dogs", "cats-and-dogs-small", "cats_and_dogs", "cats_and_dogs_filtered",
    "photographs",
)  # fmt: skip
TRAIN = "train"
VALIDATION = ("validation", "valid", "val", "test")
SHAPE = (224, 224, 3)
RESAMPLING = "bilinear"
TEST_FRACTION = 0.2
SPLIT_SEED = 0
MOST_CLASSES = 1000
# In bytes, of all decoded images together: they are held in memory until they are in the cache.
MOST_MEMORY = 8 * 2**30
STAND_IN = (
    "The user's photographs stand in for those of the report, which does not name its data; the "
    "figures cannot be compared with the published ones, what raises or lowers them can."
)


class Found(NamedTuple):
    """Where the photographs are, both parts of them, and whether these were split by us."""

    root: Path
    learning: images.Listing
    test: images.Listing
    split: bool


def fingerprint(data_dir: Path | None) -> str:
    """A hash of the names and sizes of all image files, and which part they belong to."""
    return _fingerprint(_find(data_dir))


def read(data_dir: Path | None) -> Decoded:
    """Read all photographs, 224x224 colour, labelled by their folders' names in sorted order.

    They are taken in an order drawn with a fixed seed. Raises DataError naming the file or folder
    that is missing, damaged or cannot be used.
    """
    found = _find(data_dir)
    learning, test = (
        images.read_part(listing, SHAPE, RESAMPLING) for listing in (found.learning, found.test)
    )
    names = found.learning.class_names
    shown = ", ".join(names) if len(names) <= 10 else f"{', '.join(names[:10])} and others"
    how = f", {TEST_FRACTION:.0%} of each class for testing" if found.split else ""
    return Decoded(
        learning=learning,
        test=test,
        description=Description(
            class_names=names,
            source=f"Photographs of {len(names)} classes ({shown}): {len(learning):,} and "
            f"{len(test):,} image files of {found.root.name} in the user's data folder{how}, "
            f"fingerprint {_fingerprint(found)}, squashed to {SHAPE[1]}x{SHAPE[0]}.",
            stand_in=STAND_IN,
        ),
    )


def _fingerprint(found: Found) -> str:
    both = found.learning.fingerprint() + found.test.fingerprint()
    return hashlib.sha256(both.encode()).hexdigest()[:12]


def _find(data_dir: Path | None) -> Found:
    """The first place that holds photographs, checked as far as this needs no decoding."""
    places = candidates(data_dir, *NAMES)
    for folder in places[1:]:
        archive = folder.with_name(f"{folder.name}.zip")
        if folder.is_dir() or archive.is_file():
            return _checked(_layout(folder if folder.is_dir() else archive))
    if data_dir is not None and _holds_photographs(data_dir):
        return _checked(_layout(data_dir))
    raise DataError(
        f"No photographs were found in {data_dir or 'DATA_DIR, which is not set'}: set DATA_DIR to "
        f"a folder with {', '.join(NAMES[:-1])} or {NAMES[-1]} in it, a folder or a zip archive, "
        f"which holds {TRAIN} and {VALIDATION[0]} with a folder of images per class each, or just "
        "a folder of images per class."
    )


def _holds_photographs(data_dir: Path) -> bool:
    """Whether a data folder, which may hold anything, is itself a folder of photographs."""
    learned = images.subfolders(data_dir, TRAIN)
    if learned and any(images.subfolders(data_dir, name) for name in VALIDATION):
        return learned != list(cifar10.CLASS_NAMES)
    images = 0
    for name in images.subfolders(data_dir):
        files = [path.name for path in (data_dir / name).glob("*")]
        if any(map(images.is_image, files)):
            images += 1
        elif any(not file.startswith(".") for file in files):
            return False
    return images >= 2


def _layout(root: Path, inside: str = "") -> Found:
    """The two parts in `root`/`inside`, where `root` is a folder or an archive."""
    names = images.subfolders(root, inside)
    if not names and root.is_dir() and (archive := _single_archive(root)):
        return _layout(archive)
    filled = [
        name
        for name in (TRAIN, *VALIDATION)
        if name in names and images.subfolders(root, _below(inside, name))
    ]
    if TRAIN in filled:
        return _two_parts(root, inside, filled[1:])
    if not inside and len(names) == 1 and images.subfolders(root, names[0]):
        return _layout(root, names[0])
    return _split(root, _listing(root, inside))


def _single_archive(folder: Path) -> Path | None:
    archives = sorted(
        path for path in folder.glob("*.zip") if path.is_file() and not path.name.startswith(".")
    )
    if len(archives) > 1:
        raise DataError(
            f"{folder}: holds the archives {', '.join(path.name for path in archives)}; one with "
            "all photographs is expected."
        )
    return archives[0] if archives else None


def _two_parts(root: Path, inside: str, others: list[str]) -> Found:
    if not others:
        raise DataError(
            f"{root}: has {_below(inside, TRAIN)}, but beside it none of {', '.join(VALIDATION)} "
            "with class folders."
        )
    parts = {name: _listing(root, _below(inside, name)) for name in (TRAIN, others[0])}
    known = set().union(*(listing.class_names for listing in parts.values()))
    for name, listing in parts.items():
        if missing := known.difference(listing.class_names):
            raise DataError(
                f"{root}: {_below(inside, name)} lacks the class folders "
                f"{', '.join(sorted(missing))} of the other part."
            )
    return Found(root, *parts.values(), split=False)


def _split(root: Path, listing: images.Listing) -> Found:
    """Draw the test images from each class in turn, so that all have the same share of them."""
    generator = np.random.default_rng(SPLIT_SEED)
    learning, test = [], []
    for label, group in groupby(listing.entries, key=lambda entry: entry.label):
        entries = list(group)
        if len(entries) < 2:
            raise DataError(
                f"{root}: the class folder {label} has a single image; to be split into two parts "
                "it needs at least 2."
            )
        drawn = generator.permutation(len(entries)) < max(1, round(TEST_FRACTION * len(entries)))
        for entry, chosen in zip(entries, drawn, strict=True):
            (test if chosen else learning).append(entry)
    return Found(
        root, replace(listing, entries=learning), replace(listing, entries=test), split=True
    )


def _listing(root: Path, below: str) -> images.Listing:
    listing = images.list_images(root, below)
    if listing.empty:
        raise DataError(
            f"{listing.root}: the class folder {listing.empty[0]} holds no images; fill it or "
            "remove it."
        )
    return listing


def _checked(found: Found) -> Found:
    classes = len(found.learning.class_names)
    if not 2 <= classes <= MOST_CLASSES:
        raise DataError(
            f"{found.root}: has {classes:,} class folder(s) with images; 2 to {MOST_CLASSES:,} are "
            "expected."
        )
    images = len(found.learning.entries) + len(found.test.entries)
    size = int(np.prod(SHAPE))
    if images * size > MOST_MEMORY:
        raise DataError(
            f"{found.root}: its {images:,} images would take {images * size / 2**30:.1f} GiB of "
            f"memory; use fewer, at most {MOST_MEMORY // size:,}."
        )
    return found


def _below(inside: str, name: str) -> str:
    return str(PurePosixPath(inside, name))
