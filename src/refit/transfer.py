"""The base of a network for transfer learning: its first weights, and what of it is trained when.

First only the new head learns, on top of a frozen base; then the base is fine-tuned, its upper
layers or all of it, at a lower rate.
"""

from pathlib import Path

import keras

from refit import weights
from refit.errors import TrialError
from refit.models.transfer import BASE
from refit.trial import Trial

BASE_WEIGHTS = "base.weights.h5"


def start(model: keras.Model, trial: Trial, run_dir: Path, data_dir: Path | None) -> None:
    """Load the weights that a trial's base starts from.

    Raises UnavailableError where a file is missing, TrialError where the training that should have
    made one left none, or the file holds another network.
    """
    assert trial.pretrained is not None
    if trial.pretrained.trial:
        path = run_dir.parent.parent / trial.pretrained.run / BASE_WEIGHTS
        if not path.is_file():
            raise TrialError(f"{path} is missing: {trial.pretrained.trial} has to be trained first")
    else:
        path = weights.find(trial, data_dir)
    try:
        _base(model).load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise TrialError(
            f"{path}: does not hold the weights of the base of {model.name}: {error}"
        ) from error


def freeze(model: keras.Model) -> None:
    """Let nothing but the head learn."""
    _base(model).trainable = False


def thaw(model: keras.Model, from_layer: int) -> None:
    """Let the base learn, from its layer number `from_layer` on.

    Its batch normalisation stays frozen, because averages over a few new images would upset what
    the other layers have learned. Calling the base with training=False, as guides advise, no longer
    does that: since Keras 3 the model's own mode overrides it (keras-team/keras issue 20285), while
    a frozen normalisation does use its stored averages. Raises TrialError where the base has not so
    many layers.
    """
    base = _base(model)
    if from_layer >= len(base.layers):
        raise TrialError(
            f"fine_tuning.from_layer: is {from_layer}, and the base of {model.name} has "
            f"{len(base.layers)} layers"
        )
    base.trainable = True
    for number, layer in enumerate(base.layers):
        if number < from_layer or isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def keep(model: keras.Model, run_dir: Path) -> None:
    """Store the base's weights for other trials to start from; the file appears whole."""
    unfinished = run_dir / f".{BASE_WEIGHTS}"
    _base(model).save_weights(unfinished)
    unfinished.replace(run_dir / BASE_WEIGHTS)


def _base(model: keras.Model) -> keras.Model:
    for layer in model.layers:
        if layer.name == BASE:
            return layer
    raise TrialError(f"model {model.name} has no base, so nothing of it can be transferred")
