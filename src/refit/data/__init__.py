"""The one entry point to all data sets: a declaration goes in, split and mapped arrays come out.

Sources import the heavy libraries when they decode; a cached data set needs NumPy only.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from refit.data import cache, cifar10, course, digits, fashion_mnist
from refit.data.arrays import Dataset, Decoded, Part
from refit.data.spec import DataSpec
from refit.errors import DataError, DeclarationError

__all__ = ["ALIASES", "SOURCES", "DataSpec", "Dataset", "Part", "load", "resolve"]


class Source(NamedTuple):
    """How a registered data set is identified, quickly, and how it is decoded."""

    fingerprint: Callable[[Path | None], str]
    read: Callable[[Path | None], Decoded]


SOURCES = {
    "fashion_mnist": Source(fashion_mnist.fingerprint, fashion_mnist.read),
    "fashion_mnist_course": Source(course.fingerprint, course.read),
    "fashion_mnist_pairs": Source(fashion_mnist.fingerprint, fashion_mnist.read_pairs),
    "cifar10": Source(cifar10.fingerprint, cifar10.read),
    "digits": Source(digits.fingerprint, digits.read),
    "digits_colour": Source(digits.fingerprint, digits.read_colour),
    "digits_pairs": Source(digits.fingerprint, digits.read_pairs),
}


def _five_classes(data_dir: Path | None) -> str:
    return "fashion_mnist_course" if course.find(data_dir) else "fashion_mnist_pairs"


# Names whose data set depends on what the user has.
ALIASES = {"fashion_mnist_five": _five_classes}


def resolve(spec: DataSpec, data_dir: Path | None) -> DataSpec:
    """Replace an alias by the data set that it means here, and fill in the fingerprint.

    Decodes nothing and downloads nothing. Raises DeclarationError for a name that is not
    registered, DataError where files that the data set cannot do without are missing.
    """
    alias = ALIASES.get(spec.name)
    name = alias(data_dir) if alias else spec.name
    return spec.model_copy(
        update={"name": name, "fingerprint": _source(name).fingerprint(data_dir)}
    )


def load(spec: DataSpec, data_dir: Path | None, cache_dir: Path) -> Dataset:
    """Load a data set, decoding it into the cache first where it is not there yet.

    Images are uint8 (n, image_size, image_size, channels) from 0 to 255, labels int32 (n,). The
    official test images are the test part; the others are split by train_test_split, and each part
    is cut to its declared limit. Raises DataError, or DeclarationError as resolve() does.
    """
    if not spec.fingerprint or spec.name in ALIASES:
        spec = resolve(spec, data_dir)
    source = _source(spec.name)
    folder = cache.folder_of(spec, cache_dir)
    dataset = cache.read(folder)
    if dataset is None:
        present = source.fingerprint(data_dir)
        if present != spec.fingerprint:
            raise DataError(
                f"{spec.name}: the source files have the fingerprint {present}, not the declared "
                f"{spec.fingerprint}; they changed after the declaration, so start the run again."
            )
        dataset = cache.write(folder, source.read(data_dir), spec)
    return _limited(dataset, spec)


def _source(name: str) -> Source:
    if name not in SOURCES:
        known = ", ".join(sorted([*SOURCES, *ALIASES]))
        raise DeclarationError(f"data.name: {name!r} is not a data set; known are {known}.")
    return SOURCES[name]


def _limited(dataset: Dataset, spec: DataSpec) -> Dataset:
    parts = {}
    for name in cache.PARTS:
        part, limit = getattr(dataset, name), getattr(spec, f"{name}_images")
        if limit is not None and limit > len(part):
            raise DataError(
                f"data.{name}_images: {limit} images are asked for, but the {name} part of "
                f"{spec.name} has {len(part)}."
            )
        parts[name] = part.take(slice(limit))
    return replace(dataset, **parts)
