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

import numpy as np

from refit import files
from refit.data.arrays import Clips, Dataset, Decoded, Description, Part, resize
from refit.data.spec import SELECTION, DataSpec
from refit.errors import DataError

PARTS = ("train", "validation", "test")
INDEX = "index.json"
# Images that are resized at once, so that memory holds few large ones at a time.
BLOCK = 2048
# Raised when the same declaration would be decoded into other files.
LAYOUT = 1


def folder_of(spec: DataSpec, cache_dir: Path) -> Path:
    """The folder of a data set: a readable name and a hash of all that decides its content."""
    content = {"layout": LAYOUT} | spec.model_dump(exclude=set(SELECTION), exclude_defaults=True)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    sizes = [spec.frames, spec.image_size, spec.image_size]
    size = "x".join(str(size) for size in sizes if size)
    return cache_dir / f"{spec.name}-{size}-{digest[:12]}"


def read(folder: Path) -> Dataset | None:
    """Memory-map a cached data set; None where it is missing or a file has not its written size."""
    index = files.read_json(folder / INDEX)
    try:
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
        return Dataset(**parts, class_names=names, **index["description"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write(folder: Path, decoded: Decoded, spec: DataSpec) -> Dataset:
    """Split, resize and store a data set, then memory-map it.

    Raises DataError where the split leaves a part empty or the folder cannot be written.
    """
    parts = (*_split(decoded, spec), decoded.test)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
            fresh = Path(name) / "fresh"
            fresh.mkdir()
            for part, content in zip(PARTS, parts, strict=True):
                _write_part(fresh, part, content, spec)
            sizes = {}
            for path in sorted(fresh.iterdir()):
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                sizes[path.name] = path.stat().st_size
            description = {each.name: getattr(decoded, each.name) for each in fields(Description)}
            files.write_json(fresh / INDEX, {"description": description, "bytes": sizes})
            # Maps outlive a rename and even a removal: a lost race costs work, never the result.
            dataset = read(fresh)
            if read(folder) is None:
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
    return read(folder) or dataset


def _split(decoded: Decoded, spec: DataSpec) -> tuple[Part, Part]:
    """Split as the reports do: by train_test_split on all images, not stratified, or not at all,
    so that their validation curves are those of the test set."""
    if spec.validation == "test":
        if decoded.test.labels is None:
            raise DataError(
                f"{spec.name}: its test images have no labels, so they cannot validate a training; "
                "use validation: split."
            )
        return decoded.learning, decoded.test
    from sklearn.model_selection import train_test_split  # a second to import, seldom needed

    positions, fraction = np.arange(len(decoded.learning)), spec.validation_fraction
    try:
        chosen = train_test_split(positions, test_size=fraction, random_state=spec.split_seed)
    except ValueError as error:
        raise DataError(
            f"{spec.name}: {len(positions)} images cannot be split with validation_fraction "
            f"{fraction}; both parts need at least one image."
        ) from error
    train, validation = map(decoded.learning.take, chosen)
    return train, validation


def _write_part(folder: Path, name: str, part: Part, spec: DataSpec) -> None:
    side, images = spec.image_size, part.images
    if isinstance(images, Clips):
        shape = (len(part), spec.frames, side, side, 3)
        blocks = images.decode(images.entries, spec.frames, side, spec.resampling)
    else:
        shape = (len(part), side, side, images.shape[3])
        starts = range(0, len(images), BLOCK)
        blocks = (resize(images[at : at + BLOCK], side, spec.resampling) for at in starts)
    for field, values in (("ids", part.ids), ("labels", part.labels)):
        if values is not None:
            np.save(folder / f"{name}_{field}.npy", values)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    # Written rather than mapped: a full disk is an error, where a map would kill us.
    with (folder / f"{name}_images.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block))
