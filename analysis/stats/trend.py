"""The contrasts of a curve that leave its trend out, and the variance that they show."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.curves import Curves, Floats
from analysis.stats.segments import Labels, settled
from analysis.stats.segments import segments as segments_of

Mask = NDArray[np.bool_]

# Contrast rows. A quadratic trend leaves little in the first and nothing in the second.
SECOND = (0.5, -1.0, 0.5)  # Gasser, Sroka, Jennen-Steinmetz 1986, Biometrika 73
THIRD = (1.0, -3.0, 3.0, -1.0)
MIN_POINTS = 8  # usable epochs; with fewer, a fluctuation is not estimable


def segments(lr: Floats) -> Labels:
    """Which stretch of the same conditions an epoch belongs to, of a schedule by itself.

    Args: lr: (N, T). Returns: (N, T); -1 where training has not settled.
    """
    return settled(segments_of(np.zeros(lr.shape), lr), lr)


def planned_df(lr: Sequence[float], *, num_seeds: int = 1) -> float:
    """Degrees of freedom of the pooled jitter of a planned configuration, about 18/35 an epoch.

    Args: lr: the learning rate of each epoch.
    """
    labels = segments(np.array([lr]))
    return num_seeds * float(degrees_of_freedom(valid_contrasts(labels, len(SECOND)), SECOND)[0])


def valid_contrasts(labels: Labels, width: int) -> Mask:
    """Which contrasts lie wholly in one segment. Returns: (N, T - width + 1)."""
    num = max(labels.shape[1] - width + 1, 0)
    first = labels[:, :num]
    valid = first >= 0
    for shift in range(1, width):
        valid = valid & (labels[:, shift : shift + num] == first)
    return valid


def contrasts(values: Floats, stencil: Sequence[float]) -> Floats:
    """The rows of DA. Args: values: (N, T, ...). Returns: (N, T - len(stencil) + 1, ...)."""
    num = max(values.shape[1] - len(stencil) + 1, 0)
    return sum(
        (weight * values[:, shift : shift + num] for shift, weight in enumerate(stencil)),
        np.zeros((values.shape[0], num, *values.shape[2:])),
    )


def _gram(stencil: Sequence[float]) -> list[float]:
    """Inner products of a contrast row with itself shifted by 0, 1, ..."""
    w = np.asarray(stencil)
    return [float(w[: len(w) - lag] @ w[lag:]) for lag in range(len(w))]


def degrees_of_freedom(valid: Mask, stencil: Sequence[float]) -> Floats:
    """tr(DD')^2 / tr((DD')^2), with D the valid contrast rows of each trial. Returns: (N,)."""
    gram = _gram(stencil)
    num = valid.sum(axis=1).astype(float)
    square = gram[0] ** 2 * num
    for lag in range(1, len(stencil)):
        square = square + 2 * gram[lag] ** 2 * (valid[:, lag:] & valid[:, :-lag]).sum(axis=1)
    return np.divide((gram[0] * num) ** 2, square, out=np.zeros_like(num), where=num > 0)


def contrast_variance(
    values: Floats, labels: Labels, stencil: Sequence[float] = SECOND
) -> tuple[Floats, Floats]:
    """Variance around a smooth trend, s^2 = |DA|^2 / tr(DD'), and its degrees of freedom.

    Args: values, labels: (N, T). Returns: (N,), (N,); NaN without a contrast.
    Source: Gasser, Sroka, Jennen-Steinmetz 1986 for the stencil SECOND.
    """
    valid = valid_contrasts(labels, len(stencil))
    squares = np.where(valid, contrasts(values, stencil) ** 2, 0.0).sum(axis=1)
    return over_trace(squares, valid, stencil), degrees_of_freedom(valid, stencil)


def over_trace(total: Floats, valid: Mask, stencil: Sequence[float]) -> Floats:
    """A sum over valid contrasts divided by tr(DD'); NaN without one. Args: total: (N, ...)."""
    trace = _gram(stencil)[0] * valid.sum(axis=1).astype(float)
    trace[trace == 0] = np.nan
    return total / trace.reshape(-1, *[1] * (total.ndim - 1))


def quadratic_residuals(values: Floats, used: Mask) -> Floats:
    """What a quadratic in time leaves of the used epochs; 0 elsewhere. Args: both (N, T)."""
    time = np.linspace(-1, 1, values.shape[1])
    X = used[:, :, None] * np.stack([np.ones_like(time), time, time**2], axis=1)
    y = np.where(used, values, 0.0)
    XX = np.einsum("nti,ntj->nij", X, X) + 1e-12 * np.eye(3)
    beta = np.linalg.solve(XX, np.einsum("nti,nt->ni", X, y)[:, :, None])
    return np.where(used, y - (X @ beta)[:, :, 0], 0.0)


def usable_segments(trials: Curves) -> Labels:
    """The segments of the accuracy, or of the loss where no accuracy is known; -1 where an epoch
    is missing or training has not settled. Returns: (N, T)."""
    accuracy = trials.val_accuracy
    no_accuracy = np.isnan(accuracy).all(axis=1, keepdims=True)
    values = np.where(no_accuracy, trials.val_loss, accuracy)
    return settled(segments_of(values, trials.lr), trials.lr)
