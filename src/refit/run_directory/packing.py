"""Results carried to another machine: one file in place of thousands, written here.

A pack is a zip archive of a manifest, a line of JSON per trial, one table of all curves, and plain
arrays and weights. `refit.run_directory.unpacking` reads it, and trusts nothing in it.
"""

import csv
import hashlib
import io
import json
import os
import re
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, NonNegativeInt

from refit import files, paths
from refit.errors import DeclarationError, PackError
from refit.experiments import expand
from refit.experiments.declaration import ProfileName
from refit.experiments.metrics import Strict
from refit.experiments.trial import KeepBest, Trial
from refit.run_directory import directory, events
from refit.run_directory.directory import (
    BASE_WEIGHTS,
    BEST_WEIGHTS,
    CHECKPOINT,
    EVENT_FOLDERS,
    FINAL_WEIGHTS,
    PREDICTIONS,
    RESULT,
    TRIAL,
)
from refit.running import runner
from refit.training import checkpoint

# Raise it when a pack comes to hold something else, or the same in another way.
FORMAT = 1
# Members: what the others are; a row per trial, by whose number the others name it; its curves.
MANIFEST = "manifest.json"
RESULTS = "results.jsonl"
CURVES = "curves.csv"
# The last two as Python prints them, which is exact.
COLUMNS = ["number", "digest", "folder", "tag", "step", "wall_time", "value"]
# Event folders of a run directory; the first is the directory itself.
FOLDERS = ("", *EVENT_FOLDERS)
# Weights that other trials start from; without them these could not be trained elsewhere.
STARTING_WEIGHTS = (BASE_WEIGHTS, FINAL_WEIGHTS)
# In seconds, for all locks: an import holds one for a moment, a training for as long as it takes.
PATIENCE = 10.0
CHUNK = 2**20
# A date that says nothing, so that equal results make equal packs but for the manifest.
_DATE = (1980, 1, 1, 0, 0, 0)


class Member(Strict):
    """Size in bytes, unpacked, and SHA-256 of one member."""

    size: NonNegativeInt
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Manifest(Strict):
    """What a pack holds, and which refit wrote it; `events` counts the rows of the curves."""

    format: Literal[1]
    refit: str
    created: str
    finished: NonNegativeInt
    unfinished: NonNegativeInt
    events: NonNegativeInt
    members: dict[str, Member]


class Row(Strict):
    """One trial: where it belongs, its settings, and its result, or its epochs so far."""

    profile: ProfileName
    experiment: str
    directory: str
    trial: Trial
    result: dict[str, Any] | None
    epochs: NonNegativeInt


@dataclass(frozen=True)
class Found:
    """A trial in a folder of runs; `result` is None where it is not done."""

    experiment: str
    folder: Path
    trial: Trial
    result: dict[str, Any] | None

    @property
    def run_dir(self) -> Path:
        return self.folder / self.trial.directory


def pack(
    path: Path,
    experiments: Sequence[str],
    profile: str,
    weights: bool = False,
    unfinished: bool = False,
) -> list[str]:
    """Write all finished trials of some experiments (all where none is named) into one file.

    `weights` adds the weights that trials keep; `unfinished` the checkpoints of trials that are
    not done, and the weights that others start from, so that all can be gone on with elsewhere.
    The file appears whole. Returns sentences that say what it holds and what was left out. Raises
    PackError where there is nothing to pack, DeclarationError for unknown names.
    """
    found = [each for name in _known(experiments, profile) for each in _trials(name, profile)]
    left_out = []
    files.allow_open_files()
    with ExitStack() as locks:
        chosen = [each for each in found if each.result is not None]
        until = time.monotonic() + PATIENCE
        for each in found if unfinished else ():
            if each.result is not None or not checkpoint.saved_epochs(each.run_dir / CHECKPOINT):
                continue
            if not locks.enter_context(directory.held(each.run_dir, until)):
                left_out.append(f"{each.trial.directory}: left out, because it is in training")
                continue
            # It may have ended while its lock was waited for.
            now = replace(each, result=directory.result_of(each.trial, each.folder))
            if now.result is not None or checkpoint.saved_epochs(now.run_dir / CHECKPOINT):
                chosen.append(now)
        if not chosen:
            raise PackError(
                f"nothing to pack: no trial of profile {profile} is done in {paths.runs()}"
            )
        manifest = _write(path, chosen, profile, weights, unfinished)
    size = path.stat().st_size / 1e6
    also = f" and {manifest.unfinished} unfinished" if manifest.unfinished else ""
    return [*left_out, f"{path}: {manifest.finished} finished{also} trials, {size:.2f} MB"]


def keeps(trial: Trial, name: str) -> bool:
    """Whether a trial leaves weights in a file of that name."""
    specs = [spec.file for spec in trial.callbacks if isinstance(spec, KeepBest) and spec.file]
    patterns = [re.sub(r"\{[^}]*\}", "*", file) for file in specs]
    return any(fnmatchcase(name, each) for each in (BEST_WEIGHTS, *STARTING_WEIGHTS, *patterns))


def _known(experiments: Sequence[str], profile: str) -> list[str]:
    """The experiments to look at. Raises DeclarationError for what is none."""
    known = expand.names()
    for name in experiments:
        if name not in known:
            raise DeclarationError(f"no experiment {name!r}; known: {', '.join(known)}")
    if profile not in get_args(ProfileName):
        raise DeclarationError(f"no profile {profile!r}; known: {', '.join(get_args(ProfileName))}")
    return list(dict.fromkeys(experiments)) or known


def _trials(name: str, profile: str) -> Iterator[Found]:
    """All trials in an experiment's folder, those of searches and repetitions included."""
    folder = paths.runs() / profile / name
    for run_dir in sorted(folder.glob("*/*-seed*-*")):
        stored = files.read_object(run_dir / RESULT).get("trial")
        try:
            trial = Trial.model_validate(stored or files.read_object(run_dir / TRIAL))
        except ValueError:
            continue  # of a version whose settings were others
        if run_dir == folder / trial.directory:
            yield Found(name, folder, trial, directory.result_of(trial, folder))


def _write(
    path: Path, chosen: Sequence[Found], profile: str, weights: bool, unfinished: bool
) -> Manifest:
    path.parent.mkdir(parents=True, exist_ok=True)
    name = f".{path.name}."
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=name, delete=False) as file:
        temporary = Path(file.name)
        try:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                manifest = _fill(_Archive(archive), chosen, profile, weights, unfinished)
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)
            files.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return manifest


class _Archive:
    """Writes members, and keeps what the manifest says of them."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.members: dict[str, Member] = {}

    def add(self, name: str, parts: Iterable[bytes], compress: bool = True) -> None:
        info = zipfile.ZipInfo(name, _DATE)
        info.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
        digest, size = hashlib.sha256(), 0
        with self.archive.open(info, "w", force_zip64=True) as member:
            for part in parts:
                member.write(part)
                digest.update(part)
                size += len(part)
        self.members[name] = Member(size=size, sha256=digest.hexdigest())

    def copy(self, name: str, path: Path) -> None:
        """Add a file of numbers, which hardly get smaller, as it is."""
        with path.open("rb") as file:
            self.add(name, iter(lambda: file.read(CHUNK), b""), compress=False)


def _fill(
    archive: _Archive, chosen: Sequence[Found], profile: str, weights: bool, unfinished: bool
) -> Manifest:
    archive.add(RESULTS, (_line(each, profile) for each in chosen))
    counted = _Counted(_curves(chosen))
    archive.add(CURVES, counted)
    for number, each in enumerate(chosen):
        done = each.result is not None
        if done and (each.run_dir / PREDICTIONS).exists():
            content = (each.run_dir / PREDICTIONS).read_bytes()
            archive.add(f"predictions/{number}.npy", [content])
        if not done:
            archive.copy(f"checkpoints/{number}.npz", each.run_dir / CHECKPOINT)
        for path in sorted(each.run_dir.glob("*.h5")):
            needed = weights or not done or (unfinished and path.name in STARTING_WEIGHTS)
            if needed and keeps(each.trial, path.name):
                archive.copy(f"weights/{number}/{path.name}", path)
    manifest = Manifest(
        format=FORMAT,
        refit=runner.git_revision(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        finished=sum(each.result is not None for each in chosen),
        unfinished=sum(each.result is None for each in chosen),
        events=counted.rows,
        members=archive.members,
    )
    archive.add(MANIFEST, [manifest.model_dump_json(indent=1).encode()])
    return manifest


def _line(each: Found, profile: str) -> bytes:
    epochs = 0 if each.result else checkpoint.saved_epochs(each.run_dir / CHECKPOINT)
    row = {
        "profile": profile,
        "experiment": each.experiment,
        "directory": each.trial.directory.as_posix(),
        "trial": each.trial.model_dump(mode="json"),
        "result": each.result,
        "epochs": epochs,
    }
    return json.dumps(row).encode() + b"\n"


class _Counted:
    """The lines of a table as bytes, which count themselves while they are written."""

    def __init__(self, rows: Iterator[list[Any]]) -> None:
        self._rows = rows
        self.rows = 0

    def __iter__(self) -> Iterator[bytes]:
        yield (",".join(COLUMNS) + "\n").encode()
        for row in self._rows:
            self.rows += 1
            line = io.StringIO()
            csv.writer(line, lineterminator="\n").writerow(row)
            yield line.getvalue().encode()


def _curves(chosen: Sequence[Found]) -> Iterator[list[Any]]:
    for number, each in enumerate(chosen):
        for folder in FOLDERS:
            timed = events.read_timed(each.run_dir / folder)
            for (tag, step), (moment, value) in timed.items():
                row = [number, each.trial.digest, folder, tag, step]
                yield [*row, repr(moment), repr(value)]
