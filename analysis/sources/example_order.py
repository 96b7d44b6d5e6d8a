"""Bits of a source -> whether validation examples that lie beside each other move together."""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.sources import bits, store
from analysis.sources.frames import NamedCurves
from analysis.stats.example_order import MOST, order_ratio
from raysweep.store.files import Store

_NUM_TRIALS = 5  # of a source that are read: the bits of all would take all of its memory
CHECK = "validation examples that move together"


def order_ratio_of(parts: Sequence[Store | NamedCurves], trial_ids: Sequence[str]) -> float | None:
    """The median of `order_ratio` over the first of these trials; None where no bits are known.

    Args: parts: stores or frames of curves; frames that give blocks beside the bits count as
        without, as their blocks may hold whole clusters; trial_ids: completed ones.
    """
    found = [order_ratio(right) for part in parts for right in _bits(part, trial_ids)]
    known = [ratio for ratio in found if np.isfinite(ratio)]
    return float(np.median(known)) if known else None


def order_quality(ratio: float | None, num_trials: int) -> list[tuple[str, int, str]]:
    """The rows of quality: check, count of trials, detail; none where nothing is wrong."""
    if ratio is None or ratio <= MOST:
        return []
    detail = (
        f"blocks in file order vary {ratio:.1f} times as much as dealt ones: what the validation "
        "set makes is taken for the network's; give blocks that hold whole groups of examples"
    )
    return [(CHECK, num_trials, detail)]


def _bits(part: Store | NamedCurves, trial_ids: Sequence[str]) -> Iterator[NDArray[np.bool_]]:
    """(T, n) of up to _NUM_TRIALS trials."""
    if isinstance(part, Store):
        for trial_id in trial_ids[:_NUM_TRIALS]:
            right = store.bits(part, trial_id)
            if right is None:  # what one trial has not recorded, the others have not either
                return
            yield right
        return
    curves = part.curves
    if bits.COLUMN not in curves.columns or "val_block_n" in curves.columns:
        return
    names = pl.col("trial_id").cast(pl.String)
    for trial_id in trial_ids[:_NUM_TRIALS]:
        rows = curves.filter(names == trial_id)
        if rows.height:
            yield bits.matrix(rows.sort("epoch"))
