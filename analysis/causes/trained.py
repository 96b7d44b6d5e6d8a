"""Which configurations trained: the only ones between which a knob's effect means anything."""

import polars as pl

from analysis.labels import Overfit, Status
from analysis.verdicts.margins import Margins

_MARGINS = Margins()


def comes_apart() -> pl.Expr:
    """Whether training itself lost what it had learnt, by its label or its training accuracy."""
    lost = (pl.col("train_drop") > _MARGINS.collapse).fill_null(value=False)
    return lost | (pl.col("overfit") == Overfit.COMES_APART).fill_null(value=False)


def all_seeds_trained() -> pl.Expr:
    """Whether every seed of a configuration that finished learnt something and kept it."""
    return (
        (pl.col("num_completed") > 0)
        & (pl.col("num_diverged") == 0)
        & pl.col("status").is_in([Status.OK, Status.STILL_LEARNING])
        & ~comes_apart()
    )
