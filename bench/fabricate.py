"""Finished trials that nobody trained: as many as it takes to see how their analysis grows.

Everything a training leaves is there, written by the code that writes it after a training, with
curves drawn from each trial's seed. The images are embedded digits under the declared data set's
name, and the results do not say so: otherwise nothing would be compared, which is what takes time.
"""

import shutil
from typing import Any

import numpy as np

from refit import files, paths
from refit.data import cache, digits
from refit.experiments.trial import Trial
from refit.run_directory import directory, events
from refit.study import Study
from refit.training.result import summarise

EPOCHS = 100


def fabricate(study: Study) -> None:
    """Leave in the study's runs what its trials would, each after 100 epochs, and nothing else."""
    for spec in {trial.data for trial in study.trials}:
        decoded = digits.read_colour(None) if spec.name == "cifar10" else digits.read(None)
        cache.write(cache.folder_of(spec, paths.cache()), decoded, spec)
    for trial in study.trials:
        _fabricate_trial(trial, study)


def _fabricate_trial(trial: Trial, study: Study) -> None:
    from refit.training.recorder import tags  # imports TensorFlow, which whoever measures need not

    folder = study.runs / trial.directory
    shutil.rmtree(folder, ignore_errors=True)  # a result of record, which others would differ from
    random = np.random.default_rng(int(trial.digest, 16))
    history = _curves(random)
    for group in ("train", "validation"):
        writer = events.EventWriter(folder / group)
        for epoch, row in enumerate(history):
            writer.scalars(tags(row, group), epoch)
        writer.close()
    labels = study.data(trial.name).test.labels
    predicted = np.where(random.random(len(labels)) < 0.6, labels, random.integers(0, 10))
    np.save(folder / directory.PREDICTIONS, predicted.astype(np.uint8))
    files.write_json(folder / directory.RESULT, _result(trial, history, labels, predicted))


def _curves(random: np.random.Generator) -> list[dict[str, float]]:
    """Per epoch what `Recorder` keeps: saturating accuracies, falling losses."""
    pace, level = random.uniform(5, 30), random.uniform(0.4, 0.9)
    learned = 1 - np.exp(-np.arange(1, EPOCHS + 1) / pace)
    noise = random.normal(0, 0.01, (4, EPOCHS))
    seconds = random.uniform(1, 2, EPOCHS)
    columns = {
        "accuracy": level * learned + noise[0],
        "loss": 2.3 - 2 * level * learned + noise[1],
        "val_accuracy": 0.8 * level * learned + noise[2],
        "val_loss": 2.3 - 1.5 * level * learned + noise[3],
        "learning_rate": np.full(EPOCHS, 0.01),
        "seconds": seconds,
        "train_seconds": 0.9 * seconds,
        "processor_seconds": 0.8 * seconds,
    }
    table = np.stack(list(columns.values()), axis=1)
    return [dict(zip(columns, map(float, row), strict=True)) for row in table]


def _result(
    trial: Trial, history: list[dict[str, float]], labels: np.ndarray, predicted: np.ndarray
) -> dict[str, Any]:
    confusions = np.zeros((10, 10), int)
    np.add.at(confusions, (labels, predicted), 1)
    accuracy = float((labels == predicted).mean())
    parameters = 1000 * len(trial.model.model_dump_json())
    return {
        "trial": trial.model_dump(mode="json"),
        "digest": trial.digest,
        "metrics": summarise(history)
        | {"test_accuracy": accuracy, "mean_batch_test_accuracy": accuracy, "test_loss": 1.0}
        | {"total_params": parameters, "trainable_params": parameters, "non_trainable_params": 0}
        | {"classes": 10, "layers": 4},
        "confusion_matrix": confusions.tolist(),
        "layers": [{"name": "dense", "type": "Dense", "output_shape": [10], "parameters": 10}],
        "data": {
            "source": "fabricated",
            "stand_in": "",
            "embedded": False,
            "classes": [str(number) for number in range(10)],
            "train_images": 50_000,
            "validation_images": 10_000,
            "test_images": len(labels),
        },
        "environment": {"workers": 1},
        "started": "2026-01-01T00:00:00+00:00",
        "wall_seconds": sum(row["seconds"] for row in history),
        "resumed_at_epoch": 0,
        "peak_memory_mb": 100.0,
    }
