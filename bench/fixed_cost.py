"""What a trial costs before and after it learns anything."""

import time

from bench import plain_keras, trials
from bench.measure import Options, Series, call, in_turns


def measure(options: Options) -> list[Series]:
    count = 2 if options.tiny else 24
    samples = in_turns(
        options.rounds,
        {
            "refit": lambda: call(by_refit, count=count),
            "interpreter": lambda: call(by_interpreter),
        },
    )
    what = "fixed cost of a trial of one step (LeNet)"
    refit = Series(
        what,
        f"refit, 2 workers, mean of {count}, start of the fork server excluded",
        [sample.returned["seconds_per_trial"] for sample in samples["refit"]],
        most=0.4,
    )
    return [
        refit,
        Series(
            what,
            "a fresh interpreter that imports Keras",
            [sample.seconds for sample in samples["interpreter"]],
            against=refit,
            least_ratio=10,
        ),
    ]


def by_refit(count: int) -> dict[str, float]:
    from refit import paths
    from refit.running import runner

    warm_up()
    some = [trials.one_step(index) for index in range(count)]
    started = time.perf_counter()
    runner.check(runner.run(some, paths.runs() / "steps", 2))
    return {"seconds_per_trial": (time.perf_counter() - started) / count}


def warm_up() -> None:
    """Start the fork server, which lives as long as this process, and let it import Keras."""
    from refit import paths
    from refit.running import runner

    runner.check(runner.run([trials.one_step()], paths.runs() / "warm", 1))


def by_interpreter() -> None:
    trial = trials.one_step()
    plain_keras.fit(trial, plain_keras.arrays(trial))
