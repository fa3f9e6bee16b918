"""Data sets are decoded once and then memory-mapped, so that parallel trials share their pages.

A cache folder appears by one rename, whole. One that was damaged later is made again, and writers
that meet each other both succeed.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from refit import files
from refit.data.arrays import Clips, Dataset, Decoded, Description, Part, resize
from refit.data.spec import SELECTION, DataSpec
from refit.errors import DataError

PARTS = ("train", "validation", "test")
INDEX = "index.json"
# In bytes, of images that are resized at once: all that is copied of those in memory.
BLOCK = 2**24
# Raised when the same declaration would be decoded into other files.
LAYOUT = 1


def folder_of(spec: DataSpec, cache_dir: Path) -> Path:
    """The folder of a data set: a readable name and a hash of all that decides its content."""
    content = {"layout": LAYOUT} | spec.model_dump(exclude=set(SELECTION), exclude_defaults=True)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    sizes = [spec.frames, spec.image_size, spec.image_size]
    size = "x".join(str(size) for size in sizes if size)
    return cache_dir / f"{spec.name}-{size}-{digest[:12]}"


def read(folder: Path, stamp: str = "") -> Dataset | None:
    """Memory-map a cached data set; None where it is missing, a file has not its written size, or
    it was made from source files of another `stamp`, if one is given."""
    index = files.read_json(folder / INDEX)
    try:
        if stamp and index.get("stamp") != stamp:
            return None
        if any((folder / name).stat().st_size != size for name, size in index["bytes"].items()):
            return None
        arrays = {
            Path(name).stem: np.load(folder / name, mmap_mode="r", allow_pickle=False)
            for name in index["bytes"]
        }
        parts = {
            part: Part(
                arrays[f"{part}_images"], arrays.get(f"{part}_labels"), arrays[f"{part}_ids"]
            )
            for part in PARTS
        }
        names = tuple(index["description"].pop("class_names"))
        content = str(index.get("content", ""))
        return Dataset(**parts, class_names=names, content=content, **index["description"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write(folder: Path, decoded: Decoded, spec: DataSpec, stamp: str = "") -> Dataset:
    """Split, resize and store a data set, made from source files of this `stamp`; then map it.

    Raises DataError where the split leaves a part empty or the folder cannot be written.
    """
    parts = (*_split(decoded, spec), (decoded.test, np.arange(len(decoded.test))))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
            fresh = Path(name) / "fresh"
            fresh.mkdir()
            for part, (source, positions) in zip(PARTS, parts, strict=True):
                _write_part(fresh, part, source, positions, spec)
            files.write_json(fresh / INDEX, _index(fresh, decoded) | {"stamp": stamp})
            # Maps outlive a rename and even a removal: a lost race costs work, never the result.
            dataset = read(fresh)
            if read(folder, stamp) is None:
                with contextlib.suppress(FileNotFoundError):
                    folder.rename(Path(name) / "damaged")
                # Fails where another writer's folder has appeared since, which serves as well.
                with contextlib.suppress(OSError):
                    fresh.rename(folder)
    except OSError as error:
        raise DataError(
            f"The cache folder {folder} cannot be written ({error.strerror or error}): free some "
            "space there, or set REFIT_RUNS to a folder that can be written."
        ) from error
    return read(folder, stamp) or dataset


def _index(folder: Path, decoded: Decoded) -> dict[str, Any]:
    """What is kept of the arrays in a folder, all of which are on disk afterwards."""
    sizes, content = {}, hashlib.sha256()
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            content.update(hashlib.file_digest(file, "sha256").digest())
        sizes[path.name] = path.stat().st_size
    description = {each.name: getattr(decoded, each.name) for each in fields(Description)}
    return {"description": description, "bytes": sizes, "content": content.hexdigest()}


def _split(decoded: Decoded, spec: DataSpec) -> tuple[tuple[Part, np.ndarray], ...]:
    """The images to train on and those to validate with, as positions in a part, so that none is
    copied.

    Split as the reports do: by train_test_split on all images, not stratified, or not at all,
    so that their validation curves are those of the test set."""
    if spec.validation == "test":
        if decoded.test.labels is None:
            raise DataError(
                f"{spec.name}: its test images have no labels, so they cannot validate a training; "
                "use validation: split."
            )
        return tuple((part, np.arange(len(part))) for part in (decoded.learning, decoded.test))
    from sklearn.model_selection import train_test_split  # a second to import, seldom needed

    positions, fraction = np.arange(len(decoded.learning)), spec.validation_fraction
    try:
        chosen = train_test_split(positions, test_size=fraction, random_state=spec.split_seed)
    except ValueError as error:
        raise DataError(
            f"{spec.name}: {len(positions)} images cannot be split with validation_fraction "
            f"{fraction}; both parts need at least one image."
        ) from error
    return tuple((decoded.learning, part) for part in chosen)


def _write_part(folder: Path, name: str, part: Part, positions: np.ndarray, spec: DataSpec) -> None:
    side, images, count = spec.image_size, part.images, len(positions)
    if isinstance(images, Clips):
        shape = (count, spec.frames, side, side, 3)
        entries = [images.entries[position] for position in positions]
        blocks = images.decode(entries, spec.frames, side, spec.resampling)
    else:
        shape = (count, side, side, images.shape[3])
        step = max(1, BLOCK // images[0].nbytes)
        chosen = (positions[at : at + step] for at in range(0, count, step))
        blocks = (resize(images[each], side, spec.resampling) for each in chosen)
    for field, values in (("ids", part.ids), ("labels", part.labels)):
        if values is not None:
            np.save(folder / f"{name}_{field}.npy", values[positions])
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    # Written rather than mapped: a full disk is an error, where a map would kill us.
    with (folder / f"{name}_images.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block))
