"""Networks that outlive their training: kept as a `.keras` file, and loaded again to predict."""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from refit.data.arrays import Dataset
from refit.errors import TrialError
from refit.experiments.trial import Trial
from refit.run_directory.directory import BEST_WEIGHTS, NETWORK
from refit.training import fit
from refit.training.fit import Fitted, fit_network
from refit.training.recorder import Recorder


def train(trial: Trial, run_dir: Path, data_dir: Path | None, cache: Path, **how: Any) -> None:
    """Train one trial as `refit.training.fit.train` does, and keep its network beside the result.

    Where the trial keeps the weights of its best epoch, these are kept, and judged on the test
    images. The network is without optimizer and loss: to predict, not to train on.
    """
    fit.train(trial, run_dir, data_dir, cache, fit=_fit_and_keep, **how)


def _fit_and_keep(
    trial: Trial, dataset: Dataset, recorder: Recorder, data_dir: Path | None
) -> Fitted:
    fitted = fit_network(trial, dataset, recorder, data_dir)
    if (best := recorder.run_dir / BEST_WEIGHTS).exists():
        fitted.model.load_weights(best)
    unfinished = recorder.run_dir / f".{NETWORK}"
    keras.Model(fitted.model.inputs, fitted.model.outputs).save(unfinished)
    unfinished.replace(recorder.run_dir / NETWORK)
    return fitted


def predict(network: Path, images: np.ndarray) -> np.ndarray:
    """The probabilities of the classes, `(images, classes)`, for images in bytes.

    Raises TrialError for a file that holds no network.
    """
    try:
        model = keras.saving.load_model(network, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TrialError(f"{network}: holds no network that Keras can load: {error}") from error
    return model.predict(images.astype(np.float32) / 255.0, verbose=0)
