"""The trials that are measured."""

from typing import Any

from refit.experiments.trial import Trial

DIGITS = {"name": "digits", "fingerprint": "sklearn-digits"}


def small(index: int = 0, **changes: Any) -> Trial:
    """A short training of LeNet on 160 embedded digits; every index has another rate and seed."""
    settings = {
        "sweep": "bench",
        "name": f"small-{index}",
        "title": "a short training",
        "published_epochs": 2,
        "data": DIGITS | {"train_images": 160, "validation_images": 60, "test_images": 60},
        "model": {"name": "lenet"},
        "optimizer": {"name": "adam", "learning_rate": 0.001 * (1 + index % 6)},
        "epochs": 2,
        "batch_size": 32,
        "seed": index // 6,
        "shuffle": True,
    }
    return Trial.model_validate(settings | changes)


def one_step(index: int = 0) -> Trial:
    """A training of one batch."""
    few = DIGITS | {"train_images": 32, "validation_images": 32, "test_images": 32}
    return small(index, name=f"step-{index}", data=few, epochs=1)
