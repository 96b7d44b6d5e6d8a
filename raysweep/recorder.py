"""The one process that owns the store's writer; workers talk to it through `Sender`."""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import pyarrow as pa

from raysweep.errors import StorageError
from raysweep.finished import attempts_in, finished_in, has_epochs
from raysweep.grid import Trial
from raysweep.shelf import Shelf
from raysweep.store import TRIALS, Store, StoreWriter

FLUSH_SECONDS = 10.0
FLUSH_ROWS = 50_000
RETRIES = 2  # of a trial whose process died; an error raised in it is final at once
# Of a trial in one invocation: nodes that left while it trained on them.
MAX_LOST_NODES = 20
P = ParamSpec("P")
R = TypeVar("R")


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
    storage_error: str | None = None  # why nothing can be recorded any more
    num_rows: int = 0  # that have arrived
    notice: str | None = None  # what a sweep that stands still waits for


def _stores(
    method: Callable[Concatenate["Recorder", P], R],
) -> Callable[Concatenate["Recorder", P], R]:
    """A method that may find the store unwritable. From then on all of them refuse: nothing that
    is sent counts as recorded, and no trial is blamed for it."""

    @functools.wraps(method)
    def call(self: "Recorder", *args: P.args, **kwargs: P.kwargs) -> R:
        if self.storage_error is not None:
            raise StorageError(self.storage_error)
        try:
            return method(self, *args, **kwargs)
        except StorageError as error:
            self.storage_error = str(error)
            raise

    return call


class Recorder:
    """Takes rows, claims and results; nothing else writes to the store.

    When the store can't be written any more (a full disk), every call raises StorageError, and
    `progress` says why.

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
        *,
        retries: int = RETRIES,
        shelf: Shelf | None = None,
    ) -> None:
        """Args: record: this invocation's entry in sweeps/; constants: columns that all trials
        share (task, world_size, ...); shelf: of checkpoints, in the store by default."""
        self.storage_error: str | None = None
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
        self._nodes: dict[str, frozenset[str]] = {}  # where each trial was claimed last
        self._deaths: dict[str, list[frozenset[str]]] = {}  # where each trial's processes died
        self._retries = retries
        self._shelf = shelf or Shelf(self.store.folder, "resume")
        self._shelf.look()
        for trial_id in self._shelf:
            if trial_id in self._done:
                self._shelf.remove(trial_id)
        self._failures: dict[str, Failure] = {}
        self._accuracies: dict[str, list[float]] = {}
        self._num_rows = 0

    @_stores
    def todo(self, trial_ids: Sequence[str], living: Collection[str] | None = None) -> list[str]:
        """What of a pack is left to train.

        A trial of it that was claimed and never ended died with its process: it is tried again,
        so many times; the others are not charged for it. A node that left is not its fault.

        Args: living: ids of the nodes that are there now; None: all are.
        """
        for trial_id in trial_ids:
            attempt = self._claimed.pop(trial_id, None)
            if attempt is None:
                continue
            deaths = self._deaths.setdefault(trial_id, [])
            deaths.append(self._nodes[trial_id])
            lost = sum(living is not None and not nodes <= set(living) for nodes in deaths)
            if len(deaths) - lost > self._retries:
                died = f"the process that trained it died, {len(deaths) - lost} times"
                self.fail(trial_id, attempt, died, died + " (killed, out of memory, crashed)")
            elif lost > MAX_LOST_NODES:
                left = f"the node that trained it left, {lost} times"
                self.fail(trial_id, attempt, left, left)
        return [t for t in trial_ids if t not in self._done and t not in self._failures]

    @_stores
    def claim(self, trial_id: str, nodes: Collection[str] = ()) -> int:
        """Take a trial before its training starts.

        Args: nodes: ids of those that it trains on. Returns: the number of this attempt.
        """
        attempt = self._attempts[trial_id] = self._attempts.get(trial_id, 0) + 1
        self._claimed[trial_id], self._nodes[trial_id] = attempt, frozenset(nodes)
        return attempt

    def num_attempts(self, trial_ids: Sequence[str]) -> int:
        """At all of these trials together."""
        return sum(self._attempts.get(trial_id, 0) for trial_id in trial_ids)

    def kept(self, trial_ids: Sequence[str]) -> list[str]:
        """Which of these trials have a checkpoint."""
        return [trial_id for trial_id in trial_ids if trial_id in self._shelf]

    @_stores
    def save_checkpoint(self, trial_id: str, attempt: int, epoch: int, body: bytes | None) -> None:
        """A trial's state after an epoch, to go on from; None: its worker has put it on the
        shelf."""
        if self._claimed.get(trial_id) != attempt:
            return  # of an attempt that was given up
        if body is not None:
            self._shelf.write(trial_id, attempt, epoch, body)
        self._shelf.note(trial_id, attempt, epoch)

    @_stores
    def checkpoint(self, trial_id: str) -> tuple[int, bytes] | None:
        """(epoch, bytes) to go on from; None where there is none, or where a row of an epoch up to
        it is not in the store."""
        self.flush()
        found = self._shelf.read(trial_id)
        if found is None:
            return None
        _, epoch, body = found
        if has_epochs(self.store, trial_id, epoch):
            return epoch, body
        self.drop_checkpoint(trial_id, "the store lacks rows of the epochs before it")
        return None

    @_stores
    def drop_checkpoint(self, trial_id: str, reason: str) -> None:
        """A checkpoint is not used: its trial starts from the beginning, and a log says why."""
        self._shelf.remove(trial_id)
        log = self.store.checkpoint_log(trial_id, self._attempts.get(trial_id, 0))
        said = f"a checkpoint was not used: {reason}; the trial started from the beginning\n"
        with contextlib.suppress(FileExistsError):
            self.store.folder.write_new(log, said.encode())

    @_stores
    def blame(self, trial_ids: Sequence[str], error: str, details: str) -> bool:
        """Charge an error to the claimed trial of a pack. Returns: whether there was one."""
        claimed = [trial_id for trial_id in trial_ids if trial_id in self._claimed]
        for trial_id in claimed:
            self.fail(trial_id, self._claimed[trial_id], error, details)
        return bool(claimed)

    @_stores
    def append(self, rows: pa.RecordBatch) -> None:
        """Epoch rows; they are logged when this returns."""
        self.writer.append("epochs", rows)
        self._num_rows += len(rows)
        self._flush_if_due()

    @_stores
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

    @_stores
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
        with contextlib.suppress(StorageError):  # it is in what is returned
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
            storage_error=self.storage_error,
            num_rows=self._num_rows,
        )

    @_stores
    def flush(self) -> None:
        """Put everything that has arrived into segments."""
        self.writer.flush()
        self._flushed_at = self._clock()

    @_stores
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
        self._shelf.remove(trial_id)

    @_stores
    def _flush_if_due(self) -> None:
        pending = self.writer.num_pending_rows
        due = self._clock() - self._flushed_at >= FLUSH_SECONDS or pending >= FLUSH_ROWS
        if pending and due:
            self.flush()


def one_line(error: BaseException, where: str) -> str:
    """An error as people read it: its kind, its message, where it happened."""
    message = " ".join(str(error).split())
    return (
        f"{type(error).__name__}: {message} ({where})"
        if message
        else f"{type(error).__name__} ({where})"
    )
