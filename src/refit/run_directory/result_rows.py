"""The rows that one trial adds to the tables of results and of confusions."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from refit import paths
from refit.experiments.trial import Trial
from refit.run_directory import curve_metrics, failures
from refit.run_directory.directory import damage_of


def result_row(trial: Trial, folder: Path, result: dict[str, Any] | None) -> dict[str, Any]:
    """The row of a trial: what was planned, and what was measured or why nothing was."""
    row = declared_row(trial)
    row |= {"status": "done", "reason": ""}
    if result is None:
        reason = _reason(trial, folder)
        return row | {"status": "failed" if reason else "missing", "reason": reason}
    metrics, data, environment = result["metrics"], result["data"], result["environment"]
    gpus = environment.get("gpus") or []
    machine = [environment.get("processor"), *gpus, environment.get("backend")]
    per_class = [sum(counts) for counts in result["confusion_matrix"] or []]
    kinds = [layer["type"] for layer in result["layers"]]
    row |= metrics | curve_metrics.derived(metrics | {"train_images": data["train_images"]})
    if tried := result.get("candidates"):
        row["architectures_tried"] = len({each["parameters"] for each in tried})
    return row | {
        "train_images": data["train_images"],
        "validation_images": data["validation_images"],
        "test_images": data["test_images"],
        "test_class_imbalance": max(per_class) - min(per_class) if per_class else np.nan,
        "layers_with_pooling": sum(bool(re.search("Conv|Pool|Dense", kind)) for kind in kinds),
        "started": result.get("started", ""),
        "demonstration": bool(data["embedded"]),
        "workers": environment.get("workers"),
        "gpus": len(gpus),
        # What the times depend on, beside the training itself.
        "machine": ", ".join(str(each) for each in machine if each),
        "stand_in": bool(data["stand_in"]),
        "cut": trial.data.train_images is not None,
        "altered": trial.altered,
    }


def declared_row(trial: Trial) -> dict[str, Any]:
    """What is known of a trial before it is trained."""
    settings = {k: v for k, v in trial.hyper_parameters().items() if k not in ("trial", "seed")}
    settings["planned_epochs"] = settings.pop("epochs")
    return {
        "sweep": trial.sweep,
        "trial": trial.name,
        "title": trial.title,
        "seed": trial.seed,
        "digest": trial.digest,
        "data": trial.data.name,
        "published_epochs": trial.published_epochs,
    } | settings


def _reason(trial: Trial, folder: Path) -> str:
    """Why a trial that has been trained has no result; empty where it has not been.

    Pages travel, and whose machine they come from is nobody's business: home is `~`.
    """
    if damage := damage_of(trial, folder):
        return f"damaged: {damage}; the next run trains this trial again"
    failure = failures.read(folder / trial.directory)
    told = f"{failure.kind}: {failure.reason}" if failure else ""
    home = paths.home()
    return told.replace(str(home), "~") if home else told


def confusion_rows(trial: Trial, result: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Trial, seed, true class, predicted class and count of every pair that occurs."""
    classes = result["data"]["classes"]
    return [
        (trial.name, trial.seed, classes[true], classes[predicted], count)
        for true, row in enumerate(result["confusion_matrix"] or [])
        for predicted, count in enumerate(row)
        if count
    ]


# Files of weights that bear the name of Keras's own and are not, by the SHA-256 of their content.
_OTHER_WEIGHTS = {
    "b232c16a9a15777778a8a7b13a7f3ebfae0d905fd7c76d8f6bebb087e972e484": "8-bit weights, "
    "not the file that Keras publishes",
}


def origin(result: dict[str, Any]) -> dict[str, str]:
    """Where a result came from: data, versions, hardware."""
    data = result["data"]
    parts = ("train", "validation", "test")
    images = ", ".join(f"{data[f'{part}_images']:,} {part}" for part in parts)
    if result["trial"]["data"].get("validation") == "test":
        images = f"{data['train_images']:,} train, {data['test_images']:,} validation-and-test"
    facts = {"data": data["source"], "stand-in": data["stand_in"], "images": images}
    facts["SHA-256 of the images"] = data.get("content", "")[:12]
    for name, digest in result.get("weights", {}).items():
        known = _OTHER_WEIGHTS.get(digest, "not compared with the file that Keras publishes")
        facts["weights"] = f"{name}: {known} (SHA-256 {digest})"
    return facts | {name: str(value or "none") for name, value in result["environment"].items()}
