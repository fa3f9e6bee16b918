"""Images in a folder per class, as files on disk or inside a zip archive.

Archives are read where they are: nothing is extracted, so nothing in them can be written outside.
"""

import hashlib
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from refit.data.arrays import Part
from refit.errors import DataError, legible

# What reading a damaged, encrypted or oddly compressed archive can raise.
DAMAGE = (
    OSError, EOFError, RuntimeError, ValueError, LookupError, OverflowError, zipfile.BadZipFile,
    zlib.error, struct.error,
)  # fmt: skip
# How the members of an archive may be packed: what the other methods unpack to has no bound.
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"}
# By their content: left to itself Pillow tries more, and has a program of its own run PostScript.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
# Files come class by class; any first n of them should hold all classes.
ORDER_SEED = 0
# A side in pixels; enlarged, a smaller image is a smear.
SMALLEST_SIDE = 16
# Bytes that one file may unpack to: no photograph is so large, and a few bytes can claim it.
LARGEST_FILE = 2**28
# What makes a photograph upright, by the orientation that its camera noted.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Entry:
    """One image file: its path as shown in errors, its class folder, its size in bytes."""

    path: str
    label: str
    size: int
    checksum: int


@dataclass(frozen=True)
class Listing:
    """The images of a folder or archive, in the order of class and name.

    empty: the class folders without an image, as paths like those of the entries.
    """

    root: Path
    entries: list[Entry]
    empty: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(sorted({entry.label for entry in self.entries}))

    def fingerprint(self) -> str:
        """A hash of names and sizes, and, in an archive, of the checksums that it stores."""
        lines = [f"{entry.path} {entry.size} {entry.checksum}" for entry in self.entries]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def list_images(root: Path, below: str = "") -> Listing:
    """List `root`/`below`/<class>/<image>, where `root` is a folder or a zip archive.

    In an archive all this may also stand in one more folder, as many are packed. Hidden files and
    folders, and files that are no images by their names, are left out. Raises DataError where
    `root` cannot be read, an archive names a path that leads outside, or there is no class with an
    image.
    """
    if root.is_file():
        entries, folders = _in_archive(root, PurePosixPath(below).parts)
    else:
        root = root / below
        entries, folders = _in_folder(root)
    if not entries:
        raise DataError(
            f"{root}: holds no images{f' below {below}' if below else ''}; expected a folder per "
            f"class with {', '.join(sorted(SUFFIXES))} files in it."
        )
    for entry in entries:
        if "\n" in entry.path or legible(entry.path) != entry.path:
            raise DataError(
                f"{root}: {entry.path!r} has characters that cannot be shown; give it another name."
            )
    filled = {str(PurePosixPath(entry.path).parent) for entry in entries}
    return Listing(
        root,
        sorted(entries, key=lambda entry: (entry.label, entry.path)),
        empty=tuple(sorted(folders - filled)),
    )


def subfolders(root: Path, below: str = "") -> list[str]:
    """The names of the visible folders in `root`/`below`, sorted; none where it does not exist.

    `root` is a folder or a zip archive; raises DataError where an archive cannot be read.
    """
    if not root.is_file():
        found = {path.name for path in (root / below).glob("*") if path.is_dir()}
    else:
        place = PurePosixPath(below).parts
        found = {
            folder[len(place)]
            for folder in (_folder_of(path, info) for path, info in _members(root))
            if len(folder) > len(place) and folder[: len(place)] == place
        }
    return sorted(name for name in found if _is_visible(name))


def read_part(listing: Listing, shape: tuple[int, int, int], resampling: str | None = None) -> Part:
    """Decode all images as `read_images` does, in an order drawn with a fixed seed.

    The ids are the positions in the listing.
    """
    order = np.random.default_rng(ORDER_SEED).permutation(len(listing.entries))
    shuffled = replace(listing, entries=[listing.entries[position] for position in order])
    return Part(*read_images(shuffled, shape, resampling), order)


def read_images(
    listing: Listing, shape: tuple[int, int, int], resampling: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Decode all images: uint8 `(n, *shape)` and int32 labels, positions in `class_names`.

    With the name of one of Pillow's filters as `resampling`, images are turned upright, as their
    EXIF orientation says, and squashed to `shape`; without, they must have it. Transparency is
    dropped, and of an animation the first image is taken. Raises DataError naming the file that is
    broken, of another size, with a side below SMALLEST_SIDE or too large to be a photograph.
    """
    images = np.empty((len(listing.entries), *shape), np.uint8)
    names = {name: number for number, name in enumerate(listing.class_names)}
    labels = np.array([names[entry.label] for entry in listing.entries], np.int32)
    with _opener(listing.root) as read, warnings.catch_warnings():
        # Pillow's, of odd EXIF, transparent palettes and sizes that it still decodes.
        warnings.simplefilter("ignore")
        for entry, target in zip(listing.entries, images, strict=True):
            place = f"{listing.root}: {entry.path}"
            if entry.size > LARGEST_FILE:
                raise DataError(
                    f"{place}: unpacks to {entry.size / 2**20:,.0f} MiB; image files of more than "
                    f"{LARGEST_FILE / 2**20:,.0f} MiB are refused."
                )
            target[...] = _decode(place, read(entry), shape, resampling)
    return images, labels


def _decode(
    place: str, content: bytes, shape: tuple[int, int, int], resampling: str | None
) -> np.ndarray:
    height, width, channels = shape
    mode = "RGB" if channels == 3 else "L"
    with opened(place, BytesIO(content)) as image:
        if resampling:
            picture = _squashed(place, image, mode, (width, height), resampling)
        elif image.size != (width, height):
            raise DataError(
                f"{place}: is {image.width}x{image.height} pixels and should be {width}x{height}."
            )
        else:
            picture = converted(image, mode)
        return np.asarray(picture).reshape(shape)


@contextmanager
def opened(place: str, file: Path | BinaryIO) -> Iterator[Image.Image]:
    """An image file to be decoded inside a `with` block: Pillow reads pixels when asked for them.

    What is wrong with the file is raised as a DataError that begins with `place`.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            yield image
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{place}: is refused, because it unpacks to far more pixels than a photograph has "
            f"({str(error).rstrip('.')})."
        ) from error
    except UnidentifiedImageError as error:  # whose text names an object in memory
        raise DataError(f"{place}: is not an image that can be read (unknown format).") from error
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        raise DataError(f"{place}: is not an image that can be read ({error}).") from error


def _squashed(
    place: str, image: Image.Image, mode: str, size: tuple[int, int], resampling: str
) -> Image.Image:
    """The image, upright, in the wanted mode and size, whatever its proportions."""
    if min(image.size) < SMALLEST_SIDE:
        raise DataError(
            f"{place}: is {image.width}x{image.height} pixels; both sides should have at least "
            f"{SMALLEST_SIDE}."
        )
    # JPEG decodes to a half, a quarter or an eighth far faster than to full size; with twice the
    # wanted sides left, the filter below still has the pixels that decide its result.
    image.draft(None, (2 * max(size), 2 * max(size)))
    picture = converted(image, mode)
    # An image whose notes are damaged is an image all the same.
    with suppress(Exception):
        orientation = image.getexif().get(ExifTags.Base.Orientation)
        if orientation in UPRIGHT:
            picture = picture.transpose(UPRIGHT[orientation])
    return picture.resize(size, Image.Resampling[resampling.upper()])


def converted(image: Image.Image, mode: str) -> Image.Image:
    """The image in Pillow's mode `L` or `RGB`; transparency is dropped."""
    if image.mode.startswith("I;16"):
        # Pillow would show all but the darkest of 65,536 greys as white.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert(mode)


def _in_folder(folder: Path) -> tuple[list[Entry], set[str]]:
    """The images in the class folders, and the class folders."""
    labels = subfolders(folder)
    entries = [
        Entry(f"{label}/{path.name}", label, path.stat().st_size, 0)
        for label in labels
        for path in (folder / label).glob("*")
        if is_image(path.name) and path.is_file()
    ]
    return entries, set(labels)


def _in_archive(root: Path, below: tuple[str, ...]) -> tuple[list[Entry], set[str]]:
    """The images in the class folders, and the class folders, as paths inside the archive."""
    members = [(path, info) for path, info in _members(root) if all(map(_is_visible, path.parts))]
    images = [
        (path, info)
        for path, info in members
        if len(path.parts) >= 2 and is_image(path.name) and not info.is_dir()
    ]
    place = _place(root, {path.parts[:-2] for path, _ in images}, below)
    entries = [
        Entry(info.filename, path.parent.name, info.file_size, info.CRC)
        for path, info in images
        if path.parts[:-2] == place
    ]
    folders = {
        str(PurePosixPath(*folder[: len(place) + 1]))
        for folder in (_folder_of(path, info) for path, info in members)
        if len(folder) > len(place) and folder[: len(place)] == place
    }
    return entries, folders


def _place(root: Path, places: set[tuple[str, ...]], below: tuple[str, ...]) -> tuple[str, ...]:
    """Where the class folders stand: in `below`, or in `below` inside of one more folder."""
    deeper = sorted(place for place in places if len(place) > 0 and place[1:] == below)
    if below in places or not deeper:
        return below
    if len(deeper) > 1:
        raise DataError(
            f"{root}: has class folders in {' and in '.join('/'.join(one) for one in deeper)}; "
            "they should all stand in one folder."
        )
    return deeper[0]


def _members(root: Path) -> list[tuple[PurePosixPath, zipfile.ZipInfo]]:
    """All that an archive holds; raises DataError for what no archive of images should hold."""
    with _archive(root) as archive:
        members = [(PurePosixPath(info.filename), info) for info in archive.infolist()]
    names = set()
    for path, info in members:
        if path.is_absolute() or ".." in path.parts or "\\" in info.filename:
            raise DataError(f"{root}: holds {info.filename!r}, which leads outside; not read.")
        if not info.filename or info.filename in names:
            what = f"{info.filename!r} twice" if info.filename else "a file without a name"
            raise DataError(f"{root}: holds {what}; pack it again.")
        if info.compress_type not in PACKED:
            raise DataError(
                f"{root}: cannot be read as a zip archive ({info.filename!r} is packed by another "
                "method than deflate, the usual one); pack it again."
            )
        names.add(info.filename)
    return members


def _folder_of(path: PurePosixPath, info: zipfile.ZipInfo) -> tuple[str, ...]:
    return path.parts if info.is_dir() else path.parts[:-1]


def is_image(name: str) -> bool:
    """Whether a file is visible and an image by its name."""
    return _is_visible(name) and Path(name).suffix.lower() in SUFFIXES


def _is_visible(name: str) -> bool:
    # What macOS packs beside the files, their icons and the like.
    return not name.startswith(".") and name != "__MACOSX"


@contextmanager
def _archive(root: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(root) as archive:
            yield archive
    except DAMAGE as error:
        raise DataError(f"{root}: cannot be read as a zip archive ({error}).") from error


@contextmanager
def _opener(root: Path) -> Iterator[Callable[[Entry], bytes]]:
    """A function from an entry to its content."""
    if root.is_dir():
        yield lambda entry: _content(root, entry.path)
    else:
        with _archive(root) as archive:
            yield lambda entry: _unpacked(archive, entry)


def _unpacked(archive: zipfile.ZipFile, entry: Entry) -> bytes:
    """A member's content, of which no more is unpacked than it says that there is."""
    with archive.open(entry.path) as file:
        return file.read(entry.size + 1)


def _content(root: Path, path: str) -> bytes:
    try:
        return (root / path).read_bytes()
    except OSError as error:
        raise DataError(f"{root}: {path}: cannot be read ({error.strerror}).") from error
