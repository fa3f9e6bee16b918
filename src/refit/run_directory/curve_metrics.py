"""The curves of one trial, of its epochs and of its batches, and the metrics that they give."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from refit import files
from refit.experiments.metrics import BATCHES_PER_BLOCK
from refit.experiments.trial import Trial
from refit.run_directory.directory import BATCH_FILE, BATCHES
from refit.run_directory.events import read_scalars

# Event tag -> column, per event folder of a run directory.
_TAGS = {
    "train": {
        "epoch_accuracy": "train_accuracy",
        "epoch_loss": "train_loss",
        "epoch_cross_entropy": "train_cross_entropy",
        "epoch_evaluated_accuracy": "evaluated_train_accuracy",
        "epoch_evaluated_loss": "evaluated_train_loss",
        "epoch_learning_rate": "learning_rate",
        "epoch_seconds": "seconds_per_epoch",
        "epoch_train_seconds": "train_seconds",
        "epoch_processor_seconds": "processor_seconds",
    },
    "validation": {
        "epoch_accuracy": "val_accuracy",
        "epoch_loss": "val_loss",
        "epoch_cross_entropy": "val_cross_entropy",
    },
}
BATCH_COLUMNS = ["batch_loss", "batch_accuracy"]
_LAST = ("train_accuracy", "train_loss", "val_accuracy", "val_loss")
_SPENT = {"seconds": "train_seconds", "processor_seconds": "processor_seconds"}
_TIMES = ("seconds_per_epoch", "train_seconds", "processor_seconds")
COLUMNS = ["sweep", "trial", "seed", "epoch"] + [
    column for columns in _TAGS.values() for column in columns.values()
]


def read(trial: Trial, folder: Path) -> pd.DataFrame:
    """The curves of a trial's epochs: a row per epoch, of the columns `COLUMNS`.

    `folder` is the experiment's folder of one profile.
    """
    curves: dict[str, dict[int, float]] = {}
    for group, names in _TAGS.items():
        scalars = read_scalars(folder / trial.directory / group)
        curves |= {column: scalars.get(tag, {}) for tag, column in names.items()}
    epochs = sorted(set().union(*curves.values()))
    # One array: pandas takes ten times longer to align a dozen columns.
    values = [[curve.get(epoch, np.nan) for curve in curves.values()] for epoch in epochs]
    table = np.array(values, float).reshape(len(epochs), len(curves))
    frame = pd.DataFrame(table, pd.Index(epochs, dtype=int), list(curves))
    if len(frame) and not np.isfinite(frame["train_loss"].iloc[-1]):
        # A diverged training stops early, but stays what it has become.
        reached, last = len(frame), frame.drop(columns=list(_TIMES)).iloc[-1]
        frame = frame.reindex(range(trial.epochs))
        frame.loc[reached:, last.index] = last.to_numpy()
    frame.insert(0, "epoch", frame.index + 1)
    return frame.assign(sweep=trial.sweep, trial=trial.name, seed=trial.seed)


def batches(run_dir: Path) -> pd.DataFrame:
    """Loss (nats) and accuracy of single training batches: batch (from 0), batch_loss,
    batch_accuracy; read from `BATCH_FILE` or, where an older training left none, from events."""
    try:
        with np.load(run_dir / BATCH_FILE, allow_pickle=False) as stored:
            return _batch_table({name: stored[name] for name in BATCH_COLUMNS})
    except (OSError, ValueError, KeyError, BadZipFile):
        return _batch_table(read_scalars(run_dir / BATCHES))


def _batch_table(columns: dict[str, Any]) -> pd.DataFrame:
    frame = pd.DataFrame(columns, columns=BATCH_COLUMNS).astype(float).sort_index()
    return frame.rename_axis("batch").reset_index()


def store_batches(run_dir: Path, folder: Path) -> None:
    """Write what the events of a run directory tell of single batches into `folder`, as arrays of
    float32, which are faster to read and a fourteenth as large; nothing where none tells any."""
    frame = _batch_table(read_scalars(run_dir / BATCHES))
    if len(frame):
        content = io.BytesIO()
        np.savez(content, **{name: frame[name].to_numpy(np.float32) for name in BATCH_COLUMNS})
        files.write_bytes(folder / BATCH_FILE, content.getvalue())


def metrics(curve: pd.DataFrame, row: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that a trial's curves give; losses that are not numbers are infinite."""
    if curve.empty:
        return {}
    train, validation = (
        curve[name].fillna(np.inf).reset_index(drop=True) for name in ("train_loss", "val_loss")
    )
    with np.errstate(invalid="ignore"):  # infinite minus infinite
        rises = [losses.iloc[-1] - losses.min() for losses in (train, validation)]
        gap = validation.iloc[-1] - train.iloc[-1]
        accuracy = curve["val_accuracy"].reset_index(drop=True)
        fall = 1 - accuracy.iloc[-1] / accuracy.max() if accuracy.max() > 0 else 0.0
        rise = rises[1] / validation.min()
        best = accuracy.idxmax()
    return {
        "learning_rate": curve["learning_rate"].iloc[-1],
        "train_loss_at_best_val_accuracy": train[best],
        "train_accuracy_at_best_val_accuracy": curve["train_accuracy"].iloc[best],
        "val_loss_at_best_val_accuracy": validation[best],
        "val_accuracy_fall": accuracy[best] - accuracy.iloc[-1],
        "min_train_loss": train.min(),
        "train_loss_at_min_val_loss": train[validation.idxmin()],
        "train_loss_rise": rises[0],
        "val_loss_rise": rises[1],
        "largest_train_loss_rise": train.diff().max() if len(train) > 1 else 0.0,
        "loss_gap": gap,
        "accuracy_lag": float(accuracy.idxmax() - validation.idxmin()),
        "loss_rise_beyond_accuracy_fall": rise - fall,
        "gap_to_best_val_accuracy": curve["train_accuracy"].iloc[-1] - accuracy[best],
        "learned": float(row["best_val_accuracy"] > beyond_guessing(row["classes"])),
    }


def beyond_guessing(classes: int) -> float:
    """The accuracy from which a network has learned: twice that of a guess; of two classes, where
    that would be perfect, half way from the guess to it."""
    return min(2, (classes + 1) / 2) / classes


def derived(row: Mapping[str, Any]) -> dict[str, float]:
    """What follows of a training's metrics, and the number of its training images, alone."""
    gap = {"accuracy_gap": row["train_accuracy"] - row["val_accuracy"]}
    if not pd.isna(row.get("test_accuracy")):
        gap["test_minus_val"] = row["test_accuracy"] - row["val_accuracy"]
    return gap | {
        "minutes": row["seconds"] / 60,
        "microseconds_per_sample": row["seconds_per_epoch"] / row["train_images"] * 1e6,
    }


def following(
    trial: Trial, row: Mapping[str, Any], curve: pd.DataFrame, confusions: pd.DataFrame | None
) -> dict[str, float]:
    """What follows of a finished trial's results from its curve, its confusions and each other."""
    losses = curve["val_loss"].fillna(np.inf).reset_index(drop=True)
    accuracies = curve["val_accuracy"].reset_index(drop=True)
    found = {name: curve[name].iloc[-1] for name in _LAST}
    best, lowest = accuracies.max(), losses.min()
    found |= metrics(curve, row) | {
        "best_val_accuracy": best,
        "best_val_accuracy_epoch": _epoch_of("best_val_accuracy", best, accuracies, row),
        "min_val_loss": lowest,
        "min_val_loss_epoch": _epoch_of("min_val_loss", lowest, losses, row),
        "seconds": curve["seconds_per_epoch"].sum(),
        "total_params": row["trainable_params"] + row["non_trainable_params"],
    }
    for stop in (spec for spec in trial.callbacks if spec.name == "stop_at_target"):
        monitor = stop.monitor if stop.monitor in curve else f"train_{stop.monitor}"
        # Such a training ends where it reaches its target.
        reached = curve[monitor].iloc[-1] >= stop.target
        spent = {"epochs_to_target": len(curve)}
        spent |= {f"{name}_to_target": curve[each].sum() for name, each in _SPENT.items()}
        found |= spent if reached else dict.fromkeys(spent, np.inf)
    if confusions is not None:
        right = confusions["count"][confusions["true"] == confusions["predicted"]].sum()
        images = confusions.groupby("true")["count"].sum()
        found["test_images"] = images.sum()
        smallest = images.min() if len(images) == row["classes"] else 0
        found["test_class_imbalance"] = images.max() - smallest
        found["test_accuracy"] = right / images.sum()
    return found | derived(row)


def _epoch_of(metric: str, extreme: float, curve: pd.Series, row: Mapping[str, Any]) -> int:
    """The epoch that has an extreme of a curve: the one stated, where the curve has it there too.

    Events keep float32, in which two epochs may be equal that were not.
    """
    stated = int(row[f"{metric}_epoch"])
    return stated if curve.get(stated - 1) == extreme else int(curve.eq(extreme).idxmax()) + 1


def batch_metrics(trial: Trial, folder: Path, row: dict[str, Any]) -> dict[str, float]:
    """How rugged the losses of single batches are, in nats; nothing where too few were recorded.

    `batch_loss_noise` is the root mean square of the differences between neighbours over the
    square root of two (von Neumann 1941), which a slow trend hardly touches. Of the means of blocks
    of 100 batches, oscillation is what they rise in all, per block, and the largest jump what one
    lies above that before, at most. Infinite for a diverged training.
    """
    losses = batches(folder / trial.directory)["batch_loss"].to_numpy()
    if not trial.record_batches or len(losses) < 2:
        return {}
    diverged = not np.isfinite(losses).all()
    noise = np.inf if diverged else np.sqrt((np.diff(losses) ** 2).mean() / 2)
    blocks = losses[: len(losses) // BATCHES_PER_BLOCK * BATCHES_PER_BLOCK]
    rises = np.diff(blocks.reshape(-1, BATCHES_PER_BLOCK).mean(axis=1))
    if not len(rises):
        return {"batch_loss_noise": noise}
    # A network that fell to guessing has jumped as far as one can, be it within the first block.
    fell = diverged or row["val_accuracy"] < beyond_guessing(row["classes"])
    return {
        "batch_loss_noise": noise,
        "batch_loss_oscillation": np.inf if diverged else rises.clip(min=0).mean(),
        "largest_batch_loss_jump": np.inf if fell else rises.max(),
    }


def _line_change(curve: pd.Series) -> float:
    """What a curve's least-squares line changes from start to end; a loss that diverges rises."""
    if len(curve) < 2:
        return 0.0
    if not np.isfinite(curve).all():
        return np.inf
    # Counted from the first epoch, so that a constant curve has no slope, not even by rounding.
    slope, _ = np.polyfit(curve.index.to_numpy(float), curve - curve.iloc[0], 1)
    return slope * np.ptp(curve.index)


STATISTICS: dict[str, Callable[[pd.Series], float]] = {
    "last": lambda curve: curve.iloc[-1],
    "mean": pd.Series.mean,
    "min": pd.Series.min,
    "max": pd.Series.max,
    "change": _line_change,
    "largest_rise": lambda curve: curve.diff().max(),
}
