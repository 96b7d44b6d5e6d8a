"""Runs outside of a sweep: each becomes a trial of a store, without Ray.

A store holds what its runs had in common and what varied between them: each invocation's record
lists the runs of all processes that have written to it, one after another.
"""

import datetime
import hashlib
import json
import math
import platform
import sys
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from traceback import format_exception
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from raysweep.errors import InputError, one_line, shown
from raysweep.planning.grid import Trial
from raysweep.recording.origin import git_commit, versions
from raysweep.recording.recorder import Recorder
from raysweep.spec import nested_fields
from raysweep.store.done import done_trials
from raysweep.store.files import Store
from raysweep.store.lease import Invocation, Lease
from raysweep.store.record import PlannedTrial, SweepRecord
from raysweep.store.schema import TRIALS, packed, val_accuracy
from raysweep.tasks.loop import checked_sizes

_TASK = "raysweep.record"  # what the records of such a store name as their task


class Sizes(NamedTuple):
    """What is known of the data of a run; see raysweep.tasks.loop.Loop."""

    num_val: int
    num_train: int | None = None
    digest: str | None = None
    val_clusters: np.ndarray | None = None

    def val_digest(self) -> str:
        """Digest what tells one validation set from another."""
        clusters = None if self.val_clusters is None else np.asarray(self.val_clusters).tolist()
        return _digest([self.num_val, self.digest, clusters], 8)


class Settings:
    """The hyperparameters of a run: names and values of the user's choice."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Raises: InputError naming a value that is none of a hyperparameter."""
        self.values = {name: _plain(name, value) for name, value in values.items()}

    def columns(self) -> dict[str, Any]:
        """Give the columns of a trial: its own where the name and the type fit, else as JSON."""
        known = {name for name, nested in nested_fields() if nested is None}
        fits = {
            name: value
            for name, value in self.values.items()
            if name in known and _fits(value, TRIALS.field(name).type)
        }
        own = {name: value for name, value in self.values.items() if name not in fits}
        return {**fits, "own_fields": json.dumps(own) if own else None}


class Run:
    """One run that is being recorded."""

    def __init__(self, recorder: Recorder, trial_id: str) -> None:
        self.trial_id, self._recorder = trial_id, recorder
        self.attempt = recorder.claim(trial_id, token=uuid.uuid4().hex)
        self.start_epoch = 1  # the first one that this attempt trains
        self._val_accuracy = math.nan

    def emit(self, row: Mapping[str, Any]) -> None:
        """Take one epoch's row; it is on the disk when this returns."""
        keys = {"trial_id": self.trial_id, "attempt": self.attempt, "start_epoch": self.start_epoch}
        self._recorder.append(packed([{**row, **keys}]))
        self._val_accuracy = val_accuracy(row)

    def checkpoint(self) -> bytes | None:
        """Read what an earlier attempt has kept."""
        newest = self._recorder.checkpoint(self.trial_id)
        return None if newest is None else newest[1]

    def keep(self, epoch: int, body: bytes) -> None:
        """Keep a checkpoint."""
        self._recorder.save_checkpoint(self.trial_id, self.attempt, epoch, body)

    def drop_checkpoint(self, reason: str) -> None:
        """A checkpoint can't be used, and a log says why."""
        self._recorder.drop_checkpoint(self.trial_id, reason)

    def finish(self, columns: Mapping[str, Any]) -> None:
        """The run has ended. Args: columns: of the store's trials."""
        columns = {**columns, "node": platform.node()}
        arguments = packed([]), columns, self._val_accuracy, None
        self._recorder.finish(self.trial_id, self.attempt, *arguments)

    def stop(self, columns: Mapping[str, Any]) -> None:
        """A scheduler has stopped the run. Args: columns: of the store's trials."""
        self._recorder.stop(self.trial_id, {**columns, "node": platform.node()})

    def fail(self, error: BaseException) -> None:
        """The run has ended by an error."""
        details = "".join(format_exception(error))
        self._recorder.fail(self.trial_id, self.attempt, one_line(error), details)


class Runs:
    """A store that runs are recorded in, while no other process writes to it."""

    def __init__(self, folder: Path | str, sizes: Sizes) -> None:
        """Raises: InputError when another process writes there, or it holds other results."""
        checked_sizes(sizes.num_val, sizes.num_train, sizes.val_clusters)
        if sizes.digest is not None and not isinstance(sizes.digest, str):
            raise InputError(f"digest = {shown(sizes.digest)}: a text is needed")
        self._store, self._sizes = Store(folder), sizes
        self._store.check_writable(exclusive=True)
        self._invocation = Invocation.begin()
        self._lease = Lease.take(self._store.folder, self._invocation, self._store.live_record)
        self._recorder: Recorder | None = None
        self._num_recorded = 0  # runs of this process that the newest record lists
        try:
            self._record = self._earlier()
        except BaseException:
            self._lease.end()
            raise

    def _earlier(self) -> SweepRecord:
        """The record of what lies there already, under this invocation."""
        sweeps = self._store.sweeps()
        about = {"num_val": self._sizes.num_val, "val_digest": self._sizes.val_digest()}
        before = sweeps[-1] if sweeps else SweepRecord(spec={"task": _TASK, "validation": about})
        if before.spec.get("task") != _TASK:
            raise InputError(
                f"{self._store.root} holds the sweep {before.spec.get('name')!r}: name another "
                "folder to record into"
            )
        if (known := before.spec["validation"]) != about:
            raise InputError(
                f"{self._store.root} holds runs with another validation set, of "
                f"{known['num_val']:,} examples; here num_val = {self._sizes.num_val:,}. Name "
                "another folder, or give the same num_val=, digest= and val_clusters="
            )
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return replace(
            before,
            versions=versions(),
            git_commit=git_commit(),
            command=list(sys.argv),
            started_at=now,
            invocation=self._invocation.token,
        )

    def begin(self, settings: Mapping[str, Any], seed: int) -> Run:
        """Record one more run.

        Raises: InputError where the store holds that run already.
        """
        trial = trial_of(self._sizes, settings, seed)
        if trial.trial_id in done_trials(self._store):
            words = ", ".join(f"{name}={value!r}" for name, value in trial.point.items())
            raise InputError(
                f"{self._store.root} holds this run already ({words or 'no settings'}, "
                f"seed={seed}): give another seed= or other settings, or name another folder"
            )
        self._record = _with(self._record, trial, Path(str(self._store.root)).name)
        if self._recorder is None:
            constants = {
                "task": _TASK,
                "world_size": 1,
                "n_train": self._sizes.num_train,
                "n_val": self._sizes.num_val,
                "val_digest": self._sizes.val_digest(),
            }
            self._recorder = Recorder(
                self._store.folder.uri,
                self._record,
                [trial],
                constants,
                invocation=self._invocation,
            )
        else:
            self._recorder.add(trial)
            self._recorder.writer.add_sweep(self._record)
        return Run(self._recorder, trial.trial_id)

    def close(self) -> None:
        """Put everything into the store, which is free for another process then."""
        if self._recorder is None:
            self._lease.end()
        else:
            self._recorder.close()


def trial_of(sizes: Sizes, settings: Mapping[str, Any], seed: int) -> Trial:
    """Make the trial that a run is; its ids digest the settings and what is known of the data.

    Raises: InputError naming a setting that is none.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError(f"seed = {shown(seed)}: a whole number is needed, 0 or more")
    fields: Any = Settings(settings)
    config_id = _digest([fields.values, sizes.num_train, sizes.val_digest()], 6)
    return Trial(_digest([config_id, seed], 6), config_id, fields.values, fields, seed)


def _with(record: SweepRecord, trial: Trial, name: str) -> SweepRecord:
    """The record with one more trial, and what varies over all of them as its axes."""
    planned = PlannedTrial(trial.trial_id, trial.config_id, trial.seed)
    trials = record.trials if planned in record.trials else (*record.trials, planned)
    points = {**record.configurations, trial.config_id: trial.point}
    names = dict.fromkeys(setting for point in points.values() for setting in point)
    points = {key: {n: point.get(n) for n in names} for key, point in points.items()}
    levels = {n: _levels(point[n] for point in points.values()) for n in names}
    spec = {
        **record.spec,
        "name": name,
        "base": {n: values[0] for n, values in levels.items() if len(values) == 1},
        "axes": {n: values for n, values in levels.items() if len(values) > 1},
        "seeds": sorted({trial.seed for trial in trials}),
    }
    return replace(record, spec=spec, trials=trials, configurations=points)


def _levels(values: Iterable[Any]) -> list[Any]:
    """The distinct values: numbers in their order, others in that of their coming."""
    distinct: list[Any] = []
    for value in values:
        if not any(value == known and type(value) is type(known) for known in distinct):
            distinct.append(value)
    numbers = [v for v in distinct if isinstance(v, int | float) and not isinstance(v, bool)]
    return sorted(numbers) if len(numbers) == len(distinct) else distinct


def _plain(name: str, value: Any) -> Any:
    """Make a setting's value one that JSON holds. Raises: InputError."""
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, str | int | float | None) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise InputError(
            f"{name} = {shown(value)}: a setting is a finite number, a text, True, False or None"
        )
    return value


def _fits(value: Any, kind: pa.DataType) -> bool:
    """Whether a column of this type holds the value."""
    if value is None or isinstance(value, bool):
        return value is None or pa.types.is_boolean(kind)
    if isinstance(value, int):
        return pa.types.is_floating(kind) or (pa.types.is_integer(kind) and abs(value) < 2**63)
    return pa.types.is_floating(kind) if isinstance(value, float) else pa.types.is_string(kind)


def _digest(content: Any, size: int) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()
