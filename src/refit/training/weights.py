"""Files of pretrained weights: those that Keras publishes for ImageNet, or one that the user names.

They are looked for before a training starts, without importing Keras, so that a machine without
them learns so at once.
"""

from pathlib import Path

from refit.data.folders import candidates, download, keras_home
from refit.errors import DataError, UnavailableError
from refit.experiments.trial import Trial

URL = "https://storage.googleapis.com/tensorflow/keras-applications/"
IMAGENET = "imagenet"
FOLDERS = ("weights", "models")


def find(trial: Trial, data_dir: Path | None) -> Path:
    """The file with the weights that a trial's base starts from.

    It is looked for in DATA_DIR and its folders `weights` and `models`, then, for ImageNet, in
    Keras's cache, and at last downloaded there. Raises UnavailableError saying what is missing and
    where it may be put.
    """
    name, folder, known_hash = _wanted(trial)
    places = candidates(data_dir, *FOLDERS)
    published = trial.pretrained is not None and trial.pretrained.weights == IMAGENET
    if published:
        places.append(keras_home() / "models")
    for place in places:
        if (place / name).is_file():
            return place / name
    if published:
        try:
            return download(URL + folder, name, known_hash, keras_home() / "models", "ImageNet")
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
    alpha = float(trial.model.options.get("alpha", 1.0))
    known = {
        "mobilenet_v2": (
            f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_224_no_top.h5",
            "mobilenet_v2/",
            None,  # Keras has none for it
        ),
        "inception_v3": (
            "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "inception_v3/",
            "md5:bcbd6486424b2319ff4ef7d526e38f63",
        ),
    }
    if trial.model.name not in known:
        raise UnavailableError(
            f"there are no ImageNet weights for {trial.model.name}; there are for "
            f"{', '.join(known)}"
        )
    return known[trial.model.name]
