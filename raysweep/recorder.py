"""The one process that owns the store's writer, and the sender that workers talk to it with."""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from raysweep.grid import Trial
from raysweep.store import EPOCHS, TRIALS, Store, StoreWriter

FLUSH_SECONDS = 10.0
FLUSH_ROWS = 50_000
MAX_ATTEMPTS = 2  # of a trial whose process died; an error raised in it is final at once
DONE = ("completed", "diverged")


class Failure(NamedTuple):
    """A trial that ended with an error."""

    trial_id: str
    error: str
    log: str  # path in the store


class Progress(NamedTuple):
    """Where a sweep stands. Accuracies are of the last epoch, on validation data."""

    planned: int
    done: int
    running: int
    diverged: int
    failures: tuple[Failure, ...]
    best_point: Mapping[str, Any] | None
    best_accuracy: float
    best_num_seeds: int
    num_rows: int = 0  # that have arrived
    notice: str | None = None  # what a sweep that stands still waits for


class Recorder:
    """Takes rows, claims and results; nothing else writes to the store.

    It runs as one named Ray actor, and without Ray in tests. A trial is complete only when its
    rows are in segments: `StoreWriter.flush` writes a trial's rows before the trial itself.
    """

    def __init__(
        self,
        root: Path | str,
        record: Mapping[str, Any],
        trials: Sequence[Trial],
        constants: Mapping[str, Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: record: this invocation's entry in sweeps/; constants: columns that all trials
        share (task, world_size, ...)."""
        self.store = Store(root)
        self.writer = StoreWriter(self.store)
        self.writer.add_sweep(record)
        self._clock = clock
        self._flushed_at = -math.inf  # the first rows become a segment at once
        self._trials = {trial.trial_id: trial for trial in trials}
        self._points = {trial.config_id: trial.point for trial in trials}
        self._constants = constants
        self._attempts = attempts_in(self.store)
        self._done = finished_in(self.store) & self._trials.keys()
        self._diverged = 0
        self._claimed: dict[str, int] = {}
        self._deaths: Counter[str] = Counter()
        self._failures: dict[str, Failure] = {}
        self._accuracies: dict[str, list[float]] = {}
        self._num_rows = 0

    def todo(self, trial_ids: Sequence[str]) -> list[str]:
        """What of a pack is left to train.

        A trial of it that was claimed and never ended died with its process: it is tried again,
        MAX_ATTEMPTS times in all; the others are not charged for it.
        """
        for trial_id in trial_ids:
            attempt = self._claimed.pop(trial_id, None)
            if attempt is None:
                continue
            self._deaths[trial_id] += 1
            if self._deaths[trial_id] >= MAX_ATTEMPTS:
                died = f"the process that trained it died, {MAX_ATTEMPTS} times"
                self.fail(trial_id, attempt, died, died + " (killed, out of memory, or its node)")
        return [t for t in trial_ids if t not in self._done and t not in self._failures]

    def claim(self, trial_id: str) -> int:
        """Take a trial before its training starts. Returns: the number of this attempt."""
        attempt = self._attempts[trial_id] = self._attempts.get(trial_id, 0) + 1
        self._claimed[trial_id] = attempt
        return attempt

    def blame(self, trial_ids: Sequence[str], error: str, details: str) -> bool:
        """Charge an error to the claimed trial of a pack. Returns: whether there was one."""
        claimed = [trial_id for trial_id in trial_ids if trial_id in self._claimed]
        for trial_id in claimed:
            self.fail(trial_id, self._claimed[trial_id], error, details)
        return bool(claimed)

    def append(self, rows: pa.RecordBatch) -> None:
        """Epoch rows; they are logged when this returns."""
        self.writer.append("epochs", rows)
        self._num_rows += len(rows)
        self._flush_if_due()

    def finish(
        self,
        trial_id: str,
        attempt: int,
        rows: pa.RecordBatch,
        outcome: Mapping[str, Any],
        val_accuracy: float,
        checkpoint: bytes | None,
    ) -> None:
        """A trial's last rows and its result. Args: outcome: columns of `store.TRIALS`."""
        self.writer.append("epochs", rows)
        self._num_rows += len(rows)
        columns = dict(outcome)
        if checkpoint is not None:
            columns["checkpoint"] = path = self.store.checkpoint(trial_id, attempt)
            self.store.folder.write_new(path, checkpoint)
        self._append_trial(trial_id, attempt, columns)
        self._claimed.pop(trial_id, None)
        self._done.add(trial_id)
        self._diverged += columns["status"] == "diverged"
        if columns["status"] == "completed":
            config_id = self._trials[trial_id].config_id
            self._accuracies.setdefault(config_id, []).append(val_accuracy)
        self._flush_if_due()

    def fail(self, trial_id: str, attempt: int, error: str, details: str) -> None:
        """A trial that ended with an error: one line for people, the traceback into a log."""
        log = self.store.error_log(trial_id, attempt)
        self.store.folder.write_new(log, details.encode())
        self._append_trial(
            trial_id, attempt, {"status": "failed", "error": error, "error_log": log}
        )
        self._claimed.pop(trial_id, None)
        self._failures[trial_id] = Failure(trial_id, error, log)
        self._flush_if_due()

    def progress(self) -> Progress:
        """Where the sweep stands now."""
        self._flush_if_due()
        means = {key: sum(values) / len(values) for key, values in self._accuracies.items()}
        best = max(means, key=means.__getitem__, default=None)
        return Progress(
            planned=len(self._trials),
            done=len(self._done),
            running=len(self._claimed),
            diverged=self._diverged,
            failures=tuple(self._failures.values()),
            best_point=None if best is None else self._points[best],
            best_accuracy=0.0 if best is None else means[best],
            best_num_seeds=0 if best is None else len(self._accuracies[best]),
            num_rows=self._num_rows,
        )

    def flush(self) -> None:
        """Put everything that has arrived into segments."""
        self.writer.flush()
        self._flushed_at = self._clock()

    def close(self) -> None:
        """Flush, then merge the segments."""
        self.writer.compact()

    def _append_trial(self, trial_id: str, attempt: int, columns: Mapping[str, Any]) -> None:
        trial = self._trials[trial_id]
        row = {
            **self._constants,
            **trial.hyperparameters.columns(),
            "trial_id": trial_id,
            "config_id": trial.config_id,
            "seed": trial.seed,
            "attempt": attempt,
            **columns,
        }
        self.writer.append("trials", pa.RecordBatch.from_pylist([row], TRIALS))

    def _flush_if_due(self) -> None:
        pending = self.writer.num_pending_rows
        due = self._clock() - self._flushed_at >= FLUSH_SECONDS or pending >= FLUSH_ROWS
        if pending and due:
            self.flush()


def finished_in(store: Store) -> set[str]:
    """Ids of the trials that a store holds whole: not to be trained again."""
    rows = store.read("trials", ["trial_id", "status"]).to_pydict()
    pairs = zip(rows["trial_id"], rows["status"], strict=True)
    return {trial_id for trial_id, status in pairs if status in DONE}


def attempts_in(store: Store) -> dict[str, int]:
    """The last attempt at each trial that left anything in a store."""
    last: dict[str, int] = {}
    for table in ("epochs", "trials"):
        rows = store.read(table, ["trial_id", "attempt"])
        grouped = rows.group_by("trial_id").aggregate([("attempt", "max")]).to_pydict()
        for trial_id, attempt in zip(grouped["trial_id"], grouped["attempt_max"], strict=True):
            last[trial_id] = max(attempt, last.get(trial_id, 0))
    return last


class Sender:
    """A worker's line to the recorder, for one trial after another: rows go in small batches.

    Calls of one process arrive in their order, so a trial's end need not have arrived when the
    next trial is claimed. What is in flight is bounded: a slow disk slows training down rather
    than filling memory.
    """

    SECONDS = 2.0
    MAX_IN_FLIGHT = 8

    def __init__(self, recorder: Any, clock: Callable[[], float] = time.perf_counter) -> None:
        """Args: recorder: handle of the actor."""
        # Only workers of a running sweep send; the rest of this file works without Ray.
        import ray

        self._ray = ray
        self._recorder = recorder
        self._clock = clock
        self._in_flight: deque[Any] = deque()
        self._trial_id = ""
        self._claim: Any = None  # the number of this attempt, or the reference to it
        self._rows: list[dict[str, Any]] = []
        self._sent_at = -math.inf
        self._val_accuracy = math.nan

    def start(self, trial_id: str) -> None:
        """Claim a trial; the rows that follow are its rows."""
        # Its number is first needed with the first row: training need not wait for it.
        self._trial_id, self._claim = trial_id, self._recorder.claim.remote(trial_id)
        self._rows = []
        self._sent_at = -math.inf  # the first row goes at once
        self._val_accuracy = math.nan

    def emit(self, row: Mapping[str, Any]) -> None:
        """Take one epoch's row; it is sent with the next batch."""
        keys = {"trial_id": self._trial_id, "attempt": self._attempt(), "start_epoch": 1}
        self._rows.append({**row, **keys})
        self._val_accuracy = row["val_correct"] / row["val_n"]
        if self._clock() - self._sent_at >= self.SECONDS:
            self._sent_at = self._clock()
            self._send(self._recorder.append.remote(self._take()))

    def finish(self, outcome: Mapping[str, Any], checkpoint: bytes | None) -> None:
        """Send the trial's last rows and its result."""
        arguments = self._take(), outcome, self._val_accuracy, checkpoint
        self._send(self._recorder.finish.remote(self._trial_id, self._attempt(), *arguments))

    def drain(self) -> None:
        """Wait until the recorder has all that was sent."""
        self._ray.get(list(self._in_flight))
        self._in_flight.clear()

    def _attempt(self) -> int:
        if not isinstance(self._claim, int):
            self._claim = self._ray.get(self._claim)
        return self._claim

    def _take(self) -> pa.RecordBatch:
        rows, self._rows = self._rows, []
        return pa.RecordBatch.from_pylist(rows, EPOCHS)

    def _send(self, reference: Any) -> None:
        self._in_flight.append(reference)
        while len(self._in_flight) > self.MAX_IN_FLIGHT:
            self._ray.get(self._in_flight.popleft())


def one_line(error: BaseException, where: str) -> str:
    """An error as people read it: its kind, its message, where it happened."""
    message = " ".join(str(error).split())
    return (
        f"{type(error).__name__}: {message} ({where})"
        if message
        else f"{type(error).__name__} ({where})"
    )
