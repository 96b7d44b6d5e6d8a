"""A worker's line to the recorder."""

import math
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import ray

from raysweep.store import EPOCHS


class Sender:
    """A worker's line to the recorder, for one trial after another: rows go in small batches.

    A trial's end need not have arrived when the next trial is claimed. What is in flight is
    bounded: a slow disk slows training down rather than filling memory.
    """

    SECONDS = 2.0
    MAX_IN_FLIGHT = 8

    def __init__(self, recorder: Any, clock: Callable[[], float] = time.perf_counter) -> None:
        """Args: recorder: handle of the actor."""
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
        token = uuid.uuid4().hex
        self._trial_id, self._claim = trial_id, self._recorder.claim.remote(trial_id, token)
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
        # A recorder that starts again takes calls in any order: rows first. They were sent while
        # the trial trained, so there is hardly anything to wait for.
        self.drain()
        self._send(self._recorder.finish.remote(self._trial_id, self._attempt(), *arguments))

    def drain(self) -> None:
        """Wait until the recorder has all that was sent."""
        ray.get(list(self._in_flight))
        self._in_flight.clear()

    def _attempt(self) -> int:
        if not isinstance(self._claim, int):
            self._claim = ray.get(self._claim)
        return self._claim

    def _take(self) -> pa.RecordBatch:
        rows, self._rows = self._rows, []
        return pa.RecordBatch.from_pylist(rows, EPOCHS)

    def _send(self, reference: Any) -> None:
        self._in_flight.append(reference)
        while len(self._in_flight) > self.MAX_IN_FLIGHT:
            ray.get(self._in_flight.popleft())
