"""How far a curve ends above its best window, with limits, from nothing but the curve.

    found = loss_rises(losses)             # (N, T) -> shares of the best level
    found = rises(-accuracies)             # any score, in its own unit; larger values are worse
    word = told(found)                     # (N,) of Told: rises, does not rise, undetermined

A window is a twentieth of a curve. The rise is the mean of the last window minus that of the best
one. The best one is lucky, so a flat curve seems to rise by some noise; the limits count that, and
the noise itself, as `memory` tells it in each segment of constant learning rate. What is told is
true of these runs: whether another seed would rise as well is another question.
"""

from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.curves import Floats
from analysis.stats.memory import (
    KINDS,
    MIN_POINTS,
    NODE_STEP,
    NODES,
    correlation,
    critical,
    exceeded,
    fit,
    shares,
    simulated,
)
from analysis.stats.segments import Labels, distinct_rows, segments, settled
from analysis.stats.windows import window_means

LEVEL = 0.05  # of the test and of each one-sided limit
MARGIN = 0.05  # a rise of a loss that is worth a word, as a share of its best level
_SHARE = 20  # windows in a curve
_MAX_POINTS = 100  # of a curve; of a longer one neighbouring evaluations are averaged
_SPLIT = 60  # settled points of a segment whose halves have each a scale of the noise
_NUM_SIMULATED = 4000  # curves of each kind of noise
_SEED = 20261128
_TAIL_FROM = 0.02  # beyond, the tail is a power, which is heavier than those that are simulated
# The p-values of noise whose memory is estimated are too small: with this factor flat curves of 50
# evaluations keep the level at AR 0.9, the worst of what was simulated.
_FACTOR = 1.1

Pair = tuple[Floats, Floats]


class Rise(NamedTuple):
    """Rises of N curves, (N,) each; NaN where nothing can be told.

    rise: the estimate, at least 0; its best window is chosen by what lies beside it, so that the
        luck of that window is left out
    low, high: one-sided 95 % limits
    p: of "the curve does not rise"
    best: the mean of the best window
    best_at: the evaluation in the middle of the best window, counted from 0
    worse_from: the first evaluation, counted from 0, from which on every window lies above the best
        one by more than noise makes; NaN where the last one does not
    """

    rise: Floats
    low: Floats
    high: Floats
    p: Floats
    best: Floats
    best_at: Floats
    worse_from: Floats


class Told(StrEnum):
    """What a rise is called."""

    RISES = "rises"  # for sure, and by MARGIN as it is estimated
    DOES_NOT = "does not rise"  # a rise by twice MARGIN is excluded, and less than MARGIN estimated
    UNDETERMINED = "undetermined"


def told(found: Rise, margin: float = MARGIN) -> NDArray[np.str_]:
    """Call each rise by a word. Returns: (N,) of Told; undetermined where it is NaN, too.

    Args: margin: the rise that is worth a word, in the unit of `found`.
    """
    rises_ = (found.low > 0) & (found.rise >= margin)
    does_not = (found.high < 2 * margin) & (found.rise < margin)
    return np.select([rises_, does_not], [Told.RISES, Told.DOES_NOT], Told.UNDETERMINED)


def loss_rises(losses: Floats, rates: Floats | None = None) -> Rise:
    """Measure rises of losses as shares of their best level; `best` is in the unit of the loss.

    Multiplied with `best` they are rises in that unit. The noise of a loss grows with its level, so
    logarithms are compared. A loss that is not above 0 everywhere has no share: NaN.

    Args: losses, rates: as of rises().
    """
    positive = np.where(np.isfinite(losses), losses, 1.0).min(axis=1, initial=1.0) > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(positive[:, None], np.log(losses), np.nan)
    found = rises(logs, rates)
    rise, low, high = (np.expm1(logs) for logs in found[:3])
    return found._replace(rise=rise, low=low, high=high, best=np.exp(found.best))


def rises(values: Floats, rates: Floats | None = None) -> Rise:
    """Measure rises of curves, in their own unit.

    Args:
        values: (N, T), larger is worse; NaN or infinite where an evaluation is missing. A curve
            needs about 8 evaluations.
        rates: (N, T) learning rates; by default jumps of the curve show where they change.
    Source: restricted maximum likelihood, Patterson, Thompson 1971, Biometrika 58 (not read by us).
    """
    values = np.where(np.isfinite(values), values, np.nan)
    segment = segments(values, rates)
    return rises_within(values, segment, settled(segment, rates))


def rises_within(values: Floats, segment: Labels, used: Labels, length: int | None = None) -> Rise:
    """Measure rises of curves whose segments are known, in their own unit.

    Args:
        values: (N, T), larger is worse.
        segment: (N, T), of every evaluation; -1 leaves it out.
        used: (N, T), the same where the evaluation tells the noise, else -1.
        length: evaluations in a window; by default a twentieth of the curve.
    """
    out = Rise(*(np.full(len(values), np.nan) for _ in Rise._fields))
    designs = np.concatenate([segment, used], axis=1)
    distinct, which = distinct_rows(designs)
    for number, design in enumerate(distinct):
        rows = np.flatnonzero(which == number)
        of_segment, of_used = np.split(design, 2)
        known = np.flatnonzero(of_segment >= 0)
        step = max(-(-len(known) // _MAX_POINTS), 1)
        points = _binned(values[np.ix_(rows, known)], of_segment[known], of_used[known], step)
        if points is not None:
            width = len(known) // step // _SHARE if length is None else round(length / step)
            width = max(width, 1)
            found = _at_evaluations(_rises(*points, width), known, step, width)
            for whole, part in zip(out, found, strict=True):
                whole[rows] = part
    return out


def _at_evaluations(found: Rise, known: Labels, step: int, width: int) -> Rise:
    """The places of windows of points as evaluations. Args: known: those that make points, `step`
    of them each; width: points in a window."""
    first = len(known) % step
    middle = known[(first + (found.best_at + width / 2) * step).astype(int)]
    # The last one stands for a place that is not there.
    places = np.append(known[first::step], np.nan)
    worse_from = places[np.nan_to_num(found.worse_from, nan=-1).astype(int)]
    return found._replace(best_at=middle, worse_from=worse_from)


def _binned(
    values: Floats, segment: Labels, used: Labels, step: int
) -> tuple[Floats, Labels, list[Labels]] | None:
    """Means of `step` neighbouring evaluations, counted from the end.

    Returns: (N, P) means; (P,) their segments; the points of each stretch that tells the noise.
        None where there is no such stretch.
    """
    num = values.shape[1] // step
    first = values.shape[1] - num * step
    of_bins = segment[first:].reshape(num, step)
    steady = (used[first:].reshape(num, step) == of_bins[:, -1:]).all(axis=1)
    stretches: list[Labels] = []
    for number in np.unique(of_bins[:, -1]):
        at = np.flatnonzero(steady & (of_bins[:, -1] == number))
        stretches += np.array_split(at, 2) if len(at) >= _SPLIT else [at]
    stretches = [at for at in stretches if len(at) >= MIN_POINTS]
    if not stretches:
        return None
    means = values[:, first:].reshape(len(values), num, step).mean(axis=2)
    return means, of_bins[:, -1], stretches


def _rises(values: Floats, segment: Labels, stretches: list[Labels], length: int) -> Rise:
    """Rises of curves that have the same segments. Args: as _binned() returns them; length: points
    in a window."""
    fits = [fit(values[:, at]) for at in stretches]
    weight = shares(np.sum([each.log_likelihood for each in fits], axis=0))
    num = values.shape[1]
    means = window_means(values, length)
    whole = segment[: means.shape[1]] == segment[length - 1 :]
    end = values[:, -min(length, int((segment == segment[-1]).sum())) :].mean(axis=1)
    middles = np.arange(means.shape[1]) + (length - 1) / 2
    nearest = np.abs(middles[:, None] - [at.mean() for at in stretches]).argmin(axis=1)
    low, high, p = np.zeros(len(values)), np.zeros(len(values)), np.ones(len(values))
    for number, own in enumerate(fits):
        at = np.flatnonzero(whole & (nearest == number))
        if not len(at):
            continue
        # Each stretch with the noise of its own and of the end; the largest lower limit counts.
        rise = end - means[:, at].min(axis=1)
        scale = np.sqrt((own.scale**2 + fits[-1].scale ** 2) / 2)
        fall, pair = _tables(num, length, min(own.df, fits[-1].df))
        p = np.minimum(p, _FACTOR * exceeded(fall, rise, scale, weight))
        low = np.maximum(low, rise - critical(fall, scale, weight, LEVEL / _FACTOR))
        high = np.maximum(high, rise + critical(pair, scale, weight, LEVEL / _FACTOR))
    chosen = _best_window(means, whole, length)
    level = np.minimum(means[np.arange(len(means)), chosen], end)
    best = np.minimum(np.where(whole, means, np.inf).min(axis=1), end)
    noise = end - best - low  # what noise makes of it
    above = means > (best + noise)[:, None]
    lasts = np.flip(np.logical_and.accumulate(np.flip(above, axis=1), axis=1), axis=1)
    worse_from = np.where((low > 0) & lasts[:, -1], lasts.argmax(axis=1), np.nan)
    rise = np.clip(end - level, low, high)
    return Rise(rise, low, high, p, best, chosen.astype(float), worse_from)


def _best_window(means: Floats, whole: NDArray[np.bool_], length: int) -> Labels:
    """The window that is best by what lies beside it. (N, W) -> (N,).

    That is by the mean of both neighbours. A window with one of them is as good as a line through
    the next two has it, but no better than it is itself: it may be the end of a steep slope.
    """
    sides, lines = [], []
    for shift in (-length, length):
        near, there = _beside(means, whole, shift)
        far, as_well = _beside(means, whole, 2 * shift)
        sides.append(np.where(there, near, np.nan))
        lines.append(np.where(there & as_well, np.maximum(2 * near - far, means), np.nan))
    both = (sides[0] + sides[1]) / 2
    one = np.where(np.isnan(sides[0]), lines[1], lines[0])
    score = np.where(np.isnan(both), np.where(np.isnan(one), means, one), both)
    return np.where(whole, score, np.inf).argmin(axis=1)


def _beside(
    means: Floats, whole: NDArray[np.bool_], shift: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """The means of other windows, and whether they lie in the same segment. (N, W), (W,)."""
    places = np.arange(means.shape[1])
    other = np.clip(places + shift, 0, len(places) - 1)
    between = whole[(places + other) // 2]
    return means[:, other], (other == places + shift) & whole & whole[other] & between


# --- what noise alone does


@lru_cache(maxsize=1024)
def _tables(num_points: int, length: int, df: int) -> Pair:
    """Tails, in units of the noise of a point as it is estimated with so many degrees of freedom:
    of the rise of flat curves, and of the last window minus one that is fixed. (K, nodes) each."""
    chance = np.random.default_rng(_SEED).chisquare(df, _NUM_SIMULATED) / df
    falls, pairs = [], []
    for kind in range(len(KINDS)):
        rise, sd = _flat(num_points, length, kind)
        z = np.sort(rise / np.sqrt(chance))
        falls.append(_with_tail(1 - np.searchsorted(z, NODES) / len(z)))
        pairs.append(stats.t.sf(NODES / sd, df))
    return np.array(falls), np.array(pairs)


@lru_cache(maxsize=1024)
def _flat(num_points: int, length: int, kind: int) -> tuple[Floats, float]:
    """Of noise of unit variance: rises of flat curves, and the SD of the last window mean minus
    the first one."""
    means = window_means(simulated(_NUM_SIMULATED, num_points, kind, _SEED), length)
    R = correlation(num_points, *KINDS[kind])
    variance = 2 * float(R[:length, :length].mean() - R[:length, -length:].mean())
    return means[:, -1] - means.min(axis=1), np.sqrt(max(variance, 1e-12))


def _with_tail(tail: Floats) -> Floats:
    """The simulated tail, and beyond _TAIL_FROM a power of z."""
    first = int(np.argmax(tail <= _TAIL_FROM))
    last = max(int(np.argmax(tail <= _TAIL_FROM / 5)), first + 1)
    slope = np.log(5) / ((last - first) * NODE_STEP)
    beyond = tail[first] * (NODES / NODES[first]) ** -slope
    return np.where(np.arange(len(tail)) > first, beyond, tail)
