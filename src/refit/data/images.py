"""Images in a folder per class, as files on disk or inside a zip archive.

Archives are read where they are: nothing is extracted, so nothing in them can be written outside.
"""

import hashlib
import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from refit.data.arrays import Part
from refit.data.folders import as_text, content, is_visible, on_disk
from refit.errors import DataError, legible

# How the members of an archive may be packed: what the other methods unpack to has no bound.
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"}
# By their content: left to itself Pillow tries more, and has a program of its own run PostScript.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
# Files come class by class; any first n of them should hold all classes.
ORDER_SEED = 0
# Bytes that one file may unpack to: no photograph is so large, and a few bytes can claim it.
LARGEST_FILE = 2**28
# How far below its root a folder is looked through: a folder around parts of classes.
DEEPEST = 3


class Entry(NamedTuple):
    """One image file: its path below the root, its class folder, its size in bytes; in an archive
    its checksum, in a folder the time of its last change, in nanoseconds."""

    path: str
    label: str
    size: int
    checksum: int
    changed: int


@dataclass(frozen=True)
class Listing:
    """The images of the class folders in one place below `root`, in the order of class and name."""

    root: Path
    place: tuple[str, ...]
    entries: list[Entry]

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(sorted({entry.label for entry in self.entries}))

    def fingerprint(self) -> str:
        """A hash of names and sizes, and, in an archive, of the checksums that it stores."""
        start = 0 if self.root.is_file() else sum(len(name) + 1 for name in self.place)
        lines = [f"{entry.path[start:]} {entry.size} {entry.checksum}" for entry in self.entries]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]

    def stamp(self) -> str:
        """A hash of what also changes with the content of files that keep their names and sizes."""
        return hashlib.sha256(repr(self.entries).encode()).hexdigest()


class Tree(NamedTuple):
    """All visible folders of a folder or zip archive with the images in them.

    A folder is the tuple of the names that lead to it from the root.
    """

    root: Path
    folders: dict[tuple[str, ...], list[Entry]]

    def add(
        self, folder: tuple[str, ...], name: str, size: int, checksum: int = 0, changed: int = 0
    ) -> None:
        """Add an image. Raises DataError for a name that acts on a terminal rather than is read."""
        path = "/".join((*folder, name))
        if "\n" in path or legible(path) != path:
            raise DataError(
                f"{self.root}: {path!r} has characters that cannot be shown; give it another name."
            )
        label = folder[-1] if folder else ""
        self.folders[folder].append(Entry(path, label, size, checksum, changed))

    def places(self) -> list[tuple[str, ...]]:
        """The folders in which class folders stand: those of two and more, the uppermost first."""
        places = Counter(folder[:-1] for folder, found in self.folders.items() if folder and found)
        return sorted(places, key=lambda place: (places[place] < 2, len(place), place))

    def classes(self) -> Listing:
        """The classes of the first place. Raises DataError where there is none, or a second."""
        places = self.places()
        if not places or any(len(place) == len(places[0]) for place in places[1:]):
            raise DataError(
                f"{self.root}: holds {'class folders in several places' if places else 'no images'}"
                f"; expected one folder with a folder per class, and {', '.join(sorted(SUFFIXES))} "
                "files in each."
            )
        return self.listing(places[0])

    def listing(self, place: tuple[str, ...]) -> Listing:
        """The classes that stand in `place`. Raises DataError for one without images."""
        classes = {key: self.folders[key] for key in self.folders if key and key[:-1] == place}
        if empty := ["/".join(folder) for folder, found in classes.items() if not found]:
            raise DataError(
                f"{self.root}: the class folder {empty[0]} holds no images; fill it or remove it."
            )
        entries = [entry for found in classes.values() for entry in found]
        return Listing(self.root, place, sorted(entries, key=lambda each: (each.label, each.path)))


def list_tree(root: Path) -> Tree:
    """List the images of a folder, down to DEEPEST, or of a zip archive.

    Files that are not the user's, or no images by their names, are left out. Raises DataError where
    something cannot be read, or for what no archive of images should hold.
    """
    tree = Tree(root, {})
    (_list_archive if root.is_file() else _list_folder)(tree)
    return tree


def _list_folder(tree: Tree, place: tuple[str, ...] = ()) -> None:
    folder = tree.root.joinpath(*map(on_disk, place))
    tree.folders[place] = []
    try:
        with os.scandir(folder) as files:
            for file in files:
                name = as_text(file.name)
                if not is_visible(name):
                    continue
                state = file.stat()  # a link to what is gone could be that of a class
                if file.is_dir():
                    if len(place) < DEEPEST:
                        _list_folder(tree, (*place, name))
                elif is_image(name):
                    tree.add(place, name, state.st_size, changed=state.st_ctime_ns)
    except OSError as error:
        raise DataError(
            f"{error.filename or folder}: cannot be read ({error.strerror})."
        ) from error


def _list_archive(tree: Tree) -> None:
    with _archive(tree.root) as archive:
        members = archive.infolist()
    names: set[str] = set()
    for info in members:
        path = PurePosixPath(info.filename)
        if str(path) in names and not info.filename.endswith("/"):
            raise DataError(f"{tree.root}: holds {path} twice; pack the images again.")
        names.add(str(path))
        if info.compress_type not in PACKED:
            raise DataError(
                f"{tree.root}: {path} is packed by another method than deflate, the usual one; "
                "pack the images again."
            )
        if path.parts and all(map(is_visible, path.parts)):
            folder = path.parts if info.is_dir() else path.parts[:-1]
            for depth in range(len(folder) + 1):
                tree.folders.setdefault(folder[:depth], [])
            if not info.is_dir() and is_image(path.name):
                tree.add(folder, path.name, info.file_size, info.CRC)


def is_image(name: str) -> bool:
    return is_visible(name) and Path(name).suffix.lower() in SUFFIXES


@contextmanager
def _archive(root: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(root, metadata_encoding="utf-8") as archive:
            yield archive
    except DataError:
        raise
    except Exception as error:  # a damaged archive leads zipfile to errors of every kind
        raise DataError(f"{root}: cannot be read as a zip archive ({error}).") from error


def read_part(listing: Listing, side: int, resampling: str | None = None) -> Part:
    """Decode all images to uint8 (n, side, side, 3), in an order drawn with a fixed seed.

    Labels are positions in `class_names`, ids those in the listing. With the name of one of
    Pillow's filters as `resampling`, images are turned upright, as their EXIF orientation says, and
    squashed to a square; without, they must have this size. Of an animation the first image is
    taken. Raises DataError naming the file that cannot be used.
    """
    order = np.random.default_rng(ORDER_SEED).permutation(len(listing.entries))
    pixels = np.empty((len(order), side, side, 3), np.uint8)
    names = {name: number for number, name in enumerate(listing.class_names)}
    labels = np.array([names[listing.entries[position].label] for position in order], np.int32)
    root = listing.root
    with _archive(root) if root.is_file() else nullcontext() as archive:
        # Some archivers begin every name with "./".
        stored = archive.namelist() if archive else ()
        members = {str(PurePosixPath(name)): name for name in stored}
        for position, target in zip(order, pixels, strict=True):
            entry = listing.entries[position]
            place = f"{root}: {entry.path}"
            if entry.size > LARGEST_FILE:
                raise DataError(
                    f"{place}: unpacks to {entry.size / 2**20:,.0f} MiB; image files of more than "
                    f"{LARGEST_FILE / 2**20:,.0f} MiB are refused."
                )
            if archive:
                with archive.open(members[str(entry.path)]) as file:
                    packed = file.read(entry.size + 1)  # no more than it says that there is
            else:
                packed = content(root / on_disk(entry.path))
            with opened(place, BytesIO(packed)) as image:
                target[...] = np.asarray(_squared(place, image, side, resampling))
    return Part(pixels, labels, order)


def _squared(place: str, image: Image.Image, side: int, resampling: str | None) -> Image.Image:
    """The image in colour and of this size, whatever its proportions."""
    if resampling is None:
        if image.size != (side, side):
            raise DataError(
                f"{place}: is {image.width}x{image.height} pixels and should be {side}x{side}."
            )
        return colour(image)
    # JPEG decodes to a half, a quarter or an eighth far faster than to full size; with twice the
    # wanted side left, the filter below still has the pixels that decide its result.
    image.draft(None, (2 * side, 2 * side))
    image.load()
    # An image whose notes are damaged is an image all the same.
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    return colour(image).resize((side, side), Image.Resampling[resampling.upper()])


@contextmanager
def opened(place: str, file: Path | BinaryIO) -> Iterator[Image.Image]:
    """An image file to be decoded inside a `with` block: Pillow reads pixels when asked for them.

    What is wrong with the file is raised as a DataError that begins with `place`.
    """
    try:
        # Pillow warns of odd EXIF, transparent palettes and sizes that it still decodes.
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as image:
            yield image
    except DataError:  # of the block
        raise
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        # Its text for an unknown format names an object in memory.
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else error
        raise DataError(f"{place}: is not an image that can be read ({reason}).") from error


def colour(image: Image.Image) -> Image.Image:
    """The image in Pillow's mode `RGB`; transparency is dropped."""
    if image.mode.startswith("I;16"):
        # Pillow would show all but the darkest of 65,536 greys as white.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")
