"""The command line, by which make runs, plans, shows and verifies experiments."""

import signal
import sys
from pathlib import Path
from typing import Any

import click
import pandas as pd

from refit import paths
from refit.batch import make_pages, open_studies, tell_other_data
from refit.commands import COMMANDS, data_dir_option, export_json, profile_option
from refit.errors import DeclarationError, RefitError, TrialError
from refit.experiments import expand
from refit.experiments.declaration import FULL
from refit.experiments.trial import EXECUTORS, LOCAL
from refit.run_directory import archive, failures, result_rows
from refit.run_directory.directory import result_of
from refit.running import order, runner
from refit.study import Study
from refit.verdicts import claims

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
    make_pages(experiments, which, workers=workers or 0, train=True, executor=executor)


@main.command()
@_shared_options
def report(experiments: tuple[str, ...], **which: Any) -> None:
    """Make the pages of EXPERIMENTS from the results at hand, without training."""
    make_pages(experiments, which, train=False)


@main.command()
@_shared_options
def status(experiments: tuple[str, ...], **which: Any) -> None:
    """Show which trials of EXPERIMENTS are done, failed or missing."""
    for study in open_studies(experiments, train=False, **which):
        found = ((trial, result_of(trial, study.runs)) for trial in study.trials)
        rows = [result_rows.result_row(trial, study.runs, result) for trial, result in found]
        results = pd.DataFrame(rows)
        # What an optional sweep lacks, such as a download, is no failure of the experiment.
        sweeps = study.declaration.sweeps
        optional = results["sweep"].isin([name for name in sweeps if sweeps[name].optional])
        status = results["status"].mask(optional & (results["status"] == "failed"), "not run")
        counts = {"done": 0, "failed": 0, "missing": 0} | status.value_counts().to_dict()
        told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        click.echo(f"{study.name} ({study.profile_name}): {told}")
        for row in results[status.isin(["failed", "not run"])].itertuples():
            click.echo(f"  {row.trial} (seed {row.seed}): {row.reason}")
        tell_other_data(study)


@main.command()
@_shared_options
@_workers_option
@click.option("--calibrate", is_flag=True, help="run the smoke profile first, to have times")
def plan(experiments: tuple[str, ...], workers: int | None, calibrate: bool, **which: Any) -> None:
    """Show what running EXPERIMENTS would train and how long it would take; with the profile full
    also how many claims wait for that, and how many for an hour of a core. Winners that are trained
    again are not counted before they are known."""
    workers = runner.check_workers(workers)
    profile, seeds = which["profile"], which["seeds"]
    for study in open_studies(experiments, leave_out=True, train=False, **which):
        if calibrate:
            first = which | {"profile": "smoke", "seeds": 1}
            Study.open(study.name, **first).train(workers)
        table = order.plan(study.trials, study.runs, workers)
        if profile == FULL:
            log, _, verdicts = study.measured
            table["claims"] = (
                table["sweep"].map(claims.waiting(verdicts, log)).fillna(0).astype(int)
            )
            rates = table["claims"] / (table["hours"] * workers)
            table["per core-hour"] = rates.map("{:.2f}".format).where(rates.notna(), "")
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
    for line in mlflow.export(open_studies(experiments, train=False, **which), folder):
        click.echo(line)


export.add_command(export_json)


@main.command()
def notebooks() -> None:
    """Run all notebooks on smoke data and keep the outputs that nbval compares."""
    from refit.pages import notebook

    for path in sorted(paths.NOTEBOOKS.glob("*.ipynb")):
        click.echo(path.name)
        notebook.refresh(path)
