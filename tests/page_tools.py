"""A page of trainings that nobody trained: run directories as trainings leave them, and a notebook
as it is after its run, both made here in a second or two."""

from contextlib import closing
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from refit import files
from refit.experiments import expand
from refit.pages import article, index, page
from refit.run_directory.directory import RESULT
from refit.run_directory.events import EventWriter
from refit.study import Study

PARTS = {
    "Summary": ["summary"],
    "Question": ["question"],
    "Data": ["data"],
    "Models": ["models"],
    "Training": ["training"],
    "Results": ["figures"],
    "Claims": ["claims"],
    "Conclusion": ["conclusion", "sources"],
}
IMAGES = 200  # to test on


def opened(folder: Path, name: str, profile: str, seeds: int = 0) -> Study:
    """A study whose data sets are taken for granted, with all its folders in one."""
    declaration = expand.load(name)
    known = {"fingerprint": "x"}
    trials = expand.expand(declaration, profile, seeds, lambda s: s.model_copy(update=known))
    places = {"runs": folder / "runs" / name, "pages": folder / profile / name}
    return Study(declaration, profile, trials, data_dir=None, **places)


def train(study: Study) -> None:
    """Leave what trainings leave. Losses fall and accuracies rise at random rates."""
    for trial in study.trials:
        random = np.random.default_rng(int(trial.digest, 16))
        steps = np.arange(trial.epochs)
        loss = 2.3 * np.exp(-random.uniform(0.02, 0.2) * steps) + random.normal(0, 0.01, len(steps))
        val_loss = 1.1 * loss
        val_loss[-2:-1] = val_loss[-1] + 1e-9  # in the float32 of events the same
        right = np.clip(0.1 + random.uniform(0.3, 0.8) * (1 - np.exp(-0.3 * steps)), 0, 1)
        curves = {
            "train": {"epoch_loss": loss, "epoch_accuracy": right, "epoch_seconds": loss / 10},
            "validation": {"epoch_loss": val_loss, "epoch_accuracy": 0.9 * right},
        }
        rate = np.full(len(steps), trial.optimizer.learning_rate)
        curves["train"] |= {"epoch_learning_rate": rate, "epoch_processor_seconds": loss / 10}
        curves["train"] |= {"epoch_train_seconds": loss / 10}
        for kind, values in curves.items():
            with closing(EventWriter(study.runs / trial.directory / kind)) as log:
                for step in steps:
                    log.scalars({tag: float(of[step]) for tag, of in values.items()}, int(step))
        files.write_json(study.runs / trial.directory / RESULT, _result(study, trial, curves))


def _result(study, trial, curves):
    loss, right, seconds = list(curves["train"].values())[:3]
    val_loss, val_right = curves["validation"].values()
    hits = round(float(val_right[-1]) * IMAGES)
    classes = study.declaration.classes
    matrix = np.zeros((classes, classes), int)
    matrix[0, 0], matrix[0, 1] = hits, IMAGES - hits
    metrics = {
        "train_accuracy": right[-1], "train_loss": loss[-1], "val_accuracy": val_right[-1],
        "val_loss": val_loss[-1], "epochs": trial.epochs, "best_val_accuracy": val_right.max(),
        "best_val_accuracy_epoch": val_right.argmax() + 1, "min_val_loss": val_loss.min(),
        "min_val_loss_epoch": val_loss.argmin() + 1, "seconds": seconds.sum(),
        "total_seconds": seconds.sum(), "seconds_per_epoch": seconds.mean(),
        "train_seconds": seconds.mean(), "processor_seconds": seconds.sum(),
        "total_params": 1000, "trainable_params": 900, "non_trainable_params": 100, "layers": 2,
        "weight_layers": 1, "classes": classes, "test_accuracy": hits / IMAGES, "test_loss": 1.0,
    }  # fmt: skip
    for stop in (spec for spec in trial.callbacks if spec.name == "stop_at_target"):
        spent = {"epochs": trial.epochs, "seconds": seconds.sum()}
        spent |= {"processor_seconds": seconds.sum()}
        spent = spent if right[-1] >= stop.target else dict.fromkeys(spent, np.inf)
        metrics |= {f"{name}_to_target": value for name, value in spent.items()}
    layer = {"name": "dense1", "type": "Dense", "output_shape": [10], "parameters": 1000}
    data = {"source": "invented images", "stand_in": "", "embedded": study.profile_name == "smoke"}
    data |= dict.fromkeys(("train_images", "validation_images", "test_images"), IMAGES)
    data["classes"] = [f"class {number}" for number in range(classes)]
    return {
        "trial": trial.model_dump(mode="json"),
        "digest": trial.digest,
        "metrics": {name: float(value) for name, value in metrics.items()} | {"diverged": False},
        "data": data,
        "confusion_matrix": matrix.tolist(),
        "layers": [layer],
        "started": "2026-01-01T00:00:00+00:00",
        "environment": {"processor": "an invented processor", "workers": 1},
    }


def search(study: Study, sweep: str) -> None:
    """Leave the record of a search that suggested every trial of a grid in turn."""
    log, spec = study.log(), study.declaration.plan(study.profile_name, sweep, "search")
    first = log.done[(log.done["sweep"] == sweep) & (log.done["seed"] == log.done["seed"].min())]
    rows = [
        (sweep, tuner, repeat, step, row.trial, row.digest, *[row.epochs] * 2, row.val_accuracy)
        for tuner in spec.tuners
        for repeat in range(1, spec.repeats + 1)
        for step, row in enumerate(first.itertuples(), start=1)
    ]
    columns = ["sweep", "tuner", "repeat", "step", "trial", "digest", "reached", "epochs", "score"]
    frame = pd.DataFrame(rows, columns=columns)
    files.write_table(study.pages / f"search_{sweep}.csv", frame)


def publish(study: Study, seeds: int = 0) -> Path:
    """Make the page of a study, a picture beside it, and the index; returns the pages' folder."""
    cells = [new_markdown_cell(f"# {study.declaration.title}")]
    for heading, calls in PARTS.items():
        cells.append(new_markdown_cell(f"## {heading}"))
        for call in calls:
            data = {"text/html": getattr(article, call)(study).data}
            shown = new_output("display_data", data)
            cells.append(new_code_cell(f"article.{call}(study)", outputs=[shown]))
    executed = study.runs / "executed.ipynb"
    nbformat.write(new_notebook(cells=cells), executed)
    files.write_bytes(study.pages / "curves.png", b"a picture")
    page.publish(study, executed, {"seeds": seeds})
    return index.write(study.pages.parent).parent
