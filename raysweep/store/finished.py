"""Which trials a store holds whole, and how often each was tried."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from raysweep.store.files import Store
from raysweep.store.schema import DONE, STOPPED

EPOCH_KEY = ["trial_id", "attempt", "start_epoch", "epoch"]


def finished_in(store: Store, *, pruned: bool = False) -> set[str]:
    """Ids of the trials that are not to be trained again: those that a store holds whole, and, with
    `pruned`, those that a scheduler has stopped.

    Reads all that is live, so that a file is not relied on whose damage shows in any column.
    """
    columns = ["trial_id", "attempt", "status", "epochs_run"]
    rows = store.scan("trials").rows.select(columns).to_pylist()
    ends = (*DONE, STOPPED) if pruned else DONE
    done = [row for row in rows if row["status"] in ends]
    epochs = store.scan("epochs", EPOCH_KEY, thorough=True)
    if epochs.damaged:
        # The rows of a trial may have been in there.
        done = _with_all_epochs(done, epochs.rows)
    return {row["trial_id"] for row in done}


def _with_all_epochs(trials: Sequence[Mapping[str, Any]], epochs: pa.Table) -> list[Any]:
    """Those trials whose last attempt has all its rows, and earlier ones those before it."""
    grouped = epochs.group_by(EPOCH_KEY[:3]).aggregate([("epoch", "distinct")]).to_pylist()
    seen: dict[str, dict[int, tuple[int, set[int]]]] = {}
    for row in grouped:
        attempts = seen.setdefault(row["trial_id"], {})
        attempts[row["attempt"]] = row["start_epoch"] or 1, set(row["epoch_distinct"])
    whole = []
    for trial in trials:
        attempts = seen.get(trial["trial_id"], {})
        start, own = attempts.get(trial["attempt"], (1, set()))
        earlier = {epoch for _, epochs in attempts.values() for epoch in epochs}
        last = 1 if trial["epochs_run"] is None else trial["epochs_run"]
        if own.issuperset(range(start, last + 1)) and earlier.issuperset(range(1, start)):
            whole.append(trial)
    return whole


def has_epochs(store: Store, trial_id: str, last: int) -> bool:
    """Whether every epoch up to `last` of a trial is live in a store, for each kind of weights."""
    columns = ["weights_kind", "epoch", "attempt", "start_epoch"]
    rows = store.scan("epochs", columns, trial_id=trial_id).rows.to_pydict()
    starts = set(zip(rows["attempt"], rows["start_epoch"], strict=True))
    live: dict[str, set[int]] = {}
    for kind, epoch, attempt in zip(
        rows["weights_kind"], rows["epoch"], rows["attempt"], strict=True
    ):
        if not any(later > attempt and start <= epoch for later, start in starts):
            live.setdefault(kind, set()).add(epoch)
    return bool(live) and all(epochs.issuperset(range(1, last + 1)) for epochs in live.values())


def attempts_in(store: Store) -> dict[str, int]:
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
