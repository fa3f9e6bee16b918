"""Clips of hand gestures as a course hands them out: a folder of frames per clip, and two tables.

The report of the gestures does not name its data; 663 clips to learn from and 100 to validate with,
in five classes, are those of a course's project. Its folder holds `train.csv` and `val.csv` with a
row `folder;gesture;label` per clip, and `train` and `val` with the folders. It is looked for as the
data folder itself, then as its `gesture`, `Project_data` or `gestures`, then one folder deeper than
each of these. The clips of `train.csv` are learned from, those of `val.csv` are the test clips.

Rules of the tables. They are UTF-8, with or without a mark at the beginning, and have no header.
Cells are separated by `;`, or by `,` in a table without any `;`; spaces around cells, separators at
the end of a line and empty lines count for nothing. A folder is a name without a path. Labels are
whole numbers from 0 on, each used in `train.csv`. The course spells one gesture in several ways
(`Left_Swipe_new`, `Left Swipe_new_Left Swipe_new`, and `Stop_new` beside `Stop Gesture_new`): the
name of a class is its most frequent spelling, with spaces for underscores and without `new` and
repetitions, and only a name that stands for two labels is an error. A row that comes twice counts
once; two rows that say different things of one folder are an error, as is a folder that is not
there. Folders that are in no table are ignored.

Rules of the frames. PNG and JPEG files are frames, in the order of their names, where numbers count
as numbers; all else is ignored. From however many there are, as many as declared are sampled
evenly, the first and the last included; a clip with fewer is an error. The frames used of one clip
must have one size, while clips may differ: the course has 360x360 and 120x160. Each is cropped to
its central square, which costs the latter a quarter of its width, and resized. Clips are decoded
one at a time. They are taken in an order drawn with a fixed seed, because the tables list them
class by class.
"""

import hashlib
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from refit.data import images
from refit.data.arrays import Clips, Decoded, Description, Part
from refit.data.folders import candidates
from refit.errors import DataError, legible

NAMES = ("gesture", "Project_data", "gestures")
PARTS = ("train", "val")
FRAMES = (".png", ".jpg", ".jpeg")
# In characters: names stand beside rows of a table and below the axes of a figure.
LONGEST_NAME = 80
# What the report's own numbers give away of its data.
PUBLISHED = {"train": 663, "val": 100}
STAND_IN = (
    "The user's clips stand in for those of the report, which were {train} and {val}; the figures "
    "cannot be compared with the published ones."
)


class Row(NamedTuple):
    """One line of a table, its gesture tidied."""

    line: int
    folder: str
    gesture: str
    label: int


class Clip(NamedTuple):
    """A folder of frames: their names in the order of time, and their sizes in bytes."""

    folder: Path
    label: int
    frames: tuple[str, ...]
    sizes: tuple[int, ...]


class Listing(NamedTuple):
    """All that can be known of a data set without opening an image."""

    folder: Path
    parts: dict[str, list[Clip]]
    class_names: tuple[str, ...]

    def fingerprint(self) -> str:
        """A hash of both tables' content and of the names and sizes of all frames."""
        digest = hashlib.sha256()
        for part, clips in self.parts.items():
            digest.update(_content(_table(self.folder, part)))
            for clip in clips:
                digest.update(repr((clip.folder.name, clip.frames, clip.sizes)).encode())
        return digest.hexdigest()[:12]


def is_there(data_dir: Path | None) -> bool:
    """Whether both tables are there; what else there is may still be damaged or missing."""
    places = [place for place in candidates(data_dir, *NAMES) if place.is_dir()]
    inside = [place / name for place in places for name in images.subfolders(place)]
    return any(all(_table(folder, part).is_file() for part in PARTS) for folder in places + inside)


def fingerprint(data_dir: Path | None) -> str:
    """A hash of the tables and of the names and sizes of all frames; opens no image."""
    return list_clips(_find(data_dir)).fingerprint()


def read(data_dir: Path | None) -> Decoded:
    """List the course's clips, which stay in their files until they are cached.

    Raises DataError naming the table and line, or the folder, that is missing or wrong; decoding
    raises it naming the frame or clip.
    """
    listing = list_clips(_find(data_dir))
    counts = {part: len(clips) for part, clips in listing.parts.items()}
    learning, test = (part_of(clips) for clips in listing.parts.values())
    return Decoded(
        learning=learning,
        test=test,
        description=Description(
            class_names=listing.class_names,
            source=f"Clips of {len(listing.class_names)} gestures "
            f"({', '.join(listing.class_names)}): {counts['train']:,} and {counts['val']:,} "
            f"folders of frames in {listing.folder.name} of the user's data, fingerprint "
            f"{listing.fingerprint()}, cropped to the central square. The report does not name its "
            "data.",
            stand_in="" if counts == PUBLISHED else STAND_IN.format(**PUBLISHED),
        ),
    )


def list_clips(folder: Path) -> Listing:
    """Read both tables and list the frames of their clips.

    Raises DataError naming the table and line, or the folder, that is missing or wrong.
    """
    rows = {part: _rows(_table(folder, part)) for part in PARTS}
    names = _class_names(folder, rows)
    parts = {part: [_clip(folder, part, row) for row in rows[part]] for part in PARTS}
    return Listing(folder, parts, names)


def part_of(clips: Sequence[Clip]) -> Part:
    """The clips in an order drawn with a fixed seed; the ids are positions in the table."""
    order = np.random.default_rng(images.ORDER_SEED).permutation(len(clips))
    shuffled = [clips[position] for position in order]
    labels = np.array([clip.label for clip in shuffled], np.int32)
    return Part(Clips(shuffled, decode), labels, order)


def decode(clips: Sequence[Clip], frames: int, side: int, resampling: str) -> Iterator[np.ndarray]:
    """Decode one clip after another: uint8 (frames, side, side, 3).

    Raises DataError naming the clip that has too few frames, before any is decoded, and the frame
    that is broken, of another size than the first of its clip, or with a side below
    images.SMALLEST_SIDE.
    """
    for clip in clips:
        if len(clip.frames) < frames:
            raise DataError(
                f"{clip.folder}: has {len(clip.frames)} frames, and {frames} are asked for."
            )
    for clip in clips:
        yield _decode(clip, frames, side, resampling)


def sampled(available: int, frames: int) -> np.ndarray:
    """Evenly spaced positions, int64 (frames,), the first and the last of `available` included."""
    steps = frames - 1
    # Rounds halves up in whole numbers, so that no position comes twice.
    return (2 * np.arange(frames) * (available - 1) + steps) // (2 * steps)


def _decode(clip: Clip, frames: int, side: int, resampling: str) -> np.ndarray:
    decoded = np.empty((frames, side, side, 3), np.uint8)
    first, *_ = names = [clip.frames[position] for position in sampled(len(clip.frames), frames)]
    size = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of sizes and palettes that it still decodes
        for name, target in zip(names, decoded, strict=True):
            place = str(clip.folder / name)
            with images.opened(place, clip.folder / name) as image:
                size = size or image.size
                if image.size != size:
                    raise DataError(
                        f"{place}: is {image.width}x{image.height} pixels, while {first} of the "
                        f"same clip is {size[0]}x{size[1]}."
                    )
                target[...] = _square(place, image, side, resampling)
    return decoded


def _square(place: str, image: Image.Image, side: int, resampling: str) -> Image.Image:
    width, height = image.size
    shorter = min(width, height)
    if shorter < images.SMALLEST_SIDE:
        raise DataError(
            f"{place}: is {width}x{height} pixels; both sides should have at least "
            f"{images.SMALLEST_SIDE}."
        )
    left, top = (width - shorter) // 2, (height - shorter) // 2
    centre = image.crop((left, top, left + shorter, top + shorter))
    picture = images.converted(centre, "RGB")
    return picture.resize((side, side), Image.Resampling[resampling.upper()])


def _find(data_dir: Path | None) -> Path:
    """The first folder that holds the layout. Raises DataError saying what is missing where."""
    places = [place for place in candidates(data_dir, *NAMES) if place.is_dir()]
    for place in places:
        if not _missing(place):
            return place
    for place in places:
        inside = [place / name for name in images.subfolders(place)]
        found = [folder for folder in inside if not _missing(folder)]
        if len(found) > 1:
            raise DataError(
                f"{place}: holds gesture clips in {' and in '.join(one.name for one in found)}; "
                "keep one of them."
            )
        if found:
            return found[0]
    lacking = f"{places[1]} lacks {', '.join(_missing(places[1]))}" if places[1:] else "not found"
    raise DataError(
        f"No gesture clips in {data_dir or 'DATA_DIR, which is not set'} ({lacking}): set DATA_DIR "
        f"to a folder with {', '.join(NAMES[:-1])} or {NAMES[-1]} in it, which holds train.csv, "
        "val.csv, train and val, or use digit_clips."
    )


def _missing(folder: Path) -> list[str]:
    """What a folder lacks of the layout."""
    tables = [name for part in PARTS if not (folder / (name := f"{part}.csv")).is_file()]
    return tables + [part for part in PARTS if not (folder / part).is_dir()]


def _table(folder: Path, part: str) -> Path:
    return folder / f"{part}.csv"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error


def _rows(path: Path) -> list[Row]:
    """The rows of a table, each folder once."""
    try:
        text = _content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({error}).") from error
    separator = ";" if ";" in text else ","
    rows: dict[str, Row] = {}
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        if content := line.strip().rstrip(f"{separator} \t"):
            row = _row(f"{path}, line {number}", number, content.split(separator))
            known = rows.setdefault(row.folder, row)
            if (known.gesture, known.label) != (row.gesture, row.label):
                raise DataError(
                    f"{path}, line {number}: says {row.gesture}, {row.label} of {row.folder}, and "
                    f"line {known.line} says {known.gesture}, {known.label}."
                )
    if not rows:
        raise DataError(f"{path}: has no rows; expected a row folder;gesture;label per clip.")
    return list(rows.values())


def _row(place: str, number: int, cells: list[str]) -> Row:
    if len(cells) != 3:
        raise DataError(f"{place}: has {len(cells)} cells; expected folder;gesture;label.")
    folder, gesture, label = (cell.strip() for cell in cells)
    if not re.fullmatch("[0-9]{1,4}", label):
        raise DataError(
            f"{place}: the label {label!r} should be a whole number from 0 on; a header line is "
            "not expected."
        )
    if folder in ("", ".", "..") or re.search(r"[/\\:\x00]", folder):
        raise DataError(f"{place}: {folder!r} should be the name of a folder, not a path.")
    name = _tidied(gesture)
    if not name or len(name) > LONGEST_NAME or legible(name) != name:
        raise DataError(
            f"{place}: {gesture[:LONGEST_NAME]!r} names no gesture, in at most {LONGEST_NAME} "
            "characters that can be shown."
        )
    return Row(number, folder, name, int(label))


def _tidied(gesture: str) -> str:
    """`Left_Swipe_new` and `Left Swipe_new_Left Swipe_new` both as `Left Swipe`."""
    words = [word for word in gesture.replace("_", " ").split() if word.lower() != "new"]
    half = len(words) // 2
    return " ".join(words[:half] if words[:half] == words[half:] else words)


def _class_names(folder: Path, rows: dict[str, list[Row]]) -> tuple[str, ...]:
    """The most frequent gesture of each label. Raises DataError for labels that make no classes."""
    table = _table(folder, "train")
    spellings: dict[int, Counter[str]] = {}
    for row in rows["train"]:
        spellings.setdefault(row.label, Counter())[row.gesture] += 1
    classes = range(len(spellings))
    if absent := sorted(set(classes).difference(spellings)):
        raise DataError(
            f"{table}: no clip has the label {absent[0]}, though one has {max(spellings)}; labels "
            "should count from 0 without gaps."
        )
    if len(classes) < 2:
        raise DataError(f"{table}: all clips have the label 0; at least 2 classes are expected.")
    known: dict[str, tuple[Path, Row]] = {}
    for part in PARTS:
        for row in rows[part]:
            place = _table(folder, part)
            if row.label not in classes:
                raise DataError(
                    f"{place}, line {row.line}: has the label {row.label}, but those of "
                    f"{table.name} are 0 to {len(classes) - 1}."
                )
            earlier, other = known.setdefault(row.gesture.casefold(), (place, row))
            if other.label != row.label:
                raise DataError(
                    f"{place}, line {row.line}: {row.gesture} has the label {row.label}, but "
                    f"{other.label} in line {other.line} of {earlier.name}."
                )
    return tuple(spellings[label].most_common(1)[0][0] for label in classes)


def _clip(folder: Path, part: str, row: Row) -> Clip:
    place = folder / part / row.folder
    try:
        with os.scandir(place) as files:
            sizes = {
                file.name: file.stat().st_size
                for file in files
                if _is_frame(file.name) and file.is_file()
            }
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"{_table(folder, part)}, line {row.line}: the folder {place} is not there."
        ) from error
    except OSError as error:
        raise DataError(f"{place}: cannot be read ({error.strerror}).") from error
    names = sorted(sizes, key=_natural)
    return Clip(place, row.label, tuple(names), tuple(sizes[name] for name in names))


def _is_frame(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(FRAMES)


def _natural(name: str) -> tuple[list[str | int], str]:
    """A key in which frame_10 comes after frame_9."""
    parts = re.split("([0-9]+)", name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name
