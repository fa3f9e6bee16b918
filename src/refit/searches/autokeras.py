"""The AutoKeras search: residual networks proposed and trained one by one, the best one kept.

AutoKeras's own tuner and loop choose and train the candidates; this module makes the search one of
this project's trainings: seeded, resumable, recorded epoch by epoch. What it finds is handed on as
plain Keras, so that nothing that reads it needs AutoKeras.

How AutoKeras 3.0.0 is used, where it leaves a choice or needs one:

- The first candidate is the network that the report found: ResNet50 on images resized to 32x32,
  global max pooling, no dropout, Adam at 0.001. AutoKeras would have drawn a random one.
- Weights are never pretrained, which would download them, and images are never resized to the 224
  of ImageNet, which costs 49 times as much. Both stay out of the search space.
- A candidate is stopped as AutoKeras stops it, after 10 epochs without a better validation loss,
  and judged, as in AutoKeras, by its lowest one; the weights of that epoch are kept. AutoKeras
  trains the best candidate once more only where it was not told when to stop, and its export then
  still holds the weights from the search. Here it is told, so the kept network is the one whose
  curve was recorded, and no time goes into another.
- The optimizer and callbacks of a trial's declaration mean nothing here: AutoKeras has its own.
"""

import contextlib
import io
import math
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import keras
import numpy as np

from refit import files
from refit.data.arrays import Dataset, Part
from refit.errors import DeclarationError, TrialError, UnavailableError
from refit.experiments.trial import AUTOKERAS, Trial
from refit.searches.candidates import CANDIDATE, CandidateRecorder, folder_of, recorded
from refit.training import fit, optimizers
from refit.training.recorder import Recorder

# Below the run directory: the network found, and AutoKeras's own state, until the search has ended.
BEST = "best.keras"
PROJECT = "autokeras"

# Names in AutoKeras's graph, which its hyper-parameters' names begin with.
_IMAGES = "image_block"
_HEAD = "classification_head"
_RESNET = f"{_IMAGES}/res_net_block_1"
_AUGMENTATION = f"{_IMAGES}/image_augmentation_1"
# What AutoKeras inserts where it is given no other.
_PATIENCE = {"patience": 10, "min_delta": 1e-4}


class Found(NamedTuple):
    """What a search gives.

    `model` is the best network with the weights of its best epoch, in plain Keras, not compiled: it
    maps float images (batch, height, width, channels) in 0..1 to probabilities (batch, classes).
    `history` is the curve of the training that gave it, a row per epoch as `Recorder` keeps them.
    `candidates` has a row per candidate, in order: `number` from 1, `chosen`, AutoKeras's
    hyper-parameters by their last names (`version`, `dropout` ...), `kept_epoch` (from 1; None
    where no loss was finite), `val_accuracy` and `val_loss` after it, `epochs`, `seconds` of all
    its epochs, and `parameters`.
    """

    model: keras.Model
    history: list[dict[str, float]]
    candidates: list[dict[str, Any]]


def train(trial: Trial, run_dir: Path, data_dir: Path | None, cache: Path, **how: Any) -> None:
    """Train a trial as `fit.train` does, but search where it is a search."""
    if trial.model.name == AUTOKERAS:
        how["fit"] = _fit
    fit.train(trial, run_dir, data_dir, cache, **how)


def _fit(trial: Trial, dataset: Dataset, recorder: Recorder, data_dir: Path | None) -> fit.Fitted:
    """The best network of a search stands for the trial, the candidates beside it."""
    found = run(trial, dataset, recorder.run_dir, recorder.wanted)
    recorder.adopt(found.model, found.history)
    return fit.Fitted(found.model, candidates=found.candidates)


def run(trial: Trial, dataset: Dataset, run_dir: Path, wanted: Callable[[], bool]) -> Found:
    """Search, or go on with an interrupted search after its last finished candidate.

    `trial.model.options` are `candidates` (how many at most), `augment` and `version` (the only
    ResNet to use, or None for all that AutoKeras has); `trial.epochs` limits every candidate.
    Everything is kept below `run_dir`. Raises UnavailableError where AutoKeras cannot be imported,
    DeclarationError for data of two classes, TrialError where no candidate could be trained,
    MemoryError where a batch does not fit, and OrphanedError soon after `wanted` says that nobody
    waits for the result.
    """
    classes = len(dataset.class_names)
    if classes < 3:
        raise DeclarationError(
            f"model 'autokeras' needs data of three or more classes, not {classes}: for two "
            "AutoKeras builds networks with one output"
        )
    autokeras = _import()
    with _quiet():
        search = _prepare(autokeras, trial, run_dir, wanted)
        images, labels = _arrays(dataset.train, classes)
        search.fit(
            images,
            labels,
            validation_data=_arrays(dataset.validation, classes),
            batch_size=trial.batch_size,
            epochs=trial.epochs,
            callbacks=[keras.callbacks.EarlyStopping(**_PATIENCE)],
            shuffle=trial.shuffle,
            verbose=0,
        )
        model = plain(search.export_model())
        model.jit_compile = False
        model.save(run_dir / BEST)
    found = _found(search.tuner.oracle, model, run_dir)
    shutil.rmtree(run_dir / PROJECT)
    return found


def _found(oracle: Any, model: keras.Model, run_dir: Path) -> Found:
    """What the candidates of a finished search have left, the chosen one marked."""
    (best,) = oracle.get_best_trials(1)
    rows, history = [], []
    for candidate in sorted(oracle.end_order):
        stored = files.read_json(folder_of(run_dir, int(candidate) + 1) / CANDIDATE)
        is_best = candidate == best.trial_id
        rows.append(stored["candidate"] | {"chosen": is_best})
        history = stored["history"] if is_best else history
    return Found(model, history, rows)


def plain(model: keras.Model) -> keras.Model:
    """The same network with the same weights, not compiled, without AutoKeras's own layers.

    AutoKeras begins every network with a cast to float32, which does nothing to images that are
    float32 already. Raises TrialError for any other layer of its own.
    """

    def call(layer: keras.layers.Layer, *inputs: Any, **options: Any) -> Any:
        if not type(layer).__module__.startswith("autokeras"):
            return layer(*inputs, **options)
        if type(layer).__name__ == "CastToFloat32" and inputs[0].dtype == "float32":
            return inputs[0]
        raise TrialError(f"AutoKeras's layer {layer.name!r} has no counterpart in plain Keras")

    uncompiled = keras.Model(model.input, model.output, name=model.name)
    return keras.models.clone_model(
        uncompiled, clone_function=lambda layer: layer, call_function=call
    )


def _import() -> ModuleType:
    try:
        with _quiet():
            import autokeras
    except Exception as error:  # a broken installation can raise anything
        raise UnavailableError(
            f"AutoKeras cannot be used, because importing it fails ({error}); install it with "
            "`make setup`, or with: .venv/bin/python -m pip install -r requirements.txt"
        ) from error
    return autokeras


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what AutoKeras and Keras Tuner print, and warn of, to themselves."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _arrays(part: Part, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Float32 images in 0..1, and one-hot labels, because AutoKeras would count the classes itself
    and miss those that a small part of the data lacks."""
    images = np.divide(part.images, 255, dtype=np.float32)
    return np.asarray(images), np.eye(classes, dtype=np.float32)[part.labels]


def _prepare(autokeras: ModuleType, trial: Trial, run_dir: Path, wanted: Callable[[], bool]) -> Any:
    """AutoKeras's AutoModel for the trial, with the state of an interrupted search where there is
    one that can be read; one that a kill has damaged is begun anew."""
    options = trial.model.options
    arguments = {
        "max_trials": options["candidates"],
        "directory": run_dir,
        "project_name": PROJECT,
        # Keras Tuner counts its seed up draw by draw, and neighbouring seeds would draw the same.
        "seed": int(np.random.SeedSequence(trial.seed).generate_state(1)[0]),
        "tuner": _tuner_class(autokeras, trial, run_dir, wanted),
        "initial_hps": [_first_candidate(options)],
        "hyperparameters": _fixed(options),
    }

    def build(overwrite: bool) -> Any:
        images = autokeras.ImageInput()
        block = autokeras.ImageBlock(
            block_type="resnet", normalize=True, augment=options["augment"], name=_IMAGES
        )
        outputs = autokeras.ClassificationHead(name=_HEAD)(block(images))
        return autokeras.AutoModel(images, outputs, overwrite=overwrite, **arguments)

    try:
        model = build(overwrite=False)
    except (ValueError, LookupError, RuntimeError):
        model = build(overwrite=True)
    # Failures are diverged candidates; three in a row need not end a search that has found others.
    model.tuner.oracle.max_consecutive_failed_trials = math.inf
    return model


def _first_candidate(options: dict[str, Any]) -> dict[str, Any]:
    """The report's network as AutoKeras's hyper-parameters.

    The report gives no details of its augmentation: these are what AutoKeras's own image classifier
    begins with.
    """
    values = {
        f"{_RESNET}/version": options["version"] or "resnet50",
        f"{_RESNET}/pretrained": False,
        f"{_RESNET}/imagenet_size": False,
        f"{_HEAD}/spatial_reduction_1/reduction_type": "global_max",
        f"{_HEAD}/dropout": 0.0,
        "optimizer": "adam",
        "learning_rate": 1e-3,
    }
    augmentation = {"translation_factor": 0.1, "horizontal_flip": True, "vertical_flip": True}
    augmentation |= {"rotation_factor": 0.0, "zoom_factor": 0.0, "contrast_factor": 0.0}
    if options["augment"]:
        values |= {f"{_AUGMENTATION}/{name}": value for name, value in augmentation.items()}
    return values


def _fixed(options: dict[str, Any]) -> Any:
    """The hyper-parameters that AutoKeras must not search; its ImageBlock takes no such wish."""
    import keras_tuner

    fixed = keras_tuner.HyperParameters()
    fixed.Fixed(f"{_RESNET}/pretrained", False)
    fixed.Fixed(f"{_RESNET}/imagenet_size", False)
    if options["version"]:
        fixed.Fixed(f"{_RESNET}/version", options["version"])
    return fixed


def _tuner_class(
    autokeras: ModuleType, trial: Trial, run_dir: Path, wanted: Callable[[], bool]
) -> type:
    """AutoKeras's greedy tuner, which is AutoModel's default, made repeatable and recorded."""

    class Tuner(autokeras.Greedy):
        def pre_create_trial(self) -> None:
            # AutoKeras draws from NumPy's global generator, which an interruption would reset.
            np.random.seed([trial.seed, len(self.oracle.trials)])

        def _build_hypermodel(self, hp: Any) -> keras.Model:
            model = super()._build_hypermodel(hp)
            # Off as in all trainings. AutoKeras leaves it to Keras, which has XLA on beside a GPU.
            model.jit_compile = False
            optimizers.build_state(model, np.zeros((1, model.output_shape[-1]), np.float32))
            return model

        def _build_and_fit_model(self, candidate: Any, **options: Any) -> Any:
            # AutoKeras takes the number of images for this, and AdamW's learning rate, which falls
            # to zero over the training, would be there after as many steps as there are epochs.
            self.hypermodel.inputs[0].batch_size = trial.batch_size
            keras.utils.set_random_seed(trial.seed)
            recorder = CandidateRecorder(run_dir, int(candidate.trial_id) + 1, trial, wanted)
            # First, so that an epoch's seconds do not hold the saving of its weights.
            options["callbacks"] = [recorder, *options["callbacks"]]
            with recorded(recorder, candidate.hyperparameters.values):
                return super()._build_and_fit_model(candidate, **options)

        def _try_run_and_update_trial(self, candidate: Any, **options: Any) -> None:
            # Keras Tuner would take any error, even the one that ends an unwanted search, for a
            # failed candidate and go on with the next.
            self._run_and_update_trial(candidate, **options)
            candidate.status = "COMPLETED"

        def on_search_end(self) -> None:
            if all(one.status != "COMPLETED" for one in self.oracle.trials.values()):
                raise TrialError("no candidate of the AutoKeras search has a finite loss")

    return Tuner
