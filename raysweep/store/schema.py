"""What a store holds: the columns of its two tables, each with its meaning and unit."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.ipc

from raysweep.spec import Hyperparameters, nested_fields

Table = Literal["epochs", "trials"]
TABLES: tuple[Table, ...] = get_args(Table)
NUM_BLOCKS = 20

EPOCHS = pa.schema(
    [
        # Which row this is. A row is live unless a later attempt has start_epoch <= its epoch.
        ("trial_id", pa.string()),
        ("attempt", pa.int32()),
        ("start_epoch", pa.int32()),  # first epoch that this attempt trained, from 1
        ("epoch", pa.int32()),  # from 1: measured after this many passes
        ("weights_kind", pa.string()),  # raw, ema, ema_live, ema_averaged; see probes.Average
        ("status", pa.string()),  # ok, diverged (a loss was not finite)
        ("global_step", pa.int64()),
        ("lr", pa.float64()),  # of the epoch's last step
        ("batch_size", pa.int32()),
        ("wall_s", pa.float64()),  # the whole epoch, evidence included
        ("train_s", pa.float64()),  # the training pass, and what is measured at its steps
        # Training, as accumulated in train mode (dropout on, weights moving).
        ("train_n", pa.int64()),
        ("train_loss", pa.float64()),
        ("train_accuracy", pa.float64()),  # or the mean score, where that is no count
        # A fixed subset of the training set, evaluated in eval mode without augmentation.
        ("train_eval_n", pa.int64()),
        ("train_eval_correct", pa.int64()),
        ("train_eval_loss_sum", pa.float64()),
        # Scores that are no counts of right answers stand in columns of their own, here and below:
        # one number an example, the mean over its tokens or pixels. The counts are null then.
        ("train_eval_score_sum", pa.float64()),
        ("train_eval_score_sumsq", pa.float64()),
        # Validation: the loss without label smoothing, summed over examples.
        ("val_n", pa.int64()),
        ("val_correct", pa.int64()),
        ("val_loss_sum", pa.float64()),
        ("val_loss_sumsq", pa.float64()),
        ("val_block_n", pa.list_(pa.int32())),  # NUM_BLOCKS fixed blocks
        ("val_block_correct", pa.list_(pa.int32())),
        ("val_block_loss_sum", pa.list_(pa.float64())),
        ("val_score_sum", pa.float64()),
        ("val_score_sumsq", pa.float64()),
        ("val_block_score_sum", pa.list_(pa.float64())),
        # Sums of the second and fourth powers of how far each score went since the previous epoch.
        ("val_change_sumsq", pa.float64()),
        ("val_change_sum4", pa.float64()),
        ("flip_to_wrong", pa.int32()),  # against the previous epoch; null in the first
        ("flip_to_right", pa.int32()),
        ("val_class_n", pa.list_(pa.int32())),  # null beyond 1,000 classes
        ("val_class_correct", pa.list_(pa.int32())),
        ("val_correct_bits", pa.binary()),  # np.packbits of correctness, in validation order
        ("repeat_correct", pa.int64()),  # a second evaluation of the same weights; first, last
        ("repeat_score_sum", pa.float64()),
        # Confidence: the temperature of the smallest validation loss, and that mean loss; the mean
        # Brier score (summed over classes) and the calibration error at temperature 1.
        ("temperature", pa.float64()),
        ("val_nll_at_temperature", pa.float64()),
        ("val_block_nll_sum", pa.list_(pa.float64())),  # the same, summed over each block
        ("brier", pa.float64()),
        ("ece", pa.float64()),
        # Gradients, before clipping: mean squared norms of a part's and the whole batch's, over
        # gns_steps steps, and their sizes; see probes.GradientNoise. grad_norm is of the epoch's
        # last step; update_norm is the distance that the parameters went in the whole epoch.
        ("gns_small_sq", pa.float64()),
        ("gns_big_sq", pa.float64()),
        ("gns_b_small", pa.float64()),
        ("gns_b_big", pa.float64()),
        ("gns_steps", pa.int32()),
        ("grad_norm", pa.float64()),
        ("param_norm", pa.float64()),
        ("update_norm", pa.float64()),
    ]
)

ARROW_OF = {
    "integer": pa.int64(),
    "number": pa.float64(),
    "string": pa.string(),
    "boolean": pa.bool_(),
}


def _field_columns() -> list[tuple[str, pa.DataType]]:
    """A column per field of a trial, so that a new field needs no change here."""
    properties = Hyperparameters.model_json_schema()["properties"]
    columns: list[tuple[str, pa.DataType]] = []
    for name, kind in nested_fields():
        if kind is None:
            kinds = [properties[name], *properties[name].get("anyOf", [])]
            columns.append((name, next(ARROW_OF[k["type"]] for k in kinds if "type" in k)))
            continue
        columns.append((name, pa.bool_()))
        for inner, schema in kind.model_json_schema()["properties"].items():
            columns.append((f"{name}_{inner}", ARROW_OF[schema["type"]]))
    return columns


TRIALS = pa.schema(
    [
        ("trial_id", pa.string()),
        ("config_id", pa.string()),
        ("task", pa.string()),
        ("seed", pa.int64()),
        ("attempt", pa.int32()),
        # completed; diverged (a loss was not finite, or the eval-mode training loss ended above
        # its value before training); failed (an error: see `error`, `error_log`); stopped (by a
        # scheduler, after epochs_run epochs: a censored curve)
        ("status", pa.string()),
        ("error", pa.string()),
        ("error_log", pa.string()),  # path in the store
        *_field_columns(),
        ("own_fields", pa.string()),  # the fields that the task has added to a trial, as JSON
        ("world_size", pa.int32()),
        ("n_train", pa.int64()),
        ("n_val", pa.int64()),
        ("num_classes", pa.int32()),  # 0 where the task has no classes
        # right: each example is right or wrong, and counted; share: the share of its right answers,
        # from 0 to 1; number: any number. Null before there were others than right.
        ("score_kind", pa.string()),
        ("score_name", pa.string()),
        ("baseline", pa.float64()),  # score of a model that has learnt nothing, if the task says it
        ("margin", pa.float64()),  # smallest difference of scores that matters, likewise
        ("num_parameters", pa.int64()),
        ("val_digest", pa.string()),
        ("epochs_run", pa.int32()),
        ("stopped_early", pa.bool_()),
        ("restored_epoch", pa.int32()),  # whose weights early stopping put back; null if none
        ("restored_val_correct", pa.int64()),  # a new evaluation of those weights
        ("restored_val_score_sum", pa.float64()),
        ("checkpoint", pa.string()),  # path in the store
        ("initial_train_eval_loss", pa.float64()),  # mean, before the first step
        ("seconds", pa.float64()),  # of all attempts, less what was lost after a checkpoint
        ("node", pa.string()),
    ]
)

# The statuses of trials that are whole: never trained again.
DONE = ("completed", "diverged")
STOPPED = "stopped"  # by a scheduler: done while the sweep has one, else to be trained to its end
SCHEMAS: dict[Table, pa.Schema] = {"epochs": EPOCHS, "trials": TRIALS}
# No two live rows of a table have the same.
KEYS: dict[Table, list[str]] = {
    "epochs": ["trial_id", "attempt", "epoch", "weights_kind"],
    "trials": ["trial_id", "attempt"],
}


def val_accuracy(row: Mapping[str, Any]) -> float:
    """Compute the mean score of an epoch's row: the accuracy, where scores are counts."""
    score = row["val_correct"] if row.get("val_correct") is not None else row["val_score_sum"]
    return score / row["val_n"]


def packed(rows: Sequence[Mapping[str, Any]], table: Table = "epochs") -> bytes:
    """Rows as they go from process to process, and into the log: one record batch with its schema,
    in one buffer. A batch as it is has a buffer for each column, and Ray takes three times as long
    over those."""
    return packed_batch(pa.RecordBatch.from_pylist(rows, SCHEMAS[table]))  # pyright: ignore[reportArgumentType]


def packed_batch(batch: pa.RecordBatch) -> bytes:
    """The same of rows that are a batch already."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue().to_pybytes()


def unpacked(body: bytes) -> pa.RecordBatch:
    """The rows that were packed, with the columns of the raysweep that did it."""
    return pa.ipc.open_stream(pa.py_buffer(body)).read_next_batch()
