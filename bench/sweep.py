"""A sweep of small trials: refit's runner, papermill once per trial, Keras Tuner's own loop."""

from bench import plain_keras, trials
from bench.measure import Options, Series, call, in_turns

# Of the papermill runs, which all take the same time, so many are measured.
NOTEBOOKS = 3


def measure(options: Options) -> list[Series]:
    count = 2 if options.tiny else 24
    measured = 1 if options.tiny else NOTEBOOKS
    samples = in_turns(
        options.rounds,
        {
            "refit": lambda: call(by_refit, count=count),
            "papermill": lambda: call(by_papermill, count=measured),
            "tuner": lambda: call(by_keras_tuner, count=count),
        },
    )
    what = f"{count} small trials (LeNet, 160 digits, 2 epochs), with all start-up"
    seconds = {way: [sample.seconds for sample in found] for way, found in samples.items()}
    scaled = [value * count / measured for value in seconds["papermill"]]
    papermill = (
        f"papermill, a fresh kernel per trial ({measured} measured, times {count / measured:g})"
    )
    refit = Series(what, "refit, 2 workers", seconds["refit"])
    return [
        refit,
        Series(what, papermill, scaled, against=refit, least_ratio=10),
        Series(
            what,
            "Keras Tuner's GridSearch in one process",
            seconds["tuner"],
            against=refit,
            least_ratio=2.5,
        ),
    ]


def by_refit(count: int) -> None:
    from refit import paths
    from refit.running import runner

    runner.check(runner.run([trials.small(i) for i in range(count)], paths.runs() / "sweep", 2))


def by_papermill(count: int) -> None:
    """Run a notebook that trains one trial, once per trial."""
    import nbformat

    from refit import paths
    from refit.pages.notebook import execute

    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_code_cell("index = 0", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(
            f"import sys\n\nsys.path.append({str(paths.ROOT)!r})  # no kernel sees its own folder\n"
            "from bench import plain_keras, trials\n\ntrial = trials.small(index)\n"
            "plain_keras.fit(trial, plain_keras.arrays(trial))"
        ),
    ]
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    source = paths.runs() / "trial.ipynb"
    nbformat.write(notebook, source)
    for index in range(count):
        execute(source, paths.runs() / f"{index}.ipynb", {"index": index})


def by_keras_tuner(count: int) -> None:
    """Let Keras Tuner try the same networks, one after another, with `fit` on NumPy arrays."""
    import keras
    import keras_tuner

    from refit import paths

    parts = plain_keras.arrays(trials.small())

    def build(choices: keras_tuner.HyperParameters) -> keras.Model:
        index = choices.Choice("index", list(range(count)))
        keras.utils.set_random_seed(trials.small(index).seed)
        return plain_keras.compiled(trials.small(index), parts["train"][0].shape[1:])

    tuner = keras_tuner.GridSearch(
        build, objective="val_accuracy", max_trials=count, directory=paths.runs()
    )
    trial = trials.small()
    tuner.search(
        *parts["train"],
        validation_data=parts["validation"],
        batch_size=trial.batch_size,
        epochs=trial.epochs,
        verbose=0,
    )
    found = len(tuner.oracle.trials)
    if found != count:
        raise RuntimeError(f"Keras Tuner tried {found} of {count}")
