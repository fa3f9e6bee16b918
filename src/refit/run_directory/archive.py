"""Packs: the trials of one sweep in one file, from which pages are made without training.

A pack is a tar file of run directories, without weights, checkpoints and failures. Nothing in it is
trusted: names, kinds and sizes of its members are checked before anything is unpacked, and a result
counts only with everything that belongs to it.
"""

import io
import itertools
import lzma
import math
import re
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from refit import files, paths
from refit.data.spec import DataSpec
from refit.errors import PackError
from refit.experiments.trial import Trial
from refit.experiments.yaml_file import explain
from refit.run_directory import curve_metrics, directory
from refit.run_directory.directory import BATCH_FILE, LOCK, PREDICTIONS, RESULT, TRIAL, Result
from refit.run_directory.events import read_scalars

# In an experiment's runs: which packs have been looked at.
STAMP = "packs.json"
# In bytes, unpacked: of one member, and of a whole pack.
LARGEST, MOST = 2**28, 2**33
# In seconds, for the lock of a trial: an import holds it for a moment, a training for hours.
PATIENCE = 5.0

_NAME = "[A-Za-z0-9][A-Za-z0-9_.=-]*"
_EVENTS = r"((train|validation)/)?events\.out\.tfevents\.[A-Za-z0-9_.-]+"
_KEPT = "|".join([*map(re.escape, (RESULT, TRIAL, PREDICTIONS, BATCH_FILE)), _EVENTS])
_MEMBER = re.compile(rf"(smoke|small|full)/{_NAME}/{_NAME}/{_NAME}/({_KEPT})")
_DAMAGE = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError)


@dataclass
class Import:
    """What became of a pack: trials taken and trials that are here already, sentences about all
    that was refused or differs, and the data of the trials."""

    taken: int = 0
    kept: int = 0
    refused: int = 0
    told: list[str] = field(default_factory=list)
    data: list[DataSpec] = field(default_factory=list)

    def refuse(self, sentence: str) -> None:
        self.refused += 1
        self.told.append(sentence)


class _Stamp(BaseModel):
    """Size and time of the packs that have been looked at, and the data of their trials."""

    packs: dict[str, list[int]] = {}
    data: list[DataSpec] = []


def pack(profile: str, experiment: str, sweep: str, folder: Path) -> list[str]:
    """Write the finished trials of a sweep into one file in `folder`: the same bytes, as long as
    they are the same. Returns sentences: what was written, and what was left out.
    """
    place = Path(profile, experiment)
    told, packed, content = [], 0, io.BytesIO()
    with tempfile.TemporaryDirectory() as base, tarfile.open(fileobj=content, mode="w:xz") as tar:
        for result in sorted((paths.runs() / place / sweep).glob(f"*-??????????/{RESULT}")):
            run_dir = result.parent
            copy = Path(base) / place / sweep / run_dir.name
            try:
                _copy(run_dir, copy)
                check(Path(base) / place, Path(sweep, run_dir.name))
            except PackError as error:
                told.append(f"{run_dir}: left out: {error}")
                continue
            for path in _files(copy):
                # Nothing of the file but its name and content, so that nothing else differs.
                member = tarfile.TarInfo(path.relative_to(base).as_posix())
                member.size = path.stat().st_size
                tar.addfile(member, io.BytesIO(path.read_bytes()))
            packed += 1
    if packed:
        path = folder / f"{profile}-{experiment}-{sweep}.tar.xz"
        files.write_bytes(path, content.getvalue())
        told.append(f"{path}: {packed} trials, {len(content.getvalue()) / 1e6:.2f} MB")
    return told


def unpack(path: Path) -> Import:
    """Check a pack and move its trials into the runs, where they lack; one damaged member loses
    only its own trial, and what comes after damage of the file itself is lost."""
    done = Import()
    paths.runs().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.runs(), prefix=".unpacking.") as base:
        try:
            with tarfile.open(path) as tar:
                for parts, members in itertools.groupby(_limited(tar), _run_of):
                    try:
                        told = _import(tar, Path(*parts), members, Path(base), done)
                    except PackError as error:
                        done.refuse(f"{path}: {'/'.join(parts)}: not taken: {error}")
                    else:
                        done.told += [f"{path}: {'/'.join(parts)}: {told}"] if told else []
                    for left in Path(base).iterdir():  # never a name from the pack
                        shutil.rmtree(left, ignore_errors=True)
        except _DAMAGE as error:
            done.refuse(f"{path}: cannot be read on: {error}")
    return done


def take(profile: str, experiment: str) -> tuple[list[str], list[DataSpec]]:
    """Import what the committed packs of an experiment hold, once for each pack.

    Returns sentences about what was taken or refused, and the data that the trials were made from.
    """
    found = sorted(paths.PACKS.glob(f"{profile}-{experiment}-*.tar.?z"))
    stamps = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in found}
    place = paths.runs() / profile / experiment / STAMP
    stamp = files.read_model(place, _Stamp) or _Stamp()
    told, data = [], dict.fromkeys(stamp.data)
    new = [path for path in found if stamp.packs.get(path.name) != stamps[path.name]]
    for path in new:
        done = unpack(path)
        told += [*done.told, f"{path.name}: {done.taken} trials taken, {done.kept} here already"]
        data |= dict.fromkeys(done.data)
    if new:
        files.write_json(place, _Stamp(packs=stamps, data=list(data)).model_dump(mode="json"))
    return told, list(data)


def check(base: Path, place: Path) -> Trial:
    """The trial of the run directory `place` below `base`, an experiment's folder.

    Raises PackError where its result does not fit its schema or itself, its settings are not those
    of its name, or anything that belongs to it is missing, superfluous or short.
    """
    run_dir = base / place
    result = _read(run_dir)
    try:
        trial = Trial.model_validate(result.trial)
    except ValidationError as error:
        raise PackError(f"{RESULT}: of another version: {explain(error)}") from error
    if trial.digest != result.digest or trial.directory != place:
        raise PackError(f"{RESULT}: its settings belong into {trial.directory}")
    found = {path.relative_to(run_dir).as_posix() for path in _files(run_dir)} - {RESULT, TRIAL}
    if strange := sorted(found.symmetric_difference(result.files)):
        raise PackError(f"{strange[0]}: is missing, or not named in {RESULT}")
    # Only now, because a hostile result could name any file.
    if lost := files.damaged(run_dir, result.files):
        raise PackError(f"{lost}: is not as it was written")
    if cause := _short(trial, run_dir, result):
        raise PackError(cause)
    try:
        predicted = np.load(run_dir / PREDICTIONS, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PackError(f"{PREDICTIONS}: cannot be read: {error}") from error
    is_fit = predicted.shape == (result.data.test_images,) and predicted.dtype.kind == "u"
    if not is_fit or predicted.max(initial=0) >= len(result.data.classes):
        raise PackError(f"{PREDICTIONS}: has not one of the classes for each of the test images")
    return trial


def _read(run_dir: Path) -> Result:
    content = files.read_object(run_dir / RESULT)
    if cause := directory.flaw(content):
        raise PackError(f"{RESULT}: {cause}")
    return Result.model_validate(content)


def _short(trial: Trial, run_dir: Path, result: Result) -> str:
    """Which curves have not as many epochs as the history, as a sentence; empty if all have."""
    epochs = result.metrics.epochs
    for group in ("train", "validation"):
        logged = read_scalars(run_dir / group).get("epoch_loss", {})
        if sorted(logged) != list(range(epochs)):
            return f"{group}: has the curves of {len(logged)} of {epochs} epochs"
    if trial.record_batches:
        logged = len(curve_metrics.batches(run_dir))
        expected = epochs * math.ceil(result.data.train_images / trial.batch_size)
        if logged != expected:
            return f"{BATCH_FILE}: has {logged} of {expected} batches"
    return ""


def _copy(run_dir: Path, copy: Path) -> None:
    """Copy what a pack holds of a run directory; the copied result names these files only."""
    # Packs leave weights out, so these may lack.
    named = {key: value for key, value in _read(run_dir).files.items() if ".h5" not in key}
    if lost := files.damaged(run_dir, named):
        raise PackError(f"{lost}: is not as it was written")
    for path in _files(run_dir):
        name = path.relative_to(run_dir).as_posix()
        if re.fullmatch(_KEPT, name):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy / name)
    curve_metrics.store_batches(run_dir, copy)
    lasting = [path for path in _files(copy) if path.name not in (RESULT, TRIAL)]
    result = files.read_object(run_dir / RESULT)
    directory.write_result(copy, result | {"files": files.identify(copy, lasting)})


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _limited(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        if member.size > LARGEST or tar.offset > MOST:
            raise tarfile.TarError(f"{member.name} is larger than anything that a trial leaves")
        yield member


def _run_of(member: tarfile.TarInfo) -> list[str]:
    return member.name.split("/")[:4]


def _import(
    tar: tarfile.TarFile,
    place: Path,
    members: Iterable[tarfile.TarInfo],
    base: Path,
    done: Import,
) -> str:
    """Unpack a run directory below `base`, and move it into the runs, unless a whole one is there.

    Returns how that one differs, as a sentence; empty where it does not. What lay in the place of
    a moved one is set aside. Raises PackError for what is not taken.
    """
    for member in members:
        if not _MEMBER.fullmatch(member.name) or not member.isreg():
            raise PackError(f"{member.name!r}: is no file of a run directory")
        tar.extract(member, base, filter="data")
    experiment = Path(*place.parts[:2])
    trial = check(base / experiment, place.relative_to(experiment))
    unpacked, run_dir = base / place, paths.runs() / place
    with directory.held(run_dir, time.monotonic() + PATIENCE) as is_held:
        if not is_held:
            raise PackError("it is in training here")
        done.data.append(trial.data)
        here = directory.result_of(trial, paths.runs() / experiment)
        if here is not None and not _short(trial, run_dir, Result.model_validate(here)):
            done.kept += 1
            return _differences(here["metrics"], files.read_object(unpacked / RESULT)["metrics"])
        if any(path.name != LOCK for path in run_dir.iterdir()):
            files.set_aside(run_dir)
            run_dir.mkdir()
        # The result comes last, because with it the trial is done.
        for path in sorted(unpacked.iterdir(), key=lambda path: path.name == RESULT):
            shutil.move(path, run_dir / path.name)
    done.taken += 1
    return ""


def _differences(here: dict[str, Any], there: dict[str, Any]) -> str:
    """What two results of a trial have measured differently, times left aside, as a sentence."""
    found = [
        f"{name} ({value}, not {there.get(name)})"
        for name, value in sorted(here.items())
        if "seconds" not in name and repr(value) != repr(there.get(name))
    ]
    return f"the result here stays, which has another {', '.join(found)}" if found else ""
