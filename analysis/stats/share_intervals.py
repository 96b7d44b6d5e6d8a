"""Confidence intervals of a weighted sum of effects' variances, and of its share of all of them.

Effects are orthogonal: their sums of squares are independent, noise x noncentral chi-square. A
value is inside the interval where a test of it does not reject. Source: Fieller 1954 for the
interval of a ratio by tests of a sum, Pearson 1959 for the three moments (neither read by us).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from analysis.curves import Floats
from analysis.stats.intervals import LEVEL, upper_tail

_TAIL = (1 - LEVEL) / 2
_NUM_NODES = 15  # values of the noise that a test is averaged over
_NUM_POINTS = 21  # of a value that are tried at a time
_NUM_STEPS = 4  # of the effects towards those that the value allows
_LEAST = 1e-20  # variance of a sum without weights
_FLOOR = 0.1  # of the variance that a square has by noise alone: the least that is allowed for


class Squares(NamedTuple):
    """What a sweep tells of its effects."""

    squares: Floats  # (U,) sums of squares; expectation: that of the effect + df x noise
    df: Floats  # (U,)
    noise: float  # its estimate, above 0
    error_df: float


def share_interval(found: Squares, weights: Floats) -> tuple[float, float]:
    """The 95 % interval of sum weights x effects / sum effects, in [0, 1]. Args: weights: (U,)."""

    effects = found.squares - found.df * found.noise
    total = effects.sum()

    def test(shares: Floats) -> tuple[Floats, Floats]:
        p, error = _test(found, weights - shares[:, None], np.zeros_like(shares))
        below, above = (upper_tail(x * total / error) for x in (shares, 1 - shares))
        return p, _TAIL + below - above

    return _inside(test, float(np.clip(weights @ effects / total, 0, 1)), 1.0)


def sum_interval(found: Squares, weights: Floats) -> tuple[float, float]:
    """The 95 % interval of sum weights x effects, at least 0. Args: weights: (U,), not below 0."""

    def test(sums: Floats) -> tuple[Floats, Floats]:
        p, error = _test(found, np.broadcast_to(weights, (len(sums), len(weights))), sums)
        return p, upper_tail(sums / error)

    effects = found.squares - found.df * found.noise
    estimate = max(float(weights @ effects), 0.0)
    variance = 2 * found.df * found.noise + 4 * np.maximum(effects, 0)
    spread = float(np.sqrt((weights**2 * variance).sum() * found.noise))
    spread += float(weights @ found.df) * found.noise / np.sqrt(found.error_df)
    return _inside(test, estimate, estimate + 12 * spread)


def _test(found: Squares, weights: Floats, truth: Floats) -> tuple[Floats, Floats]:
    """p of so large a sum of weights x effects as was found, if its truth is that.

    The sum's distribution has the three moments that it would have with effects that add up to
    the truth and are as near as can be to those that were found; it is averaged over what the noise
    may be, given its estimate.

    Args: weights: (G, U); truth: (G,). Returns: p and the sum's standard error, (G,) each.
    """
    ranks = (np.arange(_NUM_NODES) + 0.5) / _NUM_NODES
    # All is in units of the noise as it was found.
    noise = (found.error_df / stats.chi2.ppf(ranks, found.error_df))[:, None, None]
    effects = found.squares / found.noise - found.df * noise  # (J, 1, U), signed
    distance = (weights * effects).sum(axis=-1) - truth / found.noise  # (J, G)
    alone = 2 * found.df * noise**2
    allowed = effects
    for _ in range(_NUM_STEPS):
        variance = np.maximum(alone + 4 * allowed * noise, _FLOOR * alone)
        scale = np.maximum((weights**2 * variance).sum(axis=-1), _LEAST)
        step = (distance / scale)[..., None] * weights * variance
        allowed = np.maximum(effects - step, -found.df * noise * (1 - _FLOOR) / 2)
    variance = np.maximum(alone + 4 * allowed * noise, _FLOOR * alone)
    second = np.maximum((weights**2 * variance).sum(axis=-1), _LEAST)
    third = (weights**3 * (8 * found.df * noise**3 + 24 * allowed * noise**2)).sum(axis=-1)
    error = found.noise * np.sqrt(second.mean(axis=0))
    return _above(distance, second, third).mean(axis=0), error


def _above(x: Floats, second: Floats, third: Floats) -> Floats:
    """P(X > x) of the shifted gamma variable with mean 0 and these central moments."""
    skew = np.clip(third / second**1.5, -10, 10)
    size = np.maximum(np.abs(skew), 1e-3)
    shape = 4 / size**2
    y = np.sign(skew) * x / np.sqrt(second) * np.sqrt(shape) + shape
    above = special.gammaincc(shape, np.maximum(y, 0))
    return np.where(skew >= 0, above, 1 - above)


def _inside(
    test: Callable[[Floats], tuple[Floats, Floats]], estimate: float, most: float
) -> tuple[float, float]:
    """The ends of the values in [0, most] that are not rejected. The estimate is taken as one.

    Args: test: values (G,) -> their p, and the p below which one is too small.
    """

    def kept(values: Floats) -> NDArray[np.bool_]:
        p, lower = test(values)
        return (p > lower) & (p < 1 - (2 * _TAIL - lower))

    ends: list[float] = []
    for end in (0.0, most):
        near, far = estimate, end
        for _ in range(3):
            values = np.linspace(near, far, _NUM_POINTS)
            rejected = np.flatnonzero(~kept(values)[1:])
            if not len(rejected):
                near = far
                break
            near, far = float(values[rejected[0]]), float(values[rejected[0] + 1])
        ends.append(near)
    return ends[0], ends[1]
