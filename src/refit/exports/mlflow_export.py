"""Finished trials written into a local MLflow store, for people who compare trainings in its UI.

MLflow is optional and imported only when a store is opened. A store is a folder: a SQLite database,
because MLflow has given up its older kind made of plain files, and copies of the files that the
trials kept. Everything stays on this machine: a store is never a server's address, and MLflow's
reports of how it is used are switched off.
"""

import contextlib
import fcntl
import math
import os
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refit import files, paths
from refit.errors import DeclarationError, TrialError, UnavailableError
from refit.experiments.trial import Trial
from refit.run_directory import log as run_log
from refit.run_directory.directory import PREDICTIONS, RESULT, result_of
from refit.study import Study

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

FOLDER = "mlflow"
DATABASE = "mlflow.db"
# What a run directory is copied from; checkpoints, locks and failures are of no use to others.
ARTIFACTS = (
    RESULT, "trial.json", PREDICTIONS, "*.h5", "*.keras",
    "events.out.tfevents.*", "*/events.out.tfevents.*",
)  # fmt: skip
# What curves are called begins with this: some of their names are also those of a single number,
# such as the median over the epochs.
CURVES = "epoch/"
# Tags by which a run is found again: the trial's digest, and its name, because some experiments
# train the same twice under two names; then the content of its result.
IDENTITY = ("digest", "trial")
RESULT_DIGEST = "result_sha256"

# The most runs that MLflow finds at once; an experiment has hundreds.
_MOST_RUNS = 50_000

Finished = list[tuple[Trial, dict[str, Any]]]


def store_folder(store: str) -> Path:
    """The folder that a user named as the store, or the default one beside the results.

    Raises DeclarationError for the address of a server or of a database, and for a file.
    """
    if re.match(r"[a-z][a-z0-9+.-]+:|databricks(-uc)?$", store, re.IGNORECASE):
        raise DeclarationError(
            f"store: {store!r} is not a folder on this machine; nothing is sent to a server"
        )
    if re.search("[?%]", store) or not store.isprintable():
        # MLflow is given an address, in which these do not stand for themselves.
        raise DeclarationError(f"store: {store!r}: use a name without '?', '%', control characters")
    return paths.folder("store", store) if store else paths.runs() / FOLDER


def export(studies: Sequence[Study], folder: Path) -> Iterator[str]:
    """Write the finished trials of some studies into the store in `folder`; tells of each study.

    Every trial is a run. One that is there, whole and made from the same result, is left alone; any
    other run of that trial, half-written or made from an older result, goes to MLflow's trash.
    Raises TrialError where nothing is finished, UnavailableError where MLflow is missing or cannot
    read the store, DeclarationError where the folder cannot be a store.
    """
    finished = [_finished(study) for study in studies]
    if not any(finished):
        names, profile = " ".join(study.name for study in studies), studies[0].profile_name
        raise TrialError(
            f"no trial of {names} in profile {profile} is done yet; "
            f"run: refit reproduce {names} --profile {profile}"
        )
    with _opened(folder) as client:
        for study, trials in zip(studies, finished, strict=True):
            written = _export(client, folder, study, trials) if trials else 0
            missing = len(study.trials) - len(trials)
            yield (
                f"{study.name} ({study.profile_name}): {len(study.trials)} trials, "
                f"{written} written, {len(trials) - written} there already"
                + (f", {missing} not done" if missing else "")
            )


def _finished(study: Study) -> Finished:
    found = [(trial, result_of(trial, study.runs)) for trial in study.trials]
    return [(trial, result) for trial, result in found if result is not None]


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator["MlflowClient"]:
    """The store, made where there is none, and locked: two exports at once would write twice."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    # It would tell of every table that it makes.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    try:
        import alembic  # noqa: F401 - MLflow needs it for a database, but does not install it
        from mlflow import MlflowClient, __version__
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise UnavailableError(
            f"mlflow cannot be used ({error}); `make extras` installs what it needs"
        ) from error
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((folder / "lock").open("w"))
        except OSError as error:
            raise DeclarationError(f"store: {folder} cannot be written: {error}") from error
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            client = MlflowClient(tracking_uri=f"sqlite:///{folder / DATABASE}")
        except (MlflowException, SQLAlchemyError) as error:
            reason = re.split(r"\.\s|\n", str(error))[0]
            raise UnavailableError(
                f"{folder / DATABASE} cannot be opened by MLflow {__version__}: {reason}; "
                "name another store"
            ) from error
        yield client


def _export(client: "MlflowClient", folder: Path, study: Study, trials: Finished) -> int:
    """Write what is not there yet; returns how many runs that were."""
    experiment = _experiment(client, folder, study)
    runs: dict[tuple[str | None, ...], list[Run]] = {}
    for run in client.search_runs([experiment], max_results=_MOST_RUNS):
        identity = tuple(run.data.tags.get(name) for name in IDENTITY)
        runs.setdefault(identity, []).append(run)
    written = 0
    for trial, result in trials:
        content = files.digest(study.runs / trial.directory / RESULT)
        there = runs.get((trial.digest, trial.name), [])
        whole = [run for run in there if _is_whole(run, content)][:1]
        for run in there:
            if run not in whole:
                client.delete_run(run.info.run_id)
        if not whole:
            _write(client, experiment, study, trial, result, content)
            written += 1
    return written


def _is_whole(run: "Run", content: str) -> bool:
    return run.info.status == "FINISHED" and run.data.tags.get(RESULT_DIGEST) == content


def _experiment(client: "MlflowClient", folder: Path, study: Study) -> str:
    """The id of the study's experiment in MLflow, which is made where there is none.

    Its artifacts must lie in the store: MLflow would send them wherever a database says.
    """
    name = f"refit/{study.name}/{study.profile_name}"
    # Deep enough that copied results are not taken for those of trainings.
    place = (folder / "artifacts" / study.name / study.profile_name).as_uri()
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return client.create_experiment(name, artifact_location=place)
    if experiment.artifact_location != place:
        raise DeclarationError(
            f"store: {folder} was moved, or made elsewhere: artifacts of {name} belong to "
            f"{experiment.artifact_location}; name another folder"
        )
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


def _write(
    client: "MlflowClient",
    experiment: str,
    study: Study,
    trial: Trial,
    result: dict[str, Any],
    content: str,
) -> None:
    """Write a run; it counts as finished only when all of it is there."""
    from mlflow.entities import Param

    started = round(datetime.fromisoformat(result["started"]).timestamp() * 1000)
    metrics = result["metrics"]
    # Older results know no searches, and what was trained together has no time but its share.
    took = metrics.get("total_seconds", metrics["seconds"])
    ended = started + round(1000 * took)
    tags = _tags(study, trial, result) | {RESULT_DIGEST: content}
    created = client.create_run(
        experiment, start_time=started, tags=tags, run_name=trial.directory.name
    )
    run = created.info.run_id
    parameters = [Param(name, str(value)) for name, value in trial.hyper_parameters().items()]
    values = [*_numbers(metrics, ended), *_curves(study, trial, metrics["epochs"], started)]
    client.log_batch(run, metrics=values, params=parameters)
    directory = study.runs / trial.directory
    for path in _artifacts(directory):
        group = path.parent.relative_to(directory)
        client.log_artifact(run, str(path), str(group) if group.name else None)
    client.set_terminated(run, "FINISHED", end_time=ended)


def _tags(study: Study, trial: Trial, result: dict[str, Any]) -> dict[str, str]:
    """What the run was, where its data came from, and the circumstances; without what is empty."""
    data, metrics = result["data"], result["metrics"]
    facts = result["environment"] | {
        "digest": trial.digest,
        "sweep": trial.sweep,
        "trial": trial.name,
        "title": trial.title,
        "seed": trial.seed,
        "profile": study.profile_name,
        "published": study.declaration.sweeps[trial.sweep].published,
        "altered": trial.altered or result.get("smaller_batches", False),
        "note": result.get("batch_note", ""),
        "data": data["source"],
        "stand_in": data["stand_in"],
        "diverged": metrics["diverged"],
        "not_finite": [name for name, value in metrics.items() if not _is_finite(value)],
    }
    texts = {name: _text(value) for name, value in facts.items()}
    return {name: text for name, text in texts.items() if text}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _numbers(metrics: dict[str, Any], ended: int) -> Iterator["Metric"]:
    """The metrics of a result, without those that are not finite, which the run's tags name.

    MLflow's database would turn infinity into the largest number there is.
    """
    from mlflow.entities import Metric

    for name, value in metrics.items():
        if _is_finite(value) and not isinstance(value, bool):
            yield Metric(name, value, ended, metrics["epochs"])


def _curves(study: Study, trial: Trial, epochs: int, started: int) -> Iterator["Metric"]:
    """The curves, epochs counted from 1, each at the time when its epoch had ended.

    Only trained epochs: a log draws the curve of a diverged training on to the last planned one.
    """
    from mlflow.entities import Metric

    curves = run_log.read([trial], study.runs).curves
    curves = curves[curves["epoch"] <= epochs]
    times = started + 1000 * curves["seconds_per_epoch"].fillna(0).cumsum()
    for name in curves.columns.difference(["sweep", "trial", "seed", "epoch"], sort=False):
        for epoch, time, value in zip(curves["epoch"], times, curves[name], strict=True):
            if math.isfinite(value):
                yield Metric(f"{CURVES}{name}", value, round(time), epoch)


def _artifacts(directory: Path) -> list[Path]:
    """The files to copy; a name that begins with a dot is that of an unfinished one."""
    found = {path for pattern in ARTIFACTS for path in directory.glob(pattern)}
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))
