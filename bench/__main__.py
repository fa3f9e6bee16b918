"""Measure refit's speed beside the usual ways and write reports/bench.md."""

import time
from pathlib import Path

import click

from bench import (
    analysis,
    fixed_cost,
    limit,
    plan,
    profile,
    real_data,
    resume,
    second_run,
    sweep,
    table,
)
from bench.measure import Options
from refit import paths

MEASUREMENTS = {
    "sweep": sweep.measure,
    "fixed_cost": fixed_cost.measure,
    "limit": limit.measure,
    "profile": profile.measure,
    "real_data": real_data.measure,
    "plan": plan.measure,
    "analysis": analysis.measure,
    "resume": resume.measure,
    "second_run": second_run.measure,
}


@click.command(help=f"Measure NAMES (all, if none is named): {', '.join(MEASUREMENTS)}.")
@click.argument("names", nargs=-1, type=click.Choice(list(MEASUREMENTS)))
@click.option(
    "--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="runs of every way"
)
@click.option("--data-dir", default="", help="Fashion-MNIST for real_data, CIFAR-10 for limit too")
@click.option(
    "--finished-runs",
    type=click.Path(file_okay=False, path_type=Path),
    help="a folder of runs with a finished smoke profile, for second_run [default: makes one]",
)
@click.option("--tiny", is_flag=True, help="tiny sizes, to test the benchmark itself")
def main(
    names: tuple[str, ...], rounds: int, data_dir: str, finished_runs: Path | None, tiny: bool
) -> None:
    folder = Path(data_dir).expanduser().resolve() if data_dir else None
    finished = finished_runs.resolve() if finished_runs else None
    options = Options(rounds, tiny, folder, finished)
    started = time.monotonic()
    series = []
    path = paths.reports() / f"{'_'.join(['bench', *names])}.md"
    for name in names or MEASUREMENTS:
        click.echo(name)
        series += MEASUREMENTS[name](options)
        table.write(path, series, started)  # what is measured stays, whatever fails after it
    click.echo(f"{path}")


if __name__ == "__main__":
    main()
