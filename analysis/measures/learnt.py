"""Whether a trial learnt anything at all, by its training loss."""

import polars as pl

from raysweep.store.schema import DONE

_NO_CHANGE = 0.01  # of the training loss, as a share of where it began: nothing was learnt


def learnt_nothing(epochs: pl.DataFrame, trials: pl.DataFrame) -> pl.DataFrame:
    """Tell which trials' eval-mode training loss ended about where it began. A row per trial.

    Such a trial has not diverged, although its loss may have ended a little above its start.
    """
    raw = epochs.filter(pl.col("weights_kind") == "raw").sort("epoch")
    last = raw.group_by("trial_id").agg(pl.col("train_eval_loss").last())
    ratio = pl.col("train_eval_loss") / pl.col("initial_train_eval_loss")
    return (
        trials.filter(pl.col("outcome").is_in(DONE))
        .select("trial_id", "initial_train_eval_loss")
        .join(last, on="trial_id", how="left", maintain_order="left")
        .select(
            "trial_id",
            ((ratio - 1).abs() <= _NO_CHANGE).fill_null(value=False).alias("learnt_nothing"),
        )
    )
