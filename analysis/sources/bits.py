"""Which validation examples were right, in a tidy frame -> the blocks and flips that they make."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from raysweep.errors import InputError, shown

COLUMN = "val_correct_bits"
NUM_BLOCKS = 20


def dealt(curves: pl.DataFrame) -> pl.DataFrame:
    """The same rows without the column of bits, and with what they tell that was not given.

    Examples are dealt into 20 blocks in one shuffled order, the same in every trial. Nothing is
    made where blocks are given: they may hold whole clusters, which bits don't know of.

    Args: curves: val_correct_bits: lists of 0 and 1 (or true and false), one for each example of
        the validation set, in the same order in every row; with trial_id and epoch.
    Raises: InputError where lists are missing, differ in length or hold something else.
    """
    if COLUMN not in curves.columns:
        return curves
    rest = curves.drop(COLUMN)
    if "val_block_n" in rest.columns or not {"trial_id", "epoch"} <= set(rest.columns):
        return rest
    right = matrix(curves)
    num = right.shape[1]
    order = np.random.default_rng(0).permutation(num)
    blocks = [order[first::NUM_BLOCKS] for first in range(min(NUM_BLOCKS, num))]
    correct = np.stack([right[:, some].sum(axis=1) for some in blocks], axis=1)
    flipped = _flips(rest, right)
    made = [
        pl.Series("val_block_n", [[len(some) for some in blocks]] * len(right)),
        pl.Series("val_block_correct", correct.tolist(), pl.List(pl.Int64)),
        pl.Series("num_val", np.full(len(right), num)),
        *[pl.Series(name, found).fill_nan(None) for name, found in flipped.items()],
    ]
    return rest.with_columns(column for column in made if column.name not in rest.columns)


def matrix(curves: pl.DataFrame) -> NDArray[np.bool_]:
    """Which examples were right in every row, (rows, n). Raises: InputError as `dealt`."""
    lists = curves[COLUMN]
    if lists.dtype == pl.String:  # a list in a CSV file
        lists = lists.str.json_decode(pl.List(pl.Int64))
    if not isinstance(lists.dtype, pl.List | pl.Array):
        raise InputError(f"column {COLUMN!r} holds {lists.dtype}, not lists of 0 and 1")
    length = lists.list.len() if isinstance(lists.dtype, pl.List) else lists.arr.len()
    odd = curves.filter(length.ne_missing(length[0]) | (length == 0) | length.is_null())
    if odd.height:
        _refuse(odd.row(0, named=True), f"{length[0]} examples are expected, as in the first row")
    values = lists.explode().cast(pl.Float64, strict=False)
    wrong = (~values.is_in([0.0, 1.0])).fill_null(True).to_numpy().reshape(len(lists), -1)
    if wrong.any():
        _refuse(curves.row(int(wrong.any(axis=1).argmax()), named=True), "0 and 1 are expected")
    return values.to_numpy().reshape(len(lists), -1) > 0


def _refuse(row: dict[str, Any], rule: str) -> None:
    raise InputError(f"{COLUMN} at epoch {row['epoch']} of trial {shown(row['trial_id'])}: {rule}")


def _flips(rows: pl.DataFrame, right: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
    """Against the epoch before; NaN where it is not there."""
    place = rows.select("trial_id", "epoch").with_row_index("row").sort("trial_id", "epoch")
    trial, epoch = place["trial_id"], place["epoch"]
    follows = ((trial == trial.shift()) & (epoch == epoch.shift() + 1)).fill_null(False)
    at = place["row"].to_numpy()
    now, before = at[1:][follows.to_numpy()[1:]], at[:-1][follows.to_numpy()[1:]]
    found: dict[str, NDArray[np.float64]] = {}
    for name, flipped in (
        ("flip_to_wrong", right[before] & ~right[now]),
        ("flip_to_right", ~right[before] & right[now]),
    ):
        found[name] = np.full(len(right), np.nan)
        found[name][now] = flipped.sum(axis=1)
    return found
