"""Is the accuracy still rising at the end of training?"""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from analysis.curves import Curves
from analysis.overfitting import theil_sen

Floats = NDArray[np.float64]
# Set below 5 %, as the autocorrelation that widens the error is read from few epochs, too small.
LEVEL = 0.04


def late_trend(trials: Curves) -> pl.DataFrame:
    """One row per trial, of the validation accuracy over the last third of training.

    late_slope: Theil-Sen slope, a fraction per epoch; late_slope_low: its one-sided limit of
    1 - LEVEL;
    projected_gain: what as many epochs again would add if that slope held, which it seldom does.
    Null with fewer than MIN_SLOPE epochs in the last third, or where one of them is missing.
    """
    slope, se, df = theil_sen(trials.val_accuracy[:, -max(trials.num_epochs // 3, 1) :])
    frame = pl.DataFrame(
        {
            "trial_id": pl.Series(trials.trial_ids, dtype=pl.String),
            "late_slope": slope,
            "late_slope_low": slope - stats.t.isf(LEVEL, df) * se if df else slope,
            "projected_gain": slope * trials.num_epochs,
        }
    )
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None))


def of_mean_curves(raw: pl.DataFrame, trials: pl.DataFrame) -> pl.DataFrame:
    """late_trend() of the mean curve over seeds, up to the end of the shortest; by config_id.

    Args: raw: epochs of raw weights; trials: trial_id, config_id of those to use.
    """
    means = (
        raw.select("trial_id", "epoch", "val_accuracy")
        .join(trials, on="trial_id", how="inner")
        .group_by("config_id", "epoch")
        .agg(pl.col("val_accuracy").mean(), pl.len().alias("num_seeds"))
        .filter(pl.col("num_seeds") == pl.col("num_seeds").max().over("config_id"))
        .sort("config_id", "epoch")
        .with_columns(pl.len().over("config_id").alias("length"))
    )
    parts = [late_trend(Curves.of_accuracy(np.empty((0, 3))))]
    for (length,), group in means.group_by("length", maintain_order=True):
        assert isinstance(length, int)
        accuracy = group["val_accuracy"].to_numpy().astype(float).reshape(-1, length)
        ids = group["config_id"].unique(maintain_order=True).to_list()
        parts.append(late_trend(Curves.of_accuracy(accuracy, trial_ids=ids)))
    return pl.concat(parts).rename({"trial_id": "config_id"})
