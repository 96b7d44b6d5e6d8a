"""Tidy epochs -> matrices: trials of the same length side by side, so that nothing loops."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# The columns of the epochs that matrices are made of; the sums of losses over blocks and what was
# accumulated in train mode may be missing.
COLUMNS = [
    "trial_id",
    "epoch",
    "lr",
    "val_n",
    "val_accuracy",
    "val_loss",
    "val_nll_at_temperature",
    "train_eval_n",
    "train_eval_accuracy",
    "train_eval_loss",
    "train_accuracy",
    "train_loss",
    "flip_to_wrong",
    "flip_to_right",
    "val_block_n",
    "val_block_correct",
    "val_block_score_sum",
    "val_block_loss_sum",
    "val_block_nll_sum",
]
ROWS_AT_ONCE = 60_000  # bounds the memory of the block arrays to some tens of megabytes


def nan_to_null(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with null, "not estimated", in place of every NaN."""
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None))


@dataclass(frozen=True)
class Curves:
    """Trials of the same length; NaN where an epoch or a metric is missing.

    N trials, T epochs, K validation blocks.
    """

    trial_ids: list[str]
    val_accuracy: Floats  # (N, T), a fraction
    val_loss: Floats  # (N, T), a mean
    refined_loss: Floats  # (N, T), the mean loss at the temperature fitted to each epoch
    train_accuracy: Floats  # (N, T), eval mode
    train_loss: Floats  # (N, T), eval mode, a mean
    running_accuracy: Floats  # (N, T), on the training set, as accumulated in train mode
    running_loss: Floats  # (N, T), the same of the loss
    train_n: Floats  # (N,), examples in the fixed training subset; NaN if not known
    val_n: Floats  # (N,), the same of the validation set
    to_wrong: Floats  # (N, T), examples that are wrong now and were right the epoch before
    to_right: Floats  # (N, T), the other way round
    lr: Floats  # (N, T)
    block_accuracy: Floats  # (N, T, K); K = 0 without blocks
    block_loss: Floats  # (N, T, K), means; K = 0 without them
    block_refined: Floats  # (N, T, K), the same at the temperature fitted to all blocks
    block_weight: Floats  # (N, K), shares of the validation examples; sums to 1

    @property
    def num_epochs(self) -> int:
        """T."""
        return self.val_accuracy.shape[1]

    @property
    def flips(self) -> Floats:
        """(N, T), examples whose correctness changed since the epoch before."""
        return self.to_wrong + self.to_right

    @classmethod
    def of_accuracy(cls, accuracy: Floats, **known: Any) -> Self:
        """Curves of validation accuracy (N, T) at a constant learning rate.

        What is not given in `known` (other fields of this class) is missing: NaN, or K = 0.
        """
        shape = accuracy.shape
        missing, none = np.full(shape, np.nan), np.full(shape[0], np.nan)
        fields = {
            "trial_ids": [str(number) for number in range(shape[0])],
            "val_accuracy": accuracy,
            "val_loss": missing,
            "refined_loss": missing,
            "train_accuracy": missing,
            "train_loss": missing,
            "running_accuracy": missing,
            "running_loss": missing,
            "train_n": none,
            "val_n": none,
            "to_wrong": missing,
            "to_right": missing,
            "lr": np.ones(shape),
            "block_accuracy": np.empty((*shape, 0)),
            "block_loss": np.empty((*shape, 0)),
            "block_refined": np.empty((*shape, 0)),
            "block_weight": np.empty((shape[0], 0)),
        }
        return cls(**(fields | known))


def curves(raw: pl.DataFrame, trials: pl.DataFrame | None = None) -> Iterator[Curves]:
    """All trials in groups of the same number of epochs and blocks; one empty group where there
    are none.

    Args: raw: epochs of raw weights, as read_store gives them; trials: trial_id of those that are
        wanted, by default all. To name them is cheaper than to copy their epochs.
    """
    sizes = pl.col("val_block_n").list.len()
    lengths = raw.group_by("trial_id").agg(
        pl.col("epoch").max().alias("length"),
        # Trials without blocks apart: a group has them where all its rows do.
        pl.when(sizes.null_count() == 0).then(sizes.max()).fill_null(0).alias("num_blocks"),
    )
    if trials is not None:
        lengths = lengths.join(trials, on="trial_id", how="semi")
    lengths = lengths.sort("length", "num_blocks", "trial_id")
    if not lengths.height:
        yield padded(raw, lengths["trial_id"], 1)
    groups = lengths.group_by("length", "num_blocks", maintain_order=True)
    for (length, _), group in groups:
        assert isinstance(length, int)
        for chunk in group["trial_id"].to_frame().iter_slices(max(1, ROWS_AT_ONCE // length)):
            yield padded(raw, chunk["trial_id"], length)


def padded(raw: pl.DataFrame, trial_ids: pl.Series, num_epochs: int) -> Curves:
    """These trials in this order, all padded to the same number of epochs."""
    ids = pl.DataFrame({"trial_id": trial_ids}).with_row_index("row")
    wanted = raw.select(name for name in COLUMNS if name in raw.columns)
    rows = wanted.join(ids, on="trial_id", how="inner", maintain_order="left")
    return _matrices(rows, trial_ids.to_list(), num_epochs)


def _matrices(rows: pl.DataFrame, trial_ids: list[str], num_epochs: int) -> Curves:
    place = rows["row"].to_numpy() * num_epochs + rows["epoch"].to_numpy() - 1
    shape = (len(trial_ids), num_epochs)

    def matrix(values: pl.Series) -> Floats:
        out = np.full(shape[0] * shape[1], np.nan)
        out[place] = values.cast(pl.Float64).to_numpy()
        return out.reshape(shape)

    def optional(name: str) -> Floats:
        return matrix(rows[name]) if name in rows.columns else np.full(shape, np.nan)

    def constant(name: str) -> Floats:
        # Of any epoch that has it: the validation set and the training subset are fixed.
        values = matrix(rows[name])
        known = np.isfinite(values)
        most = np.max(np.where(known, values, 0.0), axis=1)
        return np.where(known.any(axis=1), most, np.nan)

    blocks, block_loss, block_refined, weight = _blocks(rows, place, shape)
    return Curves(
        trial_ids=trial_ids,
        val_accuracy=matrix(rows["val_accuracy"]),
        val_loss=matrix(rows["val_loss"]),
        refined_loss=matrix(rows["val_nll_at_temperature"]),
        train_accuracy=matrix(rows["train_eval_accuracy"]),
        train_loss=matrix(rows["train_eval_loss"]),
        running_accuracy=optional("train_accuracy"),
        running_loss=optional("train_loss"),
        train_n=constant("train_eval_n"),
        val_n=constant("val_n"),
        to_wrong=matrix(rows["flip_to_wrong"]),
        to_right=matrix(rows["flip_to_right"]),
        lr=matrix(rows["lr"]),
        block_accuracy=blocks,
        block_loss=block_loss,
        block_refined=block_refined,
        block_weight=weight,
    )


def _blocks(
    rows: pl.DataFrame, place: NDArray[np.int64], shape: tuple[int, int]
) -> tuple[Floats, Floats, Floats, Floats]:
    """Accuracy, loss and refined loss (N, T, K) and weight (N, K) of the blocks; K = 0 unless all
    rows have them."""
    num_trials, num_epochs = shape
    sizes = rows["val_block_n"].list.len()
    num_blocks = sizes.max()
    none = np.empty((*shape, 0))
    if sizes.null_count() or sizes.min() != num_blocks or not isinstance(num_blocks, int):
        return none, none, none, np.empty((num_trials, 0))
    count = rows["val_block_n"].explode().to_numpy().reshape(-1, num_blocks)

    def means(sums: pl.Series) -> Floats:
        out = np.full((num_trials * num_epochs, num_blocks), np.nan)
        values = sums.explode().cast(pl.Float64).to_numpy().reshape(-1, num_blocks)
        out[place] = values / np.maximum(count, 1)  # an empty block has weight 0
        return out.reshape(*shape, num_blocks)

    weight = np.zeros((num_trials, num_blocks))
    weight[rows["row"].to_numpy()] = count / count.sum(axis=1, keepdims=True)
    loss, refined = (
        none if name not in rows.columns or rows[name].null_count() else means(rows[name])
        for name in ("val_block_loss_sum", "val_block_nll_sum")
    )
    counted = (
        "val_block_score_sum" not in rows.columns or not rows["val_block_correct"].null_count()
    )
    scores = rows["val_block_correct" if counted else "val_block_score_sum"]
    return means(scores), loss, refined, weight
