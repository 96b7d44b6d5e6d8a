"""The whole movement of a curve on its plateau, jitter and slow wander, with its interval."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, stats

from analysis.curves import Floats
from analysis.stats.intervals import LEVEL
from analysis.stats.trend import (
    MIN_POINTS,
    SECOND,
    Labels,
    contrast_variance,
    contrasts,
    quadratic_residuals,
)

SLOWEST = 0.9  # lag-1 autocorrelation of the slowest wander that the upper limit allows for
_MOST_POINTS = 300  # beyond, all moments are proportional to the number of points


class Plateau(NamedTuple):
    """Of the last segment, (N,) each; NaN with fewer than MIN_POINTS epochs there."""

    var: Floats  # around a quadratic
    hf_var: Floats  # the jitter of the same epochs
    num_points: Floats


def plateau(values: Floats, labels: Labels) -> Plateau:
    """What a quadratic leaves of the last segment. Args: values, labels: (N, T)."""
    last = labels.max(axis=1, keepdims=True)
    used = (labels == last) & (last >= 0)
    num = used.sum(axis=1)
    enough = num >= MIN_POINTS
    squares = (quadratic_residuals(values, used) ** 2).sum(axis=1)
    jitter = contrast_variance(values, np.where(used, 0, -1))[0]
    return Plateau(
        np.where(enough, squares / np.maximum(num - 3, 1), np.nan),
        np.where(enough, jitter, np.nan),
        np.where(enough, num, np.nan),
    )


def plateau_interval(
    var: ArrayLike, hf_var: ArrayLike, num_points: ArrayLike, num_curves: ArrayLike
) -> tuple[Floats, Floats]:
    """The 95 % confidence interval of the variance of jitter plus wander of at most SLOWEST.

    Args: (N,) each: var and hf_var as of plateau(), averaged over num_curves independent curves of
    num_points epochs. Returns: low, high, (N,).
    """
    P, H, num, curves = (
        np.atleast_1d(np.asarray(x, float)) for x in (var, hf_var, num_points, num_curves)
    )
    low, high = np.full_like(P, np.nan), np.full_like(P, np.nan)
    known = np.isfinite(P) & np.isfinite(H) & (num >= MIN_POINTS) & (P > 0)
    for points in np.unique(np.round(num[known])):
        rows = known & (np.round(num) == points)
        repeats = curves[rows] * max(points / _MOST_POINTS, 1)
        low[rows], high[rows] = _interval(P[rows], H[rows], min(int(points), _MOST_POINTS), repeats)
    return low, high


def _interval(P: Floats, H: Floats, num_points: int, repeats: Floats) -> tuple[Floats, Floats]:
    of = _moments(num_points)
    # Jitter a and wander b that explain both variances; the interval takes them for true.
    b = np.maximum((P - H) / (of.plateau_of_wander - of.hf_of_wander), 0)
    a = np.maximum(H - of.hf_of_wander * b, 0)
    parts = np.stack([a * a, 2 * a * b, b * b], axis=1)
    total = a + b
    tail = (1 - LEVEL) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        df = repeats * total**2 / (parts @ of.total_squares)
        high = total * df / stats.chi2.ppf(tail, df)
        mean = a + b * of.plateau_of_wander
        df = repeats * mean**2 / (parts @ of.plateau_squares)
        low = P * df / stats.chi2.isf(tail, df)
    return low, high


class _Moments(NamedTuple):
    plateau_of_wander: float  # expectation of the plateau variance of wander of variance 1
    hf_of_wander: float
    plateau_squares: NDArray[np.float64]  # tr(C A C B), (A, B) of (jitter, jitter), (jitter,
    total_squares: NDArray[np.float64]  # wander), (wander, wander); C of plateau and of total


@lru_cache(maxsize=1024)
def _moments(num_points: int) -> _Moments:
    """Of quadratic forms in white jitter and in AR(1) wander of the slowest kind."""
    time = np.linspace(-1, 1, num_points)
    trend = linalg.orth(np.stack([np.ones_like(time), time, time**2], axis=1))
    rest = (np.eye(num_points) - trend @ trend.T) / (num_points - 3)
    D = contrasts(np.eye(num_points)[None], SECOND)[0]
    jitter = D.T @ D / np.trace(D @ D.T)
    R = linalg.toeplitz(SLOWEST ** np.arange(num_points))
    of_plateau, of_jitter = float(np.sum(rest * R)), float(np.sum(jitter * R))
    factor = (1 - of_jitter) / (of_plateau - of_jitter)
    total = factor * rest + (1 - factor) * jitter  # unbiased for jitter plus wander

    def squares(C: Floats) -> Floats:
        CR = C @ R
        return np.array([np.sum(C * C), np.sum(CR * C), np.sum(CR * CR.T)])

    return _Moments(of_plateau, of_jitter, squares(rest), squares(total))
