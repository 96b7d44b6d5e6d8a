"""The one process that owns the store's writer.

Ray starts the recorder again when its process dies, and repeats the calls that it had not answered:
some of them twice, and not in their order. So a call that comes again changes nothing and gives the
same answer: each is one entry of the store's log, under a key. A sender waits for the rows of a
trial to be logged before it sends the trial's end (client.py).
"""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from raysweep.errors import StorageError
from raysweep.planning.grid import Identity, Trial, expand, listed
from raysweep.recording.pace import Pace
from raysweep.recording.state import Progress, State
from raysweep.spec import SweepSpec
from raysweep.store.done import done_trials, has_epochs, last_attempts
from raysweep.store.files import Store, StoreWriter
from raysweep.store.lease import Invocation, Lease
from raysweep.store.log import Entry, Rows
from raysweep.store.record import SweepRecord
from raysweep.store.resume import ResumeFolder
from raysweep.store.schema import KEYS, STOPPED, packed, unpacked

FLUSH_SECONDS = 10.0
FLUSH_ROWS = 50_000
RETRIES = 2  # of a trial whose process died; an error raised in it is final at once
# Of a trial in one invocation: nodes that left while it trained on them.
MAX_LOST_NODES = 20
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _writes(
    method: Callable[Concatenate["Recorder", _P], _R],
) -> Callable[Concatenate["Recorder", _P], _R]:
    """A method that needs the lease, and may find the store unwritable. From then on all of them
    refuse: nothing that is sent counts as recorded, and no trial is blamed for it."""

    @functools.wraps(method)
    def call(self: "Recorder", *args: _P.args, **kwargs: _P.kwargs) -> _R:
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
        record: SweepRecord,
        trials: Sequence[Trial],
        constants: Mapping[str, Any],
        clock: Callable[[], float] = time.monotonic,
        *,
        invocation: Invocation | None = None,
        retries: int = RETRIES,
        resume: ResumeFolder | None = None,
        pruned: bool = False,
    ) -> None:
        """Args:
            record: of this invocation.
            constants: columns that all trials share (task, world_size, ...).
            invocation: by default one that begins here.
            retries: of a trial whose process died.
            resume: where checkpoints lie; in the store by default.
            pruned: whether the sweep has a scheduler.

        Raises: InputError when another invocation writes to the store.
        """
        invocation = invocation or Invocation.begin()
        self.storage_error: str | None = None
        self._abandoned: str | None = None
        self.store = Store(root)
        self.lease = Lease.take(self.store.folder, invocation, self.store.live_record)
        self.writer = StoreWriter(self.store, self.lease)
        self._log = self.writer.log
        self._clock = clock
        self._flushed_at = -math.inf  # the first rows become a segment at once
        self._constants = constants
        done = done_trials(self.store, pruned=pruned)
        self._state = State(trials, last_attempts(self.store), done)
        for entry in self._log.entries():  # of a recorder of this invocation that has died
            self._state.apply(entry)
        self._pace = Pace()
        self._groups: dict[str, str] = {}  # which placement group trains which trial
        self._retries = retries
        self._resume_folder = resume or ResumeFolder(self.store.folder, "resume")
        self._resume_folder.look(self._state.done, others_write=self._log.resumed)
        self._num_rows = 0
        written = self.store.sweeps() if self._log.resumed else []
        if not any(sweep.invocation == invocation.token for sweep in written):
            self.writer.add_sweep(replace(record, invocation=invocation.token))

    def _note(self, entry: Entry, rows: Sequence[Rows] = (), *, last: bool = False) -> bool:
        """Everything but a running trial's rows enters here. Returns: False if it came before."""
        if not self._log.note(entry, rows, last=last):
            return False
        self._state.apply(entry)
        return True

    def _end(self, end: Entry, columns: Mapping[str, Any], rows: Sequence[Rows] = ()) -> None:
        """A trial's end: it is noted together with the trial's last rows and its own row.

        Args: columns: of `TRIALS`, besides those that are known here.
        """
        trial = self._state[end.trial_id]
        self._pace.end(trial.trial_id)
        row = {
            **self._constants,
            **trial.hyperparameters.columns(),
            "trial_id": trial.trial_id,
            "config_id": trial.config_id,
            "seed": trial.seed,
            "attempt": end.attempt,
            **columns,
        }
        own = Rows("trials", 1, packed([row], "trials"))
        if self._note(end, [*rows, own], last=True):
            self._resume_folder.remove(trial.trial_id)
            self._flush_if_due()

    def add(self, trial: Trial) -> None:
        """Take one more trial, which no record listed when this recorder started."""
        self._state.add(trial)

    @_writes
    def todo(self, trial_ids: Sequence[str], living: Collection[str] | None = None) -> list[str]:
        """What of a pack is left to train.

        A trial of it that was claimed and never ended died with its process: it is tried again,
        so many times; the others are not charged for it. A node that left is not its fault.

        Args: living: ids of the nodes that are there now; None: all are.
        """
        for trial_id in trial_ids:
            if trial_id in self._state.claims:
                self._pace.end(trial_id)
                self._note(Entry(trial_id, self._state.claims[trial_id].attempt, "died", {}))
            if self._state.has_ended(trial_id):
                continue
            deaths = self._state.deaths.get(trial_id, [])
            lost = sum(living is not None and not nodes <= set(living) for nodes in deaths)
            if len(deaths) - lost > self._retries:
                why = f"the process that trained it died, {len(deaths) - lost} times"
                details = why + " (killed, out of memory, crashed)"
            elif lost > MAX_LOST_NODES:
                why = details = f"the node that trained it left, {lost} times"
            else:
                continue
            self.fail(trial_id, self._state.attempts[trial_id], why, details)
        return [trial_id for trial_id in trial_ids if not self._state.has_ended(trial_id)]

    @_writes
    def claim(
        self, trial_id: str, nodes: Collection[str] = (), token: str = "", where: str = ""
    ) -> int:
        """Take a trial before its training starts. Returns: the number of this attempt.

        Args: nodes: ids of those that it trains on; token: of the caller's choice; the same claim
            has the same one when it comes again; where: the process that trains it, in words.
        """
        before = self._state.claims.get(trial_id)
        if before is not None and token and before.token == token:
            return before.attempt
        attempt = self._state.attempts.get(trial_id, 0) + 1
        self._pace.begin(trial_id, self._clock())
        details = {"nodes": sorted(nodes), "token": token, "where": where}
        self._note(Entry(trial_id, attempt, "claimed", details))
        return attempt

    def num_attempts(self, trial_ids: Sequence[str]) -> int:
        """At all of these trials together."""
        return sum(self._state.attempts.get(trial_id, 0) for trial_id in trial_ids)

    def kept(self, trial_ids: Sequence[str]) -> list[str]:
        """Which of these trials have a checkpoint."""
        return [trial_id for trial_id in trial_ids if trial_id in self._resume_folder]

    @_writes
    def save_checkpoint(self, trial_id: str, attempt: int, epoch: int, body: bytes | None) -> None:
        """A trial's state after an epoch, to go on from; None: its worker has written it."""
        if not self._state.has_claim(trial_id, attempt):
            return  # of an attempt that was given up
        if body is not None:
            self._resume_folder.write(trial_id, attempt, epoch, body)
        self._resume_folder.note(trial_id, attempt, epoch)

    @_writes
    def checkpoint(self, trial_id: str) -> tuple[int, bytes] | None:
        """(epoch, bytes) to go on from; None where there is none, or where a row of an epoch up to
        it is not in the store."""
        self.flush()
        newest = self._resume_folder.read(trial_id)
        if newest is None:
            return None
        epoch, body = newest
        if has_epochs(self.store, trial_id, epoch):
            return epoch, body
        self.drop_checkpoint(trial_id, "the store lacks rows of the epochs before it")
        return None

    @_writes
    def drop_checkpoint(self, trial_id: str, reason: str) -> None:
        """A checkpoint is not used: its trial starts from the beginning, and a log says why."""
        self._resume_folder.remove(trial_id)
        log = self.store.checkpoint_log(trial_id, self._state.attempts.get(trial_id, 0))
        line = f"a checkpoint was not used: {reason}; the trial started from the beginning\n"
        self._write_once(log, line.encode())

    @_writes
    def blame(self, trial_ids: Sequence[str], error: str, details: str) -> bool:
        """Charge an error to the claimed trial of a pack. Returns: whether there was one."""
        claimed = [trial_id for trial_id in trial_ids if trial_id in self._state.claims]
        for trial_id in claimed:
            self.fail(trial_id, self._state.claims[trial_id].attempt, error, details)
        failures = [self._state.failures[t] for t in trial_ids if t in self._state.failures]
        return bool(claimed) or any(failure.error == error for failure in failures)

    @_writes
    def append(self, rows: bytes) -> None:
        """Epoch rows of one attempt at a trial, packed; they are logged when this returns.

        Rows of an attempt that is no longer the trial's last one are left out: its process was
        taken for dead.
        """
        batch = unpacked(rows)
        if not len(batch):
            return
        first = batch.slice(0, 1).select(KEYS["epochs"]).to_pylist()[0]
        trial_id, attempt, *place = first.values()
        if not self._state.has_claim(trial_id, attempt):
            return
        self._pace.hear(trial_id, len(batch.column("epoch").unique()), self._clock())
        # A row is sent once, so its first row tells a batch from all others.
        entry = Entry(trial_id, attempt, f"rows {place}")
        if self._log.note(entry, [Rows("epochs", len(batch), rows)]):
            self._num_rows += len(batch)
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
        """A trial's last rows, packed, and its result. Args: outcome: columns of `TRIALS`."""
        if not self._state.has_claim(trial_id, attempt):
            return
        columns = dict(outcome)
        if checkpoint is not None:
            columns["checkpoint"] = path = self.store.checkpoint(trial_id, attempt)
            self._write_once(path, checkpoint)
        last = Rows("epochs", len(unpacked(rows)), rows)
        details = {"status": columns["status"], "accuracy": val_accuracy}
        self._end(Entry(trial_id, attempt, "finished", details), columns, [last])
        self._num_rows += last.num_rows

    @_writes
    def stop(self, trial_id: str, outcome: Mapping[str, Any]) -> str | None:
        """A trial that Tune says has ended: where it still trains, the scheduler has stopped it.

        Args: outcome: columns of `TRIALS`. Returns: the placement group that it leaves.
        """
        claim = self._state.claims.get(trial_id)
        if claim is not None:
            end = Entry(trial_id, claim.attempt, STOPPED, {})
            self._end(end, {**outcome, "status": STOPPED})
        return self._groups.get(trial_id) if trial_id in self._state.stopped else None

    def abandon(self, reason: str) -> None:
        """Nothing that is left can be trained: the sweep is to stop and say why."""
        self._abandoned = reason

    def use(self, trial_ids: Sequence[str], placement_group: str) -> None:
        """Note which placement group trains a pack."""
        self._groups |= dict.fromkeys(trial_ids, placement_group)

    def groups(self) -> set[str]:
        """The placement groups of the trials that are claimed."""
        return {group for trial_id, group in self._groups.items() if trial_id in self._state.claims}

    @_writes
    def fail(self, trial_id: str, attempt: int, error: str, details: str) -> None:
        """A trial that ended with an error: one line for people, the traceback into a log."""
        log = self.store.error_log(trial_id, attempt)
        self._write_once(log, details.encode())
        columns = {"status": "failed", "error": error, "error_log": log}
        self._end(Entry(trial_id, attempt, "failed", {"error": error, "log": log}), columns)

    def progress(self) -> Progress:
        """Where the sweep stands now."""
        self.lease.assert_held()
        with contextlib.suppress(StorageError):  # it is in what is returned
            self._flush_if_due()
        return self._state.progress()._replace(
            storage_error=self.storage_error,
            abandoned=self._abandoned,
            num_rows=self._num_rows,
            standing=self._pace.standing(
                {trial_id: claim.where for trial_id, claim in self._state.claims.items()},
                self._clock(),
            ),
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
        self._log.remove()

    def _write_once(self, path: str, body: bytes) -> None:
        with contextlib.suppress(FileExistsError):  # written before the recorder died
            self.store.folder.write_new(path, body)

    @_writes
    def _flush_if_due(self) -> None:
        pending = self._log.num_pending_rows
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
        record: SweepRecord,
        spec: SweepSpec,
        identity: Identity,
        constants: dict[str, Any],
        **how: Any,
    ) -> None:
        """Args: record: without the trials; how: as Recorder takes it."""
        trials = expand(spec, identity)
        super().__init__(root, listed(record, trials), trials, constants, **how)
