"""Several experiments by one command: trained in one process, their notebooks run side by side."""

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import click
import pebble

from refit import files, paths
from refit.errors import DataError, RefitError, ReportError, TrialError
from refit.experiments import expand
from refit.experiments.declaration import FULL
from refit.pages import freshness
from refit.run_directory import failures
from refit.run_directory.directory import PAGE, result_of
from refit.running import machine, runner
from refit.running.progress import bar
from refit.study import Study


def open_studies(
    experiments: tuple[str, ...], leave_out: bool = False, **which: Any
) -> list[Study]:
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


def tell_other_data(study: Study, decode: bool = False) -> None:
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


def make_pages(
    experiments: tuple[str, ...], which: dict[str, Any], train: bool, **how: Any
) -> None:
    """Make pages of the experiments; `how` has parameters of notebooks beside `which`."""
    studies = open_studies(experiments, train=train, **which)
    for study in studies:
        if not (notebook := paths.NOTEBOOKS / f"{study.name}.ipynb").is_file():
            raise ReportError(
                f"{notebook} is missing, by which {study.name} is run; see: refit new"
            )
    for variable, folder in (("REFIT_RUNS", paths.runs()), ("REFIT_REPORTS", paths.reports())):
        files.check_writable(variable, folder)
    if not train:
        studies = _with_results(studies, experiments)
    from refit.pages import index  # brings what the other commands need not wait for

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
                click.echo(f"  {study.page} (unchanged: nothing to train, made from the same)")
            else:
                changed.append((study, parameters))
            if unchanged or not train:  # else the training looks for them, and tells
                tell_other_data(study, decode=unchanged)
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
    processes = {
        "max_workers": min(len(changed), machine.usable_cores()),
        "context": multiprocessing.get_context("spawn"),
        # Ctrl-C reaches all of a terminal's processes, and one of them tells of it.
        "initializer": signal.signal,
        "initargs": (signal.SIGINT, signal.SIG_IGN),
    }
    with (
        bar(len(changed), form, leave=False) as shown,
        pebble.ProcessPool(**processes) as pool,
    ):
        jobs = {pool.schedule(_make_page, [*each, ordered]): each[0] for each in changed}
        try:
            while jobs:
                for job in wait(jobs, 0.5, FIRST_COMPLETED).done:
                    study = jobs.pop(job)
                    try:
                        failure, seconds = job.result()
                    except (RefitError, pebble.ProcessExpired) as error:
                        failure, seconds = f"{study.name}: {error}", 0
                    shown.update()
                    click.echo(f"  {study.page} ({seconds:.0f} s)")
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
    from refit.pages import page

    started = time.monotonic()
    return page.make(study, parameters, titles), time.monotonic() - started
