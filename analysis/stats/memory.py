"""How long a curve's noise remembers: kinds of noise, and how likely each makes a stretch of it.

Each kind is AR(1) noise plus independent noise. What the trend of a stretch leaves is
held against every kind; the kind's scale is the one that fits best (restricted maximum likelihood).

`noise_kinds` does the like for falls of accuracy, and the two stay apart: there the curves of a
sweep tell together how common each kind is, so a row's answer depends on its company, and a design
of segments is held whole. Here every curve is judged alone, from 5 points on, so that a log of one
run has the same answer as in a sweep, and each stretch keeps a scale of its own.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.signal import lfilter

from analysis.curves import Floats

# Lag-1 autocorrelation of the slow part, and the share of independent noise beside it.
KINDS = ((0.0, 0.0), *((r, w) for r in (0.3, 0.6, 0.8, 0.9, 0.95) for w in (0.0, 0.3, 0.6)))
MIN_POINTS = 5  # of a stretch whose noise can be told
# Points of a stretch from which its trend has these terms beside a straight line.
_TERMS = ((30, ("decay", "square", "cube")), (17, ("decay", "square")), (12, ("decay",)), (0, ()))
_DECAY = 8  # a decay falls to 1/e in this share of its stretch
# Units of the noise at which the tail of a statistic is tabulated.
NODES = np.geomspace(0.02, 2000.0, 400)
NODE_STEP = float(np.log(NODES[1] / NODES[0]))
_BISECTIONS = 30
_LEAST = 1e-20  # variance of a curve that lies still


class Fit(NamedTuple):
    """How stretches of one length look under each of K kinds of noise."""

    log_likelihood: Floats  # (N, K)
    scale: Floats  # (N, K), SD of one point
    df: int


def fit(values: Floats) -> Fit:
    """Hold stretches of curves against every kind. Args: values: (N, n), n >= MIN_POINTS."""
    whitened, log_det = _design(values.shape[1])
    df = whitened.shape[1]
    centred = values - values.mean(axis=1, keepdims=True)
    squares = ((centred @ whitened.reshape(-1, values.shape[1]).T) ** 2).reshape(-1, len(KINDS), df)
    variance = np.maximum(squares.sum(axis=2) / df, _LEAST)
    return Fit(-log_det / 2 - df / 2 * np.log(variance), np.sqrt(variance), df)


def shares(log_likelihood: Floats) -> Floats:
    """How likely each kind is; the rows sum to 1. (N, K) -> (N, K).

    Before a curve is seen, a kind is the likelier the longer it remembers, as 1 / (1 - r): few
    points say little about a long memory, and what they miss makes false claims.
    """
    log = log_likelihood - np.log([1 - r for r, _ in KINDS])
    weight = np.exp(log - log.max(axis=1, keepdims=True))
    return weight / weight.sum(axis=1, keepdims=True)


def simulated(num: int, num_points: int, kind: int, seed: int) -> Floats:
    """Curves of nothing but noise of a kind, with unit variance. Returns: (num, num_points)."""
    r, white = KINDS[kind]
    # The same numbers for every kind, so that their results differ by the kinds alone.
    rng = np.random.default_rng(seed)
    fresh = rng.standard_normal((num, num_points))
    if not r:
        return fresh
    fresh[:, 1:] *= np.sqrt(1 - r**2)
    slow = np.asarray(lfilter([1.0], [1.0, -r], fresh, axis=1))
    return np.sqrt(1 - white) * slow + np.sqrt(white) * rng.standard_normal(slow.shape)


def exceeded(tails: Floats, value: Floats, scale: Floats, weight: Floats) -> Floats:
    """How often noise exceeds a value, averaged over its kinds.

    Args: tails: (K, nodes), how often it exceeds NODES times its scale; value: (N,); scale,
        weight: (N, K). Returns: (N,).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        place = np.log(value[:, None] / scale / NODES[0]) / NODE_STEP
    place = np.nan_to_num(place, nan=-1.0, neginf=-1.0, posinf=float(len(NODES)))
    low = np.clip(place.astype(np.int64), 0, len(NODES) - 2)
    part = np.clip(place - low, 0, 1)
    kinds = np.arange(len(KINDS))
    tail = (1 - part) * tails[kinds, low] + part * tails[kinds, low + 1]
    return (weight * np.where(place < 0, 1.0, tail)).sum(axis=1)


def critical(tails: Floats, scale: Floats, weight: Floats, level: float) -> Floats:
    """What noise exceeds at that level. Args: as of exceeded(). Returns: (N,)."""
    low = np.log(NODES[0] * scale.min(axis=1))
    high = np.log(NODES[-1] * scale.max(axis=1))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        above = exceeded(tails, np.exp(middle), scale, weight) > level
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.exp(high)


@lru_cache(maxsize=128)
def _design(num: int) -> tuple[Floats, Floats]:
    """(K, df, num) rows that leave the trend out and make the noise independent, and (K,) log
    determinants of the covariance that they whiten."""
    time = np.linspace(-1, 1, num)
    shapes = {"decay": np.exp(-np.arange(num) * _DECAY / num), "square": time**2, "cube": time**3}
    terms = next(terms for least, terms in _TERMS if num >= least)
    trend = np.stack([time**0, time, *[shapes[term] for term in terms]], axis=1)
    rest = linalg.null_space(trend.T).T
    rows, log_det = [], []
    for r, white in KINDS:
        covariance = rest @ correlation(num, r, white) @ rest.T
        factor = np.linalg.cholesky(covariance)
        rows.append(linalg.solve_triangular(factor, rest, lower=True))
        log_det.append(2 * np.log(np.diag(factor)).sum())
    return np.stack(rows), np.array(log_det)


def correlation(num: int, r: float, white: float) -> NDArray[np.float64]:
    """The correlation matrix of noise of a kind. Returns: (num, num)."""
    apart = np.arange(num)
    return linalg.toeplitz((1 - white) * r**apart + white * (apart == 0))
