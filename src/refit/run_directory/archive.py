"""Packs: the trials of one sweep in one file, from which pages are made without training.

A pack is a tar file of run directories, without weights, checkpoints and failures, and of what
tuners have found in the sweep, which another processor need not find. Nothing in it is trusted:
names, kinds and sizes of its members are checked before anything is unpacked, and a result counts
only with everything that belongs to it.
"""

import io
import lzma
import re
import shutil
import tarfile
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ValidationError

from refit import files, paths
from refit.errors import PackError
from refit.experiments.trial import Trial
from refit.experiments.yaml_file import explain
from refit.run_directory import curve_metrics, directory
from refit.run_directory.directory import (
    BATCH_FILE,
    LOCK,
    PREDICTIONS,
    RESULT,
    SEARCH,
    TRIAL,
    Result,
    SearchRecord,
)
from refit.run_directory.events import read_scalars

# In an experiment's runs: which packs have been looked at.
STAMP = "packs.json"
# In bytes, unpacked: of one member, and of a whole pack.
LARGEST, MOST = 2**28, 2**33

_NAME = "[A-Za-z0-9][A-Za-z0-9_.=-]*"
_EVENTS = r"((train|validation)/)?events\.out\.tfevents\.[A-Za-z0-9_.-]+"
_KEPT = "|".join([*map(re.escape, (RESULT, TRIAL, PREDICTIONS, BATCH_FILE)), _EVENTS])
_MEMBER = re.compile(
    rf"(smoke|small|full)/{_NAME}/({_NAME}/{_NAME}/({_KEPT})|{SEARCH}/{_NAME}\.json)"
)
_DAMAGE = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError)


@dataclass
class Import:
    """What became of a pack: trials taken, trials that are here already, and sentences about all
    that was refused."""

    taken: int = 0
    kept: int = 0
    refused: int = 0
    told: list[str] = field(default_factory=list)

    def refuse(self, sentence: str) -> None:
        self.refused += 1
        self.told.append(sentence)


class _Stamp(BaseModel):
    """Size and time of the packs that have been looked at."""

    packs: dict[str, list[int]] = {}


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
                _add(tar, path, path.relative_to(base))
            packed += 1
        for path in sorted((paths.runs() / place / SEARCH).glob("*.json")):
            if path.stem.rsplit("-", 2)[0] == sweep:  # then come tuner and number
                _add(tar, path, path.relative_to(paths.runs()))
    if packed:
        path = folder / f"{profile}-{experiment}-{sweep}.tar.xz"
        files.write_bytes(path, content.getvalue())
        told.append(f"{path}: {packed} trials, {len(content.getvalue()) / 1e6:.2f} MB")
    return told


def _add(tar: tarfile.TarFile, path: Path, name: Path) -> None:
    """Add a file, nothing of it but its name and content, so that nothing else differs."""
    member = tarfile.TarInfo(name.as_posix())
    member.size = path.stat().st_size
    tar.addfile(member, io.BytesIO(path.read_bytes()))


def unpack(path: Path) -> Import:
    """Check a pack and move its trials into the runs, where they lack; one damaged member loses
    only its own trial, and what comes after damage of the file itself is lost."""
    done = Import()
    paths.runs().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.runs(), prefix=".unpacking.") as name:
        base = Path(name)
        try:
            with tarfile.open(path) as tar:
                for member in tar:
                    if member.size > LARGEST or tar.offset > MOST:
                        raise tarfile.TarError(f"{member.name} is larger than what a trial leaves")
                    if _MEMBER.fullmatch(member.name) and member.isreg():
                        tar.extract(member, base, filter="data")
                    else:
                        done.refuse(f"{path}: {member.name!r}: is no file of a run directory")
        except _DAMAGE as error:
            done.refuse(f"{path}: cannot be read on: {error}")
        for run_dir in sorted(base.glob("*/*/*/*")):
            place = run_dir.relative_to(base)
            try:
                if place.parts[2] == SEARCH:
                    _import_search(base, place)
                else:
                    _import(base, place, done)
            except PackError as error:
                done.refuse(f"{path}: {place}: not taken: {error}")
    return done


def take(profile: str, experiment: str) -> list[str]:
    """Import what the committed packs of an experiment hold, once for each pack.

    Returns sentences about what was taken or refused.
    """
    found = sorted(paths.PACKS.glob(f"{profile}-{experiment}-*.tar.?z"))
    stamps = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in found}
    place = paths.runs() / profile / experiment / STAMP
    seen, told = files.read_model(place, _Stamp) or _Stamp(), []
    new = [path for path in found if seen.packs.get(path.name) != stamps[path.name]]
    if new:
        with directory.held(place.parent):  # other notebooks may open the experiment at once
            for path in new:
                done = unpack(path)
                counts = f"{done.taken} trials taken, {done.kept} here already"
                told += [*done.told, f"{path.name}: {counts}"]
            files.write_json(place, _Stamp(packs=stamps).model_dump())
    return told


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
    epochs = result.metrics.epochs
    for group in ("train", "validation"):
        logged = read_scalars(run_dir / group).get("epoch_loss", {})
        if sorted(logged) != list(range(epochs)):
            raise PackError(f"{group}: has the curves of {len(logged)} of {epochs} epochs")
    return trial


def _read(run_dir: Path) -> Result:
    content = files.read_object(run_dir / RESULT)
    if cause := directory.flaw(content):
        raise PackError(f"{RESULT}: {cause}")
    return Result.model_validate(content)


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


def _import(base: Path, place: Path, done: Import) -> None:
    """Move a run directory, unpacked below `base`, into the runs, unless a whole one is there.

    What lay in its place is moved aside. Raises PackError for what is not taken.
    """
    experiment = Path(*place.parts[:2])
    trial = check(base / experiment, place.relative_to(experiment))
    run_dir = paths.runs() / place
    with directory.held(run_dir, wait=False) as is_held:
        if not is_held:
            raise PackError("it is in training here")
        if directory.result_of(trial, paths.runs() / experiment) is not None:
            done.kept += 1
            return
        if left := [path for path in run_dir.iterdir() if path.name != LOCK]:
            aside = tempfile.mkdtemp(prefix=f"{run_dir.name}.aside.", dir=run_dir.parent)
            for path in left:
                shutil.move(path, aside)
        # The result comes last, because with it the trial is done.
        for path in sorted((base / place).iterdir(), key=lambda path: path.name == RESULT):
            shutil.move(path, run_dir / path.name)
    done.taken += 1


def _import_search(base: Path, place: Path) -> None:
    """Move what a tuner has found, unpacked below `base`, into the runs, unless it is there.

    Raises PackError for what is no such record; whether it fits the curves shows when it is read.
    """
    if files.read_model(base / place, SearchRecord) is None:
        raise PackError("is no record of a search")
    if not (paths.runs() / place).exists():
        (paths.runs() / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(base / place, paths.runs() / place)
