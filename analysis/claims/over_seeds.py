"""An estimate over seeds, or other independent groups of rows, with an interval by leaving one
group out at a time."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.curves import Floats
from analysis.stats.intervals import mean_interval

Rows = NDArray[np.bool_]


class Estimate(NamedTuple):
    """A number with its 95 % interval; NaN where it is not known, and then the reason."""

    value: float
    low: float
    high: float
    num_groups: int
    reason: str | None = None


def unknown(reason: str, num_groups: int = 0) -> Estimate:
    """Make the estimate of what can't be estimated."""
    return Estimate(np.nan, np.nan, np.nan, num_groups, reason)


def leave_one_out(
    statistic: Callable[[Rows], float], groups: NDArray[np.int64], noun: str = "seed"
) -> Estimate:
    """Estimate a statistic, with Student's limits from its jackknife over groups.

    Args:
        statistic: gives the estimate from those rows that are kept, NaN where there is none.
        groups: (rows,) the group of each row.
        noun: what a group is, for the reason.

    Source: Tukey 1958 for the jackknife's standard error.
    """
    names = np.unique(groups)
    num = len(names)
    if not num:
        return unknown(f"no {noun} has both")
    value = statistic(np.ones(len(groups), bool))
    if not np.isfinite(value):
        return unknown("it is 0 or not known where it is compared with", num)
    if num < 2:
        return Estimate(value, np.nan, np.nan, num, f"one {noun} tells nothing of another one")
    without = np.array([statistic(groups != name) for name in names])
    se = float(np.sqrt((num - 1) / num * ((without - without.mean()) ** 2).sum()))
    if not np.isfinite(se):
        return Estimate(value, np.nan, np.nan, num, f"it rests on one {noun}")
    if se < 1e-12:
        reason = f"all {noun}s agree to the last digit, so nothing tells how another one differs"
        return Estimate(value, np.nan, np.nan, num, reason)
    low, high = mean_interval(value, se, num - 1)
    return Estimate(value, float(low), float(high), num)


def mean_difference(above: Floats, below: Floats, slices: NDArray[np.int64]) -> Callable:
    """Make the statistic: the mean over slices of the mean difference within each.

    Args: above, below, slices: (rows,), paired.
    """

    def statistic(kept: Rows) -> float:
        return _over_slices(above - below, slices, kept, np.asarray)

    return statistic


def log_sd_ratio(above: Floats, below: Floats, slices: NDArray[np.int64]) -> Callable:
    """Make the statistic: the log of the ratio of two SDs, a mean over slices of the grid.

    Args: above, below: (rows,), variances, paired; slices: (rows,).
    """

    def logs(means: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            return np.log(means)

    def statistic(kept: Rows) -> float:
        ratio = _over_slices(above, slices, kept, logs) - _over_slices(below, slices, kept, logs)
        return ratio / 2

    return statistic


def _over_slices(
    values: Floats, slices: NDArray[np.int64], kept: Rows, of_means: Callable[[Floats], Floats]
) -> float:
    """The mean over slices of a function of each slice's mean; NaN where a slice has no row."""
    count = np.bincount(slices[kept], minlength=slices.max() + 1)
    total = np.bincount(slices[kept], values[kept], minlength=slices.max() + 1)
    with np.errstate(invalid="ignore"):
        return float(np.mean(of_means(total / count)))
