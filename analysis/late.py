"""Is the accuracy still rising at the end of training?"""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from analysis.curves import Curves
from analysis.overfitting import inflation

Floats = NDArray[np.float64]
MIN_SLOPE = 5  # epochs in the last third; a slope of fewer says nothing


def late_trend(trials: Curves) -> pl.DataFrame:
    """One row per trial, of the validation accuracy over the last third of training.

    late_slope: Theil-Sen slope, a fraction per epoch; late_slope_low: its one-sided 95 % limit;
    projected_gain: what as many epochs again would add if that slope held, which it seldom does.
    Null with fewer than MIN_SLOPE epochs in the last third, or where one of them is missing.
    """
    slope, se, df = theil_sen(trials.val_accuracy[:, -max(trials.num_epochs // 3, 1) :])
    frame = pl.DataFrame(
        {
            "trial_id": pl.Series(trials.trial_ids, dtype=pl.String),
            "late_slope": slope,
            "late_slope_low": slope - stats.t.isf(0.05, df) * se if df else slope,
            "projected_gain": slope * trials.num_epochs,
        }
    )
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None))


def theil_sen(values: Floats) -> tuple[Floats, Floats, int]:
    """Median slope of all pairs, its standard error and degrees of freedom.

    The error is that of a least-squares slope, inflated for lag-1 autocorrelation. NaN with fewer
    than MIN_SLOPE columns, or where one is missing. Args: (N, T). Returns: (N,), (N,), one number.
    Source: Theil 1950; Sen 1968, JASA 63 (not read by us).
    """
    num = values.shape[1]
    if num < MIN_SLOPE:
        missing = np.full(len(values), np.nan)
        return missing, missing, 0
    time = np.arange(num) - (num - 1) / 2
    first, second = np.triu_indices(num, 1)
    slope = np.median((values[:, second] - values[:, first]) / (second - first), axis=1)
    residual = values - values.mean(axis=1, keepdims=True) - slope[:, None] * time
    excess = inflation(np.nan_to_num(residual), np.full(len(values), num), 2)
    variance = (residual**2).sum(axis=1) / (num - 2) * excess / (time @ time)
    return slope, np.sqrt(variance), num - 2
