"""Trained networks, each a `.keras` file with a card beside it, and what they say of a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import ImageOps
from pydantic import BaseModel

from refit import files, paths
from refit.data import images
from refit.data.arrays import Dataset, resize
from refit.errors import DataError, TrialError
from refit.experiments.trial import AUTOKERAS, Trial
from refit.run_directory.directory import BEST_WEIGHTS, NETWORK, result_of
from refit.running import runner
from refit.running.pool import TRAINING_LOG
from refit.study import Study

TRAIN = "refit.training.network:train"
FOLDER = "networks"
# Brighter than half at its border: light ground, where the grey data sets have dark.
LIGHT = 128


class Card(BaseModel):
    """What a network is: how it was trained, on what, and how well it does; `sha256` is its file's.

    `classes` are in the order of its outputs, `input_shape` is (height, width, channels).
    """

    experiment: str
    trial: str
    title: str
    profile: str
    digest: str
    seed: int
    settings: dict[str, bool | int | float | str]
    data: dict[str, bool | int | str | list[str]]
    classes: list[str]
    input_shape: tuple[int, int, int]
    resampling: str
    weights: str
    scores: dict[str, float]
    versions: dict[str, str]
    trained: str
    sha256: str


def keep(study: Study, trial: Trial, out: Path) -> Path:
    """Train a trial, unless its network is there, and put network and card into the folder `out`,
    with a table of every test image: image, label, prediction and its probability.

    The training has a folder of its own, so that results of record are left alone, and a digest
    like any other. Raises DataError for clips, TrialError for a search and for a training
    that fails.
    """
    if trial.model.name == AUTOKERAS:
        raise TrialError(f"{trial.name} is a search, which keeps the networks that it tries itself")
    if trial.data.frames:
        raise DataError(f"{trial.name} is a network of clips, which no picture can be shown to")
    folder = paths.runs() / FOLDER / study.profile_name / study.name
    trials = [*study.before(trial), trial]
    runner.check(runner.run(trials, folder, data_dir=study.data_dir, train=TRAIN, describe=False))
    result, network = result_of(trial, folder) or {}, folder / trial.directory / NETWORK
    best = (network.parent / BEST_WEIGHTS).exists()
    metrics, facts = result["metrics"], result["environment"]
    data = study.data(trial.name)
    scores = ("test_accuracy", "test_loss", "val_accuracy", "epochs", "total_params")
    card = Card(
        experiment=study.name,
        profile=study.profile_name,
        digest=trial.digest,
        settings=trial.hyper_parameters(),
        data=result["data"],
        classes=result["data"]["classes"],
        input_shape=data.train.images.shape[1:],
        resampling=trial.data.resampling,
        weights="those of the best epoch" if best else "those of the last epoch",
        scores={name: metrics[name] for name in scores if name in metrics},
        versions={name: facts[name] for name in ("python", "keras", "tensorflow")},
        trained=result["started"],
        sha256=files.digest(network),
        **trial.model_dump(include={"title", "seed"}),
        trial=trial.name,
    )
    path = out / f"{study.name}-{trial.name}.keras"
    files.write_bytes(path, network.read_bytes())
    files.write_json(path.with_suffix(".json"), card.model_dump(mode="json"))
    files.write_table(path.with_suffix(".csv"), _tested(data, path))
    return path


def _tested(data: Dataset, network: Path) -> pd.DataFrame:
    probabilities = _probabilities(network, data.test.images)
    told = data.tell(probabilities.argmax(axis=1))
    return pd.DataFrame(told | {"probability": probabilities.max(axis=1).round(4)})


def _probabilities(network: Path, shown: np.ndarray) -> np.ndarray:
    with files.stderr_in(paths.runs() / TRAINING_LOG):
        from refit.training import network as networks  # imports Keras

        return networks.predict(network, shown)


def find(experiment: str, trial: str) -> tuple[Path, Card]:
    """A kept network and its card: the user's own, else the committed one.

    Raises TrialError where there is none, or its file is not the one that the card describes.
    """
    folders = (paths.runs() / FOLDER, paths.NETWORKS)
    for folder in folders:
        path = folder / f"{experiment}-{trial}.keras"
        if card := files.read_model(path.with_suffix(".json"), Card):
            if files.digest(path) != card.sha256:
                raise TrialError(f"{path}: is not the network that {path.stem}.json describes")
            return path, card
    known = sorted(path.stem for folder in folders for path in folder.glob("*.json"))
    raise TrialError(
        f"no network of {experiment} {trial} is kept; run: refit keep {experiment} {trial}. "
        f"Kept are: {', '.join(known) or 'none'}"
    )


def predict(
    network: Path, card: Card, pictures: Sequence[Path], invert: bool = False
) -> list[tuple[str, list[tuple[str, float]]]]:
    """What a network takes pictures for: of each a note on how it was fitted, and the classes with
    their probabilities, the likeliest first.

    Raises DataError for what is no picture.
    """
    fitted = [_fit(picture, card, invert) for picture in pictures]
    probabilities = _probabilities(network, np.stack([image for image, _ in fitted]))
    return [
        (note, sorted(zip(card.classes, map(float, row), strict=True), key=lambda pair: -pair[1]))
        for (_, note), row in zip(fitted, probabilities, strict=True)
    ]


def _fit(path: Path, card: Card, invert: bool) -> tuple[np.ndarray, str]:
    """A picture as the network was shown its own, uint8, and in words what that took."""
    height, width, channels = card.input_shape
    notes = []
    with images.opened(str(path), path) as picture:
        if picture.size != (width, height):
            notes.append(f"from {picture.width}x{picture.height} to {width}x{height}")
        upright = images.colour(ImageOps.exif_transpose(picture))
    if channels == 1:
        if np.ptp(np.asarray(upright), axis=2).any():
            notes.append("turned grey")
        upright = upright.convert("L")
    pixels = np.asarray(ImageOps.invert(upright) if invert else upright)
    pixels = pixels.reshape(1, *pixels.shape[:2], channels)
    border = np.concatenate([pixels[0, [0, -1]].ravel(), pixels[0, :, [0, -1]].ravel()])
    if channels == 1 and border.mean() > LIGHT:
        how = "without --invert" if invert else "--invert"
        notes.append(f"its ground is light, and the network knows dark ones: try {how}")
    return resize(pixels, width, card.resampling)[0], ", ".join(notes)
