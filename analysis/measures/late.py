"""Is the accuracy still rising at the end of training, under the rate that it has there?"""

from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from analysis.curves import Curves, Floats, nan_to_null
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
    labels = usable_segments(trials)
    num, num_epochs = labels.shape
    found = np.full((3, num), np.nan)
    distinct, which = distinct_rows(labels)
    for place, row in enumerate(distinct):
        rows = np.flatnonzero(which == place)
        found[:, rows] = _late(trials.val_accuracy[rows], row)
    slope, low, gain = found
    known = np.isfinite(trials.lr).any(axis=1)
    steady = known & ~rate_falls(trials.lr, num_epochs - max(num_epochs // 3, 1))
    room = 1 - trials.val_accuracy[:, -window_length(num_epochs) :].mean(axis=1)
    frame = pl.DataFrame(
        {
            "trial_id": pl.Series(trials.trial_ids, dtype=pl.String),
            "late_slope": slope,
            "late_slope_low": low,
            "projected_gain": np.where(steady, np.minimum(gain, room), np.nan),
        }
    )
    return nan_to_null(frame)


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

    An epoch that a seed lacks is missing: a mean over the others is on another level. The learning
    rate is the mean of theirs.

    Args: raw: epochs of raw weights; trials: trial_id, config_id of those to use.
    """
    rate = pl.col("lr") if "lr" in raw.columns else pl.lit(None).alias("lr")
    seen = raw.select(
        "trial_id",
        pl.col("epoch").cast(pl.Int64),
        pl.col("val_accuracy").fill_nan(None),
        rate.cast(pl.Float64),
    ).join(trials, on="trial_id", how="inner")
    plan = (
        seen.group_by("config_id", "trial_id")
        .agg(pl.col("epoch").max())
        .group_by("config_id")
        .agg(pl.col("epoch").min().alias("length"), pl.len().alias("num_seeds"))
    )
    means = seen.group_by("config_id", "epoch").agg(
        pl.col("val_accuracy", "lr").mean(), pl.col("val_accuracy").count().alias("num_known")
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
        accuracy, lr = (
            group[name].to_numpy().astype(float).reshape(-1, length)
            for name in ("val_accuracy", "lr")
        )
        ids = group["config_id"].unique(maintain_order=True).to_list()
        parts.append(late_trend(Curves.of_accuracy(accuracy, trial_ids=ids, lr=lr)))
    return pl.concat(parts).rename({"trial_id": "config_id"})
