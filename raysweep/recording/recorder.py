"""The one process that owns the store's writer.

Ray starts the recorder again when its process dies, and repeats the calls that it had not answered:
some of them twice, and not in their order. So a call that comes again changes nothing and gives the
same answer; rows are told apart by their keys, claims by their caller's token; and a sender waits
for the rows of a trial to be logged before it sends the trial's end (sender.py).
"""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyarrow as pa

from raysweep.errors import StorageError
from raysweep.planning.grid import Identity, Trial, expand, listed
from raysweep.recording.state import ENDS, Progress, Standing
from raysweep.spec import SweepSpec
from raysweep.store.files import TRIALS, Store, StoreWriter
from raysweep.store.finished import attempts_in, finished_in, has_epochs
from raysweep.store.journal import Journal
from raysweep.store.lease import Invocation, Lease
from raysweep.store.resume import Shelf
from raysweep.store.schema import STOPPED, unpacked

FLUSH_SECONDS = 10.0
FLUSH_ROWS = 50_000
RETRIES = 2  # of a trial whose process died; an error raised in it is final at once
# Of a trial in one invocation: nodes that left while it trained on them.
MAX_LOST_NODES = 20
ROW_KEY = ("epoch", "weights_kind")  # of a row, within an attempt at a trial
P = ParamSpec("P")
R = TypeVar("R")


def _writes(
    method: Callable[Concatenate["Recorder", P], R],
) -> Callable[Concatenate["Recorder", P], R]:
    """A method that needs the lease, and may find the store unwritable. From then on all of them
    refuse: nothing that is sent counts as recorded, and no trial is blamed for it."""

    @functools.wraps(method)
    def call(self: "Recorder", *args: P.args, **kwargs: P.kwargs) -> R:
        self.lease.assert_held()
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
    `progress` says why. When another writer has taken over, or the sweep's own process has died,
    every call raises SupersededError.

    It runs as one named Ray actor (SweepRecorder), and without Ray in tests. A trial is complete
    only when its rows are in segments: `StoreWriter.flush` writes a trial's rows before the trial
    itself.
    """

    def __init__(
        self,
        root: Path | str,
        record: Mapping[str, Any],
        trials: Sequence[Trial],
        constants: Mapping[str, Any],
        clock: Callable[[], float] = time.monotonic,
        *,
        invocation: Invocation | None = None,
        retries: int = RETRIES,
        shelf: Shelf | None = None,
        pruned: bool = False,
    ) -> None:
        """Args: record: this invocation's entry in sweeps/; constants: columns that all trials
        share (task, world_size, ...); invocation: by default one that begins here; shelf: of
        checkpoints, in the store by default; pruned: whether the sweep has a scheduler.

        Raises: InputError when another invocation writes to the store.
        """
        invocation = invocation or Invocation.begin()
        self.storage_error: str | None = None
        self._abandoned: str | None = None
        self.store = Store(root)
        self.lease = Lease.take(self.store.folder, invocation, self.store.live_record)
        self.writer = StoreWriter(self.store, self.lease)
        self._journal = Journal(self.store.journal(invocation.token))
        self._clock = clock
        self._flushed_at = -math.inf  # the first rows become a segment at once
        self._constants = constants
        done = finished_in(self.store, pruned=pruned)
        self._now = Standing(trials, attempts_in(self.store), done)
        self._rows: dict[str, set[tuple[Any, ...]]] = {}  # keys, by trial that is claimed
        self._groups: dict[str, str] = {}  # which placement group trains which trial
        self._retries = retries
        self._shelf = shelf or Shelf(self.store.folder, "resume")
        self._shelf.look(others_write=self._journal.resumed)
        for trial_id in self._shelf:
            if trial_id in self._now.done:
                self._shelf.remove(trial_id)
        self._num_rows = 0
        if self._journal.resumed:
            self._resume()
        noted = self.store.sweeps() if self._journal.resumed else []
        if not any(sweep.get("invocation") == invocation.token for sweep in noted):
            self.writer.add_sweep({**record, "invocation": invocation.token})

    def _resume(self) -> None:
        """Stand where a recorder of the same invocation stood when it died."""
        rows = self.store.read("trials", ["trial_id", "attempt"]).to_pydict()
        ended = set(zip(rows["trial_id"], rows["attempt"], strict=True))
        for entry in self._journal.entries():
            if entry["what"] in ENDS:
                # An end is noted before it is logged: without its row, its call will come again.
                end = entry["trial_id"], entry["attempt"]
                if end not in ended:
                    continue
                ended.remove(end)
            self._apply(**entry)
        keys = self.store.read("epochs", ["trial_id", "attempt", *ROW_KEY]).to_pydict()
        for trial_id, attempt, *key in zip(*keys.values(), strict=True):
            if self._now.has_claim(trial_id, attempt):
                self._rows[trial_id].add(tuple(key))

    def _note(self, what: str, trial_id: str, **details: Any) -> None:
        """Everything but rows enters here, so that it survives this process."""
        self._journal.note(what=what, trial_id=trial_id, **details)
        self._apply(what, trial_id, **details)

    def _apply(self, what: str, trial_id: str, **details: Any) -> None:
        self._now.apply(what, trial_id, **details)
        if what == "claimed":
            self._rows[trial_id] = set()
        else:
            self._rows.pop(trial_id, None)

    @_writes
    def todo(self, trial_ids: Sequence[str], living: Collection[str] | None = None) -> list[str]:
        """What of a pack is left to train.

        A trial of it that was claimed and never ended died with its process: it is tried again,
        so many times; the others are not charged for it. A node that left is not its fault.

        Args: living: ids of the nodes that are there now; None: all are.
        """
        for trial_id in trial_ids:
            if trial_id in self._now.claims:
                self._note("died", trial_id)
            if self._now.has_ended(trial_id):
                continue
            deaths = self._now.deaths.get(trial_id, [])
            lost = sum(living is not None and not nodes <= set(living) for nodes in deaths)
            if len(deaths) - lost > self._retries:
                died = f"the process that trained it died, {len(deaths) - lost} times"
                self._give_up(trial_id, died, died + " (killed, out of memory, crashed)")
            elif lost > MAX_LOST_NODES:
                left = f"the node that trained it left, {lost} times"
                self._give_up(trial_id, left, left)
        return [trial_id for trial_id in trial_ids if not self._now.has_ended(trial_id)]

    def _give_up(self, trial_id: str, error: str, details: str) -> None:
        self.fail(trial_id, self._now.attempts[trial_id], error, details)

    @_writes
    def claim(self, trial_id: str, nodes: Collection[str] = (), token: str = "") -> int:
        """Take a trial before its training starts. Returns: the number of this attempt.

        Args: nodes: ids of those that it trains on; token: of the caller's choice; the same claim
            has the same one when it comes again.
        """
        before = self._now.claims.get(trial_id)
        if before is not None and token and before.token == token:
            return before.attempt
        attempt = self._now.attempts.get(trial_id, 0) + 1
        self._note("claimed", trial_id, attempt=attempt, nodes=sorted(nodes), token=token)
        return attempt

    def num_attempts(self, trial_ids: Sequence[str]) -> int:
        """At all of these trials together."""
        return sum(self._now.attempts.get(trial_id, 0) for trial_id in trial_ids)

    def kept(self, trial_ids: Sequence[str]) -> list[str]:
        """Which of these trials have a checkpoint."""
        return [trial_id for trial_id in trial_ids if trial_id in self._shelf]

    @_writes
    def save_checkpoint(self, trial_id: str, attempt: int, epoch: int, body: bytes | None) -> None:
        """A trial's state after an epoch, to go on from; None: its worker has put it on the
        shelf."""
        if not self._now.has_claim(trial_id, attempt):
            return  # of an attempt that was given up
        if body is not None:
            self._shelf.write(trial_id, attempt, epoch, body)
        self._shelf.note(trial_id, attempt, epoch)

    @_writes
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

    @_writes
    def drop_checkpoint(self, trial_id: str, reason: str) -> None:
        """A checkpoint is not used: its trial starts from the beginning, and a log says why."""
        self._shelf.remove(trial_id)
        log = self.store.checkpoint_log(trial_id, self._now.attempts.get(trial_id, 0))
        said = f"a checkpoint was not used: {reason}; the trial started from the beginning\n"
        self._write_once(log, said.encode())

    @_writes
    def blame(self, trial_ids: Sequence[str], error: str, details: str) -> bool:
        """Charge an error to the claimed trial of a pack. Returns: whether there was one."""
        claimed = [trial_id for trial_id in trial_ids if trial_id in self._now.claims]
        for trial_id in claimed:
            self.fail(trial_id, self._now.claims[trial_id].attempt, error, details)
        failures = [self._now.failures[t] for t in trial_ids if t in self._now.failures]
        return bool(claimed) or any(failure.error == error for failure in failures)

    @_writes
    def append(self, rows: bytes) -> None:
        """Epoch rows of one attempt at a trial, packed; they are logged when this returns.

        Rows of an attempt that is no longer the trial's last one are left out: its process was
        taken for dead.
        """
        self._log(rows)
        self._flush_if_due()

    @_writes
    def finish(
        self,
        trial_id: str,
        attempt: int,
        rows: bytes,
        outcome: Mapping[str, Any],
        val_accuracy: float,
        checkpoint: bytes | None,
    ) -> None:
        """A trial's last rows, packed, and its result. Args: outcome: columns of `store.TRIALS`."""
        self._log(rows)
        if not self._now.has_claim(trial_id, attempt):
            return
        columns = dict(outcome)
        if checkpoint is not None:
            columns["checkpoint"] = path = self.store.checkpoint(trial_id, attempt)
            self._write_once(path, checkpoint)
        ended = {"attempt": attempt, "status": columns["status"], "accuracy": val_accuracy}
        self._note("finished", trial_id, **ended)
        self._append_trial(trial_id, attempt, columns)
        self._flush_if_due()

    @_writes
    def stop(self, trial_id: str, outcome: Mapping[str, Any]) -> str | None:
        """A trial that Tune says has ended: where it still trains, the scheduler has stopped it.

        Args: outcome: columns of `store.TRIALS`. Returns: the placement group that it leaves.
        """
        claim = self._now.claims.get(trial_id)
        if claim is not None:
            self._note(STOPPED, trial_id, attempt=claim.attempt)
            self._append_trial(trial_id, claim.attempt, {**outcome, "status": STOPPED})
            self._flush_if_due()
        return self._groups.get(trial_id) if trial_id in self._now.stopped else None

    def abandon(self, reason: str) -> None:
        """Nothing that is left can be trained: the sweep is to stop and say why."""
        self._abandoned = reason

    def use(self, trial_ids: Sequence[str], placement_group: str) -> None:
        """Note which placement group trains a pack."""
        self._groups |= dict.fromkeys(trial_ids, placement_group)

    def groups(self) -> set[str]:
        """The placement groups of the trials that are claimed."""
        return {group for trial_id, group in self._groups.items() if trial_id in self._now.claims}

    @_writes
    def fail(self, trial_id: str, attempt: int, error: str, details: str) -> None:
        """A trial that ended with an error: one line for people, the traceback into a log."""
        log = self.store.error_log(trial_id, attempt)
        self._write_once(log, details.encode())
        self._note("failed", trial_id, attempt=attempt, error=error, log=log)
        columns = {"status": "failed", "error": error, "error_log": log}
        self._append_trial(trial_id, attempt, columns)
        self._flush_if_due()

    def progress(self) -> Progress:
        """Where the sweep stands now."""
        self.lease.assert_held()
        with contextlib.suppress(StorageError):  # it is in what is returned
            self._flush_if_due()
        return self._now.progress()._replace(
            storage_error=self.storage_error,
            abandoned=self._abandoned,
            num_rows=self._num_rows,
        )

    @_writes
    def flush(self) -> None:
        """Put everything that has arrived into segments."""
        self.writer.flush()
        self._flushed_at = self._clock()

    @_writes
    def close(self) -> None:
        """Flush, then merge the segments. The invocation is over; its store is free."""
        self.writer.compact()
        self.lease.end()
        self._journal.remove()

    def _log(self, body: bytes) -> None:
        """Those rows that have not arrived before, of an attempt that is still claimed."""
        rows = unpacked(body)
        if not len(rows):
            return
        trial_id, attempt = rows["trial_id"][0].as_py(), rows["attempt"][0].as_py()
        if not self._now.has_claim(trial_id, attempt):
            return
        seen = self._rows[trial_id]
        keys = list(zip(*(rows[name].to_pylist() for name in ROW_KEY), strict=True))
        if not seen.isdisjoint(keys):
            rows = rows.filter(pa.array([key not in seen for key in keys]))
        if len(rows):
            self.writer.append("epochs", rows)
        seen.update(keys)
        self._num_rows += len(rows)

    def _write_once(self, path: str, body: bytes) -> None:
        with contextlib.suppress(FileExistsError):  # written before the recorder died
            self.store.folder.write_new(path, body)

    def _append_trial(self, trial_id: str, attempt: int, columns: Mapping[str, Any]) -> None:
        trial = self._now[trial_id]
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

    @_writes
    def _flush_if_due(self) -> None:
        pending = self.writer.num_pending_rows
        due = self._clock() - self._flushed_at >= FLUSH_SECONDS or pending >= FLUSH_ROWS
        if pending and due:
            self.flush()


class SweepRecorder(Recorder):
    """A recorder that Ray can start again, however many trials there are.

    A constructor's argument beyond 100 kB would be gone by then (ray-project/ray#53727), so the
    grid is sent, and expanded where it is needed.
    """

    def __init__(
        self,
        root: Path | str,
        record: dict[str, Any],
        spec: SweepSpec,
        identity: Identity,
        constants: dict[str, Any],
        **how: Any,
    ) -> None:
        """Args: record: without the trials; how: as Recorder takes it."""
        trials = expand(spec, identity)
        super().__init__(root, record | listed(trials), trials, constants, **how)
