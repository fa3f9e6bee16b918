"""In which order trials are trained: each after the one it starts from, the longest way first."""

import heapq
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence

from refit.experiments.trial import Trial


class Schedule:
    """The trials that are still to be started, each of them once.

    `expected` tells how long each will take, in seconds. Those that begin the longest chain of
    trials come first, which keeps all workers busy to the end.
    """

    def __init__(self, trials: Sequence[Trial], expected: Mapping[Trial, float]) -> None:
        self._expected = expected
        self._followers: dict[str, list[Trial]] = defaultdict(list)
        self._ready: list[tuple[float, int, Trial]] = []
        self._number = itertools.count()
        directories = {str(trial.directory) for trial in trials}
        for trial in trials:
            if trial.source in directories:
                self._followers[trial.source].append(trial)
        for trial in trials:
            if trial.source not in directories:
                self._add(trial)

    def start(self) -> Trial | None:
        """The trial to start next; None where all others wait for one that is running."""
        return heapq.heappop(self._ready)[-1] if self._ready else None

    def ended(self, trial: Trial) -> None:
        """Release the trials that start from this one; without its weights they fail at once."""
        for follower in self._followers.pop(str(trial.directory), []):
            self._add(follower)

    def _add(self, trial: Trial) -> None:
        heapq.heappush(self._ready, (-self._way(trial), next(self._number), trial))

    def _way(self, trial: Trial) -> float:
        """The time from a trial's start to the end of the last that must wait for it."""
        followers = self._followers.get(str(trial.directory), [])
        return self._expected[trial] + max(map(self._way, followers), default=0.0)
