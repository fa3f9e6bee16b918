"""Results from another machine added to the folder of runs, as if they had been trained here.

Event files are written anew from the curves, so tables and TensorBoard read the same as there; the
result comes last, by rename, and says that it was imported and on which machine it was trained.
"""

import contextlib
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from refit import files, paths
from refit.run_directory import directory, events, packing, unpacking
from refit.run_directory.directory import (
    BATCHES,
    CHECKPOINT,
    EVENT_FOLDERS,
    PREDICTIONS,
    PROGRESS,
    RESULT,
    TRIAL,
)
from refit.run_directory.unpacking import Curve, Pack
from refit.training import checkpoint

# What becomes of a trial.
DONE = "imported"
BEGUN = "to be gone on with"
KEPT = "here already"
BUSY = "left out, because it is in training here"


def merge(packs: Sequence[Path]) -> list[str]:
    """Add the trials of some packs to the folder of runs; returns sentences about what was done.

    A trial that has a whole result here is kept, and one that is unfinished in both places is
    taken from where it is further. Can be repeated, and run twice at once. Raises PackError, before
    anything is written, where one of the packs is not whole or not one.
    """
    with ExitStack() as opened:
        checked = [opened.enter_context(unpacking.read(path)) for path in packs]
        files.check_writable("REFIT_RUNS", paths.runs())
        return [line for pack in checked for line in _merge(pack)]


def _merge(pack: Pack) -> Iterator[str]:
    """Store what a pack has more than the folder of runs; tells of each trial that was not."""
    counts = dict.fromkeys((DONE, BEGUN, KEPT, BUSY), 0)
    curves = unpacking.curves(pack)
    following = next(curves, None)
    until = time.monotonic() + packing.PATIENCE
    for number, row in enumerate(pack.rows):
        curve: Curve = []
        if following and following[0] == number:
            curve, following = following[1], next(curves, None)
        folder = paths.runs() / row.profile / row.experiment
        outcome = _store(pack, number, folder, curve, until)
        counts[outcome] += 1
        if outcome == BUSY:
            yield f"{row.directory}: {BUSY}"
        here = directory.result_of(row.trial, folder) if outcome == KEPT and row.result else None
        if here and (told := _difference(here["metrics"], row.result["metrics"])):
            yield f"{row.directory}: kept as it is here; {told}"
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    yield f"{pack.path}: {told}"
    if lacking := sum(_lacks_weights(pack, number) for number in range(len(pack.rows))):
        yield (
            f"{pack.path}: {lacking} without the weights that other trials start from; to train "
            "those here, pack with --unfinished"
        )


def _store(pack: Pack, number: int, folder: Path, curve: Curve, until: float) -> str:
    """Store one trial, unless it is here, and say which of the outcomes it was.

    The lock of one that is in training is waited for `until` then, in monotonic seconds.
    """
    row = pack.rows[number]
    if directory.result_of(row.trial, folder) is not None:
        return KEPT
    run_dir = folder / row.trial.directory
    with directory.held(run_dir, until) as free:
        if not free:
            return BUSY
        if directory.result_of(row.trial, folder) is not None:
            return KEPT
        if row.result is not None:
            _store_result(pack, number, run_dir, curve)
            return DONE
        if checkpoint.saved_epochs(run_dir / CHECKPOINT) >= row.epochs:
            return KEPT
        _store_unfinished(pack, number, run_dir, curve)
        return BEGUN


def _lacks_weights(pack: Pack, number: int) -> bool:
    trial = pack.rows[number].trial
    kept = any(name.startswith("weights/") for name in pack.files.get(number, []))
    return (
        pack.rows[number].result is not None and not kept and trial.keep_base | trial.keep_weights
    )


def _difference(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """In which metrics two results of a trial differ, but for times; empty where in none."""
    found = [
        f"{name} is {here.get(name)!r} here and {there.get(name)!r} in the pack"
        for name in sorted({*here, *there})
        if "seconds" not in name and not _same(here.get(name), there.get(name))
    ]
    more = f", and {len(found) - 1} more differ" if len(found) > 1 else ""
    return found[0] + more if found else ""


def _same(one: Any, other: Any) -> bool:
    return one == other or (one != one and other != other)


def _store_unfinished(pack: Pack, number: int, run_dir: Path, curve: Curve) -> None:
    """Store a checkpoint, from which the curves of its epochs are written when it is gone on with.

    Only the batches stand in event files alone; without them all it begins anew.
    """
    files.write_json(run_dir / TRIAL, pack.rows[number].trial.model_dump(mode="json"))
    _set_events_aside(run_dir)
    _store_files(pack, number, run_dir)
    _write_events(run_dir, [point for point in curve if point[0] == BATCHES])


def _store_result(pack: Pack, number: int, run_dir: Path, curve: Curve) -> None:
    """Store a trial as its training would have, the result last."""
    row = pack.rows[number]
    plain = row.trial.model_dump(mode="json")
    files.write_json(run_dir / TRIAL, plain)
    _set_events_aside(run_dir)
    lasting = _write_events(run_dir, [point for point in curve if point[0]])
    log = events.EventWriter(run_dir)
    log.summary(events.hparams_session(row.trial.hyper_parameters(), row.directory))
    _write_points(log, [point for point in curve if not point[0]])
    log.summary(events.hparams_session_end(success=True))
    log.close()
    lasting += _store_files(pack, number, run_dir)
    origin = {
        "written_by": pack.manifest.refit,
        "packed": pack.manifest.created,
        "imported": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    result = dict(row.result or {}) | {"trial": plain, "imported": origin}
    result["files"] = files.identify(run_dir, lasting)
    files.write_json(run_dir / RESULT, result)
    for passing in (PROGRESS, CHECKPOINT):
        with contextlib.suppress(OSError):  # the trial is done, whatever becomes of these
            (run_dir / passing).unlink()


def _set_events_aside(run_dir: Path) -> None:
    for folder in EVENT_FOLDERS:
        if (run_dir / folder).exists():
            files.set_aside(run_dir / folder)


def _write_events(run_dir: Path, curve: Curve) -> list[Path]:
    """Write the event files of a run directory."""
    written = []
    for folder in EVENT_FOLDERS:
        if points := [point for point in curve if point[0] == folder]:
            writer = events.EventWriter(run_dir / folder)
            _write_points(writer, points)
            writer.close()
            written += events.event_files(run_dir / folder)
    return written


def _write_points(writer: events.EventWriter, points: Curve) -> None:
    for (step, moment), group in itertools.groupby(points, key=lambda point: point[2:4]):
        writer.scalars({tag: value for _, tag, _, _, value in group}, step, moment)


def _store_files(pack: Pack, number: int, run_dir: Path) -> list[Path]:
    """Store predictions, weights and, at last, the checkpoint; returns their paths."""
    stored = []
    for name in reversed(pack.files.get(number, [])):
        kind, _, rest = name.partition("/")
        own = {"predictions": PREDICTIONS, "checkpoints": CHECKPOINT}
        path = run_dir / own.get(kind, rest.partition("/")[2])
        files.write_bytes(path, pack.archive.read(name))
        stored.append(path)
    return stored
