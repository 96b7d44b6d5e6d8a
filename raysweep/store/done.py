"""Which trials a store holds whole, and how often each was tried."""

import math
import re

import pyarrow as pa

from raysweep.store.files import Store
from raysweep.store.schema import DONE, STOPPED

_EPOCH_COLUMNS = ["trial_id", "weights_kind", "attempt", "start_epoch", "epoch"]


def done_trials(store: Store, *, pruned: bool = False) -> set[str]:
    """Ids of the trials that are not to be trained again: those that a store holds whole, and, with
    `pruned`, those that a scheduler has stopped.

    It reads all that is live, so that a file is not relied on whose damage shows in any column.
    """
    columns = ["trial_id", "status", "epochs_run"]
    ends = store.scan("trials").rows.select(columns).to_pylist()
    done = {row["trial_id"]: row["epochs_run"] or 1 for row in ends if row["status"] in DONE}
    if pruned:
        done |= {r["trial_id"]: r["epochs_run"] or 1 for r in ends if r["status"] == STOPPED}
    epochs = store.scan("epochs", _EPOCH_COLUMNS, thorough=True)
    if not epochs.damaged:
        return set(done)
    # Rows of a trial may have been in a damaged file.
    whole = _whole_epochs(epochs.rows)
    return {trial_id for trial_id, last in done.items() if whole.get(trial_id, 0) >= last}


def has_epochs(store: Store, trial_id: str, last: int) -> bool:
    """Whether every epoch up to `last` of a trial is live in a store, for each kind of weights."""
    rows = store.scan("epochs", _EPOCH_COLUMNS, trial_id=trial_id).rows
    return _whole_epochs(rows).get(trial_id, 0) >= last


def _whole_epochs(rows: pa.Table) -> dict[str, int]:
    """The epoch up to which a trial has all its live rows, for each kind of weights; by trial.

    A row is live unless a later attempt has start_epoch <= its epoch.
    """
    parts = rows.group_by(_EPOCH_COLUMNS[:4]).aggregate([("epoch", "distinct")]).to_pylist()
    starts: dict[str, list[tuple[int, int]]] = {}
    for part in parts:
        start = part["attempt"] or 0, part["start_epoch"] or 1
        starts.setdefault(part["trial_id"], []).append(start)
    live: dict[str, dict[str, set[int]]] = {}
    for part in parts:
        trial_id, attempt = part["trial_id"], part["attempt"] or 0
        end = min((start for later, start in starts[trial_id] if later > attempt), default=math.inf)
        if epochs := {n for n in part["epoch_distinct"] if n is not None and n < end}:
            kinds = live.setdefault(trial_id, {})
            kinds[part["weights_kind"]] = kinds.get(part["weights_kind"], set()) | epochs
    whole: dict[str, int] = {}
    for trial_id, kinds in live.items():
        common = set.intersection(*kinds.values())
        whole[trial_id] = next(n for n in range(len(common) + 1) if n + 1 not in common)
    return whole


def last_attempts(store: Store) -> dict[str, int]:
    """The last attempt at each trial that left anything in a store."""
    last: dict[str, int] = {}
    for name in (*store.folder.names("logs"), *store.folder.names("checkpoints")):
        if match := re.fullmatch(r"(\w+)-(\d+)\.(txt|pt)", name):
            last[match[1]] = max(int(match[2]), last.get(match[1], 0))
    for table in ("epochs", "trials"):
        rows = store.read(table, ["trial_id", "attempt"])
        grouped = rows.group_by("trial_id").aggregate([("attempt", "max")]).to_pydict()
        for trial_id, attempt in zip(grouped["trial_id"], grouped["attempt_max"], strict=True):
            last[trial_id] = max(attempt, last.get(trial_id, 0))
    return last
