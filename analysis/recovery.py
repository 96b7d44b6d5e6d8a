"""Does a curve that fell from its peak rise again: epoch-wise double descent."""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from analysis.curves import Curves
from analysis.overfitting import inflation, window

Floats = NDArray[np.float64]

_MIN_POINTS = 15
_MANY_POINTS = 40
_LEVEL = 0.05


def measures(trials: Curves) -> pl.DataFrame:
    """One row per trial: `recovering`, and `lowest_epoch`, from which it rose again.

    True: accuracy fell and later rose again from its lowest point after the peak, both by more than
    noise makes, and is still up at the end. False: no such thing is seen, whether it fell or not.
    Null with fewer than 15 epochs after burn-in, or where one is missing.

    Bonferroni over the windows that don't overlap (pairs of them, for the fall); the spread of a
    window mean from what a polynomial leaves, inflated for autocorrelation.
    """
    num_trials, num_epochs = trials.val_accuracy.shape
    burn_in = max(3, int(np.ceil(0.15 * num_epochs)))
    accuracy = trials.val_accuracy[:, burn_in:]
    num = accuracy.shape[1]
    width = window(num_epochs)
    known = np.isfinite(accuracy).all(axis=1) & (num >= _MIN_POINTS)
    recovering, lowest = np.zeros(num_trials, bool), np.zeros(num_trials, np.int64)
    if known.any():
        recovering[known], lowest[known] = _recovering(accuracy[known], width)
    return pl.DataFrame(
        {
            "trial_id": pl.Series(trials.trial_ids, dtype=pl.String),
            "recovering": recovering,
            "lowest_epoch": burn_in + width + lowest,
        }
    ).with_columns(
        pl.when(pl.Series(known)).then(pl.col("recovering")),
        pl.when(pl.Series(recovering)).then(pl.col("lowest_epoch")),
    )


def _recovering(accuracy: Floats, width: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    means = np.lib.stride_tricks.sliding_window_view(accuracy, width, axis=1).mean(axis=-1)
    falls = np.maximum.accumulate(means, axis=1) - means
    lowest = np.argmax(falls, axis=1)
    at = lowest[:, None]
    fall = np.take_along_axis(falls, at, axis=1)[:, 0]
    rise = means[:, -1] - np.take_along_axis(means, at, axis=1)[:, 0]
    se, df = _error(accuracy, width)
    apart = max(accuracy.shape[1] // width, 2)
    fell = fall > stats.t.isf(_LEVEL / (apart * (apart - 1) / 2), df) * se
    rose = rise > stats.t.isf(_LEVEL / (apart - 1), df) * se
    return fell & rose, lowest


def _error(values: Floats, width: int) -> tuple[Floats, float]:
    """Standard error of the difference of two windows that don't overlap (N,), and its df."""
    num = values.shape[1]
    degree = 6 if num >= _MANY_POINTS else 4  # a rise, a fall and a rise need three bends or more
    Q = np.linalg.qr(np.polynomial.legendre.legvander(np.linspace(-1, 1, num), degree))[0]
    residual = values - (values @ Q) @ Q.T
    df = num - degree - 1.0
    excess = inflation(residual, np.full(len(values), num), degree + 1)
    return np.sqrt(2 * (residual**2).sum(axis=1) / df * excess / width), df
