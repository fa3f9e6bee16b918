"""The weights that a network starts from where they are not drawn, and those that it keeps.

They are another trial's, those that Keras publishes for ImageNet, or a file that the user names. In
a transfer first only the new head learns, on top of a frozen base; then the base is fine-tuned, its
upper layers or all of it, at a lower rate.
"""

from pathlib import Path

import keras

from refit import files
from refit.data.folders import candidates, download, is_there, keras_home
from refit.errors import DataError, TrialError, UnavailableError
from refit.experiments.trial import Trial
from refit.models.transfer import BASE
from refit.run_directory.directory import BASE_WEIGHTS, FINAL_WEIGHTS

URL = "https://storage.googleapis.com/tensorflow/keras-applications/"
IMAGENET = "imagenet"
# Folders of DATA_DIR in which a file of weights may lie.
FOLDERS = ("weights", "models")
# How a file in this format begins.
HDF5 = b"\x89HDF\r\n\x1a\n"


def load(model: keras.Model, trial: Trial, run_dir: Path, data_dir: Path | None) -> dict[str, str]:
    """Load what a trial starts from: the whole of another, or the weights of its base.

    Returns the SHA-256 of a file that no trial of ours made, by its name. Raises UnavailableError
    where a file is missing, TrialError where the training that should have made one left none, or
    the file holds another network.
    """
    if trial.carried_over:
        path = _of_trial(run_dir, trial, FINAL_WEIGHTS)
        _load(_bare(model), path, model.name)
    if trial.pretrained:
        of_trial = trial.pretrained.trial
        path = _of_trial(run_dir, trial, BASE_WEIGHTS) if of_trial else find(trial, data_dir)
        _load(_base(model), path, f"the base of {model.name}")
        if not of_trial:
            return {path.name: files.digest(path)}
    return {}


def _of_trial(run_dir: Path, trial: Trial, name: str) -> Path:
    """The file that another trial has kept for this one."""
    path = run_dir.parent.parent / trial.starts_from / name
    if not path.is_file():
        start = trial.carried_over or trial.pretrained
        raise TrialError(f"{path} is missing: {start and start.trial} has to be trained first")
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
    """Store the weights that a trial keeps for others to start from."""
    kept = {BASE_WEIGHTS: _base(model)} if trial.keep_base else {}
    kept |= {FINAL_WEIGHTS: _bare(model)} if trial.keep_weights else {}
    for name, network in kept.items():
        network.save_weights(run_dir / name)


def _bare(model: keras.Model) -> keras.Model:
    """The same network without its optimizer, whose state Keras would store and load as well."""
    return keras.Model(model.inputs, model.outputs)


def _base(model: keras.Model) -> keras.Model:
    for layer in model.layers:
        if layer.name == BASE:
            return layer
    raise TrialError(f"model {model.name} has no base, so nothing of it can be transferred")


def find(trial: Trial, data_dir: Path | None) -> Path:
    """The file with the weights that a trial's base starts from.

    It is looked for in DATA_DIR and its folders `weights` and `models`, then, for ImageNet, in
    Keras's cache, and at last downloaded there. Raises UnavailableError saying what is missing and
    where it may be put.
    """
    name, folder, known_hash = _wanted(trial)
    published = trial.pretrained is not None and trial.pretrained.weights == IMAGENET
    cache = keras_home() / "models"
    places = candidates(data_dir, *FOLDERS) + [cache] * published
    for place in places:
        if is_there(place / name):
            return place / name
    if published:
        try:
            return download(URL + folder, name, known_hash, cache, "ImageNet", HDF5)
        except DataError as error:
            raise UnavailableError(str(error)) from error
    raise UnavailableError(
        f"{name}: is in none of {', '.join(map(str, places)) or 'DATA_DIR, which is not set'}"
    )


def _wanted(trial: Trial) -> tuple[str, str, str | None]:
    """The name of the file, the folder below `URL`, and the hash that Keras knows, if any."""
    weights = trial.pretrained.weights if trial.pretrained else ""
    if weights != IMAGENET:
        if Path(weights).name != weights or not weights.endswith(".h5"):
            raise UnavailableError(f"{weights!r} is not the name of a file that ends in .h5")
        return weights, "", None
    begin = f"{trial.model.name}_weights_tf_dim_ordering_tf_kernels"
    alpha = float(trial.model.options.get("alpha", 1.0))
    known = {
        "mobilenet_v2": (f"{begin}_{alpha}_224_no_top.h5", None),  # Keras has no hash for it
        "inception_v3": (f"{begin}_notop.h5", "md5:bcbd6486424b2319ff4ef7d526e38f63"),
    }
    if trial.model.name not in known:
        raise UnavailableError(
            f"there are no ImageNet weights for {trial.model.name}; there are for "
            f"{', '.join(known)}"
        )
    name, known_hash = known[trial.model.name]
    return name, f"{trial.model.name}/", known_hash
