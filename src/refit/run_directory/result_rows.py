"""The rows that one trial adds to the tables of results and of confusions."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from refit.experiments.trial import Trial
from refit.run_directory import failures
from refit.run_directory.directory import damage_of


def result_row(trial: Trial, folder: Path, result: dict[str, Any] | None) -> dict[str, Any]:
    """The row of a trial: what was planned, and what was measured or why nothing was."""
    row: dict[str, Any] = {
        "sweep": trial.sweep,
        "trial": trial.name,
        "title": trial.title,
        "seed": trial.seed,
        "status": "done",
        "reason": "",
        "digest": trial.digest,
        "data": trial.data.name,
        "published_epochs": trial.published_epochs,
    }
    settings = {k: v for k, v in trial.hyper_parameters().items() if k not in ("trial", "seed")}
    settings["planned_epochs"] = settings.pop("epochs")
    if result is None:
        reason = _reason(trial, folder)
        status = "failed" if reason else "missing"
        return row | {"status": status, "reason": reason} | settings
    metrics = dict(result["metrics"])
    images = result["data"]["train_images"]
    metrics["accuracy_gap"] = metrics["train_accuracy"] - metrics["val_accuracy"]
    if "test_accuracy" in metrics:
        metrics["test_minus_val"] = metrics["test_accuracy"] - metrics["val_accuracy"]
    metrics["microseconds_per_sample"] = metrics["seconds_per_epoch"] / images * 1e6
    parts = ("train", "validation", "test")
    metrics |= {f"{part}_images": result["data"][f"{part}_images"] for part in parts}
    per_class = [sum(counts) for counts in result["confusion_matrix"] or []]
    metrics["test_class_imbalance"] = max(per_class) - min(per_class) if per_class else np.nan
    kinds = [layer["type"] for layer in result["layers"]]
    metrics["layers_with_pooling"] = sum(bool(re.search("Conv|Pool|Dense", k)) for k in kinds)
    if tried := result.get("candidates"):
        metrics["architectures_tried"] = len({each["parameters"] for each in tried})
    metrics["minutes"] = metrics["seconds"] / 60
    metrics["demonstration"] = bool(result["data"]["embedded"])
    metrics["workers"] = result["environment"].get("workers")
    metrics["gpus"] = len(result["environment"].get("gpus") or [])
    metrics["machine"] = _machine(result["environment"])
    metrics["stand_in"] = bool(result["data"]["stand_in"])
    metrics["cut"] = trial.data.train_images is not None
    metrics["altered"] = trial.altered
    return row | {"reason": ""} | settings | metrics


def _machine(environment: dict[str, Any]) -> str:
    """What the times of a training depend on, beside the training itself."""
    gpus = environment.get("gpus") or []
    told = [environment.get("processor"), *gpus, environment.get("backend")]
    return ", ".join(str(each) for each in told if each)


def _reason(trial: Trial, folder: Path) -> str:
    """Why a trial that has been trained has no result; empty where it has not been.

    Pages travel, and whose machine they come from is nobody's business: home is `~`.
    """
    if damage := damage_of(trial, folder):
        return f"damaged: {damage}; the next run trains this trial again"
    failure = failures.read(folder / trial.directory)
    told = f"{failure.kind}: {failure.reason}" if failure else ""
    return told.replace(str(Path.home()), "~")


def confusion_rows(trial: Trial, result: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Trial, seed, true class, predicted class and count of every pair that occurs."""
    classes = result["data"]["classes"]
    return [
        (trial.name, trial.seed, classes[true], classes[predicted], count)
        for true, row in enumerate(result["confusion_matrix"] or [])
        for predicted, count in enumerate(row)
        if count
    ]


def origin(result: dict[str, Any]) -> dict[str, str]:
    """Where a result came from: data, versions, hardware."""
    data = result["data"]
    parts = ("train", "validation", "test")
    images = ", ".join(f"{data[f'{part}_images']:,} {part}" for part in parts)
    facts = {"data": data["source"], "stand-in": data["stand_in"], "images": images}
    return facts | {name: str(value or "none") for name, value in result["environment"].items()}
