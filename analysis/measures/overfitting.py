"""Gap, fall from the peak, rise of the loss, best epoch: what overfitting would show."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.curves import Curves
from analysis.stats.intervals import mean_interval, pooled_df

Floats = NDArray[np.float64]


MIN_WINDOW = 3
MIN_SLOPE = 5  # epochs; a slope of fewer says nothing


def window(num_epochs: int) -> int:
    """Epochs in a window mean: the last one is the final accuracy.

    With fewer than two windows that don't overlap there is no fall and no rise to speak of.
    """
    return min(num_epochs, max(MIN_WINDOW, num_epochs // 8))


def measures(trials: Curves, num_train: Floats) -> pl.DataFrame:
    """One row per trial.

    gap, best_naive, peak_epoch, last_accuracy, final_accuracy (mean of the last window) and
    final_loss. `train_drop`: the naive fall of the training accuracy; where it is large, training
    came apart. `gap_set_var` (with gap_set_df): the part of the gap's variance that trials with the
    same validation set share. Accuracies are fractions.

    Args: num_train: (N,) size of the training set that the training subset was drawn from; NaN
        where it is not known, which leaves the gap without limits.
    """
    width = window(trials.num_epochs)
    accuracy = _window_means(trials.val_accuracy, width)
    final_loss = _window_means(trials.val_loss, width)[:, -1]
    trained = _window_means(trials.train_accuracy, width)
    long = trials.num_epochs >= 2 * width
    best = np.nanargmax(np.nan_to_num(trials.val_accuracy, nan=-1.0), axis=1)
    rows = np.arange(len(best))
    frame = pl.DataFrame(
        {
            "trial_id": pl.Series(trials.trial_ids, dtype=pl.String),
            "best_naive": trials.val_accuracy[rows, best],
            "peak_epoch": best + 1,
            "last_accuracy": trials.val_accuracy[:, -1],
            "final_accuracy": accuracy[:, -1],
            "final_loss": final_loss,
            "train_drop": np.where(long, (trained - trained[:, -1:]).max(axis=1), np.nan),
            **_gap(trials, num_train),
        }
    )
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None))


def _window_means(values: Floats, width: int) -> Floats:
    """(N, T) -> (N, T - width + 1); NaN where an epoch of the window is missing."""
    return np.lib.stride_tricks.sliding_window_view(values, width, axis=1).mean(axis=-1)


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
