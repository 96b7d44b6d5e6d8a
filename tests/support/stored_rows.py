"""Rows of a store: made in few words, and read back as keys."""

import pyarrow as pa

from raysweep.store.schema import EPOCHS, TRIALS


def epochs(trial_id, *numbers):
    rows = [{"trial_id": trial_id, "attempt": 1, "epoch": epoch} for epoch in numbers]
    return pa.RecordBatch.from_pylist(rows, EPOCHS)


def finished(trial_id, attempt=1):
    return pa.RecordBatch.from_pylist(
        [{"trial_id": trial_id, "attempt": attempt, "status": "completed"}], TRIALS
    )


def keys(store):
    rows = store.read("epochs", ["trial_id", "epoch"]).to_pylist()
    return sorted((row["trial_id"], row["epoch"]) for row in rows)
