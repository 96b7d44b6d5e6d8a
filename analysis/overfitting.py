"""Gap, fall from the peak, rise of the loss, best epoch: what overfitting would show."""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from analysis.contrasts import MIN_POINTS, quadratic_residuals, usable_segments
from analysis.curves import ROWS_AT_ONCE, Curves, padded
from analysis.stats import mean_interval, pooled_df

Floats = NDArray[np.float64]


MIN_WINDOW = 3


def window(num_epochs: int) -> int:
    """Epochs in a window mean: the last one is the final accuracy.

    With fewer than two windows that don't overlap there is no fall and no rise to speak of.
    """
    return min(num_epochs, max(MIN_WINDOW, num_epochs // 8))


def measures(trials: Curves, num_train: Floats) -> pl.DataFrame:
    """One row per trial.

    gap, drop, loss_rise (a fraction of the smallest), best_naive, peak_epoch, last_accuracy,
    final_accuracy (mean of the last window) and final_loss. `train_drop`: the naive fall of the
    training accuracy; where it is large, training came apart. `late_gain`: the last window mean
    minus the first of the last third; where it is large, training is not done. `gap_set_var` (with
    gap_set_df): the part of the gap's variance that trials with the same validation set share.
    `drop`: the largest window mean minus the last: naive, never negative, to be read with its
    interval only. Accuracies are fractions.

    Args: num_train: (N,) size of the training set that the training subset was drawn from.
    """
    width = window(trials.num_epochs)
    accuracy = _window_means(trials.val_accuracy, width)
    loss = _window_means(trials.val_loss, width)
    trained = _window_means(trials.train_accuracy, width)
    long = trials.num_epochs >= 2 * width
    late = min(trials.num_epochs * 2 // 3, trials.num_epochs - width)
    best = np.nanargmax(np.nan_to_num(trials.val_accuracy, nan=-1.0), axis=1)
    rows = np.arange(len(best))
    least = np.min(np.where(np.isnan(loss), np.inf, loss), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rise = (loss[:, -1] - least) / least
    frame = pl.DataFrame(
        {
            "trial_id": pl.Series(trials.trial_ids, dtype=pl.String),
            "best_naive": trials.val_accuracy[rows, best],
            "peak_epoch": best + 1,
            "last_accuracy": trials.val_accuracy[:, -1],
            "final_accuracy": accuracy[:, -1],
            "final_loss": loss[:, -1],
            "train_drop": np.where(long, (trained - trained[:, -1:]).max(axis=1), np.nan),
            "late_gain": np.where(long, accuracy[:, -1] - accuracy[:, late], np.nan),
            "loss_rise": np.where(np.isfinite(rise) & long, rise, np.nan),
            **_gap(trials, num_train),
            **_drop(trials, accuracy, width),
        }
    )
    return _clean(frame)


def _window_means(values: Floats, width: int) -> Floats:
    """(N, T) -> (N, T - width + 1); NaN where an epoch of the window is missing."""
    return np.lib.stride_tricks.sliding_window_view(values, width, axis=1).mean(axis=-1)


def _gap(trials: Curves, num_train: Floats) -> dict[str, Floats]:
    """Eval-mode training minus validation accuracy over the last third of training.

    Its variance adds up: the epochs (their mean, inflated for lag-1 autocorrelation), the
    validation set (between blocks), and the training subset, p(1-p)/m (1 - m/num_train).
    """
    late = slice(-max(3, trials.num_epochs // 3), None)
    gap = (trials.train_accuracy - trials.val_accuracy)[:, late]
    p = trials.train_accuracy[:, late].mean(axis=1)
    m = np.maximum(trials.train_n, 1)
    subset = p * (1 - p) / m * np.clip(1 - m / np.maximum(num_train, 1), 0, 1)
    blocks, num_blocks = block_variance(
        trials.block_accuracy[:, late].mean(axis=1), trials.block_weight
    )
    of_epochs = (_variance_of_mean(gap), np.full(len(gap), max(gap.shape[1] - 1.0, 1)))
    of_set, set_df = pooled_df([(blocks, num_blocks - 1), (subset, m)])
    variance, df = pooled_df([of_epochs, (of_set, set_df)])
    low, high = mean_interval(gap.mean(axis=1), np.sqrt(variance), df)
    return {
        "gap": gap.mean(axis=1),
        "gap_low": low,
        "gap_high": high,
        "gap_set_var": of_set,
        "gap_set_df": set_df,
    }


def block_variance(means: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Variance of a mean over validation sets, from blocks.

    Args: means, weight: (N, K). Returns: variance (N,), number of blocks (N,); NaN and 1 without.
    """
    used = (weight > 0).sum(axis=1).astype(float)
    if means.shape[1] < 2:
        return np.full(len(means), np.nan), np.ones(len(means))
    centre = (weight * means).sum(axis=1, keepdims=True)
    square = (weight**2).sum(axis=1)
    return (weight**2 * (means - centre) ** 2).sum(axis=1) / np.maximum(1 - square, 1e-9), used


def _variance_of_mean(values: Floats) -> Floats:
    """Of the mean over epochs, as if they were AR(1). (N, T) -> (N,)."""
    num = values.shape[1]
    centred = values - values.mean(axis=1, keepdims=True)
    variance = (centred**2).sum(axis=1) / max(num - 1, 1)
    return variance * inflation(centred, np.full(len(values), num), 1) / num


def inflation(residual: Floats, num: NDArray[np.int64], num_fitted: int) -> Floats:
    """(1 + r) / (1 - r), r being the lag-1 autocorrelation with its bias taken off, in [0, 0.9].

    Args: residual: (N, T), 0 where not used; num: (N,) how many are used; num_fitted:
        coefficients that were fitted, 1 for a mean.
    Source of the bias -(1 + 4r)/num for a mean: Marriott, Pope 1954, Biometrika 41; each further
    coefficient is taken to add -(1 + r)/num, as a linear trend does.
    """
    square = (residual**2).sum(axis=1)
    product = (residual[:, 1:] * residual[:, :-1]).sum(axis=1)
    r = np.divide(product, square, out=np.zeros_like(square), where=square > 0)
    r = np.clip((r * num + num_fitted) / np.maximum(num - num_fitted - 3, 1), 0, 0.9)
    return (1 + r) / (1 - r)


def _drop(trials: Curves, means: Floats, width: int) -> dict[str, Floats]:
    """The largest window mean minus the last, with limits that hold for all windows at once.

    Bonferroni over the number of windows that don't overlap; the spread of a window mean comes
    from the residuals of a quadratic after burn-in, inflated for autocorrelation. `drop_low` is
    the fall that is sure of at least one window, 0 if of none: above 0 on at most 5 % of flat
    curves up to an autocorrelation of 0.5, 6 % at 0.8 and 9 % at 0.9 (simulated, T = 30, 60); at
    T = 20 on 9 % and 13 %.
    """
    used = usable_segments(trials) >= 0
    df = np.maximum(used.sum(axis=1) - 3.0, 1)
    residual = quadratic_residuals(trials.val_accuracy, used)
    variance = (residual**2).sum(axis=1) / df * inflation(residual, used.sum(axis=1), 3) / width
    num_apart = max(trials.num_epochs // width - 1, 1)
    half = (stats.t.ppf(1 - 0.025 / num_apart, df) * np.sqrt(2 * variance))[:, None]
    # The last window falls from itself by nothing, and that is certain.
    half = np.where(np.arange(means.shape[1]) == means.shape[1] - 1, 0.0, half)
    drop = np.where(np.isnan(means), -np.inf, means - means[:, -1:])
    limits = {"drop": drop, "drop_low": drop - half, "drop_high": drop + half}
    known = np.isfinite(means[:, -1]) & (trials.num_epochs >= 2 * width)
    enough = known & (used.sum(axis=1) >= MIN_POINTS)
    return {
        name: np.where(known if name == "drop" else enough, values.max(axis=1), np.nan)
        for name, values in limits.items()
    }


def crossfit(raw: pl.DataFrame, trials: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The fall from the peak with the peak chosen on other data than it is read on.

    The peak window is the best one of the *other seeds* on one half of the validation blocks; the
    fall is read on this seed and the other half, and both halves are averaged. So neither this
    seed's luck nor that of the shared validation set makes a fall. The limits add the spread
    between seeds and the spread between blocks.

    Args: raw: epochs of raw weights; trials: trial_id, config_id of those to use.
    Returns: trial_id, drop_crossfit; and config_id, drop, drop_low, drop_high. Configurations
        with one seed, or without blocks, are left out.
    """
    lengths = raw.group_by("trial_id").agg(pl.col("epoch").max().alias("length"))
    plan = (
        trials.join(lengths, on="trial_id", how="inner")
        .sort("config_id", "trial_id")
        .with_columns(
            pl.len().over("config_id").alias("num_seeds"),
            pl.col("length").min().over("config_id").alias("shortest"),
            pl.col("length").max().over("config_id").alias("longest"),
        )
        .filter((pl.col("num_seeds") > 1) & (pl.col("shortest") >= 2 * MIN_WINDOW))
        .sort("num_seeds", "shortest", "longest", "config_id", "trial_id")
    )
    of_trials = [pl.DataFrame(schema={"trial_id": pl.String, "drop_crossfit": pl.Float64})]
    of_configs = [
        pl.DataFrame(
            schema={"config_id": pl.String}
            | dict.fromkeys(("drop", "drop_low", "drop_high"), pl.Float64)
        )
    ]
    shapes = plan.group_by("num_seeds", "shortest", "longest", maintain_order=True)
    for (num_seeds, shortest, longest), group in shapes:
        assert isinstance(num_seeds, int)
        assert isinstance(shortest, int)
        assert isinstance(longest, int)
        size = num_seeds * max(1, ROWS_AT_ONCE // (num_seeds * longest))
        for chunk in group.iter_slices(size):
            matrices = padded(raw, chunk["trial_id"], longest)
            if matrices.block_accuracy.shape[2] < 2:
                continue
            ends = chunk["length"].to_numpy().reshape(-1, num_seeds)
            drops = _crossfit_blocks(matrices, ends, window(shortest))
            weight = matrices.block_weight[::num_seeds]
            per_seed = (drops * weight[:, None]).sum(axis=2)
            of_trials.append(
                pl.DataFrame({"trial_id": chunk["trial_id"], "drop_crossfit": per_seed.ravel()})
            )
            over_blocks = block_variance(drops.mean(axis=1), weight)
            parts = [
                (per_seed.var(axis=1, ddof=1) / num_seeds, np.full(len(per_seed), num_seeds - 1.0)),
                (over_blocks[0], over_blocks[1] - 1),
            ]
            variance, df = pooled_df(parts)
            mean = per_seed.mean(axis=1)
            low, high = mean_interval(mean, np.sqrt(variance), df)
            ids = chunk["config_id"].unique(maintain_order=True)
            of_configs.append(
                pl.DataFrame({"config_id": ids, "drop": mean, "drop_low": low, "drop_high": high})
            )
    return _clean(pl.concat(of_trials)), _clean(pl.concat(of_configs))


def _crossfit_blocks(trials: Curves, ends: NDArray[np.int64], width: int) -> Floats:
    """Falls per block (C, S, K). Args: ends: (C, S) epochs of each trial, in the trials' order."""
    C, S = ends.shape
    _, T, K = trials.block_accuracy.shape
    total = np.zeros((C, S, T + 1, K))
    np.cumsum(trials.block_accuracy.reshape(C, S, T, K), axis=2, out=total[:, :, 1:])
    means = (total[:, :, width:] - total[:, :, :-width]) / width  # (C, S, W, K), NaN past the end
    weight = trials.block_weight.reshape(C, S, 1, K)
    half = np.arange(K) % 2
    last = (ends - width)[:, :, None]
    drops = np.empty((C, S, K))
    for chosen_on in (0, 1):
        score = (means * weight)[..., half == chosen_on].sum(axis=3)
        known = np.isfinite(score)
        filled = np.where(known, score, 0.0)
        others = filled.sum(axis=1, keepdims=True) - filled
        num_others = known.sum(axis=1, keepdims=True) - known
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(known & (num_others > 0), others / num_others, -np.inf)
        peak = np.argmax(mean, axis=2)[:, :, None]
        read = means[..., half != chosen_on]
        at_peak = np.take_along_axis(read, peak[..., None], axis=2)[:, :, 0]
        at_end = np.take_along_axis(read, last[..., None], axis=2)[:, :, 0]
        drops[..., half != chosen_on] = at_peak - at_end
    return drops


def _clean(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None))
