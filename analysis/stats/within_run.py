"""Do the weights at the end of a run fall short of those at its best window? One run, with blocks.

The best window is lucky on the examples that it was chosen on, so the window is chosen on a random
half of the validation blocks and its lead over the end is read on the other half.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.curves import Floats
from analysis.stats.windows import block_variance

LEVEL = 0.05  # of the test and of each one-sided limit
MIN_BLOCKS = 5  # with examples
NUM_SPLITS = 8  # of the blocks into halves; with more, the result hardly changes any more


@dataclass(frozen=True)
class EndFall:
    """How far the last window of each run lies below the run's best one; all (N,).

    fall: cross-fitted, signed; low, high: one-sided 95 % confidence limits of the fall in accuracy
    over all examples that there could be, with the weights as they are, at least 0; p: one-sided,
    of "no window is better than the last". All are NaN where nothing can be told.
    """

    fall: Floats
    low: Floats
    high: Floats
    p: Floats


def end_fall(means: Floats, weight: Floats, length: int, seed: int = 0) -> EndFall:
    """Compare the last window of each run with its best window.

    The limits need no model of the noise over epochs: they rest on the spread between blocks of
    examples, and they hold for these weights, whatever another seed would do. The upper limit is
    the largest of the upper limits of all windows, so it holds whichever window is truly best.

    Args: means: (N, T, K), the accuracy of each block (or any other mean over its examples that is
        better when it is larger), NaN where an epoch is missing; weight: (N, K), shares of the
        examples; length: epochs of a window; seed: of the splits.
    Source: ours; the choice on one half and the reading on the other is sample splitting (Cox
    1975, Biometrika 62, not read by us).
    """
    num, num_epochs, num_blocks = means.shape
    used = (weight > 0).sum(axis=1)
    if num_epochs < 2 * length or num_blocks < MIN_BLOCKS:
        missing = np.full(num, np.nan)
        return EndFall(missing, missing, missing, missing)
    lead = _leads(means, length)
    fall, variance = _crossfit(lead, weight, _halves(num_blocks, seed))
    se, df = np.sqrt(variance), np.maximum(used - 2, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where((se > 0) | np.isnan(se), fall / se, np.where(fall > 0, np.inf, -np.inf))
    low = np.maximum(fall - stats.t.isf(LEVEL, df) * se, 0.0)
    high = np.fmax(_highest(lead, weight, used), np.maximum(fall, 0.0))
    known = (used >= MIN_BLOCKS) & np.isfinite(lead[:, -1]).all(axis=1)
    parts = (fall, low, high, stats.t.sf(t, df))
    return EndFall(*(np.where(known, part, np.nan) for part in parts))


def _leads(means: Floats, length: int) -> Floats:
    """Each window's mean less that of the last one, block by block. Returns: (N, W, K)."""
    of_windows = np.lib.stride_tricks.sliding_window_view(means, length, axis=1).mean(axis=-1)
    return of_windows - of_windows[:, -1:]


def _halves(num_blocks: int, seed: int) -> NDArray[np.bool_]:
    """(2 NUM_SPLITS, K): the blocks that choose; every second row is the other half."""
    rng = np.random.default_rng(seed)
    first = np.arange(num_blocks) < num_blocks // 2
    dealt = np.stack([rng.permutation(first) for _ in range(NUM_SPLITS)])
    return np.stack([dealt, ~dealt], axis=1).reshape(-1, num_blocks)


def _crossfit(lead: Floats, weight: Floats, choose: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """The lead of the window that one half chose, read on the other half, and its variance.

    The variance is that of one split: the mean over splits varies less. Returns: (N,), (N,).
    """
    score = (lead * weight[:, None]) @ choose.T.astype(float)  # (N, W, 2 NUM_SPLITS)
    best = np.where(np.isnan(score), -np.inf, score).argmax(axis=1)
    at_best = np.take_along_axis(lead, best[:, :, None], axis=1)  # (N, 2 NUM_SPLITS, K)
    reads = weight[:, None] * ~choose
    reads = reads / np.maximum(reads.sum(axis=2, keepdims=True), 1e-12)
    mean = (reads * at_best).sum(axis=2)
    spread = (reads**2 * (at_best - mean[:, :, None]) ** 2).sum(axis=2)
    spread = spread / np.maximum(1 - (reads**2).sum(axis=2), 1e-9)
    # Two halves of each split are averaged.
    return mean.mean(axis=1), spread.mean(axis=1) / 2


def _highest(lead: Floats, weight: Floats, used: NDArray[np.int64]) -> Floats:
    """The largest upper limit of any window's lead. Returns: (N,)."""
    num, num_windows, _ = lead.shape
    every = np.repeat(weight, num_windows, axis=0)
    variance = block_variance(lead.reshape(num * num_windows, -1), every)[0]
    mean = (lead * weight[:, None]).sum(axis=2)
    t = stats.t.isf(LEVEL, np.maximum(used - 1, 1))[:, None]
    limits = mean + t * np.sqrt(variance).reshape(num, num_windows)
    return np.where(np.isnan(limits), -np.inf, limits).max(axis=1)
