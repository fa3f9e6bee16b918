"""Run logs made of numbers, for tests of what is read from them."""

import numpy as np
import pandas as pd

from refit.run_directory.log import RunLog

# One step per seed; its mean is zero, so that a case's centre is its observed mean.
STEPS = np.array([-1.2, -0.5, 0.1, 0.5, 1.1])
EPOCHS = 10
CURVES = ("train_accuracy", "train_loss", "val_accuracy", "val_loss", "seconds_per_epoch")


def around(centre, width=0.002, seeds=5):
    """One number per seed. Two calls differ in their order, so that differences have a spread."""
    return list(centre + width * STEPS[:seeds])


def lines(change, width=0.002, start=0.5):
    """Straight curves, one per seed, that change by about `change` in all."""
    return [np.linspace(start, start + total, EPOCHS) for total in around(change, width)]


def log_of(metric="val_accuracy", trials=None, **facts):
    """A run log of some trials, each a list with a number, or a curve, per seed.

    `facts` are columns of the results, one value for all trials or one per trial.
    """
    shared = {"planned_epochs": EPOCHS, "published_epochs": EPOCHS, "workers": 1}
    shared |= {"stand_in": False, "cut": False, "diverged": False, "sweep": "s", "batch_size": 32}
    rows, curves = [], []
    for name, values in trials.items():
        own = {key: f[name] if isinstance(f, dict) else f for key, f in (shared | facts).items()}
        for seed, value in enumerate(values):
            row = {"trial": name, "title": name, "seed": seed, "status": "done"} | own
            if np.ndim(value):
                frame = pd.DataFrame(dict.fromkeys(CURVES, np.nan), range(len(value)))
                frame[metric] = value
                frame["epoch"] = frame.index + 1
                curves.append(frame.assign(trial=name, seed=seed, sweep=own["sweep"]))
            rows.append(row | {metric: value[-1] if np.ndim(value) else value})
    columns = ["sweep", "trial", "seed", "epoch", *CURVES]
    empty = pd.DataFrame(columns=columns, dtype=float)
    return RunLog(pd.DataFrame(rows), pd.concat(curves) if curves else empty)


def grid_log(metric, points, **facts):
    """The log of a grid: `{(x, y): a number per seed}`, with the settings model.x and model.y."""
    names = {f"x{x}-y{y}": (x, y) for x, y in points}
    for axis, name in enumerate(("model.x", "model.y")):
        facts[name] = {trial: point[axis] for trial, point in names.items()}
    return log_of(metric, dict(zip(names, points.values(), strict=True)), **facts)


def confused_log(trials, images=1000):
    """Trials that take a share of the shirts, one number per seed, for coats."""
    rows = [
        (trial, seed, *pair, count)
        for trial, shares in trials.items()
        for seed, share in enumerate(shares)
        for pair, count in {
            ("Shirt", "Coat"): round(share * images),
            ("Shirt", "Shirt"): images - round(share * images),
            ("Coat", "Coat"): images,
        }.items()
    ]
    columns = ["trial", "seed", "true", "predicted", "count"]
    log = log_of("test_accuracy", trials)
    return RunLog(log.results, log.curves, pd.DataFrame(rows, columns=columns))
