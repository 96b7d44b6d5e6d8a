"""Is the accuracy still rising at the end of training?"""

import numpy as np
import polars as pl
from scipy import stats

from analysis.curves import Curves, nan_to_null
from analysis.stats.windows import theil_sen

# Set below 5 %, as the autocorrelation that widens the error is read from few epochs, too small.
LEVEL = 0.04


def late_trend(trials: Curves) -> pl.DataFrame:
    """One row per trial, of the validation accuracy over the last third of training.

    late_slope: Theil-Sen slope, a fraction per epoch; late_slope_low: its one-sided limit of
    1 - LEVEL;
    projected_gain: what as many epochs again would add if that slope held, which it seldom does,
    and at most what is left up to an accuracy of 1.
    Null with fewer than MIN_SLOPE epochs in the last third, or where one of them is missing.
    """
    late = trials.val_accuracy[:, -max(trials.num_epochs // 3, 1) :]
    slope, se, df = theil_sen(late)
    frame = pl.DataFrame(
        {
            "trial_id": pl.Series(trials.trial_ids, dtype=pl.String),
            "late_slope": slope,
            "late_slope_low": slope - stats.t.isf(LEVEL, df) * se if df else slope,
            "projected_gain": np.minimum(
                slope * trials.num_epochs, 1 - np.maximum(late.mean(axis=1), late[:, -1])
            ),
        }
    )
    return nan_to_null(frame)


def late_trend_of_means(raw: pl.DataFrame, trials: pl.DataFrame) -> pl.DataFrame:
    """late_trend() of the mean curve over seeds, up to the end of the shortest; by config_id.

    An epoch that a seed lacks is missing: a mean over the others is on another level.

    Args: raw: epochs of raw weights; trials: trial_id, config_id of those to use.
    """
    seen = (
        raw.select("trial_id", pl.col("epoch").cast(pl.Int64), "val_accuracy")
        .with_columns(pl.col("val_accuracy").fill_nan(None))
        .join(trials, on="trial_id", how="inner")
    )
    plan = (
        seen.group_by("config_id", "trial_id")
        .agg(pl.col("epoch").max())
        .group_by("config_id")
        .agg(pl.col("epoch").min().alias("length"), pl.len().alias("num_seeds"))
    )
    means = seen.group_by("config_id", "epoch").agg(
        pl.col("val_accuracy").mean(), pl.col("val_accuracy").count().alias("num_known")
    )
    whole = (
        plan.with_columns(pl.int_ranges(1, pl.col("length") + 1).alias("epoch"))
        .explode("epoch")
        .join(means, on=["config_id", "epoch"], how="left")
        .with_columns(pl.when(pl.col("num_known") == pl.col("num_seeds")).then("val_accuracy"))
        .sort("config_id", "epoch")
    )
    parts = [late_trend(Curves.of_accuracy(np.empty((0, 3))))]
    for (length,), group in whole.group_by("length", maintain_order=True):
        assert isinstance(length, int)
        accuracy = group["val_accuracy"].to_numpy().astype(float).reshape(-1, length)
        ids = group["config_id"].unique(maintain_order=True).to_list()
        parts.append(late_trend(Curves.of_accuracy(accuracy, trial_ids=ids)))
    return pl.concat(parts).rename({"trial_id": "config_id"})
