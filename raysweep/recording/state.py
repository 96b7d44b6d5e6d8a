"""Where a sweep stands: which trials are claimed, have died, have ended, and how well.

It changes by entries, which the store's log keeps: applied again, they lead to the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from raysweep.planning.grid import Trial
from raysweep.recording.pace import Standing
from raysweep.store.log import Entry
from raysweep.store.schema import STOPPED


class Failure(NamedTuple):
    """A trial that ended with an error."""

    trial_id: str
    error: str
    log: str  # path in the store


class Progress(NamedTuple):
    """What people see of it. Accuracies are of the last epoch, on validation data."""

    planned: int
    done: int
    running: int
    diverged: int
    stopped: int  # by the scheduler
    failures: tuple[Failure, ...]
    best_point: Mapping[str, Any] | None
    best_accuracy: float
    best_num_seeds: int
    storage_error: str | None = None  # why nothing can be recorded any more
    abandoned: str | None = None  # why nothing that is left can be trained
    num_rows: int = 0  # that have arrived
    standing: tuple[Standing, ...] = ()
    notice: str | None = None  # what a sweep that stands still waits for


class Claim(NamedTuple):
    """A trial that is being trained."""

    attempt: int
    nodes: frozenset[str]  # that it trains on
    token: str  # the caller's: by it, a claim that comes twice is one
    where: str = ""  # its process, in words


class State:
    """The state of all trials of a sweep."""

    def __init__(
        self, trials: Sequence[Trial], attempts: Mapping[str, int], done: set[str]
    ) -> None:
        """Args: attempts: number of the last one at each trial; done: ids, before it began."""
        self._trials = {trial.trial_id: trial for trial in trials}
        self._points = {trial.config_id: trial.point for trial in trials}
        self.attempts = dict(attempts)
        self.done = set(done) & self._trials.keys()
        self.claims: dict[str, Claim] = {}
        self.deaths: dict[str, list[frozenset[str]]] = {}  # each one's, by the nodes
        self.failures: dict[str, Failure] = {}
        self.stopped: set[str] = set()
        self._diverged = 0
        self._accuracies: dict[str, list[float]] = {}

    def add(self, trial: Trial) -> None:
        """Take one more trial."""
        self._trials[trial.trial_id] = trial
        self._points[trial.config_id] = trial.point

    def __getitem__(self, trial_id: str) -> Trial:
        return self._trials[trial_id]

    def has_ended(self, trial_id: str) -> bool:
        """Whether nothing of it is left to train."""
        return trial_id in self.done or trial_id in self.failures

    def has_claim(self, trial_id: str, attempt: int) -> bool:
        """Whether this attempt is the one that trains."""
        claim = self.claims.get(trial_id)
        return claim is not None and claim.attempt == attempt

    def apply(self, entry: Entry) -> None:
        """Change by one entry: claimed, died, finished, failed or stopped."""
        trial_id, attempt, what, _ = entry
        details = entry.details or {}
        if what == "claimed":
            self.claims[trial_id] = Claim(
                attempt, frozenset(details["nodes"]), details["token"], details.get("where", "")
            )
            self.attempts[trial_id] = attempt
            return
        claim = self.claims.pop(trial_id, None)
        if what == "died" and claim is not None:
            self.deaths.setdefault(trial_id, []).append(claim.nodes)
        elif what == "failed":
            self.failures[trial_id] = Failure(trial_id, details["error"], details["log"])
        elif what == STOPPED:
            self.done.add(trial_id)
            self.stopped.add(trial_id)
        elif what == "finished":
            self.done.add(trial_id)
            self._diverged += details["status"] == "diverged"
            if details["status"] == "completed":
                config_id = self._trials[trial_id].config_id
                self._accuracies.setdefault(config_id, []).append(details["accuracy"])

    def progress(self) -> Progress:
        """Counts the trials, and finds the best configuration."""
        means = {key: sum(values) / len(values) for key, values in self._accuracies.items()}
        best = max(means, key=means.__getitem__, default=None)
        return Progress(
            planned=len(self._trials),
            done=len(self.done),
            running=len(self.claims),
            diverged=self._diverged,
            stopped=len(self.stopped),
            failures=tuple(self.failures.values()),
            best_point=None if best is None else self._points[best],
            best_accuracy=0.0 if best is None else means[best],
            best_num_seeds=0 if best is None else len(self._accuracies[best]),
        )
