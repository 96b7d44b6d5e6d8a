"""Which evaluation's weights to keep: a rule, those that can't be told from the best, the luck of
the best one. Measured on simulated truth in analysis/calibration/checkpoints.py."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from analysis.curves import Floats
from analysis.stats.best_set import NUM_DRAWS, survivors
from analysis.stats.segments import segments
from analysis.stats.trend import contrast_variance

FEWEST = 5  # evaluations; with fewer there is nothing to choose from
_WINDOW = 20  # windows in a curve, of 5 evaluations at least
_FEWEST_IN_WINDOW = 5
_FEWEST_FOR_NOISE = 8  # evaluations of a segment that have a noise of their own
# What moves an evaluation is partly slow, which its distance from its neighbours does not show.
_SLOW = 1.25
_AT_ONCE = 2_000_000  # numbers of the draws in memory


class Kept(NamedTuple):
    """What is told of N curves; larger values are better.

    keep: (N,) the evaluation to keep, counted from 0
    best: (N,) the best single one
    tied: (N, T) those that can't be told from the best
    flatters: (N,) by how much the best single value is at most better than what it stands for
    level: (N, T) the curve without the noise of single evaluations
    """

    keep: NDArray[np.int64]
    best: NDArray[np.int64]
    tied: NDArray[np.bool_]
    flatters: Floats
    level: Floats


def kept(values: Floats, rates: Floats | None = None, set_var: Floats | None = None) -> Kept:
    """Choose the evaluation to keep of each curve: halfway between its level and its own value.

    The level alone forgets that some weights are truly better than their neighbours; the value
    alone believes all of its luck. Only those are chosen from that can't be told from the best.

    Args:
        values: (N, T), larger is better, NaN where an evaluation is missing; T is FEWEST or more.
        rates: (N, T) learning rates, by default unknown.
        set_var: (N,) the most that the validation set makes of the variance of an evaluation,
            p (1 - p) / n of an accuracy; by default, or where it is NaN, all of it.
    """
    level, noise = levels(values, rates)
    shown = np.where(np.isfinite(values), values, -np.inf)
    best = shown.argmax(axis=1)
    most = _SLOW * noise
    if set_var is not None:  # of what single evaluations say, the set makes no more
        most = np.fmin(most, np.sqrt(set_var)[:, None])
    tied = _tied(values, most)
    rows = np.arange(len(values))
    # What those that can't be told from the best one are in the mean.
    among = np.where(tied, np.nan_to_num(values), 0).sum(axis=1) / np.maximum(tied.sum(axis=1), 1)
    share = np.ones(len(values))
    if set_var is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.clip(np.nan_to_num(set_var / noise[rows, best] ** 2, nan=1.0), 0, 1)
    return Kept(
        keep=np.where(tied, level + shown, -np.inf).argmax(axis=1),
        best=best,
        tied=tied,
        flatters=np.maximum(shown[rows, best] - among, 0) * share,
        level=level,
    )


def levels(values: Floats, rates: Floats | None = None) -> tuple[Floats, Floats]:
    """The level of every evaluation, by a line through its window, and the SD of one evaluation.

    Args: as of kept(). Returns: (N, T), (N, T); within each segment of constant conditions.
    Source: Savitzky, Golay 1964, Analytical Chemistry 36 (not read by us).
    """
    known = _filled(values)
    labels = segments(known, rates)
    level, noise = known.copy(), np.zeros(known.shape)
    for row, of in enumerate(labels):
        whole = np.sqrt(_variance(known[row], of))
        for one in np.unique(of):
            at = np.flatnonzero(of == one)
            width = max(_FEWEST_IN_WINDOW, len(at) // _WINDOW) | 1
            some = known[row, at]
            if len(at) >= width:
                level[row, at] = signal.savgol_filter(some, width, 1, mode="interp")
            else:
                level[row, at] = some.mean()
            alone = len(at) >= _FEWEST_FOR_NOISE
            noise[row, at] = np.sqrt(_variance(some, np.zeros(len(at), int))) if alone else whole
    return level, noise


def _tied(values: Floats, noise: Floats) -> NDArray[np.bool_]:
    """Those that may be the best ones, if all that moves them is noise. (N, T)."""
    num, length = values.shape
    normal = np.random.default_rng(0).standard_normal((NUM_DRAWS, length), dtype=np.float32)
    tied = np.zeros(values.shape, bool)
    step = max(1, _AT_ONCE // (NUM_DRAWS * length))
    for first in range(0, num, step):
        here = slice(first, first + step)
        draws = normal[:, None, :] * noise[here].astype(np.float32)
        tied[here] = survivors(np.where(np.isfinite(values[here]), values[here], np.nan), draws)[0]
    return tied


def _filled(values: Floats) -> Floats:
    """With lines through what is missing. Every row needs one value."""
    known = np.where(np.isfinite(values), values, np.nan)
    time = np.arange(values.shape[1])
    for row in np.flatnonzero(np.isnan(known).any(axis=1)):
        there = ~np.isnan(known[row])
        if there.any():
            known[row] = np.interp(time, time[there], known[row, there])
    return np.nan_to_num(known)


def _variance(values: Floats, labels: NDArray[np.int64]) -> float:
    found = contrast_variance(values[None], labels[None])[0][0]
    return float(found) if np.isfinite(found) else float(values.var())
