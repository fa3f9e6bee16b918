"""What a run would cost, before anything is spent: trainings to do and the time they will take."""

import pandas as pd

from refit import paths
from refit.data import sets
from refit.run_directory.directory import result_of
from refit.running.runner import check_workers
from refit.running.timing import Times
from refit.study import Study


def plan(study: Study, workers: int | None = None) -> pd.DataFrame:
    """One row per sweep: trials, done, to train, and hours on this machine.

    `hours` is the time with `workers` trainings at once (default: one per core); NaN where nothing
    comparable has been trained yet. Raises DeclarationError where there cannot be so many.
    """
    workers = check_workers(workers)
    times = Times(study.runs.parents[1])
    sizes = {
        spec: spec.train_images or len(sets.load(spec, study.data_dir, paths.cache()).train)
        for spec in {trial.data for trial in study.trials}
    }
    rows = []
    for sweep in dict.fromkeys(trial.sweep for trial in study.trials):
        trials = [trial for trial in study.trials if trial.sweep == sweep]
        missing = [trial for trial in trials if result_of(trial, study.runs) is None]
        seconds = sum(times.seconds(trial, sizes[trial.data]) for trial in missing)
        rows.append(
            {
                "sweep": sweep,
                "trials": len(trials),
                "done": len(trials) - len(missing),
                "to train": len(missing),
                "hours": seconds / 3600 / workers,
            }
        )
    return pd.DataFrame(rows)
