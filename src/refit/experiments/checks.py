"""Whether the parts of a declaration fit each other, which only its expanded trials show."""

from refit.data import sets
from refit.errors import DeclarationError
from refit.experiments import factories
from refit.experiments.declaration import Declaration, Profile
from refit.experiments.predicates import Effect, Epochs, Selection, Separates, Trials
from refit.experiments.trial import Trial, is_setting
from refit.experiments.yaml_file import named


def check(declaration: Declaration, trials: list[Trial]) -> None:
    """Check counts, unique names and trials spoken of; `trials` are all, as declared.

    Raises DeclarationError naming the place.
    """
    for name, sweep in declaration.sweeps.items():
        found = sum(trial.sweep == name for trial in trials)
        if found != sweep.trials:
            raise DeclarationError(
                f"sweeps.{name}.trials: declared are {sweep.trials}, but there are {found}"
            )
        if sweep.retrain:
            with named(f"sweeps.{name}.retrain.default"):
                _check_subject(sweep.retrain.default, None, trials)
    for profile, cut in declaration.profiles.items():
        for name, changes in cut.sweeps.items():
            for kind in ("search", "retrain"):
                if getattr(changes, kind):
                    with named(f"profiles.{profile}.sweeps.{name}.{kind}"):
                        declaration.plan(profile, name, kind)
    _check_trials(trials)
    for figure in declaration.published.figures:
        with named(f"published, {figure.place}"):
            _check_subject(figure.trial, figure.epochs, trials)
            if figure.best_of:
                _check_subject(Selection(sweep=figure.best_of), None, trials)
    for claim in declaration.claims:
        with named(f"claims.{claim.id}"):
            for predicate in claim.holds:
                for subject in predicate.subjects():
                    _check_subject(subject, predicate.epochs, trials)
                if isinstance(predicate, Effect | Separates):
                    _check_axes(predicate, trials)


def check_profile(profile: Profile, everything: list[Trial], trials: list[Trial]) -> None:
    """Check what a profile leaves, `trials`, of all that is declared."""
    data_sets = {trial.data.name for trial in everything}
    if strangers := sorted(set(profile.data_sets) - data_sets):
        raise DeclarationError(f"data_sets.{strangers[0]}: no sweep uses this data set")
    _check_trials(trials)


def _check_trials(trials: list[Trial]) -> None:
    """Names must be unique across sweeps, data sets known, and trials started from keep enough."""
    known: dict[str, Trial] = {}
    for trial in trials:
        if known.setdefault(trial.name, trial) is not trial:
            raise DeclarationError(f"sweeps.{trial.sweep}: trial {trial.name!r} stands twice")
    for trial in trials:
        with named(f"sweeps.{trial.sweep}, trial {trial.name!r}"):
            if trial.data.name not in (names := [*sets.ALIASES, *sets.SOURCES]):
                raise DeclarationError(
                    f"data.name: {trial.data.name!r} is unknown; known: {', '.join(names)}"
                )
            factories.check(trial.model)
            if trial.pretrained and trial.pretrained.trial:
                source = known.get(trial.pretrained.trial)
                if source is None or not source.keep_base or source.pretrained:
                    raise DeclarationError(
                        f"pretrained.trial: {trial.pretrained.trial!r} should be a trial that has "
                        "keep_base: true and starts from scratch itself"
                    )


def _check_axes(predicate: Effect | Separates, trials: list[Trial]) -> None:
    """Whether a predicate about settings names some that its sweep varies."""
    rows = [_settings(t) for t in trials if t.sweep == predicate.sweep]
    names = dict.fromkeys(name for row in rows for name in row if is_setting(name))
    varied = [name for name in names if len({row.get(name) for row in rows}) > 1]
    for axis in predicate.axes():
        if axis not in varied:
            raise DeclarationError(
                f"sweep {predicate.sweep} does not vary {axis!r}; it varies {', '.join(varied)}"
            )


def _settings(trial: Trial) -> dict[str, object]:
    """What claims can choose trials by: the hyper-parameters, and the epochs before any cut."""
    return trial.hyper_parameters() | {"published_epochs": trial.published_epochs}


def _check_subject(subject: Trials, epochs: Epochs | None, trials: list[Trial]) -> None:
    """Whether a published number or a claim speaks of trials, and epochs, that there are."""
    spoken = subject
    if isinstance(subject, str):
        subject = Selection(trials=[subject])
    chosen = [trial for trial in trials if subject.sweep in (None, trial.sweep)]
    if not chosen:
        raise DeclarationError(f"no sweep is called {subject.sweep!r}")
    names = {trial.name for trial in chosen}
    if strangers := sorted({*subject.trials, *subject.without} - names):
        raise DeclarationError(
            f"no trial is called {strangers[0]!r} in {subject.sweep or 'any sweep'}"
        )
    kept = (set(subject.trials) or names) - set(subject.without)
    chosen = [trial for trial in chosen if trial.name in kept]
    for setting, wanted in subject.where.items():
        values = wanted if isinstance(wanted, list) else [wanted]
        chosen = [trial for trial in chosen if _settings(trial).get(setting) in values]
        if not chosen:
            raise DeclarationError(f"where: no trial has {setting}: {wanted}")
    if epochs and epochs[1] > (most := min(trial.published_epochs for trial in chosen)):
        raise DeclarationError(f"epochs: {spoken} is trained for {most} epochs, not {epochs[1]}")
