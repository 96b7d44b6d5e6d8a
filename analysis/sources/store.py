"""Store -> tidy Polars frames: the trials and the live epochs of the latest sweep.

A scan beside a running sweep succeeds: files that vanish are listed again, files that can't be
read are named and left out.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from analysis.columns import columns_of
from analysis.sources import censoring
from raysweep.errors import InputError
from raysweep.store.files import Damaged, Store
from raysweep.store.schema import SCHEMAS, Table

KEY = ("trial_id", "weights_kind", "epoch")


class Frames(NamedTuple):
    """What a store holds of one sweep.

    trials: one row per trial that has ended: completed, diverged, failed, or stopped by a scheduler
    epochs: one live row per finished trial, weights_kind and epoch, with derived columns
    quality: check, count, detail; one row per thing that is missing, excluded or damaged
    """

    record: dict[str, Any]
    trials: pl.DataFrame
    epochs: pl.DataFrame
    quality: pl.DataFrame


def read_store(store: Store) -> Frames:
    """The latest sweep of a store.

    Raises: InputError when the store has no sweep, or no trial of it has completed or diverged.
    """
    sweeps = store.sweeps()
    if not sweeps:
        raise InputError(f"{store.root} holds no sweep yet: run one with that store first")
    record = sweeps[-1].to_json()
    planned = pl.DataFrame(
        record["trials"],
        schema={"trial_id": pl.String, "config_id": pl.String, "seed": pl.Int64},
        orient="row",
    )
    # Trials before epochs: a trial that stands in a segment has its epochs in segments already.
    ended, corrupt_trials = scan(store, "trials")
    rows, corrupt = scan(store, "epochs", epoch_columns())
    attempts = rows.group_by("trial_id").agg(pl.col("attempt").max().alias("tried"))
    num_rows = _num_of(planned, rows)
    live = live_epochs(rows)
    del rows  # a million epochs are most of a gigabyte, and each step makes a copy
    num_live = _num_of(planned, live)
    latest = (
        ended.sort("trial_id", "attempt", maintain_order=True)
        .unique("trial_id", keep="last", maintain_order=True)
        .join(attempts, on="trial_id", how="left")
    )
    # A later attempt that has rows but hasn't finished means: the trial is being trained again.
    done = latest.filter(pl.col("tried").is_null() | (pl.col("tried") <= pl.col("attempt")))
    trials = (
        done.drop("tried", "config_id", "seed")
        .join(planned.with_row_index("order"), on="trial_id", how="inner")
        .sort("order")
        .select(*SCHEMAS["trials"].names)
    )
    if not trials["status"].is_in(["completed", "diverged"]).any():
        raise InputError(_nothing_finished(store, planned.height, trials))
    kept = trials.select("trial_id", "config_id", "seed")
    epochs = derive(_of_trials(live, kept))
    del live
    quality = _quality(
        planned=planned,
        trials=trials,
        known=latest,
        epochs=epochs,
        num_superseded=num_rows - num_live,
        corrupt=_named(store.damaged_records()) + corrupt_trials + corrupt,
        num_sweeps=len(sweeps),
    )
    return Frames(record, trials, epochs, quality)


def epoch_columns() -> list[str]:
    """Columns of an epoch's row that the frames have; lists and bits beyond them stay on disk."""
    here = {column.name for column in columns_of("epochs")}
    return [name for name in SCHEMAS["epochs"].names if name in here]


def _of_trials(rows: pl.DataFrame, trials: pl.DataFrame) -> pl.DataFrame:
    """The rows of these trials, ordered by KEY, with the trials' other columns.

    Rows are copied once at most, and only their keys are joined and sorted.
    """
    keys = rows.select(KEY).with_row_index("row").join(trials, on="trial_id", how="inner").sort(KEY)
    place, found = keys["row"], keys.select(trials.columns[1:])
    if place.len() < rows.height or not place.is_sorted():
        rows = rows[place]
    return rows.hstack(found)


def _num_of(planned: pl.DataFrame, rows: pl.DataFrame) -> int:
    """Rows of planned trials."""
    return rows.select("trial_id").join(planned, on="trial_id", how="semi").height


def scan(
    store: Store,
    table: Table,
    columns: Sequence[str] | None = None,
    *,
    trial_id: str | None = None,
) -> tuple[pl.DataFrame, list[str]]:
    """All rows of the live files that can be read, in the order of writing; or one trial's.

    Returns: the rows, and the files that could not be read, each with the reason.
    """
    found = store.scan(table, columns, trial_id=trial_id)
    rows = pl.from_arrow(found.rows, rechunk=False)
    assert isinstance(rows, pl.DataFrame)
    damaged = _named(found.damaged)
    del found
    # Arrow would keep what decoding took, as much again as the rows.
    pa.default_memory_pool().release_unused()
    return rows, damaged


def _named(damaged: Sequence[Damaged]) -> list[str]:
    return [f"{path} ({reason})" for path, reason in damaged]


def evidence(store: Store, trial_id: str, columns: Sequence[str]) -> pl.DataFrame:
    """Live epochs of one trial's raw weights with columns that `read_store` leaves on disk.

    Those are heavy: `val_correct_bits`, `val_class_n`, `val_class_correct`.
    """
    wanted = ("attempt", "start_epoch", *KEY, *columns)
    rows, _ = scan(store, "epochs", wanted, trial_id=trial_id)
    rows = live_epochs(rows).filter(pl.col("weights_kind") == "raw")
    return rows.sort("epoch").select("epoch", *columns)


def class_counts(store: Store) -> pl.DataFrame:
    """Of all live epochs of raw weights: trial_id, epoch, val_class_n, val_class_correct."""
    wanted = ("attempt", "start_epoch", *KEY, "val_class_n", "val_class_correct")
    rows, _ = scan(store, "epochs", wanted)
    rows = live_epochs(rows).filter(pl.col("weights_kind") == "raw")
    return rows.select("trial_id", "epoch", "val_class_n", "val_class_correct")


def bits(store: Store, trial_id: str) -> NDArray[np.bool_] | None:
    """Which validation examples a trial got right after each epoch.

    Returns: (T, n), in validation order; None unless every epoch has it.
    """
    rows = evidence(store, trial_id, ["val_n", "val_correct_bits"])
    if not rows.height or rows["val_correct_bits"].null_count():
        return None
    packed = np.frombuffer(b"".join(rows["val_correct_bits"]), np.uint8).reshape(rows.height, -1)
    return np.unpackbits(packed, axis=1, count=rows["val_n"][0]).astype(bool)


def live_epochs(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per trial, weights_kind and epoch: a row is live unless a later attempt has
    start_epoch <= its epoch."""
    if rows["attempt"].max() != rows["attempt"].min():
        starts = rows.select("trial_id", "attempt", "start_epoch").unique()
        later = starts.rename({"attempt": "later", "start_epoch": "from_epoch"})
        superseded = (
            starts.join(later, on="trial_id")
            .filter(pl.col("later") > pl.col("attempt"))
            .group_by("trial_id", "attempt")
            .agg(pl.col("from_epoch").min())
        )
        rows = rows.join(
            superseded, on=["trial_id", "attempt"], how="left", maintain_order="left"
        ).filter(pl.col("from_epoch").is_null() | (pl.col("epoch") < pl.col("from_epoch")))
        rows = rows.drop("from_epoch")
    # A row that was written twice is rare, and leaving one out copies all the others.
    if rows.select(KEY).is_unique().all():
        return rows
    return rows.unique(KEY, keep="last", maintain_order=True)


def derive(rows: pl.DataFrame) -> pl.DataFrame:
    """Adds val_accuracy, val_loss, train_eval_accuracy, train_eval_loss and churn.

    Accuracy is a fraction, or the mean score where scores are no counts; loss is a mean; what is
    not finite becomes null (`status` tells why).
    """

    def mean(count: str, total: str, n: str) -> pl.Expr:
        scores = [pl.col(name).cast(pl.Float64) for name in (count, total) if name in rows.columns]
        return pl.coalesce(scores) / pl.col(n)

    return rows.with_columns(
        mean("val_correct", "val_score_sum", "val_n").alias("val_accuracy"),
        (pl.col("val_loss_sum") / pl.col("val_n")).alias("val_loss"),
        mean("train_eval_correct", "train_eval_score_sum", "train_eval_n").alias(
            "train_eval_accuracy"
        ),
        (pl.col("train_eval_loss_sum") / pl.col("train_eval_n")).alias("train_eval_loss"),
        ((pl.col("flip_to_wrong") + pl.col("flip_to_right")) / pl.col("val_n")).alias("churn"),
    ).with_columns(pl.when(pl.col(pl.Float64).is_finite()).then(pl.col(pl.Float64)).name.keep())


def _nothing_finished(store: Store, num_planned: int, trials: pl.DataFrame) -> str:
    failed = trials.filter(pl.col("status") == "failed")
    if failed.height:
        error = str(failed["error"][0]).splitlines()[0]
        return (
            f"{store.root}: no trial of the latest sweep has finished; {failed.height} of "
            f"{num_planned} failed, the first with: {error}"
        )
    stopped = trials.filter(pl.col("status") == censoring.STOPPED).height
    but = f"; its scheduler has stopped {stopped}" if stopped else ""
    return (
        f"{store.root}: none of the {num_planned} trials of the latest sweep has finished yet{but}"
    )


def _quality(
    *,
    planned: pl.DataFrame,
    trials: pl.DataFrame,
    known: pl.DataFrame,
    epochs: pl.DataFrame,
    num_superseded: int,
    corrupt: list[str],
    num_sweeps: int,
) -> pl.DataFrame:
    status = Counter(trials["status"].to_list())
    missing = planned.join(trials, on="trial_id", how="anti")["trial_id"].to_list()
    others = known.join(planned, on="trial_id", how="anti").height
    errors = Counter(
        str(error).splitlines()[0]
        for error in trials.filter(pl.col("status") == "failed")["error"].fill_null("unknown")
    )
    kinds = epochs.select("trial_id", "weights_kind", "val_loss", "val_n")
    raw = kinds.filter(pl.col("weights_kind") == "raw")
    seen = raw.group_by("trial_id").agg(pl.len().alias("num_rows"))
    holes = (
        trials.join(seen, on="trial_id", how="left")
        .filter(pl.col("status") == "completed")
        .filter(pl.col("num_rows").fill_null(0) < pl.col("epochs_run"))["trial_id"]
        .to_list()
    )
    unfinite = pl.col("val_loss").is_null()
    unfinite &= ~unfinite.all().over("trial_id")  # of others the loss was not recorded
    num_unfinite = raw.filter(unfinite & (pl.col("val_n") > 0)).height
    found = [
        ("trials planned", planned.height, f"{planned['config_id'].n_unique()} configurations"),
        ("trials completed", status["completed"], ""),
        ("trials diverged", status["diverged"], "kept in the curves, left out of every estimate"),
        censoring.check(trials),
        ("trials failed", status["failed"], "; ".join(f"{n} x {e}" for e, n in errors.items())),
        ("trials missing", len(missing), some(missing)),
        ("trials with missing epochs", len(holes), some(holes)),
        ("epochs without a finite validation loss", num_unfinite, ""),
        ("epoch rows superseded by a later attempt", num_superseded, "not used"),
        ("files that can't be read", len(corrupt), some(corrupt)),
        ("finished trials of other sweeps", others, f"{num_sweeps - 1} earlier sweeps; not used"),
    ]
    return pl.DataFrame(
        [row for row in found if row[1] or row[0] in ("trials planned", "trials completed")],
        schema={"check": pl.String, "count": pl.Int64, "detail": pl.String},
        orient="row",
    )


def some(names: list[str], most: int = 5) -> str:
    """The first few names, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
