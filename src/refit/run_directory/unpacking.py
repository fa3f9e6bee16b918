"""Results from another machine: a pack checked before anything of it is used.

Nothing in a pack is trusted: not its paths, which are worked out anew from the settings, not the
sizes that it declares, and never a pickle.
"""

import contextlib
import csv
import hashlib
import io
import itertools
import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pydantic
from pydantic import BaseModel, NonNegativeInt, PositiveInt

from refit.errors import PackError
from refit.experiments import expand
from refit.experiments.yaml_file import explain
from refit.run_directory import packing
from refit.run_directory.packing import (
    CHUNK,
    COLUMNS,
    CURVES,
    FOLDERS,
    MANIFEST,
    RESULTS,
    Manifest,
    Row,
)
from refit.training import checkpoint

# Members, and how large each may say that it is, in bytes.
_LIMITS = {
    MANIFEST: 2**26,
    RESULTS: 2**29,
    CURVES: 2**32,
    r"predictions/[0-9]{1,6}\.npy": 2**26,
    r"checkpoints/[0-9]{1,6}\.npz": 2**32,
    r"weights/[0-9]{1,6}/[^/\\]{1,200}\.h5": 2**32,
}
MOST_MEMBERS = 200_000
# Text is packed to about a tenth; what grows far more than that was made to fill a disk.
MOST_GROWTH = 200
SMALL = 2**20
# What reading an archive that is damaged, or made to do damage, can raise.
_DAMAGE = (*checkpoint.UNREADABLE, zlib.error, csv.Error, OverflowError, MemoryError, TypeError)
_HDF5 = b"\x89HDF\r\n\x1a\n"
# What tables are made of, beside the curves.
_METRICS = (
    "train_accuracy", "val_accuracy", "best_val_accuracy", "seconds", "seconds_per_epoch",
    "classes",
)  # fmt: skip


class _Data(BaseModel):
    source: str
    stand_in: str
    embedded: bool
    classes: list[str]
    train_images: PositiveInt
    validation_images: NonNegativeInt
    test_images: NonNegativeInt


class _Layer(BaseModel):
    name: str
    type: str
    output_shape: list[int | None]
    parameters: NonNegativeInt


class _Environment(BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    workers: NonNegativeInt | None = None
    gpus: list[str] = []


class _Fused(BaseModel):
    members: PositiveInt
    seconds: float
    seconds_per_epoch: float


class _Result(BaseModel):
    """What pages read of a result, beside its trial."""

    digest: str
    metrics: dict[str, bool | int | float | None]
    data: _Data
    environment: _Environment
    layers: list[_Layer]
    confusion_matrix: list[list[NonNegativeInt]] | None
    fused: _Fused | None = None
    batch_note: str = ""
    smaller_batches: bool = False
    candidates: list[dict[str, Any]] = []


class _State(BaseModel):
    """The state in a checkpoint: what the recorder of a training goes on from."""

    history: list[dict[str, float]]
    counters: list[dict[str, float]] = []
    untrained: dict[str, float] = {}
    workers: NonNegativeInt = 0
    batches: NonNegativeInt = 0


@dataclass
class Pack:
    """An open pack that has passed all checks; `files` has the names of each row's members."""

    path: Path
    archive: zipfile.ZipFile
    manifest: Manifest
    rows: list[Row]
    files: dict[int, list[str]] = field(default_factory=dict)


@contextlib.contextmanager
def read(path: Path) -> Iterator[Pack]:
    """Open a pack and check all of it. Raises PackError naming the file and the member."""
    with ExitStack() as opened:
        with _told(path, "the archive"):
            archive = opened.enter_context(zipfile.ZipFile(path))
            _check_sizes(archive.infolist(), path.stat().st_size)
        with _told(path, MANIFEST):
            manifest = _manifest(archive)
        for name, member in manifest.members.items():
            with _told(path, name), archive.open(name) as file:
                digest = hashlib.sha256()
                while part := file.read(CHUNK):
                    digest.update(part)
                _require(digest.hexdigest() == member.sha256, "is not what the manifest says")
        with _told(path, RESULTS):
            rows = _rows(archive)
            done = sum(row.result is not None for row in rows)
            counts = manifest.finished, manifest.unfinished
            _require(counts == (done, len(rows) - done), "has not the trials of the manifest")
        pack = Pack(path, archive, manifest, rows)
        with _told(path, CURVES):
            counted = sum(len(curve) for _, curve in curves(pack))
            _require(counted == manifest.events, "has not the rows of the manifest")
        for name in manifest.members:
            with _told(path, name):
                _check_member(pack, name)
        for number, row in enumerate(rows):
            with _told(path, f"checkpoints/{number}.npz"):
                _require(row.result is not None or len(pack.files.get(number, ())), "is missing")
        yield pack


@contextlib.contextmanager
def _told(path: Path, member: str) -> Iterator[None]:
    """Raise what goes wrong with a member as one sentence."""
    try:
        yield
    except PackError:
        raise
    except pydantic.ValidationError as error:
        raise PackError(f"{path}: {member}: {explain(error).splitlines()[0]}") from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PackError(f"{path}: {member}: {reason}") from error


def _require(whole: bool, otherwise: str) -> None:
    if not whole:
        raise ValueError(otherwise)


def _check_sizes(infos: Sequence[zipfile.ZipInfo], packed: int) -> None:
    """Refuse, by what the archive declares, members that refit does not write or that are huge."""
    names = {info.filename for info in infos}
    _require(len(names) == len(infos) <= MOST_MEMBERS, "has members twice, or far too many")
    for name in (MANIFEST, RESULTS, CURVES):
        _require(name in names, f"has no {name}, so it is no pack of refit")
    for info in infos:
        limit = next((most for p, most in _LIMITS.items() if re.fullmatch(p, info.filename)), None)
        _require(limit is not None, f"{info.filename!r} is no member that refit writes")
        plain = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        _require(plain and not info.flag_bits & 1, f"{info.filename} is encrypted or packed oddly")
        grown = max(SMALL, MOST_GROWTH * info.compress_size)
        if info.file_size > min(limit or 0, grown):
            raise ValueError(f"{info.filename} would unpack to {info.file_size:,} bytes")
    total = sum(info.file_size for info in infos)
    _require(total <= max(SMALL, MOST_GROWTH * packed), f"would unpack to {total:,} bytes")


def _manifest(archive: zipfile.ZipFile) -> Manifest:
    content = json.loads(archive.read(MANIFEST))
    version = content.get("format") if isinstance(content, dict) else None
    _require(
        version == packing.FORMAT,
        f"format is {version!r}, and this version of refit reads {packing.FORMAT}",
    )
    manifest = Manifest.model_validate(content)
    sizes = {info.filename: info.file_size for info in archive.infolist()}
    del sizes[MANIFEST]
    told = {name: member.size for name, member in manifest.members.items()}
    _require(sizes == told, "does not name the members and sizes that are there")
    return manifest


def _rows(archive: zipfile.ZipFile) -> list[Row]:
    known = expand.names()
    rows = []
    with archive.open(RESULTS) as file:
        for line in file:
            rows.append(Row.model_validate(json.loads(line)))
            _check_row(rows[-1], known)
    places = {(row.profile, row.experiment, row.directory) for row in rows}
    _require(len(places) == len(rows), "has a trial twice")
    return rows


def _check_row(row: Row, known: Sequence[str]) -> None:
    directory = row.trial.directory.as_posix()
    _require(row.experiment in known, f"this refit has no experiment {row.experiment!r}")
    _require(
        row.directory == directory,
        f"directory is {row.directory!r}, and its settings give {directory}",
    )
    _require((row.result is None) == (row.epochs > 0), f"{directory}: is neither done nor begun")
    if row.result is None:
        return
    result = _Result.model_validate(row.result)
    _require(
        result.digest == row.trial.digest,
        f"{directory}: digest is {result.digest!r}, and its settings give {row.trial.digest}",
    )
    for name in _METRICS:
        _require(isinstance(result.metrics.get(name), int | float), f"{directory}: has no {name}")
    counts, classes = result.confusion_matrix, len(result.data.classes)
    square = counts is None or {len(counts), *map(len, counts)} == {classes}
    _require(square, f"{directory}: confusion_matrix does not fit {classes} classes")


# A curve: event folder, tag, step, seconds since 1970, and value of each of its points.
Curve = list[tuple[str, str, int, float, float]]


def curves(pack: Pack) -> Iterator[tuple[int, Curve]]:
    """The curves of one trial after another, by its number; those without any are left out."""
    with pack.archive.open(CURVES) as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
        lines = csv.reader(text, strict=True)
        _require(next(lines, None) == COLUMNS, f"has other columns than {', '.join(COLUMNS)}")
        last = -1
        for name, group in itertools.groupby(lines, key=lambda line: line[0] if line else ""):
            number = int(name)
            _require(last < number < len(pack.rows), f"names trial {number} out of turn")
            yield number, [_point(line, pack.rows[number]) for line in group]
            last = number


def _point(line: list[str], row: Row) -> tuple[str, str, int, float, float]:
    _, digest, folder, tag, step, moment, value = line
    _require(digest == row.trial.digest, f"has the digest {digest!r} for {row.directory}")
    _require(folder in FOLDERS, f"names the folder {folder!r}")
    _require(re.fullmatch(r"[A-Za-z0-9_./-]{1,100}", tag) is not None, f"has the tag {tag!r}")
    _require(0 <= int(step) < 2**40, f"has the step {step}")
    _require(math.isfinite(float(moment)), f"has the time {moment}")
    return folder, tag, int(step), float(moment), float(value)


def _check_member(pack: Pack, name: str) -> None:
    """Check an array or weights, and note to which row it belongs."""
    kind, _, rest = name.partition("/")
    if not rest:
        return
    number = int(re.split("[./]", rest)[0])
    _require(number < len(pack.rows), f"there is no trial {number}")
    row = pack.rows[number]
    content = io.BytesIO(pack.archive.read(name)) if kind != "weights" else io.BytesIO()
    if kind == "predictions":
        shape, dtype = _array(content, pack.archive.getinfo(name).file_size)
        images = row.result["data"]["test_images"] if row.result else -1
        fits = shape == (images,) and dtype in (np.uint8, np.uint16)
        _require(fits, f"holds {dtype} of shape {shape}, not classes of {images} images")
    elif kind == "checkpoints":
        _require(row.result is None, "belongs to a trial that is done")
        _check_arrays(content)
        state = checkpoint.saved_state(content)
        _require(bool(state), "holds no state of a training")
        epochs = len(_State.model_validate(state).history)
        _require(epochs == row.epochs, f"does not hold {row.epochs} epochs")
    else:
        with pack.archive.open(name) as file:
            _require(file.read(len(_HDF5)) == _HDF5, "is no HDF5 file")
        _require(
            packing.keeps(row.trial, rest.partition("/")[2]), "is no file that its trial keeps"
        )
    pack.files.setdefault(number, []).append(name)
    pack.files[number].sort()  # checkpoints first, weights last


def _check_arrays(content: IO[bytes]) -> None:
    """Check the arrays of a checkpoint: not packed, so not larger than they are, and plain."""
    with zipfile.ZipFile(content) as arrays:
        for info in arrays.infolist():
            _require(info.compress_type == zipfile.ZIP_STORED, f"{info.filename} is packed")
            known = re.fullmatch(r"(state|v[0-9]{1,6})\.npy", info.filename)
            _require(known is not None, f"{info.filename!r} is no part of a checkpoint")
            with arrays.open(info) as file:
                _array(file, info.file_size)
    content.seek(0)


def _array(file: IO[bytes], size: int) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array in a file of a size in bytes, without loading it or its pickle."""
    version = np.lib.format.read_magic(file)
    _require(version == (1, 0), f"is an array in format {version}")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    _require(not dtype.hasobject, "holds Python objects, which refit does not load")
    held = math.prod(shape) * dtype.itemsize
    _require(held == size - file.tell(), f"says that it holds {held:,} bytes and does not")
    return shape, dtype
