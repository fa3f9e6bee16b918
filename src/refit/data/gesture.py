"""Clips of hand gestures as a course hands them out: a folder of frames per clip, and two tables.

The report of the gestures does not name its data; 663 clips to learn from and 100 to validate with,
in five classes, are those of a course's project. Its folder, one of NAMES or the data folder
itself, holds `train.csv` and `val.csv` with a row `folder;gesture;label` per clip, and `train` and
`val` with the folders. The clips of `val.csv` are the test clips.

The tables are UTF-8 and have no header. Cells are separated by `;`; spaces around cells, separators
at the end of a line and empty lines count for nothing. Labels count from 0. The course spells one
gesture in several ways (`Left_Swipe_new`, `Left Swipe_new_Left Swipe_new`, and `Stop_new` beside
`Stop Gesture_new`): the name of a class is its most frequent spelling, tidied, and only a name that
stands for two labels is an error. A row that comes twice counts once; folders in no table are
ignored.

PNG and JPEG files are frames, in the order of their names, where numbers count as numbers. As many
as declared are sampled evenly, the first and the last included. The frames used of one clip must
have one size, while clips may differ: the course has 360x360 and 120x160. Each is cropped to its
central square, which costs the latter a quarter of its width, and resized. Clips are taken in an
order drawn with a fixed seed, because the tables list them class by class.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from refit.data import images
from refit.data.arrays import Clips, Decoded, Part
from refit.data.folders import as_text, candidates, content, is_there, is_visible, on_disk
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
    """One line of a table, its gesture tidied; `place` names table and line for an error."""

    place: str
    folder: str
    gesture: str
    label: int


class Clip(NamedTuple):
    """A folder of frames: their names in the order of time, with what the system says of them."""

    folder: Path
    label: int
    frames: dict[str, os.stat_result]


class Listing(NamedTuple):
    """All that can be known of a data set without opening an image."""

    folder: Path
    parts: dict[str, list[Clip]]
    class_names: tuple[str, ...]

    def fingerprint(self) -> str:
        """A hash of both tables' content and of the names and sizes of all frames."""
        digest = hashlib.sha256()
        for part, clips in self.parts.items():
            digest.update(content(_table(self.folder, part)))
            for clip in clips:
                sizes = tuple(state.st_size for state in clip.frames.values())
                named = (as_text(clip.folder.name), tuple(clip.frames), sizes)
                digest.update(repr(named).encode())
        return digest.hexdigest()[:12]

    def stamp(self) -> str:
        """What changes with the content of frames, whatever their names and sizes."""
        clips = [clip for part in self.parts.values() for clip in part]
        times = [[state.st_ctime_ns for state in clip.frames.values()] for clip in clips]
        return hashlib.sha256(repr(times).encode()).hexdigest()


def find(data_dir: Path | None) -> Path | None:
    """The first folder with both tables; what else there is may still be damaged or missing."""
    folders = candidates(data_dir, *NAMES)
    found = (each for each in folders if all(is_there(_table(each, part)) for part in PARTS))
    return next(found, None)


def fingerprint(data_dir: Path | None) -> str:
    return list_clips(_found(data_dir)).fingerprint()


def stamp(data_dir: Path | None) -> str:
    return list_clips(_found(data_dir)).stamp()


def read(data_dir: Path | None) -> Decoded:
    """List the course's clips, which stay in their files until they are cached.

    Raises DataError naming the table and line, or the folder, that is missing or wrong; decoding
    raises it naming the frame or clip.
    """
    folder = _found(data_dir)
    listing = list_clips(folder)
    counts = {part: len(clips) for part, clips in listing.parts.items()}
    learning, test = map(_shuffled, listing.parts.values())
    return Decoded(
        learning=learning,
        test=test,
        class_names=listing.class_names,
        source=f"Clips of {len(listing.class_names)} gestures ({', '.join(listing.class_names)}): "
        f"{counts['train']:,} and {counts['val']:,} folders of frames in {folder.name} of the "
        f"user's data, fingerprint {listing.fingerprint()}, cropped to the central square. The "
        "report does not name its data.",
        stand_in="" if counts == PUBLISHED else STAND_IN.format(**PUBLISHED),
    )


def _found(data_dir: Path | None) -> Path:
    if folder := find(data_dir):
        return folder
    raise DataError(
        f"No gesture clips in {data_dir or 'DATA_DIR, which is not set'}: set DATA_DIR to a "
        f"folder with {', '.join(NAMES[:-1])} or {NAMES[-1]} in it, which holds train.csv, "
        "val.csv, train and val, or use digit_clips."
    )


def list_clips(folder: Path) -> Listing:
    """Read both tables and list the frames of their clips; opens no image."""
    rows = {part: _rows(_table(folder, part)) for part in PARTS}
    names = _class_names(rows)
    parts = {part: [_clip(folder / part, row) for row in rows[part]] for part in PARTS}
    return Listing(folder, parts, names)


def drawn_order(clips: int) -> np.ndarray:
    """The order in which so many clips are taken: drawn with a fixed seed."""
    return np.random.default_rng(images.ORDER_SEED).permutation(clips)


def _shuffled(clips: Sequence[Clip]) -> Part:
    """The clips in their order; the ids are positions in the table."""
    order = drawn_order(len(clips))
    shuffled = [clips[position] for position in order]
    return Part(
        Clips(shuffled, decode), np.array([clip.label for clip in shuffled], np.int32), order
    )


def decode(clips: Sequence[Clip], frames: int, side: int, resampling: str) -> Iterator[np.ndarray]:
    """Decode one clip after another: uint8 (frames, side, side, 3).

    Raises DataError naming the clip that has too few frames, before any is decoded, and the frame
    that is broken or of another size than the first of its clip.
    """
    chosen = [sampled(str(clip.folder), len(clip.frames), frames) for clip in clips]
    for clip, positions in zip(clips, chosen, strict=True):
        names, size = list(clip.frames), None
        decoded = np.empty((frames, side, side, 3), np.uint8)
        for position, target in zip(positions, decoded, strict=True):
            name = names[position]
            place = f"{clip.folder}/{name}"
            with images.opened(place, clip.folder / on_disk(name)) as image:
                size = size or image.size
                if image.size != size:
                    raise DataError(
                        f"{place}: is {image.width}x{image.height} pixels, while {names[0]} of the "
                        f"same clip is {size[0]}x{size[1]}."
                    )
                target[...] = squared(image, side, resampling)
        yield decoded


def sampled(place: str, available: int, frames: int) -> np.ndarray:
    """Positions of frames, evenly spaced, the first and the last included.

    Raises DataError where a clip has too few.
    """
    if available < frames:
        raise DataError(f"{place}: has {available} frames, and {frames} are asked for.")
    # Halves are rounded up in whole numbers, so that no position comes twice.
    steps = frames - 1
    return (2 * np.arange(frames) * (available - 1) + steps) // (2 * steps)


def squared(image: Image.Image, side: int, resampling: str) -> np.ndarray:
    """The central square of a frame in colour, resized: uint8 (side, side, 3)."""
    shorter = min(image.size)
    left, top = ((length - shorter) // 2 for length in image.size)
    centre = image.crop((left, top, left + shorter, top + shorter))
    method = Image.Resampling[resampling.upper()]
    return np.asarray(images.colour(centre).resize((side, side), method))


def _table(folder: Path, part: str) -> Path:
    return folder / f"{part}.csv"


def _rows(path: Path) -> list[Row]:
    """The rows of a table, each folder once."""
    try:
        text = content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({error}).") from error
    rows: dict[str, Row] = {}
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        if cells := line.strip().rstrip("; \t"):
            row = _row(f"{path}, line {number}", cells.split(";"))
            known = rows.setdefault(row.folder, row)
            if known[1:] != row[1:]:
                raise DataError(
                    f"{row.place}: says {row.gesture}, {row.label} of {row.folder}, and "
                    f"{known.gesture}, {known.label} before."
                )
    if not rows:
        raise DataError(f"{path}: has no rows; expected a row folder;gesture;label per clip.")
    return list(rows.values())


def _row(place: str, cells: list[str]) -> Row:
    folder, gesture, label = map(str.strip, cells) if len(cells) == 3 else ("", "", "")
    name = _tidied(gesture)
    is_path = folder in ("", ".", "..") or re.search(r"[/\\:\x00]", folder)
    is_legible = 0 < len(name) <= LONGEST_NAME and legible(name) == name
    if is_path or not is_legible or not re.fullmatch("[0-9]{1,4}", label):
        raise DataError(
            f"{place}: should be folder;gesture;label, with the name of a folder rather than a "
            f"path, a gesture of at most {LONGEST_NAME} characters that can be shown and a whole "
            "number from 0 on for a label, and no header."
        )
    return Row(place, folder, name, int(label))


def _tidied(gesture: str) -> str:
    """`Left_Swipe_new` and `Left Swipe_new_Left Swipe_new` both as `Left Swipe`."""
    words = [word for word in gesture.replace("_", " ").split() if word.lower() != "new"]
    half = len(words) // 2
    return " ".join(words[:half] if words[:half] == words[half:] else words)


def _class_names(rows: dict[str, list[Row]]) -> tuple[str, ...]:
    """The most frequent gesture of each label. Raises DataError for labels that make no classes."""
    spellings: dict[int, Counter[str]] = {}
    for row in rows["train"]:
        spellings.setdefault(row.label, Counter())[row.gesture] += 1
    if len(spellings) < 2 or max(spellings) >= len(spellings):
        raise DataError(
            f"{rows['train'][-1].place}: until here the labels are {sorted(spellings)}; expected "
            "are at least two, which count from 0 without gaps."
        )
    known: dict[str, Row] = {}
    for row in [*rows["train"], *rows["val"]]:
        other = known.setdefault(row.gesture.casefold(), row)
        if row.label not in spellings or other.label != row.label:
            raise DataError(
                f"{row.place}: {row.gesture} has the label {row.label}; it has {other.label} in "
                f"{other.place}, and the labels of train.csv are {sorted(spellings)}."
            )
    return tuple(spellings[label].most_common(1)[0][0] for label in range(len(spellings)))


def _clip(part: Path, row: Row) -> Clip:
    folder = part / on_disk(row.folder)
    try:
        with os.scandir(folder) as files:
            states = {
                as_text(file.name): file.stat()
                for file in files
                if is_visible(file.name) and file.name.lower().endswith(FRAMES)
                if not file.is_dir()
            }
    except OSError as error:
        raise DataError(
            f"{row.place}: {error.filename or folder} cannot be read ({error.strerror})."
        ) from error
    return Clip(folder, row.label, {name: states[name] for name in sorted(states, key=_natural)})


def _natural(name: str) -> tuple[list[str | int], str]:
    """A key in which frame_10 comes after frame_9."""
    parts = re.split("([0-9]+)", name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name
