"""Harm: does the accuracy end below its peak, or the loss above its minimum, for sure?

The statistic is the largest mean of a window of epochs minus the last one (of minus the loss where
it is the loss). It is never negative, so a flat noisy curve has one too: its cut-off comes from a
table of flat curves with autocorrelated noise. With three seeds or more the peak is chosen on
other seeds and other validation blocks than it is read on, and then no table is needed.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from analysis.curves import ROWS_AT_ONCE, Curves, Floats, nan_to_null, padded
from analysis.measures.cutoffs import Cutoffs, shipped
from analysis.stats.intervals import pooled_df
from analysis.stats.rise import rises_within
from analysis.stats.segments import Labels, opened
from analysis.stats.trend import MIN_POINTS, quadratic_residuals, usable_segments
from analysis.stats.windows import (
    MIN_WINDOW,
    autocorrelation,
    block_variance,
    window_length,
    window_means,
)

LEVEL = 0.05  # of the test and of each one-sided limit
MAX_CORRELATION = 0.95
MIN_SEEDS = 3  # for the cross-fitted test
# Each seed's peak is chosen by all the others, so the falls of two seeds are correlated. With
# this factor on the variance of their mean the test keeps its level for 3 to 10 seeds (simulated).
LEAVE_ONE_OUT = 2.0

_EXACT = 1e6  # degrees of freedom of a variance that is no estimate
# What falls: the accuracy, or minus a loss. The name of the effect and of its p-value.
KINDS = {
    "accuracy": ("drop", "harm_p"),
    "loss": ("loss_rise", "loss_harm_p"),
    "refined": ("refined_loss_rise", "refined_harm_p"),
}


@dataclass(frozen=True)
class Fall:
    """A fall from the largest window mean to the last one; all (N,). low and high are one-sided
    95 % confidence limits."""

    fall: Floats
    low: Floats
    high: Floats
    p: Floats


def measure_harm(trials: Curves, cutoffs: Cutoffs | None = None) -> pl.DataFrame:
    """One row per trial, each on its own: the test of one seed.

    drop, drop_low, drop_high, harm_p: of the accuracy, a fraction. loss_rise and refined_loss_rise
    with their limits, loss_harm_p, refined_harm_p: the same of the losses, rises as a share of the
    smallest window mean. Limits are one-sided 95 %. Null with fewer than MIN_POINTS usable epochs,
    with fewer than two windows, or where the metric is missing in an epoch.
    """
    table = cutoffs or shipped()
    labels = usable_segments(trials)
    parts = {
        kind: fall_of_curve(values, labels, table) for kind, values in _falling(trials).items()
    }
    lowest = _lowest(trials, window_length(trials.num_epochs))
    return _frame("trial_id", trials.trial_ids, parts, lowest)


def _falling(trials: Curves) -> dict[str, Floats]:
    return {
        "accuracy": trials.val_accuracy,
        "loss": -trials.val_loss,
        "refined": -trials.refined_loss,
    }


def _lowest(trials: Curves, length: int) -> dict[str, Floats]:
    """The smallest window means of the losses, which rises are shares of."""
    return {
        "loss": -_largest(window_means(-trials.val_loss, length)),
        "refined": -_largest(window_means(-trials.refined_loss, length)),
    }


def _largest(means: Floats) -> Floats:
    return np.where(np.isnan(means), -np.inf, means).max(axis=1)


def fall_of_curve(values: Floats, labels: Labels, cutoffs: Cutoffs) -> Fall:
    """The fall of each curve by itself.

    The cut-offs are of curves of one segment, of lengths that have as many windows. Where there are
    several segments, each has a noise of its own and few epochs that tell it. There, and beyond
    the longest length, the limits are those of analysis.stats.rise.

    Args: values: (N, T); labels: (N, T), the segment of each epoch that tells the noise, else -1.
    """
    num_epochs = values.shape[1]
    length = window_length(num_epochs)
    used = np.where(np.isfinite(values), labels, -1)
    sd, correlation = window_noise(values, used >= 0, length)
    fall = largest_fall(values, length)
    se = sd * np.sqrt(2)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where((fall == 0) & (se == 0), 0.0, fall / se)
    p = cutoffs.p_value(z, num_epochs, correlation)
    critical = cutoffs.critical(LEVEL, num_epochs, correlation)
    pair = cutoffs.at(cutoffs.pair, num_epochs, correlation)
    low, high = np.maximum(fall - critical * se, 0), fall + pair * se
    last = used.max(axis=1, initial=-1)
    first = np.where(used >= 0, used, last[:, None]).min(axis=1, initial=np.iinfo(np.int64).max)
    beyond = (first < last) | (num_epochs > cutoffs.lengths[-1])
    rows = np.flatnonzero(np.isfinite(se) & np.isfinite(fall) & beyond)
    if len(rows):
        told = rises_within(-values[rows], opened(used[rows]), used[rows], length)
        low[rows] = np.minimum(told.low, fall[rows])
        high[rows] = np.maximum(told.high, fall[rows])
        p[rows] = told.p
    return Fall(fall, low, high, p)


def largest_fall(values: Floats, length: int) -> Floats:
    """The largest window mean minus the last; NaN with fewer than two windows. (N, T) -> (N,)."""
    means = window_means(values, length)
    complete = np.isfinite(values).all(axis=1) & (values.shape[1] >= 2 * length)
    return np.where(complete, _largest(means) - means[:, -1], np.nan)


def window_noise(values: Floats, used: NDArray[np.bool_], length: int) -> tuple[Floats, Floats]:
    """SD of the window means around a quadratic, and lag-1 autocorrelation of the epochs around it.

    A monotone fit would call a real fall noise, so a quadratic is fitted. The SD is that of the
    window means themselves: a lag-1 autocorrelation says too little about them where noise of
    several kinds adds up. It is at least what independent epochs would give. The autocorrelation's
    bias is taken off roughly; the table of cut-offs is made with the same estimates, so they need
    not be right.

    Args: values, used: (N, T). Returns: (N,), (N,); NaN with fewer than MIN_POINTS used epochs.
    """
    num = used.sum(axis=1)
    residual = quadratic_residuals(np.nan_to_num(values), used)
    square = (residual**2).sum(axis=1)
    r = autocorrelation(residual, num, 3, MAX_CORRELATION)
    whole = np.lib.stride_tricks.sliding_window_view(used, length, axis=1).all(axis=-1)
    of_means = np.where(whole, window_means(residual, length) ** 2, 0.0).sum(axis=1)
    of_means = of_means / np.maximum(whole.sum(axis=1), 1)
    degrees = np.maximum(num - 3, 1)
    variance = np.maximum(of_means * num, square / length) / degrees
    return np.where(num >= MIN_POINTS, np.sqrt(variance), np.nan), r


def measure_harm_of_seeds(
    raw: pl.DataFrame, trials: pl.DataFrame, cutoffs: Cutoffs | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The same of configurations, pooled over their seeds.

    One seed: as the trial. Two: the test of one seed on the mean of their curves up to the end of
    the shorter one. Three or more: see fall_of_seeds.

    Args: raw: epochs of raw weights, as read_store gives them; trials: trial_id, config_id of
        those to use.
    Returns: trial_id, drop_crossfit (null below three seeds); config_id, measure_harm()'s columns.
    """
    table = cutoffs or shipped()
    lengths = raw.group_by("trial_id").agg(pl.col("epoch").max().alias("length"))
    plan = (
        trials.join(lengths, on="trial_id", how="inner")
        .sort("config_id", "trial_id")
        .with_columns(
            pl.len().over("config_id").alias("num_seeds"),
            pl.col("length").min().over("config_id").alias("shortest"),
            pl.col("length").max().over("config_id").alias("longest"),
        )
        .sort("num_seeds", "shortest", "longest", "config_id", "trial_id")
    )
    none = Curves.of_accuracy(np.empty((0, 2 * MIN_WINDOW)))
    of_trials = [pl.DataFrame(schema={"trial_id": pl.String, "drop_crossfit": pl.Float64})]
    of_configs = [measure_harm(none, table).rename({"trial_id": "config_id"})]
    shapes = plan.group_by("num_seeds", "shortest", "longest", maintain_order=True)
    for (num_seeds, _, longest), group in shapes:
        assert isinstance(num_seeds, int)
        assert isinstance(longest, int)
        size = num_seeds * max(1, ROWS_AT_ONCE // (num_seeds * longest))
        for chunk in group.iter_slices(size):
            ends = chunk["length"].to_numpy().reshape(-1, num_seeds)
            found, crossfit = fall_of_seeds(padded(raw, chunk["trial_id"], longest), ends, table)
            ids = chunk["config_id"].unique(maintain_order=True)
            of_configs.append(
                found.with_columns(ids.alias("config_id")).select(of_configs[0].columns)
            )
            of_trials.append(
                pl.DataFrame({"trial_id": chunk["trial_id"], "drop_crossfit": crossfit})
            )
    return nan_to_null(pl.concat(of_trials)), nan_to_null(pl.concat(of_configs))


def fall_of_seeds(
    trials: Curves, ends: NDArray[np.int64], cutoffs: Cutoffs
) -> tuple[pl.DataFrame, Floats]:
    """Harm of C configurations with S seeds each, and each trial's cross-fitted drop (C * S,).

    With three seeds or more and blocks, the peak window is the best one of the *other seeds* on
    *one half of the blocks*, the fall is read on this seed and the other half, and the two halves
    are averaged. So neither a seed's luck nor that of the shared validation set makes a fall.
    Student's t of the mean adds the spread over seeds and that over blocks. Without blocks (of
    imported curves, say) the peak is chosen on the other seeds, the noise of the mean curve stands
    for what the shared validation set does, and the test of one seed on the mean curve has to
    agree: a wander that all seeds share makes peaks that the other seeds see as well.

    Args: trials: in the order of configurations, then seeds; ends: (C, S) their last epochs.
    """
    C, S = ends.shape
    shortest = int(ends.min())
    length = window_length(shortest)
    labels = usable_segments(trials).reshape(C, S, -1)[:, :, :shortest]
    # Of the mean curve: those of the first seed, where the epochs of all seeds tell the noise.
    in_all = np.where((labels >= 0).all(axis=1), labels[:, 0], -1)
    blocks = {
        "accuracy": trials.block_accuracy,
        "loss": -trials.block_loss,
        "refined": -trials.block_refined,
    }
    weight = trials.block_weight.reshape(C, S, -1)[:, 0]
    crossfit = np.full((C, S), np.nan)
    parts: dict[str, Fall] = {}
    for kind, values in _falling(trials).items():
        by_block = blocks[kind]
        mean = values.reshape(C, S, -1)[:, :, :shortest].mean(axis=1)
        on_mean = fall_of_curve(mean, in_all, cutoffs)
        if S < MIN_SEEDS or shortest < 2 * length:
            parts[kind] = on_mean
            continue
        per_seed = _crossfit(values.reshape(C, S, -1, 1), np.ones((C, 1)), ends, length)
        average, variance, df = _over_seeds(per_seed[..., 0])
        sd = window_noise(mean, (in_all >= 0) & np.isfinite(mean), length)[0]
        num_windows = np.maximum((in_all >= 0).sum(axis=1) / length - 1, 1)
        by_t = _of_t(average, *pooled_df([(variance, df), (2 * sd**2, num_windows)]))
        found = _both(by_t, on_mean)
        if kind == "accuracy":
            of_set = 2 * _largest_set_error(mean, trials.val_n[::S])
            exact = np.full(C, _EXACT)
            found = _sharper(_of_t(average, *pooled_df([(variance, df), (of_set, exact)])), found)
        if by_block.shape[2] > 1:
            falls = _crossfit(by_block.reshape(C, S, -1, by_block.shape[2]), weight, ends, length)
            found = _sharper(_over_seeds_and_blocks(falls, weight), found)
            if kind == "accuracy":
                crossfit = (falls * weight[:, None]).sum(axis=2)
        parts[kind] = found
    lowest = {
        kind: values.reshape(C, S).mean(axis=1) for kind, values in _lowest(trials, length).items()
    }
    ids = trials.trial_ids[::S]
    return _frame("config_id", ids, parts, lowest), crossfit.ravel()


def _crossfit(values: Floats, weight: Floats, ends: NDArray[np.int64], length: int) -> Floats:
    """Falls from a peak that other seeds and other blocks chose. (C, S, T, K) -> (C, S, K).

    With one block there are no other blocks: the other seeds choose on the same one.

    Args: weight: (C, K) shares of the blocks; ends: (C, S).
    """
    C, S, T, K = values.shape
    total = np.zeros((C, S, T + 1, K))
    np.cumsum(values, axis=2, out=total[:, :, 1:])
    means = (total[:, :, length:] - total[:, :, :-length]) / length  # (C, S, W, K)
    last = (ends - length)[:, :, None]
    falls = np.empty((C, S, K))
    half = np.arange(K) % 2
    for read in (np.flatnonzero(half == 0), np.flatnonzero(half == 1)):
        chosen_on = np.setdiff1d(np.arange(K), read) if K > 1 else np.arange(K)
        score = (means[..., chosen_on] * weight[:, None, None, chosen_on]).sum(axis=3)
        known = np.isfinite(score)
        filled = np.where(known, score, 0.0)
        others = filled.sum(axis=1, keepdims=True) - filled
        num_others = known.sum(axis=1, keepdims=True) - known
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(known & (num_others > 0), others / num_others, -np.inf)
        peak = np.argmax(mean, axis=2)[:, :, None]
        of_half = means[..., read]
        at_peak = np.take_along_axis(of_half, peak[..., None], axis=2)[:, :, 0]
        at_end = np.take_along_axis(of_half, last[..., None], axis=2)[:, :, 0]
        falls[..., read] = at_peak - at_end
    return falls


def _over_seeds(per_seed: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, its variance and degrees of freedom. Args: (C, S)."""
    S = per_seed.shape[1]
    variance = LEAVE_ONE_OUT * per_seed.var(axis=1, ddof=1) / S
    return per_seed.mean(axis=1), variance, np.full(len(per_seed), S - 1.0)


def _over_seeds_and_blocks(falls: Floats, weight: Floats) -> Fall:
    """Student's t of the mean, whose variance is that over seeds plus that over blocks.

    Two t tests that both have to pass, each with one of the two variances, are not the same: where
    the two are alike, each test knows half of the variance. Args: (C, S, K), (C, K).
    """
    mean, over_seeds, seeds_df = _over_seeds((falls * weight[:, None]).sum(axis=2))
    over_blocks, num_blocks = block_variance(falls.mean(axis=1), weight)
    return _of_t(mean, *pooled_df([(over_seeds, seeds_df), (over_blocks, num_blocks - 1)]))


def _of_t(mean: Floats, variance: Floats, df: Floats) -> Fall:
    """One-sided: p of a mean of 0 or less. 0 without any spread where the mean is above 0."""
    se = np.sqrt(variance)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where((mean == 0) & (se == 0), 0.0, mean / se)
    half = stats.t.isf(LEVEL, df) * se
    return Fall(mean, mean - half, mean + half, stats.t.sf(t, df))


def _both(one: Fall, other: Fall) -> Fall:
    """Harm only where both say so; the upper limit is that of `one`."""
    return Fall(one.fall, np.minimum(one.low, other.low), one.high, np.maximum(one.p, other.p))


def _largest_set_error(accuracy: Floats, val_n: Floats) -> Floats:
    """The variance of a window mean that n examples can make at most; NaN without n. (N,)"""
    rarer = np.fmin(accuracy, 1 - accuracy)
    return np.where(val_n > 0, np.nan_to_num(rarer).max(axis=1) / np.maximum(val_n, 1), np.nan)


def _sharper(first: Fall, other: Fall) -> Fall:
    """What either of two tests tells: the estimate is that of the first one, where it has one.

    The other one is far on the safe side, so that the two together keep the level (simulated).
    """
    known = np.isfinite(first.p)
    return Fall(
        np.where(known, first.fall, other.fall),
        np.fmax(first.low, other.low),
        np.fmin(first.high, other.high),
        np.fmin(first.p, other.p),
    )


def _frame(
    key: str, ids: list[str], parts: dict[str, Fall], lowest: dict[str, Floats]
) -> pl.DataFrame:
    columns: dict[str, object] = {key: pl.Series(ids, dtype=pl.String)}
    for kind, (name, p_name) in KINDS.items():
        scale = lowest.get(kind, np.ones(len(ids)))
        scale = np.where(np.isfinite(scale) & (scale > 0), scale, np.nan)
        found = parts[kind]
        columns[name] = found.fall / scale
        columns[f"{name}_low"] = found.low / scale
        columns[f"{name}_high"] = found.high / scale
        columns[p_name] = found.p
    return nan_to_null(pl.DataFrame(columns))
