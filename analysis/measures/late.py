"""Is the accuracy still rising at the end of training, under the rate that it has there?"""

from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from analysis.curves import Curves, Floats, mean_curves, nan_to_null
from analysis.stats.memory import KINDS, NODES, correlation, critical, fit, shares
from analysis.stats.segments import distinct_rows, rate_falls
from analysis.stats.trend import usable_segments
from analysis.stats.windows import MIN_SLOPE, theil_sen, window_length

# Set below 5 %, as the memory that widens the error is read from few epochs, too short.
LEVEL = 0.03
_SLOWER = 1.28  # standard errors by which the rise before is taken to be smaller than it seems


def late_trend(trials: Curves) -> pl.DataFrame:
    """One row per trial, of the validation accuracy at the end of the last segment.

    late_slope: Theil-Sen slope over the last half of the last segment's settled epochs, a fraction
        per epoch
    late_slope_low: its one-sided limit of 1 - LEVEL
    projected_gain: what as many epochs again as the last segment has would add under its learning
        rate, if the rise slowed down as it did; never beyond all examples. Null where the rate is
        not known or falls by more than a quarter in the last third of training: what rises then
        may be the schedule's.
    Null with fewer than MIN_SLOPE such epochs, or where one of them is missing.
    """
    slope, low, gain = late_slopes(trials.val_accuracy, usable_segments(trials))
    room = 1 - trials.val_accuracy[:, -window_length(trials.num_epochs) :].mean(axis=1)
    frame = pl.DataFrame(
        {
            "trial_id": pl.Series(trials.trial_ids, dtype=pl.String),
            "late_slope": slope,
            "late_slope_low": low,
            "projected_gain": np.where(rate_is_steady(trials.lr), np.minimum(gain, room), np.nan),
        }
    )
    return nan_to_null(frame)


def rate_is_steady(rates: Floats) -> NDArray[np.bool_]:
    """Whether the rate is known and falls by at most a quarter in the last third of training.

    Args: rates: (N, T). Returns: (N,).
    """
    num_epochs = rates.shape[1]
    falls = rate_falls(rates, num_epochs - max(num_epochs // 3, 1))
    return np.isfinite(rates).any(axis=1) & ~falls


def late_slopes(values: Floats, labels: NDArray[np.int64]) -> Floats:
    """Slope at the end, its lower limit of 1 - LEVEL, and what the last segment's length promises.

    Args: values, labels: (N, T), of any metric and its settled segments. Returns: (3, N); NaN where
        nothing can be told.
    """
    found = np.full((3, len(values)), np.nan)
    distinct, which = distinct_rows(labels)
    for place, row in enumerate(distinct):
        rows = np.flatnonzero(which == place)
        found[:, rows] = _late(values[rows], row)
    return found


def _late(values: Floats, labels: NDArray[np.int64]) -> Floats:
    """Slope, its lower limit and the gain, of curves with the same segments.

    Args: values: (N, T); labels: (T,). Returns: (3, N); NaN where nothing can be told.
    """
    nothing = np.full((3, len(values)), np.nan)
    num_epochs = len(labels)
    at = np.flatnonzero((labels == labels.max(initial=-1)) & (labels >= 0))
    num = max(len(at) // 2, MIN_SLOPE)
    if num < MIN_SLOPE or len(at) < num or at[-num] != num_epochs - num:
        return nothing
    noise = fit(values[:, at])
    weight = shares(noise.log_likelihood)
    slope = theil_sen(values[:, -num:])
    half = critical(_slope_tails(num, noise.df), noise.scale, weight, LEVEL)
    if len(at) < 2 * num or at[-2 * num] != num_epochs - 2 * num:
        return np.stack([slope, slope - half, nothing[0]])
    # How much of the slope was kept since the epochs before, where it was at least so large.
    before = theil_sen(values[:, -2 * num : -num])
    least = before - _SLOWER * half / stats.t.isf(LEVEL, noise.df)
    with np.errstate(invalid="ignore", divide="ignore"):
        kept = np.where(least > slope, np.clip(slope / least, 0, 1), 1.0)
    earlier = np.flatnonzero((labels >= 0) & (labels < labels.max()))
    spans = (num_epochs - (earlier[-1] + 1 if len(earlier) else 0)) / num
    with np.errstate(invalid="ignore", divide="ignore"):
        decaying = kept * (1 - kept**spans) / (1 - kept)
    gain = num * slope * np.where(kept < 1, decaying, spans)
    return np.stack([slope, slope - half, gain])


@lru_cache(maxsize=256)
def _slope_tails(num: int, df: int) -> Floats:
    """Tails of a least-squares slope over so many epochs, under each kind of noise, in units of the
    noise of an epoch as it is estimated. Returns: (K, nodes)."""
    time = np.arange(num) - (num - 1) / 2
    row = time / (time @ time)
    sds = [np.sqrt(row @ correlation(num, *kind) @ row) for kind in KINDS]
    return np.array([stats.t.sf(NODES / sd, df) for sd in sds])


def late_trend_of_means(raw: pl.DataFrame, trials: pl.DataFrame) -> pl.DataFrame:
    """late_trend() of the mean curve over seeds, up to the end of the shortest; by config_id.

    Args: raw: epochs of raw weights; trials: trial_id, config_id of those to use.
    """
    parts = [late_trend(Curves.of_accuracy(np.empty((0, 3))))]
    parts += [late_trend(means) for means in mean_curves(raw, trials)]
    return pl.concat(parts).rename({"trial_id": "config_id"})
