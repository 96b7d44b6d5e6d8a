"""A worker's line to the recorder: rows, claims, checkpoints and results."""

import math
import os
import platform
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

import ray

from raysweep.recording.handle import RecorderHandle
from raysweep.store.resume import ResumeFolder
from raysweep.store.schema import packed, val_accuracy


class Sender:
    """A worker's line to the recorder, for one trial after another: rows go in small batches.

    A trial's end need not have arrived when the next trial is claimed. What is in flight is
    bounded: a slow disk slows training down rather than filling memory.
    """

    SECONDS = 2.0
    MAX_IN_FLIGHT = 8

    def __init__(
        self,
        recorder: RecorderHandle,
        clock: Callable[[], float] = time.perf_counter,
        *,
        nodes: Collection[str] = (),
        resume: ResumeFolder | None = None,
    ) -> None:
        """Args: recorder: handle of the actor; nodes: that train; resume: where this process puts
        checkpoints itself."""
        self._recorder, self._nodes, self._resume_folder = recorder, nodes, resume
        self._clock = clock
        self.start_epoch = 1  # the first one that this attempt trains
        self._in_flight: deque[Any] = deque()
        self._trial_id = ""
        self._claim: Any = None  # the number of this attempt, or the reference to it
        self._rows: list[dict[str, Any]] = []
        self._sent_at = -math.inf
        self._val_accuracy = math.nan

    def start(self, trial_id: str) -> None:
        """Claim a trial; the rows that follow are its rows."""
        # Its number is first needed with the first row: training need not wait for it.
        token = uuid.uuid4().hex
        self._trial_id = trial_id
        where = f"pid {os.getpid()} on {platform.node()}"
        self._claim = self._recorder.claim.remote(trial_id, self._nodes, token, where)
        self._rows, self.start_epoch = [], 1
        self._sent_at = -math.inf  # the first row goes at once
        self._val_accuracy = math.nan

    def emit(self, row: Mapping[str, Any]) -> None:
        """Take one epoch's row; it is sent with the next batch."""
        keys = {"trial_id": self._trial_id, "attempt": self._attempt()}
        self._rows.append({**row, **keys, "start_epoch": self.start_epoch})
        self._val_accuracy = val_accuracy(row)
        if self._clock() - self._sent_at >= self.SECONDS:
            self._sent_at = self._clock()
            self._send(self._recorder.append.remote(self._take()))

    def checkpoint(self) -> bytes | None:
        """What an earlier attempt at the trial left to go on from."""
        newest = ray.get(self._recorder.checkpoint.remote(self._trial_id))
        return None if newest is None else newest[1]

    def drop_checkpoint(self, reason: str) -> None:
        """It can't be used."""
        self._send(self._recorder.drop_checkpoint.remote(self._trial_id, reason))

    def keep(self, epoch: int, body: bytes) -> None:
        """Keep a checkpoint, once the recorder has all rows up to it."""
        self._send(self._recorder.append.remote(self._take()))
        self.drain()
        key = self._trial_id, self._attempt(), epoch
        if self._resume_folder is not None:
            self._resume_folder.write(*key, body)
        saved = None if self._resume_folder is not None else body
        self._send(self._recorder.save_checkpoint.remote(*key, saved))

    def finish(self, outcome: Mapping[str, Any], checkpoint: bytes | None) -> None:
        """Send the trial's last rows and its result."""
        arguments = self._take(), outcome, self._val_accuracy, checkpoint
        # A recorder that starts again takes calls in any order: rows first. They were sent while
        # the trial trained, so there is hardly anything to wait for.
        self.drain()
        self._send(self._recorder.finish.remote(self._trial_id, self._attempt(), *arguments))

    def hand_over(self) -> None:
        """Send what there is and wait until the recorder has it."""
        if self._rows:
            self._sent_at = self._clock()
            self._send(self._recorder.append.remote(self._take()))
        self.drain()

    def drain(self) -> None:
        """Wait until the recorder has all that was sent."""
        ray.get(list(self._in_flight))
        self._in_flight.clear()

    def _attempt(self) -> int:
        if not isinstance(self._claim, int):
            self._claim = ray.get(self._claim)
        return self._claim

    def _take(self) -> bytes:
        rows, self._rows = self._rows, []
        return packed(rows)

    def _send(self, reference: Any) -> None:
        self._in_flight.append(reference)
        while len(self._in_flight) > self.MAX_IN_FLIGHT:
            ray.get(self._in_flight.popleft())
