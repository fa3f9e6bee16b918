"""The usual way: Keras's own `fit` on NumPy arrays. Everything here runs in a fresh process."""

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from refit import paths
from refit.data import sets
from refit.experiments.trial import Trial


def arrays(trial: Trial, data_dir: Path | None = None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The images, as float32 from 0 to 1, and labels of a trial's parts."""
    dataset = sets.load(trial.data, data_dir, paths.cache())
    return {
        name: (np.asarray(part.images, np.float32) / 255, np.asarray(part.labels))
        for name, part in (
            ("train", dataset.train),
            ("validation", dataset.validation),
            ("test", dataset.test),
        )
    }


def fit(trial: Trial, parts: dict[str, Any], callbacks: Any = ()) -> None:
    """Train and test a trial's network as a notebook would."""
    import keras

    keras.utils.set_random_seed(trial.seed)
    model = compiled(trial, parts["train"][0].shape[1:])
    model.fit(
        *parts["train"],
        validation_data=parts["validation"],
        batch_size=trial.batch_size,
        epochs=trial.epochs,
        callbacks=list(callbacks),
        verbose=0,
    )
    model.evaluate(*parts["test"], verbose=0)


def compiled(trial: Trial, shape: tuple[int, ...]) -> Any:
    import keras

    from refit.models import networks

    model = networks.build(trial.model.name, shape, 10, **trial.model.options)
    model.compile(
        optimizer=keras.optimizers.Adam(trial.optimizer.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def seconds_per_epoch(trial: Trial, parts: dict[str, Any]) -> float:
    """The median time of an epoch, validation included, without the first, which builds graphs."""
    import keras

    ends: list[float] = []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter())
    )
    fit(trial, parts, [clock])
    return statistics.median(np.diff(ends))
