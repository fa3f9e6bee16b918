"""The weights that a network starts from, where they are not drawn: those of another trial, or a
base for transfer learning, of which it is also said what is trained when.

In a transfer, first only the new head learns, on top of a frozen base; then the base is fine-tuned,
its upper layers or all of it, at a lower rate.
"""

from pathlib import Path

import keras

from refit import files
from refit.errors import TrialError
from refit.experiments.trial import CarriedOver, Pretrained, Trial
from refit.models.transfer import BASE
from refit.run_directory.directory import BASE_WEIGHTS, FINAL_WEIGHTS
from refit.training import weights


def carry_over(model: keras.Model, trial: Trial, run_dir: Path) -> None:
    """Load the weights with which the trial before in a sequence ended.

    Raises TrialError where it left none, or those of another network.
    """
    assert trial.carried_over is not None
    _load(_bare(model), _kept(run_dir, trial.carried_over, FINAL_WEIGHTS), model.name)


def start(model: keras.Model, trial: Trial, run_dir: Path, data_dir: Path | None) -> None:
    """Load the weights that a trial's base starts from.

    Raises UnavailableError where a file is missing, TrialError where the training that should have
    made one left none, or the file holds another network.
    """
    assert trial.pretrained is not None
    if trial.pretrained.trial:
        path = _kept(run_dir, trial.pretrained, BASE_WEIGHTS)
    else:
        path = weights.find(trial, data_dir)
    _load(_base(model), path, f"the base of {model.name}")


def _kept(run_dir: Path, source: Pretrained | CarriedOver, name: str) -> Path:
    """The file that another trial has kept for this one."""
    path = run_dir.parent.parent / source.run / name
    if not path.is_file():
        raise TrialError(f"{path} is missing: {source.trial} has to be trained first")
    return path


def _load(network: keras.Model, path: Path, described: str) -> None:
    try:
        network.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise TrialError(f"{path}: does not hold the weights of {described}: {error}") from error


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


def keep(model: keras.Model, trial: Trial, run_dir: Path) -> None:
    """Store the weights that a trial keeps for others to start from; files appear whole."""
    kept = {BASE_WEIGHTS: _base(model)} if trial.keep_base else {}
    kept |= {FINAL_WEIGHTS: _bare(model)} if trial.keep_weights else {}
    for name, network in kept.items():
        unfinished = run_dir / f".{name}"
        network.save_weights(unfinished)
        files.replace(unfinished, run_dir / name)


def _bare(model: keras.Model) -> keras.Model:
    """The same network without its optimizer, whose state Keras would store and load as well."""
    return keras.Model(model.inputs, model.outputs)


def _base(model: keras.Model) -> keras.Model:
    for layer in model.layers:
        if layer.name == BASE:
            return layer
    raise TrialError(f"model {model.name} has no base, so nothing of it can be transferred")
