"""CIFAR-10 (Krizhevsky 2009), from folders of images, from zip archives, or as published.

The published archive is a pickle, which can run code when it is read: it is read only after its
checksum has shown that it is the official one.
"""

import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np

from refit.data import images
from refit.data.arrays import Decoded, Part
from refit.data.folders import candidates, content, download, is_there, keras_cache
from refit.errors import DataError

URL = "https://www.cs.toronto.edu/~kriz/"
ARCHIVE = "cifar-10-python.tar.gz"
# SHA-256 of the official archive, as Keras pins it.
CHECKSUM = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
FOLDERS = ("cifar-10", "cifar10", "CIFAR-10")
SIDE = 32
# In the order of the official labels, which is also that of the alphabet.
CLASS_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


def fingerprint(data_dir: Path | None) -> str:
    """A hash of the image files' names and sizes, or a constant for the official archive."""
    listings = _listings(data_dir)
    if listings is None:
        return CHECKSUM[:12]
    return hashlib.sha256("".join(one.fingerprint() for one in listings).encode()).hexdigest()[:12]


def stamp(data_dir: Path | None) -> str:
    """What changes with the content of image files, whatever their names and sizes."""
    return "".join(listing.stamp() for listing in _listings(data_dir) or [])


def read(data_dir: Path | None) -> Decoded:
    """Read 50,000 training and 10,000 test images, 32x32 colour, ten classes.

    Image files are taken in an order drawn with a fixed seed. Raises DataError naming what is
    missing, damaged or not CIFAR-10.
    """
    listings = _listings(data_dir)
    if listings is None:
        known_hash = f"sha256:{CHECKSUM}"
        path = _archive(data_dir) or download(URL, ARCHIVE, known_hash, keras_cache(), "CIFAR-10")
        return _read_archive(path)
    for listing in listings:
        if listing.class_names != CLASS_NAMES:
            raise DataError(
                f"{listing.root}: has the class folders {', '.join(listing.class_names)}; "
                f"CIFAR-10 has {', '.join(CLASS_NAMES)}."
            )
    learning, test = (images.read_part(one, SIDE) for one in listings)
    files = " and ".join(listing.root.name for listing in listings)
    return Decoded(
        learning=learning,
        test=test,
        class_names=CLASS_NAMES,
        source=f"CIFAR-10 (Krizhevsky): {len(learning):,} and {len(test):,} image files of "
        f"{files} in the user's data folder, fingerprint {fingerprint(data_dir)}; files that "
        "were compressed anew differ a little from the official pixels.",
    )


def _listings(data_dir: Path | None) -> list[images.Listing] | None:
    """The training and test images of the first folder that has both; None where none has any.

    Raises DataError where one part is there without the other.
    """
    for folder in candidates(data_dir, *FOLDERS):
        trees = {part: _tree(folder, part) for part in ("train", "test")}
        found = [part for part, tree in trees.items() if tree]
        if len(found) == 1:
            raise DataError(
                f"{folder}: has only the {found[0]} images of CIFAR-10; train and test are both "
                "needed, each a zip archive or a folder with a folder per class."
            )
        if found:
            return [tree.classes() for tree in trees.values() if tree]
    return None


def _tree(folder: Path, part: str) -> images.Tree | None:
    """The images of a part, if they are CIFAR-10's: photographs may have such names too."""
    tree, place = None, folder / part
    if is_there(archive := folder / f"{part}.zip"):
        tree = images.list_tree(archive)
        named = {names[-1] for names in tree.folders if names}
    else:
        named = {name for name in CLASS_NAMES if is_there(place) and (place / name).is_dir()}
    if len(named.intersection(CLASS_NAMES)) <= len(CLASS_NAMES) / 2:
        return None
    return tree or images.list_tree(place)


def is_here(data_dir: Path | None) -> bool:
    """Whether the image files or the official archive are in the data folder or Keras's cache."""
    return _listings(data_dir) is not None or _archive(data_dir) is not None


def _archive(data_dir: Path | None) -> Path | None:
    # Keras 3 names the archive by what it holds once unpacked.
    names = (ARCHIVE, "cifar-10-batches-py-target_archive", "cifar-10-batches-py.tar.gz")
    folders = [*candidates(data_dir, *FOLDERS), keras_cache()]
    paths = (folder / name for folder in folders for name in names)
    return next((path for path in paths if is_there(path) and path.is_file()), None)


def _read_archive(path: Path) -> Decoded:
    packed = content(path)
    checksum = hashlib.sha256(packed).hexdigest()
    if checksum != CHECKSUM:
        raise DataError(
            f"{path}: its SHA-256 checksum is {checksum} and should be {CHECKSUM}; delete the file "
            "or replace it by the official one."
        )
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        learning = _read_batches(archive, [f"data_batch_{number}" for number in range(1, 6)])
        test = _read_batches(archive, ["test_batch"])
    return Decoded(
        learning=learning,
        test=test,
        class_names=CLASS_NAMES,
        source=f"CIFAR-10 (Krizhevsky): the official archive {ARCHIVE}, SHA-256 verified.",
    )


def _read_batches(archive: tarfile.TarFile, names: list[str]) -> Part:
    files = [archive.extractfile(f"cifar-10-batches-py/{name}") for name in names]
    # The archive's checksum was verified.
    batches = [pickle.load(file, encoding="bytes") for file in files]  # noqa: S301
    planes = np.concatenate([np.asarray(batch[b"data"], np.uint8) for batch in batches])
    labels = np.concatenate([np.asarray(batch[b"labels"], np.int32) for batch in batches])
    pixels = planes.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return Part(pixels, labels, np.arange(len(labels)))
