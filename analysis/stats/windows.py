"""Means over windows of epochs with their errors, and slopes."""

import numpy as np
from numpy.typing import NDArray

from analysis.curves import Floats

MIN_WINDOW = 3
_MAX_WINDOW = 25
MIN_SLOPE = 5  # epochs; a slope of fewer says nothing
_SLOWEST = 0.9  # lag-1 autocorrelation that is believed at most


def window_length(num_epochs: int) -> int:
    """Epochs in a window mean: the last one is the final accuracy.

    An eighth of training; but a long window would level out the peak of a long training. With
    fewer than two windows that don't overlap there is no fall and no rise to speak of.
    """
    return min(num_epochs, max(MIN_WINDOW, num_epochs // 8), _MAX_WINDOW)


def window_means(values: Floats, length: int) -> Floats:
    """(N, T) -> (N, T - length + 1); NaN where an epoch of the window is missing."""
    return np.lib.stride_tricks.sliding_window_view(values, length, axis=1).mean(axis=-1)


def theil_sen(values: Floats) -> Floats:
    """Median slope of all pairs; NaN with fewer than MIN_SLOPE columns, or where one is missing.

    Args: values: (N, T). Returns: (N,).
    Source: Theil 1950; Sen 1968, JASA 63 (not read by us).
    """
    num = values.shape[1]
    if num < MIN_SLOPE:
        return np.full(len(values), np.nan)
    first, second = np.triu_indices(num, 1)
    return np.median((values[:, second] - values[:, first]) / (second - first), axis=1)


def variance_of_mean(values: Floats) -> Floats:
    """Variance of the mean over epochs, as if they were AR(1). (N, T) -> (N,)."""
    num = values.shape[1]
    centred = values - values.mean(axis=1, keepdims=True)
    variance = (centred**2).sum(axis=1) / max(num - 1, 1)
    return variance * inflation(centred, np.full(len(values), num), 1) / num


def inflation(residual: Floats, num: NDArray[np.number], num_fitted: int) -> Floats:
    """(1 + r) / (1 - r) of the lag-1 autocorrelation r: how much it widens a mean's variance.

    Args: as of `autocorrelation`. Returns: (N,).
    """
    r = autocorrelation(residual, num, num_fitted, _SLOWEST)
    return (1 + r) / (1 - r)


def autocorrelation(
    residual: Floats, num: NDArray[np.number], num_fitted: int, most: float
) -> Floats:
    """The lag-1 autocorrelation of residuals with its bias taken off, in [0, most].

    Args: residual: (N, T), 0 where not used; num: (N,) how many are used; num_fitted:
        coefficients that were fitted, 1 for a mean, 3 for a quadratic. Returns: (N,).
    Source of the bias -(1 + 4r)/num for a mean: Marriott, Pope 1954, Biometrika 41; each further
    coefficient is taken to add -(1 + r)/num, as a linear trend does.
    """
    square = (residual**2).sum(axis=1)
    product = (residual[:, 1:] * residual[:, :-1]).sum(axis=1)
    r = np.divide(product, square, out=np.zeros_like(square), where=square > 0)
    return np.clip((r * num + num_fitted) / np.maximum(num - num_fitted - 3, 1), 0, most)


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
