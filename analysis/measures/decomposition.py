"""Which part of a movement is the population's and which only the finite validation set's: between
epochs, from blocks or from flips."""

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis.curves import Floats
from analysis.stats.intervals import LEVEL, upper_tail
from analysis.stats.trend import SECOND, Labels, contrasts, over_trace, valid_contrasts

MIN_EXAMPLES = 100  # of the validation set
MIN_FLIPS = 200  # over the usable epochs
MIN_BLOCKS = 5  # that are not empty
_UPPER = (1 + LEVEL) / 2
_BISECTIONS = 50  # of an upper limit: to the last digits of a float


class VarianceSplit(NamedTuple):
    """Parts of contrast_variance, and how well they are known; (N,) each, NaN without an answer."""

    total_var: Floats  # s^2 of the validation set that was used
    finite_var: Floats  # v, what a validation set of this size makes of it by itself
    finite_df: Floats  # degrees of freedom of v
    total_df: Floats  # of s^2, as a measure of the population's part plus v
    movement_p: Floats  # of "population accuracy does not move"


def block_gram(block_accuracy: Floats, block_weight: Floats, labels: Labels) -> Floats:
    """Inner products of the blocks' contrasts, w_k w_l Y_k'Y_l / tr(DD'); they add up to s^2.

    All that split_of_blocks needs. Seeds that share the blocks are pooled by averaging it.

    Args: block_accuracy: (N, T, K); block_weight: (N, K), shares of the examples.
    Returns: (N, K, K); NaN without a contrast.
    """
    valid = valid_contrasts(labels, len(SECOND))
    y = contrasts(block_accuracy, SECOND) * block_weight[:, None, :] * valid[:, :, None]
    return over_trace(y.transpose(0, 2, 1) @ y, valid, SECOND)


def split_of_blocks(gram: Floats, block_weight: Floats, hf_df: Floats) -> VarianceSplit:
    """The parts from the spread of blocks.

    Args: gram: (N, K, K) of block_gram; block_weight: (N, K); hf_df: (N,) of contrast_variance.
    """
    w = block_weight
    rows = gram.sum(axis=2)  # (N, K), w_k Y_k'r
    total = rows.sum(axis=1)
    own = np.diagonal(gram, axis1=1, axis2=2)
    scale = 1 - (w**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = (
            gram
            - w[:, :, None] * rows[:, None, :]
            - w[:, None, :] * rows[:, :, None]
            + w[:, :, None] * w[:, None, :] * total[:, None, None]
        ) / scale[:, None, None]
        others = (rows - own) / scale[:, None]
    squares = (centred**2).sum(axis=(1, 2))
    energy = np.diagonal(centred, axis1=1, axis2=2)
    return _split(total, energy, squares, others, w, hf_df)


def _split(
    total: Floats, energy: Floats, squares: Floats, others: Floats, w: Floats, hf_df: Floats
) -> VarianceSplit:
    """The parts from products of different blocks, which are independent of each other.

    Z_k are the centred contrasts of block k, scaled so that S = sum_k Z_k Z_k' estimates Sigma, the
    covariance over validation sets of the contrasts of the whole set.

    Args: total: (N,), s^2; energy: (N, K), |Z_k|^2; squares: (N,), tr S^2; others: (N, K), block
        k's contrast times those of all other blocks, which add up to s^2 - v; w: (N, K), shares of
        the examples; hf_df: (N,).
    """
    num_blocks = (w > 0).sum(axis=1)
    K = np.where(num_blocks >= MIN_BLOCKS, num_blocks, np.nan)
    c = K - 1
    v = energy.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Unbiased for normal contrasts; the blocks' own squares would add their kurtosis.
        trace_sq_raw = squares - (energy**2).sum(axis=1) - v**2 / (K * c)
        trace_sq_raw = trace_sq_raw / (c / K * (1 + 1 / c**2) - 2 / (K * c**2))
        nu = np.where(v > 0, np.fmin(v**2 / np.maximum(trace_sq_raw, 0), 2 * hf_df), np.nan)
        trace_sq = v**2 / nu  # tr Sigma^2
        # The blocks' spread is itself an estimate, so intervals are wider by t/z.
        student = (stats.t.ppf(_UPPER, c) / stats.norm.ppf(_UPPER)) ** 2
        over_sets = _variance_over_sets(others, w, trace_sq, K, student)
        total_df = _total_df(total, v, over_sets, hf_df)
        # Some blocks hold more of the examples that flip: v is known less well than c nu says.
        unlike = K / c * ((energy - w * v[:, None]) ** 2).sum(axis=1)
        finite_df = np.fmin(2 * v**2 / unlike / student, c * nu)
        movement_p = stats.f.sf(total / v, nu, c * nu)
    return VarianceSplit(total, v, finite_df, np.where(K > 0, total_df, np.nan), movement_p)


def _variance_over_sets(
    others: Floats, w: Floats, trace_sq: Floats, K: Floats, student: Floats
) -> Floats:
    """Variance of s^2 - v over validation sets. Returns: (N,)."""
    alone = trace_sq * K / (K - 1)
    return np.maximum(4 * student * along_movement(others, w, trace_sq) + 2 * alone, alone)


def _total_df(total: Floats, v: Floats, over_sets: Floats, hf_df: Floats) -> Floats:
    """Degrees of freedom of s^2: its error over the population's paths and validation sets."""
    over_paths = 2 * np.maximum(total - v, 0) ** 2 / hf_df
    expected = np.maximum(total, v)  # s^2 is v or more in truth
    return np.fmin(2 * expected**2 / (over_paths + over_sets), hf_df)


def along_movement(others: Floats, w: Floats, trace_sq: Floats) -> Floats:
    """rho' Sigma rho: how far a validation set's sensitivity along the true movement varies.

    Unbiased for blocks of one size and normal contrasts: with c = K - 1 the squares over blocks add
    up to (c - 1)^2 / (K c) rho' Sigma rho, and (c - 1) / c tr Sigma^2 by chance.

    Args: others: (N, K) of _split; w: (N, K); trace_sq: (N,), tr Sigma^2. Returns: (N,), signed.
    """
    K = (w > 0).sum(axis=1)
    uneven = others - w * others.sum(axis=1, keepdims=True)
    spread = K * (K - 1) / (K - 2) ** 2 * (uneven**2).sum(axis=1)
    return spread - trace_sq * K / (K - 2)


def population_interval(total: Floats, finite: Floats, total_df: Floats) -> tuple[Floats, Floats]:
    """The 95 % confidence interval of the population's part, s^2 - v, which is at least 0 in truth.

    It is the chi-square interval of s^2, less v. How much of the 5 % goes to each side depends on
    how far the tested value is from 0 (see upper_tail). The upper limit is the largest part of 0 or
    more for which s^2 is not too small.

    Args: s^2, v and total_df of a VarianceSplit, (N,) each. Returns: (N,), (N,).
    """
    # s^2 is v or more in truth: an s^2 below v does not mean that its error is small.
    error = np.maximum(total, finite) * np.sqrt(2 / total_df)
    tails = np.linspace(1 - LEVEL, (1 - LEVEL) / 2, 26)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        lows = total * total_df / stats.chi2.isf(tails, total_df) - finite
        allowed = tails <= upper_tail(np.maximum(lows, 0) / error)
        low = np.take_along_axis(lows, np.argmax(allowed, axis=0)[None], axis=0)[0]
        # Beyond both of these s^2 is below its 2.5 % quantile, and no more than that is asked for.
        most = np.maximum(
            total * total_df / stats.chi2.ppf(1 - _UPPER, total_df) - finite,
            stats.norm.ppf(_UPPER) * error,
        )
        high = np.where(np.isfinite(most), 0.0, np.nan)
        for _ in range(_BISECTIONS):
            middle = (high + most) / 2
            below = stats.chi2.cdf(total * total_df / (middle + finite), total_df)
            accepted = below >= 1 - LEVEL - upper_tail(middle / error)
            high, most = np.where(accepted, middle, high), np.where(accepted, most, middle)
        return low, high


def flip_bounds(
    flips: Floats, val_n: Floats, hf_var: Floats, labels: Labels
) -> tuple[Floats, Floats]:
    """Between which bounds v must lie, from the flips of each epoch alone.

    Y_i^2 is at least 1/4 and at most 1/2 of the flips of example i in the two steps of a contrast.

    Args: flips: (N, T), against the epoch before; val_n, hf_var: (N,). Returns: (N,), (N,).
    """
    num = max(flips.shape[1] - 2, 0)
    both = flips[:, 1 : num + 1] + flips[:, 2:]
    valid = valid_contrasts(labels, len(SECOND)) & np.isfinite(both)
    n = np.where(val_n > 0, val_n, np.nan)
    most = over_trace(np.where(valid, both, 0.0).sum(axis=1) / 2, valid, SECOND) / n**2
    return np.maximum(most / 2 - hf_var / n, 0), most


def set_bound(accuracy: Floats, val_n: Floats, labels: Labels) -> Floats:
    """The largest v that n independent examples can make, whatever they do.

    Of one example, the contrast (1/2, -1, 1/2) of being right has at most the mean square
    q_2 + (q_1 + q_3)/2, q being the smaller one of the shares right and wrong in each epoch:
    it is 1 where the example is alone in the middle, and where it is alone outside of it. At a
    constant accuracy p that makes v at most (4/3) min(p, 1 - p)/n.

    Args: accuracy: (N, T); val_n: (N,). Returns: (N,).
    """
    num = max(accuracy.shape[1] - 2, 0)
    rarer = np.fmin(accuracy, 1 - accuracy)
    most = rarer[:, 1 : num + 1] + (rarer[:, :num] + rarer[:, 2:]) / 2
    valid = valid_contrasts(labels, len(SECOND))
    n = np.where(val_n > 0, val_n, np.nan)
    return over_trace(np.where(valid, most, 0.0).sum(axis=1), valid, SECOND) / n


def examples_needed(churn: float, min_delta: float, num_errors: float = 2.0) -> int:
    """Validation examples with which `min_delta` is `num_errors` standard errors.

    Args: churn: share of examples that flip between the two epochs; min_delta: a fraction.
    num_errors: 2 shows a difference that large half of the time, 2.8 in 80 %.
    """
    return math.ceil(num_errors**2 * churn / min_delta**2)
