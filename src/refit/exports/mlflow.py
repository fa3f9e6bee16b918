"""Finished trials written into a local MLflow store, for people who compare trainings in its UI.

MLflow is optional and imported only when a store is opened. A store is a folder: a SQLite database,
and copies of the files that the trials kept. It is never a server's address, and MLflow's reports
of how it is used are switched off.
"""

import contextlib
import math
import os
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refit import files, paths
from refit.errors import DeclarationError, TrialError, UnavailableError
from refit.experiments import factories
from refit.experiments.trial import Trial
from refit.run_directory import directory
from refit.run_directory import log as run_log
from refit.run_directory.directory import PREDICTIONS, RESULT, TRIAL, result_of
from refit.study import Study

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER, DATABASE = "mlflow", "mlflow.db"
# What is copied of a run directory; checkpoints, locks and failures are of no use to others.
EVENTS = "events.out.tfevents.*"
ARTIFACTS = (RESULT, TRIAL, PREDICTIONS, "[!.]*.h5", "[!.]*.keras", EVENTS, f"*/{EVENTS}")
# Curves are named apart, because some have the name of a single number too.
CURVES = "epoch/"
# The SHA-256 of the result that a run was made from, by which a newer one is told.
RESULT_DIGEST = "result_sha256"
# The tags by which MLflow knows the children of a run, and we the run that is their parent.
PARENT, SETTING = "mlflow.parentRunId", "setting"
# The most runs that MLflow finds at once; an experiment has hundreds.
MOST_RUNS = 50_000


def store_folder(store: str) -> Path:
    """The folder that a user named as the store, or the default one beside the results.

    Raises DeclarationError for the address of a server or of a database, for what would not stand
    for itself in the address that MLflow is given, and for a file.
    """
    address = re.match(r"[a-z][a-z0-9+.-]+:|databricks(-uc)?$", store, re.IGNORECASE)
    if address or re.search("[?%]", store) or not store.isprintable():
        raise DeclarationError(
            f"store: {store!r} is not a folder on this machine, without '?', '%' and control "
            "characters in its name; nothing is sent to a server"
        )
    return paths.folder("store", store) if store else paths.runs() / FOLDER


def export(studies: Sequence[Study], folder: Path) -> Iterator[str]:
    """Write the finished trials of some studies into the store in `folder`; tells of each study.

    Every trial is a run, a child of one that stands for what its seeds have in common; the verdicts
    are tags of the experiment. One that is there, whole and made from the same result, is left
    alone; any other of that trial goes to MLflow's trash. Raises TrialError where nothing is
    finished, UnavailableError where MLflow is missing or cannot read the store, DeclarationError
    where the folder cannot be a store.
    """
    finished = [[trial for trial in each.trials if result_of(trial, each.runs)] for each in studies]
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
    with directory.held(folder):
        try:
            client = MlflowClient(tracking_uri=f"sqlite:///{folder / DATABASE}")
        except (MlflowException, SQLAlchemyError) as error:
            reason = re.split(r"\.\s|\n", str(error))[0]
            raise UnavailableError(
                f"{folder / DATABASE} cannot be opened by MLflow {__version__}: {reason}; "
                "name another store"
            ) from error
        yield client


def _export(client: "MlflowClient", folder: Path, study: Study, trials: Sequence[Trial]) -> int:
    """Write what is not there yet of a study; returns how many trials that were."""
    experiment = _experiment(client, folder, study)
    for claim in study.measured[2].itertuples():
        client.set_experiment_tag(experiment, f"verdict/{claim.id}", claim.verdict)
    runs = list(client.search_runs([experiment], max_results=MOST_RUNS))
    written = 0
    for trial in trials:
        content = files.digest(study.runs / trial.directory / RESULT)
        # By its name too, because some experiments train the same twice under two names.
        tags = {"trial": trial.name, "digest": trial.digest}
        found = [run for run in runs if tags.items() <= run.data.tags.items()]
        whole = [
            run
            for run in found
            if run.data.tags.get(RESULT_DIGEST) == content and run.info.status == "FINISHED"
        ]
        for run in found:
            if run not in whole[:1]:
                client.delete_run(run.info.run_id)
        if not whole:
            tags |= {RESULT_DIGEST: content, PARENT: _parent(client, experiment, runs, trial)}
            _write(client, experiment, study, trial, tags)
            written += 1
    return written


def _parent(client: "MlflowClient", experiment: str, runs: list[Any], trial: Trial) -> str:
    """The id of the run of a trial's settings, whose children are its seeds; made where missing."""
    setting = factories.group(trial)
    for run in runs:
        if run.data.tags.get(SETTING) == setting:
            return run.info.run_id
    tags = {SETTING: setting, "title": trial.title}
    runs.append(client.create_run(experiment, tags=tags, run_name=setting))
    client.set_terminated(runs[-1].info.run_id)
    return runs[-1].info.run_id


def _experiment(client: "MlflowClient", folder: Path, study: Study) -> str:
    """The id of a study's experiment, which is made where there is none."""
    name = f"refit/{study.name}/{study.profile_name}"
    # Deep enough that copied results are not taken for those of trainings.
    place = (folder / "artifacts" / study.name / study.profile_name).as_uri()
    there = client.get_experiment_by_name(name)
    if there is None:
        return client.create_experiment(name, artifact_location=place)
    if there.artifact_location != place:
        # MLflow would send the files wherever a database says.
        raise DeclarationError(
            f"store: {folder} was moved, or made elsewhere: artifacts of {name} belong to "
            f"{there.artifact_location}; name another folder"
        )
    if there.lifecycle_stage == "deleted":
        client.restore_experiment(there.experiment_id)
    return there.experiment_id


def _write(
    client: "MlflowClient", experiment: str, study: Study, trial: Trial, tags: dict[str, str]
) -> None:
    """Write a run; it counts as finished only when all of it is there."""
    from mlflow.entities import Metric, Param

    result = result_of(trial, study.runs) or {}
    metrics, directory = result["metrics"], study.runs / trial.directory
    start = round(datetime.fromisoformat(result["started"]).timestamp() * 1000)
    end = start + round(1000 * metrics.get("total_seconds", metrics["seconds"]))
    tags |= _tags(study, trial, result)
    run = client.create_run(experiment, start, tags, run_name=directory.name).info.run_id
    values = [(name, value, end, metrics["epochs"]) for name, value in metrics.items()]
    values += _curves(trial, study.runs, metrics["epochs"], start)
    # MLflow's database would turn infinity into the largest number there is.
    kept = [Metric(*value) for value in values if _is_number(value[1])]
    settings = [Param(name, str(value)) for name, value in trial.hyper_parameters().items()]
    client.log_batch(run, metrics=kept, params=settings)
    for path in sorted({path for pattern in ARTIFACTS for path in directory.glob(pattern)}):
        group = path.parent.relative_to(directory)
        client.log_artifact(run, str(path), str(group) if group.name else None)
    client.set_terminated(run, "FINISHED", end_time=end)


def _curves(trial: Trial, runs: Path, epochs: int, start: int) -> Iterator[tuple[Any, ...]]:
    """Name, value, time in ms when its epoch had ended, and epoch, of all trained epochs."""
    curves = run_log.read([trial], runs).curves
    curves = curves[curves["epoch"] <= epochs]
    times = start + 1000 * curves["seconds_per_epoch"].fillna(0).cumsum()
    for name in curves.columns.difference(["sweep", "trial", "seed", "epoch"], sort=False):
        for epoch, time, value in zip(curves["epoch"], times, curves[name], strict=True):
            yield f"{CURVES}{name}", value, round(time), epoch


def _tags(study: Study, trial: Trial, result: dict[str, Any]) -> dict[str, str]:
    """What the run was, where its data came from, and the circumstances; without what is empty."""
    labels = trial.model_dump(include={"sweep", "title", "seed", "altered"})
    metrics, data = result["metrics"], result["data"]
    facts = result["environment"] | labels
    facts |= {"data": data["source"], "stand_in": data["stand_in"], "profile": study.profile_name}
    facts["published"] = study.declaration.sweeps[trial.sweep].published
    facts["diverged"] = metrics["diverged"]
    floats = {key: value for key, value in metrics.items() if isinstance(value, float)}
    facts["not_finite"] = [name for name, value in floats.items() if not math.isfinite(value)]
    texts = {
        name: ", ".join(value) if isinstance(value, list) else str(value)
        for name, value in facts.items()
        if value is not None
    }
    return {name: text for name, text in texts.items() if text}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
