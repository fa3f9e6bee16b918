"""The one entry point to all data sets: a declaration goes in, split and mapped arrays come out.

Sources import the heavy libraries when they decode; a cached data set needs NumPy only.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refit.data import cache, cifar10, digit_clips, digits, fashion_mnist, gesture, photographs
from refit.data.arrays import Dataset, Decoded, Part
from refit.data.spec import DataSpec
from refit.errors import DataError, DeclarationError


class Source(NamedTuple):
    """How a registered data set is identified, quickly, and how it is read.

    stamp: what changes with the content of files that keep names and sizes, by which alone the
    fingerprint knows some; empty where it knows the content. clips: whether it is made of clips,
    which are read without decoding them. is_here: whether it is there without a download, of those
    that can be downloaded.
    """

    fingerprint: Callable[[Path | None], str]
    read: Callable[[Path | None], Decoded]
    stamp: Callable[[Path | None], str] = lambda data_dir: ""
    clips: bool = False
    is_here: Callable[[Path | None], bool] = lambda data_dir: True


_FASHION = {"fingerprint": fashion_mnist.fingerprint, "is_here": fashion_mnist.is_here}
SOURCES = {
    "fashion_mnist": Source(read=fashion_mnist.read, **_FASHION),
    "fashion_mnist_course": Source(fashion_mnist.course_fingerprint, fashion_mnist.read_course),
    "fashion_mnist_pairs": Source(read=fashion_mnist.read_pairs, **_FASHION),
    "cifar10": Source(cifar10.fingerprint, cifar10.read, cifar10.stamp, is_here=cifar10.is_here),
    "digits": Source(digits.fingerprint, digits.read),
    "digits_colour": Source(digits.fingerprint, digits.read_colour),
    "digits_pairs": Source(digits.fingerprint, digits.read_pairs),
    "photographs": Source(photographs.fingerprint, photographs.read, photographs.stamp),
    "gesture": Source(gesture.fingerprint, gesture.read, gesture.stamp, clips=True),
    "digit_clips": Source(digit_clips.fingerprint, digit_clips.read, clips=True),
}


# Names whose data set depends on what the user has.
ALIASES: dict[str, Callable[[Path | None], str]] = {
    "fashion_mnist_five": lambda data_dir: (
        "fashion_mnist_course" if fashion_mnist.find_course(data_dir) else "fashion_mnist_pairs"
    ),
    "gesture_or_digits": lambda data_dir: "gesture" if gesture.find(data_dir) else "digit_clips",
}


def resolve(
    spec: DataSpec, data_dir: Path | None, known: Callable[[], Iterable[DataSpec]] | None = None
) -> DataSpec:
    """Replace an alias by the data set that it means here, and fill in the fingerprint.

    One that is not here is taken for the one among those `known` of results. Decodes nothing
    and downloads nothing. Raises DeclarationError for a name that is not registered and for frames
    asked of single images or missing for clips, DataError where files that the data set cannot do
    without are missing.
    """
    if known and not is_here(spec, data_dir):
        declared = {"name": spec.name, "fingerprint": spec.fingerprint}
        for each in known():
            named = each.name == spec.name or spec.name in ALIASES
            if named and each.model_copy(update=declared) == spec:
                return each
    alias = ALIASES.get(spec.name)
    name = alias(data_dir) if alias else spec.name
    return spec.model_copy(
        update={"name": name, "fingerprint": _source(name, spec.frames).fingerprint(data_dir)}
    )


def is_here(spec: DataSpec, data_dir: Path | None) -> bool:
    """Whether a data set can be read without a download."""
    try:
        return SOURCES[resolve(spec, data_dir).name].is_here(data_dir)
    except DataError:
        return False


def load(spec: DataSpec, data_dir: Path | None, cache_dir: Path, prepared: bool = False) -> Dataset:
    """Load a data set, decoding it into the cache first where it is not there yet, or where the
    source files have changed since, unless it has been `prepared` by a call of this run.

    Images are uint8 (n, image_size, image_size, channels) from 0 to 255, clips (n, frames,
    image_size, image_size, 3), labels int32 (n,). The official test images are the test part; the
    others are split by train_test_split. Where only_classes are declared the other images are left
    out, in memory rather than on disk, and then each part is cut to its declared limit. Raises
    DataError, or DeclarationError as resolve() does.
    """
    if not spec.fingerprint or spec.name in ALIASES:
        spec = resolve(spec, data_dir)
    source = _source(spec.name, spec.frames)
    folder = cache.folder_of(spec, cache_dir)
    stamp = "" if prepared else _stamp(spec, data_dir)
    dataset = cache.read(folder, stamp)
    if dataset is None:
        present = source.fingerprint(data_dir)
        if present != spec.fingerprint:
            raise DataError(
                f"{spec.name}: the source files have the fingerprint {present}, not the declared "
                f"{spec.fingerprint}; they changed after the declaration, so start the run again."
            )
        dataset = cache.write(folder, source.read(data_dir), spec, stamp)
    return _selected(dataset, spec)


def content(spec: DataSpec, data_dir: Path | None, cache_dir: Path, decode: bool) -> str:
    """The `content` of a data set that has been decoded before, as it is now; empty where that is
    not known. Where the files have changed since, it is only if they may be read again.
    """
    folder = cache.folder_of(spec, cache_dir)
    if cache.read(folder) is None:
        return ""
    with suppress(DataError):
        found = cache.read(folder, _stamp(spec, data_dir))
        found = found or (load(spec, data_dir, cache_dir) if decode else None)
        return found.content if found else ""
    return ""


def _stamp(spec: DataSpec, data_dir: Path | None) -> str:
    """The stamp of the declared source files; empty where others are there, or none."""
    source = SOURCES[spec.name]
    with suppress(DataError):
        if (stamp := source.stamp(data_dir)) and source.fingerprint(data_dir) == spec.fingerprint:
            return stamp
    return ""


def _source(name: str, frames: int | None) -> Source:
    if name not in SOURCES:
        known = ", ".join(sorted([*SOURCES, *ALIASES]))
        raise DeclarationError(f"data.name: {name!r} is not a data set; known are {known}.")
    source = SOURCES[name]
    if source.clips != bool(frames):
        made = "clips; say how many frames of each" if source.clips else "single images, not frames"
        raise DeclarationError(f"data.frames: {name} is made of {made}.")
    return source


def _selected(dataset: Dataset, spec: DataSpec) -> Dataset:
    names = dataset.class_names
    if spec.only_classes:
        if max(spec.only_classes) >= len(names):
            raise DataError(
                f"data.only_classes: {max(spec.only_classes)} is asked for, but the classes of "
                f"{spec.name} are 0 to {len(names) - 1}."
            )
        names = tuple(names[position] for position in spec.only_classes)
    parts = {name: _selected_part(dataset, name, spec) for name in cache.PARTS}
    if spec.of_the_report:
        dataset = replace(dataset, stand_in="")
    return replace(dataset, class_names=names, **parts)


def _selected_part(dataset: Dataset, name: str, spec: DataSpec) -> Part:
    part, limit = getattr(dataset, name), getattr(spec, f"{name}_images")
    available = len(part)
    if spec.only_classes:
        if part.labels is None:
            raise DataError(
                f"data.only_classes: the {name} images of {spec.name} have no labels to choose by."
            )
        positions = np.flatnonzero(np.isin(part.labels, spec.only_classes))
        available = len(positions)
    if available < (limit or 1):
        raise DataError(
            f"data.{name}_images: {limit or 'some'} images are asked for, but the {name} part of "
            f"{spec.name} has {available}{' of only_classes' if spec.only_classes else ''}."
        )
    chosen: slice | np.ndarray = slice(limit)
    if limit and spec.draw_seed is not None:
        generator = np.random.default_rng([spec.draw_seed, cache.PARTS.index(name)])
        chosen = np.sort(generator.choice(available, limit, replace=False))
    if not spec.only_classes:
        return part.take(chosen)
    # Cut before the images are copied out of the memory map.
    kept = part.take(positions[chosen])
    numbers = np.zeros(len(dataset.class_names), np.int32)
    numbers[list(spec.only_classes)] = np.arange(len(spec.only_classes))
    return replace(kept, labels=numbers[kept.labels])
