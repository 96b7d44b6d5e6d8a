"""The ratio of two means, with an interval that stays honest where the lower mean may be 0."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis.curves import Floats
from analysis.stats.intervals import LEVEL

MIN_PAIRS = 3
_TAIL = (1 - LEVEL) / 2


class Ratio(NamedTuple):
    """NaN with fewer than MIN_PAIRS pairs, or where the lower mean is not clearly above 0."""

    value: float
    low: float
    high: float
    below: float  # mean of the denominators
    below_low: float  # its lower limit
    num: int


def ratio_of_means(above: Floats, below: Floats, weight: Floats | None = None) -> Ratio:
    """mean(above) / mean(below) of independent pairs, never a mean of ratios.

    Args: above, below: (n,); pairs with a NaN are left out; weight: (n,), e.g. how many steps a
        pair is the mean of. Source: Fieller 1954 for the interval.
    """
    weight = np.ones(len(above)) if weight is None else weight
    used = np.isfinite(above) & np.isfinite(below) & (weight > 0)
    a, b, w = above[used], below[used], weight[used]
    n = len(a)
    if n < MIN_PAIRS:
        return Ratio(np.nan, np.nan, np.nan, np.nan, np.nan, n)
    w = w / w.sum()
    pair = np.stack([a, b])
    mean = pair @ w
    rest = (pair - mean[:, None]) * w
    V = rest @ rest.T * n / (n - 1)  # of the means; n / (n - 1) is exact for equal weights
    t = float(stats.t.isf(_TAIL, n - 1))
    below_low = float(mean[1] - t * np.sqrt(V[1, 1]))
    if not below_low > 0:
        return Ratio(np.nan, np.nan, np.nan, float(mean[1]), below_low, n)
    # All r with (mean_a - r mean_b)^2 <= t^2 Var(mean_a - r mean_b): a quadratic in r.
    A = mean[1] ** 2 - t**2 * V[1, 1]
    B = mean[0] * mean[1] - t**2 * V[0, 1]
    C = mean[0] ** 2 - t**2 * V[0, 0]
    root = np.sqrt(max(B**2 - A * C, 0.0))
    value = float(mean[0] / mean[1])
    return Ratio(value, float((B - root) / A), float((B + root) / A), float(mean[1]), below_low, n)
