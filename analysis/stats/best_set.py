"""Which of several things can't be told from the best of them: multiple comparisons with the best.

The one that looks best is partly lucky, so a comparison of each with the winner wrongly excludes
too many. Here each is compared with the maximum that chance alone would make.
"""

import numpy as np
from numpy.typing import NDArray

from analysis.curves import Floats
from analysis.stats.intervals import pooled_df

Draws = NDArray[np.float32]
Mask = NDArray[np.bool_]

LEVEL = 0.05  # for each one that is truly best: how often it may be left out
NUM_DRAWS = 399  # so that LEVEL is a whole number of draws out of NUM_DRAWS + 1
_MAX_ROUNDS = 20
_NUMBERS_AT_ONCE = 300_000  # stays in a processor's cache, three times faster than 10 million
_ROUNDING = 1e-7  # of the draws; scores that are equal stay equal


def block_deviations(blocks: Floats, weight: Floats) -> Floats:
    """D such that D D' estimates the covariance, over validation sets, of means over blocks.

    Args: blocks: (N, M, K), means of M things on the same K blocks; weight: (N, K), shares of the
        examples. Returns: (N, M, K).
    """
    w = weight[:, None, :]
    centre = (w * blocks).sum(axis=2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):  # one block has all examples: not known
        return w * (blocks - centre) / np.sqrt(1 - (w**2).sum(axis=2, keepdims=True))


def tied_with_best(scores: Floats, deviations: Floats, seed: int = 0) -> Mask:
    """The set that holds any truly best one with probability 0.95.

    j is left out when the best score exceeds its own by more than the maximum over i of G_i - G_j
    does in 95 % of draws, G being draws of the scores' errors. Those left out no longer count in
    the maximum, and the rest is compared again, until nobody leaves.

    Args: scores: (N, M), NaN where there is none; deviations: (N, M, K), see block_deviations.
    Returns: (N, M).
    """
    num, many, num_blocks = deviations.shape
    # The same draws for every group: no group's result depends on which others are there.
    normal = _normal(np.random.default_rng(seed), num_blocks + 1)
    step = max(1, _NUMBERS_AT_ONCE // (NUM_DRAWS * max(many, 1)))
    tied = np.zeros((num, many), bool)
    for at in range(0, num, step):
        here = slice(at, at + step)
        draws = _stretched(
            _block_draws(deviations[here], normal[:, 1:]),
            normal[:, :1],
            _trace_and_df(deviations[here])[1],
        )
        tied[here] = survivors(scores[here], draws)[0]
    return tied


def distance_to_best(
    scores: Floats, deviations: Floats, own_var: Floats, own_df: float, seed: int = 0
) -> tuple[Mask, Floats, Floats]:
    """One group of M, with confidence limits of how far each truly is behind the best.

    Args: scores: (M,), NaN where there is none; deviations: (M, K), the errors they share;
        own_var: (M,), variances of a further error that each has by itself, known with own_df.
    Returns: tied, low, high, each (M,); every limit by itself is one-sided 95 %.
    """
    rng = np.random.default_rng(seed)
    normal = _normal(rng, deviations.shape[1] + 1)
    draws = _block_draws(deviations[None], normal[:, 1:])
    draws += np.sqrt(own_var, dtype=np.float32) * _normal(rng, len(scores))[:, None, :]
    parts = [_trace_and_df(deviations[None]), (own_var.sum(keepdims=True), np.array([own_df]))]
    _, df = pooled_df(parts)
    tied, excess = survivors(scores[None], _stretched(draws, normal[:, :1], df))
    reach = np.quantile(excess[:, 0], 1 - LEVEL, axis=0)
    behind = np.nanmax(scores) - scores
    low = np.where(tied[0], 0.0, np.maximum(behind - reach, 0))
    return tied[0], np.where(np.isnan(behind), np.nan, low), behind + reach


def _normal(rng: np.random.Generator, width: int) -> Draws:
    return rng.standard_normal((NUM_DRAWS, width), dtype=np.float32)


def _block_draws(deviations: Floats, normal: Draws) -> Draws:
    """Gaussian multiplier bootstrap over blocks. Returns: (B, N, M)."""
    D = np.nan_to_num(deviations).astype(np.float32)
    return (normal @ D.reshape(-1, D.shape[2]).T).reshape(len(normal), *D.shape[:2])


def _trace_and_df(deviations: Floats) -> tuple[Floats, Floats]:
    """Total variance of the scores around their mean, and its degrees of freedom. Both (N,).

    K blocks give K - 1 degrees of freedom in each independent direction; the number of
    directions is tr(S)^2 / tr(S^2), with the bias of tr(S^2) taken off.
    """
    X = np.nan_to_num(deviations)
    X = X - X.mean(axis=1, keepdims=True)
    c = deviations.shape[2] - 1.0
    gram = X.transpose(0, 2, 1) @ X
    trace = np.trace(gram, axis1=1, axis2=2)
    square = c**2 / (max(c - 1, 1) * (c + 2)) * ((gram**2).sum(axis=(1, 2)) - trace**2 / c)
    directions = np.divide(trace**2, square, out=np.ones_like(trace), where=square > 0)
    return trace, c * np.maximum(directions, 1)


def _stretched(draws: Draws, normal: Draws, df: Floats) -> Draws:
    """Draws with the tails of Student's t: the covariance is an estimate.

    Source of the cube: Wilson, Hilferty 1931, chi-square over its degrees of freedom.
    """
    a = (2 / (9 * df)).astype(np.float32)
    chi_square = np.maximum(1 - a + np.sqrt(a) * normal, 0.1) ** 3
    draws /= np.sqrt(chi_square)[:, :, None]
    return draws


def survivors(scores: Floats, draws: Draws) -> tuple[Mask, Draws]:
    """Args: scores: (N, M); draws: (B, N, M). Returns: (N, M), and max over them minus draws."""
    alive = np.isfinite(scores)
    filled = np.where(alive, scores, -np.inf)
    behind = (filled.max(axis=1, keepdims=True) - filled - _ROUNDING).astype(np.float32)
    excess = draws
    for _ in range(_MAX_ROUNDS):
        top = np.where(alive, draws, -np.inf).max(axis=2, keepdims=True)
        excess = top - draws
        left = alive & ((excess >= behind).sum(axis=0) + 1 > LEVEL * (len(draws) + 1))
        if (left == alive).all():
            break
        alive = left
    return alive, excess
