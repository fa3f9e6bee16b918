"""The command line, by which make runs, plans, shows and verifies experiments."""

import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pebble

from refit import files, paths
from refit.commands import COMMANDS, data_dir_option, export_json, profile_option
from refit.errors import DataError, DeclarationError, RefitError, ReportError, TrialError
from refit.experiments import expand
from refit.experiments.declaration import FULL
from refit.experiments.trial import EXECUTORS, LOCAL
from refit.pages import freshness
from refit.run_directory import archive, failures
from refit.run_directory.directory import PAGE, result_of
from refit.running import machine, order, runner
from refit.running.progress import bar
from refit.study import Study

INTERRUPTED = "interrupted; what is finished stays, and the same command goes on from there"


class _Group(click.Group):
    """Prints the sentence of an error that the user can mend, not its traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            with failures.told():
                return super().invoke(context)
        except RefitError as error:
            click.secho(f"refit: {error}", fg="red", err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            # The tasks that a notebook's run leaves behind would tell of it with a traceback.
            logging.getLogger("asyncio").disabled = True
            click.secho(f"refit: {INTERRUPTED}", fg="red", err=True)
            sys.exit(128 + signal.SIGINT)


def _shared_options(command: Any) -> Any:
    seeds = "replicates of every trial, to try things [default: as declared]"
    command = click.option("--seeds", default=0, help=seeds)(data_dir_option(command))
    command = profile_option("smoke")(command)
    return click.argument("experiments", nargs=-1)(command)


_workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="trainings at once [default: one per core of the job, or what a Ray cluster has room for]",
)


@click.group(cls=_Group)
@click.version_option(package_name="refit")
def main() -> None:
    """Re-run published reports of convolutional-network experiments and see what still holds."""
    paths.provide_home()


for each in COMMANDS:
    main.add_command(each)


@main.command()
@_shared_options
@_workers_option
@click.option(
    "--executor",
    type=click.Choice(EXECUTORS),
    default=LOCAL,
    show_default=True,
    help="where trials are trained: on this machine, or on the nodes of a Ray cluster",
)
def reproduce(
    experiments: tuple[str, ...], workers: int | None, executor: str, **which: Any
) -> None:
    """Train what is missing and make the pages of EXPERIMENTS (all, if none is named)."""
    runner.check_workers(workers, executor)
    _make_pages(experiments, which, workers=workers or 0, train=True, executor=executor)


@main.command()
@_shared_options
def report(experiments: tuple[str, ...], **which: Any) -> None:
    """Make the pages of EXPERIMENTS from the results at hand, without training."""
    _make_pages(experiments, which, train=False)


@main.command()
@_shared_options
def status(experiments: tuple[str, ...], **which: Any) -> None:
    """Show which trials of EXPERIMENTS are done, failed or missing."""
    for study in _open(experiments, train=False, **which):
        results = study.log().results
        # What an optional sweep lacks, such as a download, is no failure of the experiment.
        sweeps = study.declaration.sweeps
        optional = results["sweep"].isin([name for name in sweeps if sweeps[name].optional])
        status = results["status"].mask(optional & (results["status"] == "failed"), "not run")
        counts = {"done": 0, "failed": 0, "missing": 0} | status.value_counts().to_dict()
        told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        click.echo(f"{study.name} ({study.profile_name}): {told}")
        for row in results[status.isin(["failed", "not run"])].itertuples():
            click.echo(f"  {row.trial} (seed {row.seed}): {row.reason}")
        _tell_other_data(study)


@main.command()
@_shared_options
@_workers_option
@click.option("--calibrate", is_flag=True, help="run the smoke profile first, to have times")
def plan(experiments: tuple[str, ...], workers: int | None, calibrate: bool, **which: Any) -> None:
    """Show what running EXPERIMENTS would train and how long it would take."""
    workers = runner.check_workers(workers)
    profile, seeds = which["profile"], which["seeds"]
    for study in _open(experiments, leave_out=True, **which):
        if calibrate:
            first = which | {"profile": "smoke", "seeds": 1}
            Study.open(study.name, **first).train(workers)
        table = order.plan(study.trials, study.runs, workers)
        click.echo(f"{study.name}, profile {profile}, seeds: {seeds or 'as declared'}")
        click.echo(table.to_string(index=False, float_format="%.2f", na_rep="unknown"))
        todo, hours = int(table["to train"].sum()), table["hours"].sum(skipna=False)
        if todo and hours != hours:
            click.echo(f"{todo} to train; time unknown: nothing like it has been trained yet, or")
            click.echo("its data set has not been read yet")
            click.echo(f"for an estimate: refit plan {study.name} --profile {profile} --calibrate")
        else:
            click.echo(f"{todo} to train, about {hours:.2f} hours if nothing else runs")


@main.command()
@click.argument("sweeps", nargs=-1, metavar="[EXPERIMENT[/SWEEP]]...")
@profile_option("full")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=paths.PACKS)
def pack(sweeps: tuple[str, ...], profile: str, out: Path) -> None:
    """Write the finished trials of sweeps, all where none is named, into one file per sweep."""
    told = []
    for name in sweeps or expand.names():
        experiment, _, sweep = name.partition("/")
        declared = list(expand.load(experiment).sweeps)
        if sweep and sweep not in declared:
            known = ", ".join(declared)
            raise DeclarationError(f"{experiment} has no sweep {sweep!r}; known: {known}")
        for each in [sweep] if sweep else declared:
            told += archive.pack(profile, experiment, each, out)
    if not told:
        raise TrialError(f"no trial in profile {profile} is done yet, so there is nothing to pack")
    click.echo("\n".join(told))


@main.command("import")
@click.argument("packs", nargs=-1, required=True, type=click.Path(path_type=Path))
def import_packs(packs: tuple[Path, ...]) -> None:
    """Check the trials in PACKS and add those that are not here."""
    refused = 0
    for path in packs:
        done = archive.unpack(path)
        refused += done.refused
        for line in done.told:
            click.secho(line, fg="yellow", err=True)
        click.echo(f"{path}: {done.taken} trials taken, {done.kept} here already")
    if refused:
        raise click.ClickException(f"{refused} trials or files were refused")


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def verify(folder: Path) -> None:
    """Check that a FOLDER of pages is consistent: recompute numbers, verdicts and checksums.

    It finds edits that do not fit together, and cannot find what was invented as a whole.
    """
    from refit.pages import verify as verification

    problems = verification.verify(folder.resolve())
    for problem in problems:
        click.secho(problem, fg="red", err=True)
    if problems:
        raise click.ClickException(f"{folder}: {len(problems)} things do not agree")
    click.echo(f"{folder}: consistent. Results, verdicts, pages and pictures agree")


@main.group()
def export() -> None:
    """Write finished trials for other tools."""


@export.command("mlflow")
@_shared_options
@click.option("--store", default="", help="a local folder [default: mlflow, beside the results]")
def export_mlflow(experiments: tuple[str, ...], store: str, **which: Any) -> None:
    """Write finished trials of EXPERIMENTS, once each, into a local MLflow store."""
    from refit.exports import mlflow

    folder = mlflow.store_folder(store)
    for line in mlflow.export(_open(experiments, train=False, **which), folder):
        click.echo(line)


export.add_command(export_json)


@main.command()
def notebooks() -> None:
    """Run all notebooks on smoke data and keep the outputs that nbval compares."""
    from refit.pages import notebook

    for path in sorted(paths.NOTEBOOKS.glob("*.ipynb")):
        click.echo(path.name)
        notebook.refresh(path)


def _open(experiments: tuple[str, ...], leave_out: bool = False, **which: Any) -> list[Study]:
    """Open every experiment, as `Study.open` does: a mistake in one stops the command at once.

    Where none is named, or where asked to, those whose data are not at hand are left out aloud.
    """
    studies = []
    for name in dict.fromkeys(experiments or expand.names()):
        try:
            studies.append(Study.open(name, **which))
        except DataError as error:
            if experiments and not leave_out:
                raise
            click.secho(f"{name}: left out. {error}", fg="yellow", err=True)
    if not studies:
        raise DataError("no experiment is left; set DATA_DIR to a folder of data sets")
    return studies


def _tell_other_data(study: Study, decode: bool = False) -> None:
    """Say where the data are others now than those that finished trials were made from."""
    results = {trial: result_of(trial, study.runs) for trial in study.trials}
    for name, told in runner.other_data(results, study.data_dir, decode).items():
        click.secho(f"  {name}: {told}", fg="yellow", err=True)


def _with_results(studies: list[Study], named: tuple[str, ...]) -> list[Study]:
    """Those with finished trials, of `full` all, so that their pages say what was not trained.

    Raises TrialError where one that was named, or all, have none."""
    found = [study for study in studies if study.has_results]
    for study in (study for study in studies if study not in found):
        told = f"no trial of {study.name} in profile {study.profile_name} is done yet"
        if named or not found:
            command = f"refit reproduce {study.name} --profile {study.profile_name}"
            raise TrialError(f"{told}; run: {command}")
        fate = "its page says so" if study.profile_name == FULL else "left out"
        click.secho(f"{study.name}: {fate}. {told[0].upper()}{told[1:]}", fg="yellow", err=True)
    return studies if studies[0].profile_name == FULL else found


def _make_pages(
    experiments: tuple[str, ...], which: dict[str, Any], train: bool, **how: Any
) -> None:
    """Make pages of the experiments; `how` has parameters of notebooks beside `which`."""
    studies = _open(experiments, train=train, **which)
    for study in studies:
        if not (notebook := paths.NOTEBOOKS / f"{study.name}.ipynb").is_file():
            raise ReportError(
                f"{notebook} is missing, by which {study.name} is run; see: refit new"
            )
    for variable, folder in (("REFIT_RUNS", paths.runs()), ("REFIT_REPORTS", paths.reports())):
        files.check_writable(variable, folder)
    if not train:
        studies = _with_results(studies, experiments)
    # Imported here: papermill and nbconvert take seconds that the other commands need not pay.
    from refit.pages import index

    changed = []
    try:
        os.environ[failures.SINCE] = datetime.now(UTC).isoformat()
        for study in studies:
            click.echo(f"{study.name} ({study.profile_name}): {len(study.trials)} trials")
            # Folders travel in the environment: as parameters they would be printed on the page.
            os.environ["DATA_DIR"] = str(study.data_dir or "")
            named = {"seeds": which["seeds"], "profile": study.profile_name}
            parameters = how | {"train": train} | named
            unchanged = train and freshness.is_unchanged(study, parameters)
            if unchanged:
                click.echo(
                    f"  {study.pages}.html (unchanged: nothing to train, made from the same)"
                )
            else:
                changed.append((study, parameters))
            if unchanged or not train:  # else the training looks for them, and tells
                _tell_other_data(study, decode=unchanged)
            else:
                _train(study, how)
        failed = _run_notebooks(changed, studies) if changed else []
    finally:
        os.environ.pop(failures.SINCE, None)
    written = index.write(studies[0].pages.parent).resolve().as_uri()
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}; all pages: {written}")
    click.echo(f"All pages: {written}")


def _train(study: Study, how: dict[str, Any]) -> None:
    """Train what the notebook would: here one server that has loaded Keras serves all experiments.

    What fails is not tried again in the notebook, which tells of it.
    """
    with suppress(Exception):
        how = {"workers": how["workers"] or None, "executor": how["executor"]}
        study.train(**how)
        for name, sweep in study.declaration.sweeps.items():
            if sweep.retrain:
                study.retrain(name, **how)


def _run_notebooks(
    changed: Sequence[tuple[Study, dict[str, Any]]], studies: Sequence[Study]
) -> list[str]:
    """Make the pages, as many at once as there are cores; returns which failed."""
    folder = studies[0].pages.parent
    recorded = {path.parent.name: files.read_object(path) for path in folder.glob(f"*/{PAGE}")}
    titles = {name: str(entry.get("title", name)) for name, entry in recorded.items()}
    titles |= {study.name: study.declaration.title for study in studies}
    ordered, failed = dict(sorted(titles.items())), []
    form = "  making the pages: {n_fmt} of {total_fmt}, {elapsed}"
    context = multiprocessing.get_context("spawn")
    with (
        bar(len(changed), form, leave=False) as shown,
        pebble.ProcessPool(min(len(changed), machine.usable_cores()), context=context) as pool,
    ):
        jobs = {pool.schedule(_make_page, [*each, ordered]): each[0] for each in changed}
        try:
            while jobs:
                for job in wait(jobs, 0.5, FIRST_COMPLETED).done:
                    study = jobs.pop(job)
                    failure, seconds = job.result()
                    shown.update()
                    click.echo(f"  {study.pages}.html ({seconds:.0f} s)")
                    if failure:
                        failed.append(study.name)
                        click.secho(f"  {failure}", fg="red", err=True)
                shown.refresh()
        finally:
            pool.stop()
    return failed


def _make_page(
    study: Study, parameters: dict[str, Any], titles: dict[str, str]
) -> tuple[str, float]:
    from refit.pages import page  # papermill and nbconvert take seconds

    started = time.monotonic()
    return page.make(study, parameters, titles), time.monotonic() - started
