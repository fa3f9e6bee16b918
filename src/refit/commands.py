"""The commands about single trials and sweeps, which `refit.cli` adds to its own."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import yaml

from refit import files, paths
from refit.errors import DeclarationError, TrialError, legible
from refit.experiments import expand, json_file
from refit.run_directory import log as run_log
from refit.run_directory import side_by_side
from refit.running import runner
from refit.study import Study
from refit.verdicts import comparison, words

# What takes time to import is imported where it is used.
_FOLDER = click.Path(file_okay=False, path_type=Path)


def profile_option(default: str) -> Any:
    return click.option(
        "--profile", default=default, show_default=True, help="smoke, small or full"
    )


data_dir_option = click.option(
    "--data-dir", default="", help="folder of data sets [default: $DATA_DIR]"
)


@click.command()
@click.argument("experiment")
@click.argument("trial")
@profile_option("smoke")
@data_dir_option
def script(experiment: str, trial: str, profile: str, data_dir: str) -> None:
    """Write TRIAL as a plain Keras script that trains the same network without refit."""
    from refit.pages import script as scripts

    study = Study.open(experiment, profile, data_dir=data_dir)
    chosen = study.trial(trial)
    text = scripts.write(chosen, experiment, study.runs)
    if chosen.pretrained or chosen.carried_over or not scripts.makes_its_data(chosen.data):
        study.data(trial)  # decoded into the folder that the script is given
    click.echo(text)


@click.command()
@click.argument("experiment")
@click.argument("trial")
@profile_option("full")
@data_dir_option
@click.option("--out", type=_FOLDER, help="where network and card go [default: networks, in runs]")
def keep(experiment: str, trial: str, profile: str, data_dir: str, out: Path | None) -> None:
    """Train TRIAL and keep its network as a .keras file, with a card that says what it is."""
    from refit.exports import networks

    study = Study.open(experiment, profile, data_dir=data_dir)
    click.echo(networks.keep(study, study.trial(trial), out or paths.runs() / networks.FOLDER))


@click.command()
@click.argument("experiment")
@click.argument("trial")
@click.argument("pictures", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--invert", is_flag=True, help="turn light into dark, for pictures on light ground")
def predict(experiment: str, trial: str, pictures: tuple[Path, ...], invert: bool) -> None:
    """Name what PICTURES show, by the kept network of TRIAL, with probabilities."""
    from refit.exports import networks

    network, card = networks.find(experiment, trial)
    said = next(name for name in ("test_accuracy", "val_accuracy") if name in card.scores)
    click.echo(f"{card.title} ({card.profile}, {said.replace('_', ' ')} {card.scores[said]:.3f})")
    found = networks.predict(network, card, pictures, invert)
    for picture, (note, classes) in zip(pictures, found, strict=True):
        likeliest = ", ".join(f"{name} {share:.3f}" for name, share in classes[:3])
        click.echo(legible(f"{picture}: {likeliest}{f' ({note})' if note else ''}"))


@click.command()
@click.argument("name")
def new(name: str) -> None:
    """Begin a report of your own: write its declaration and notebook, which run at once."""
    from refit.pages import own_report

    declaration, notebook = own_report.write(name)
    click.echo(f"{declaration}\n{notebook}\nnow run: refit reproduce {name}")


@click.command("try")
@click.argument("experiment")
@click.argument("trial")
@click.argument("changes", nargs=-1, required=True, metavar="NAME=VALUE...")
@profile_option("smoke")
@data_dir_option
def try_out(
    experiment: str, trial: str, changes: tuple[str, ...], profile: str, data_dir: str
) -> None:
    """Train TRIAL with other settings beside the original, such as epochs=3 learning_rate=0.01."""
    pairs = [change.partition("=") for change in changes]
    if wrong := [name for name, sign, _ in pairs if not (name and sign)]:
        raise DeclarationError(f"{wrong[0]!r} is no change; write it as name=value")
    try:
        values = {name: yaml.safe_load(value) for name, _, value in pairs}
    except yaml.YAMLError as error:
        raise DeclarationError(f"{' '.join(changes)}: a value cannot be read ({error})") from error
    study = Study.open(experiment, profile, data_dir=data_dir)
    tried = study.try_out(trial, **values)
    _show(tried.settings, tried.metrics, tried.curves)
    if tried.file.exists():
        click.echo(f"curves: {tried.file}")


@click.command()
@click.argument("experiment")
@click.argument("trials", nargs=2, metavar="TRIAL TRIAL")
@profile_option("smoke")
@data_dir_option
@click.option(
    "--page", type=click.Path(dir_okay=False, path_type=Path), help="write a page, as HTML, too"
)
def diff(
    experiment: str, trials: tuple[str, str], profile: str, data_dir: str, page: Path | None
) -> None:
    """Show two finished trials side by side: settings that differ, metrics, validation curves."""
    study = Study.open(experiment, profile, data_dir=data_dir, train=False)
    chosen = [each for each in study.trials if each.name in trials]
    log = run_log.read(chosen, study.runs)
    if missing := sorted(set(trials) - set(log.done["trial"])):
        known = ", ".join(study.titles)
        raise TrialError(f"no result of {', '.join(missing)} in {profile}; trials are: {known}")
    settings, metrics = side_by_side.settings(chosen), side_by_side.metrics(log)
    _show(settings, metrics, side_by_side.curves(log))
    if page:
        from refit.figures.curves import learning_curves
        from refit.pages import tables, templating

        title = " against ".join(study.titles[name] for name in dict.fromkeys(trials))
        picture = learning_curves(log.curves, f"{study.declaration.title}: {title}", study.titles)
        shown = {"Settings that differ": settings, "What was reached, means over seeds": metrics}
        html = templating.page(
            "diff.html.j2",
            experiment=study.name,
            title=title,
            picture=templating.trusted(picture._repr_html_()),
            tables=[tables.table(each, name) for name, each in shown.items()],
        )
        files.write_bytes(page, html.encode())
        click.echo(f"page: {page.resolve().as_uri()}")


@click.command()
@click.argument("experiments", nargs=-1, metavar="EXPERIMENT")
@profile_option("smoke")
def tensorboard(experiments: tuple[str, ...], profile: str) -> None:
    """Open TensorBoard with all trainings of one EXPERIMENT, its settings as columns."""
    if len(experiments) != 1:
        found = [name for name in expand.names() if (paths.runs() / profile / name).is_dir()]
        raise DeclarationError(
            "TensorBoard has one table for one experiment, so choose one: make tensorboard "
            f"EXPERIMENTS=... PROFILE={profile}. Trained there: {', '.join(found) or 'none yet'}"
        )
    study = Study.open(experiments[0], profile, train=False)
    if not study.runs.is_dir():
        raise TrialError(f"no trial of {study.name} in profile {profile} is trained yet")
    runner.describe_to_tensorboard(study.trials, study.runs)
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(study.runs)]
    sys.exit(subprocess.run([*command, "--host", "localhost"], check=False).returncode)  # noqa: S603


@click.command()
@click.argument("experiment")
@click.argument("theirs", type=click.Path(exists=True, path_type=Path))
@profile_option("full")
def compare(experiment: str, theirs: Path, profile: str) -> None:
    """Hold somebody else's trainings of EXPERIMENT against those of record.

    THEIRS is their folder of runs, or a CSV file with the columns trial, seed, metric and value.
    """
    study = Study.open(experiment, profile, train=False)
    if theirs.is_dir():
        place = theirs / profile / experiment  # as refit keeps them; else all that is there
        found = comparison.read_runs(place if place.is_dir() else theirs, study.trials)
        table, left_out, others = found
    else:
        table, left_out, others = comparison.read_table(theirs, study.trials), [], []
    for line in (*left_out, *others):
        click.secho(line, fg="yellow", err=True)
    found = comparison.compare(table, study.log())
    click.echo("\n".join(comparison.lines(found)))
    judged = found[found["verdict"] != words.TOO_FEW_SEEDS]
    inside = int((judged["verdict"] == words.INSIDE).sum())
    told = f"{inside} of {len(judged)} numbers lie where a repetition of record would"
    click.echo(told + (f"; {len(left_out)} trainings left out" if left_out else ""))
    sys.exit(0 if inside == len(judged) > 0 and not left_out else 1)


@click.command("json")
@click.argument("sweep", metavar="EXPERIMENT/SWEEP")
@profile_option("full")
def export_json(sweep: str, profile: str) -> None:
    """Write the trials of a sweep in the format of the gesture report's experiment files."""
    experiment, _, name = sweep.partition("/")
    trials = expand.expand(expand.load(experiment), profile, 1, lambda spec: spec)
    chosen = [trial for trial in trials if trial.sweep == name]
    if not chosen:
        raise DeclarationError(f"{experiment} has no sweep {name!r} in profile {profile}")
    click.echo(json_file.write(chosen))


def _show(settings: Any, metrics: Any, curves: Any) -> None:
    for title, table in (
        ("settings that differ", settings),
        ("metrics, means over seeds", metrics),
        ("validation accuracy", curves),
    ):
        shown = table.to_string(index=False, float_format="{:.6g}".format, na_rep="-")
        click.echo(f"{title}\n{shown}\n")


COMMANDS = (script, keep, predict, new, try_out, diff, compare, tensorboard)
