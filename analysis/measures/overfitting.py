"""Gap, fall from the peak, rise of the loss, best epoch: what overfitting would show."""

import numpy as np
import polars as pl

from analysis.curves import Curves, Floats, nan_to_null
from analysis.stats.intervals import mean_interval, pooled_df
from analysis.stats.windows import block_variance, variance_of_mean, window_length, window_means

# Where neither the number of classes nor that of examples is known.
_PLAUSIBLE_CLASSES = (2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 50, 100, 101, 200, 1000)
_UNKNOWN_SIZE = 1000
_ERRORS_FROM_CHANCE = 3.5  # standard errors: the largest of some hundred epochs
_JITTER_ERRORS = 3.0
_GUESSING = 0.97  # of the loss of guessing


def measure_overfitting(trials: Curves, num_train: Floats) -> pl.DataFrame:
    """One row per trial; accuracies are fractions.

    gap, best_naive, peak_epoch, last_accuracy, final_accuracy (mean of the last window) and
    final_loss. `train_drop`: the naive fall of the training accuracy; where it is large, training
    came apart. `running_drop`: the same of the one that is accumulated in train mode.
    `train_drop_low`, `running_drop_low`: the same without what their jitter can make of them.
    `train_loss_regained`: how much of its fall the training loss gives back, as a share.
    `guessing_at`: 1/k where the accuracy never leaves that of guessing among k classes, or falls
    back to it, k being a plausible number of them. `rate_growth`: the last learning rate as a
    multiple of that at half of training. `gap_set_var` (with gap_set_df): the part of the
    gap's variance that trials with the same validation set share.

    Args: num_train: (N,) size of the training set that the training subset was drawn from; NaN
        where it is not known, which leaves the gap without an interval.
    """
    length = window_length(trials.num_epochs)
    accuracy = window_means(trials.val_accuracy, length)
    final_loss = window_means(trials.val_loss, length)[:, -1]
    trained = window_means(trials.train_accuracy, length)
    running = window_means(trials.running_accuracy, length)
    long = trials.num_epochs >= 2 * length
    known = np.isfinite(trials.train_loss).all(axis=1, keepdims=True)
    train_loss = np.where(known, trials.train_loss, trials.running_loss)
    best = np.nanargmax(np.nan_to_num(trials.val_accuracy, nan=-1.0), axis=1)
    rows = np.arange(len(best))
    has_accuracy = np.isfinite(trials.val_accuracy).any(axis=1)
    frame = pl.DataFrame(
        {
            "trial_id": pl.Series(trials.trial_ids, dtype=pl.String),
            "best_naive": trials.val_accuracy[rows, best],
            "peak_epoch": np.where(has_accuracy, best + 1, np.nan),
            "last_accuracy": trials.val_accuracy[:, -1],
            "final_accuracy": _known(accuracy[:, -1], trials.val_accuracy[:, -length:]),
            "final_loss": final_loss,
            "train_drop": np.where(long, (trained - trained[:, -1:]).max(axis=1), np.nan),
            "running_drop": np.where(long, (running - running[:, -1:]).max(axis=1), np.nan),
            "train_drop_low": np.where(long, _beyond_jitter(trials.train_accuracy, length), np.nan),
            "running_drop_low": np.where(
                long, _beyond_jitter(trials.running_accuracy, length), np.nan
            ),
            "train_loss_regained": np.where(long, _regained(train_loss, length), np.nan),
            "guessing_at": _guessing_at(trials, accuracy),
            "rate_growth": _rate_growth(trials.lr),
            **_gap(trials, num_train),
        }
    )
    return nan_to_null(frame).with_columns(pl.col("peak_epoch").cast(pl.Int64))


def _beyond_jitter(values: Floats, length: int) -> Floats:
    """(N, T) -> (N,): the naive fall, less three standard errors of a difference of windows."""
    means = window_means(values, length)
    contrasts = np.diff(values, 2, axis=1) ** 2
    jitter = np.sqrt(contrasts.sum(axis=1) / (6 * max(contrasts.shape[1], 1)))
    fall = (means - means[:, -1:]).max(axis=1)
    return np.maximum(fall - _JITTER_ERRORS * jitter * np.sqrt(2 / length), 0)


def _rate_growth(rates: Floats) -> Floats:
    """(N, T) -> (N,): NaN where a rate is not known or is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        growth = rates[:, -1] / rates[:, rates.shape[1] // 2]
    return np.where(np.isfinite(growth), growth, np.nan)


def _regained(loss: Floats, length: int) -> Floats:
    """(N, T) -> (N,): the rise from the smallest window mean as a share of the fall to there."""
    means = window_means(loss, length)
    smallest = means.min(axis=1)
    fall = loss[:, 0] - smallest
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(fall > 0, (means[:, -1] - smallest) / fall, np.nan)


def _guessing_at(trials: Curves, means: Floats) -> Floats:
    """1/k where every epoch lies within the error of guessing among k classes, or those of the last
    window do after more than half of the accuracy was lost; else NaN. (N,)

    A loss that falls clearly below that of guessing, log k, says that something was learnt.

    Args: means: (N, W), window means of the accuracy.
    """
    length = trials.num_epochs - means.shape[1] + 1
    n = np.where(trials.val_n > 0, trials.val_n, _UNKNOWN_SIZE)[:, None]
    known = np.isfinite(trials.val_accuracy)
    collapsed = means[:, -1] < np.nan_to_num(means).max(axis=1) / 2
    lowest_loss = np.where(np.isfinite(trials.val_loss), trials.val_loss, np.inf).min(axis=1)
    guessing = np.full(len(means), np.nan)
    for num_classes in _PLAUSIBLE_CLASSES:
        chance = 1 / num_classes
        error = _ERRORS_FROM_CHANCE * np.sqrt(chance * (1 - chance) / n)
        near = (np.abs(trials.val_accuracy - chance) <= error) | ~known
        stuck = near.all(axis=1) & (lowest_loss >= _GUESSING * np.log(num_classes))
        found = (stuck | (collapsed & near[:, -length:].all(axis=1))) & known[:, -1]
        guessing = np.where(found, chance, guessing)
    return guessing


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
    of_epochs = (variance_of_mean(gap), np.full(len(gap), max(gap.shape[1] - 1.0, 1)))
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


def _known(mean: Floats, values: Floats) -> Floats:
    """The mean of a window (N,), and where one of its epochs is missing that of the others."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=1)
    of_others = np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)
    return np.where(np.isfinite(mean), mean, of_others)
