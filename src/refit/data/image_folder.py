"""Images in a folder per class, as files on disk or inside a zip archive.

Archives are read where they are: nothing is extracted, so nothing in them can be written outside.
"""

import hashlib
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from refit.errors import DataError

# What reading a damaged, encrypted or oddly compressed archive can raise.
DAMAGE = (
    OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError,
)  # fmt: skip
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"}


@dataclass(frozen=True)
class Entry:
    """One image file: its path as shown in errors, its class folder, its size in bytes."""

    path: str
    label: str
    size: int
    checksum: int


@dataclass(frozen=True)
class Listing:
    """The images of a folder or archive, in the order of class and name."""

    root: Path
    entries: list[Entry]

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(sorted({entry.label for entry in self.entries}))

    def fingerprint(self) -> str:
        """A hash of names and sizes, and, in an archive, of the checksums that it stores."""
        lines = [f"{entry.path} {entry.size} {entry.checksum}" for entry in self.entries]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def list_images(root: Path, below: str = "") -> Listing:
    """List `root`/`below`/<class>/<image>, where `root` is a folder or a zip archive.

    In an archive `below` may also stand one folder deeper, as many are packed. Hidden files and
    those that are no images by their names are left out. Raises DataError where `root` cannot be
    read, an archive names a path that leads outside, or there is no class with an image.
    """
    if root.is_file():
        found = _in_archive(root, below)
    else:
        root = root / below
        found = _in_folder(root)
    entries = sorted(found, key=lambda entry: (entry.label, entry.path))
    if not entries:
        raise DataError(
            f"{root}: holds no images{f' below {below}' if below else ''}; expected a folder per "
            f"class with {', '.join(sorted(SUFFIXES))} files in it."
        )
    return Listing(root, entries)


def read_images(listing: Listing, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Decode all images: uint8 `(n, *shape)` and int32 labels, positions in `class_names`.

    Raises DataError naming the file that is broken or of another size.
    """
    images = np.empty((len(listing.entries), *shape), np.uint8)
    names = {name: number for number, name in enumerate(listing.class_names)}
    labels = np.array([names[entry.label] for entry in listing.entries], np.int32)
    with _opener(listing.root) as read:
        for entry, target in zip(listing.entries, images, strict=True):
            target[...] = _decode(f"{listing.root}: {entry.path}", read(entry.path), shape)
    return images, labels


def _decode(place: str, content: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    try:
        with Image.open(BytesIO(content)) as image:
            if image.size != (shape[1], shape[0]):
                width, height = image.size
                raise DataError(
                    f"{place}: is {width}x{height} pixels and should be {shape[1]}x{shape[0]}."
                )
            pixels = np.asarray(image.convert("RGB" if shape[2] == 3 else "L"))
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{place}: is not an image that can be read ({error}).") from error
    return pixels.reshape(shape)


def _in_folder(folder: Path) -> Iterator[Entry]:
    if not folder.is_dir():
        return
    for path in folder.glob("*/*"):
        if _is_image(path.name) and path.is_file() and not path.parent.name.startswith("."):
            yield Entry(str(path.relative_to(folder)), path.parent.name, path.stat().st_size, 0)


def _in_archive(root: Path, below: str) -> Iterator[Entry]:
    with _archive(root) as archive:
        for info in archive.infolist():
            path = PurePosixPath(info.filename)
            if path.is_absolute() or ".." in path.parts or "\\" in info.filename:
                raise DataError(f"{root}: holds {info.filename!r}, which leads outside; not read.")
            inside = path.parts[:-2] in ((below,) if below else (), (*path.parts[:1], below))
            hidden = any(part.startswith(".") for part in path.parts)
            if len(path.parts) >= 2 and inside and not hidden and _is_image(path.name):
                yield Entry(info.filename, path.parent.name, info.file_size, info.CRC)


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


@contextmanager
def _archive(root: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(root) as archive:
            yield archive
    except DAMAGE as error:
        raise DataError(f"{root}: cannot be read as a zip archive ({error}).") from error


@contextmanager
def _opener(root: Path) -> Iterator[Callable[[str], bytes]]:
    """A function from an entry's path to its content."""
    if root.is_dir():
        yield lambda path: (root / path).read_bytes()
    else:
        with _archive(root) as archive:
            yield archive.read
