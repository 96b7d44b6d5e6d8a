"""Kinds of noise around a curve's trend, and how likely each of them makes a curve what it is.

The memory of the noise decides how far a curve moves by itself, and one curve tells little about
it. So every curve is held against all kinds, and the curves of a sweep together tell how common
each kind is among them.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, special
from scipy.signal import lfilter

from analysis.curves import Floats

Labels = NDArray[np.int64]

# Lag-1 autocorrelation of the slow part, and the share of independent noise beside it.
KINDS = (
    (0.0, 0.0),
    *((r, w) for r in (0.3, 0.6) for w in (0.0, 0.3, 0.6)),
    *((r, w) for r in (0.8, 0.9, 0.95) for w in (0.0, 0.1, 0.3, 0.6)),
    (0.999, 0.0),  # a random walk, as far as one curve can tell
)
NUM_KINDS = len(KINDS)
# How common the kinds are in three curves that are added to a sweep. The walk is the kind that is
# mistaken for all faster ones beside a trend, so it counts as several.
_ADDED = np.array([1.0] * (NUM_KINDS - 1) + [4.0]) * 3 / (NUM_KINDS + 3)
_ROUNDS = 60  # of the EM algorithm
_LEAST = 1e-16  # variance of a curve that lies still
# Used epochs of a segment from which a polynomial of that degree is its trend.
_DEGREES = ((32, 4), (16, 3), (10, 2), (6, 1), (1, 0))
_MIN_DF = 6  # of a noise's scale; segments with fewer share one with their neighbours
_MIN_SPLIT = 24  # residuals of a segment whose halves have a scale each: noise may grow


class Fit(NamedTuple):
    """How curves of one design look under each kind of noise."""

    log_likelihood: Floats  # (N, NUM_KINDS), restricted: of what the trends leave
    scale: Floats  # (N, NUM_KINDS, G), SD of an epoch; one for each group of segments


class Design(NamedTuple):
    """What curves with the same segments share.

    key: of the labels that it was made of
    segment: (T,), of every epoch: one that is not used belongs to the segment that it opens
    group: (T,), the stretch of every epoch that has a scale of the noise of its own
    df: (G,), of these scales
    whitened: (NUM_KINDS, m, T): rows that turn a curve into independent residuals, in time's order
    starts: (G,), where each group's rows begin
    log_det: (NUM_KINDS,)
    """

    key: bytes
    segment: Labels
    group: Labels
    df: Floats
    whitened: NDArray[np.float32]
    starts: Labels
    log_det: Floats


def design(labels: Labels) -> Design:
    """The design of these segments. Args: labels: (T,), -1 where an epoch is not used."""
    return design_of(np.ascontiguousarray(labels, np.int64).tobytes())


@lru_cache(maxsize=64)
def design_of(key: bytes) -> Design:
    """The design with that key."""
    labels = np.frombuffer(key, np.int64)
    segment = _backfilled(labels)
    used = [np.flatnonzero(labels == s) for s in np.unique(segment)]
    terms = [_num_terms(len(at)) for at in used]
    left = [at[_told(len(at), num)] for at, num in zip(used, terms, strict=True)]
    parts = [part for at in left for part in np.array_split(at, 1 + (len(at) >= _MIN_SPLIT))]
    starts, df = _grouped([len(part) for part in parts])
    epochs = np.concatenate(left)
    of_row = np.repeat(np.arange(len(df)), df)
    group = of_row[np.minimum(np.searchsorted(epochs, np.arange(len(labels))), len(epochs) - 1)]
    whitened = np.zeros((NUM_KINDS, len(epochs), len(labels)), np.float32)
    log_det = np.zeros(NUM_KINDS)
    for kind in range(NUM_KINDS):
        first = 0
        for at, num in zip(used, terms, strict=True):
            rows, of_segment = _independent(at, num, kind)
            whitened[kind, first : first + len(rows)][:, at] = rows
            log_det[kind] += of_segment
            first += len(rows)
    return Design(key, segment, group, df.astype(float), whitened, starts, log_det)


def degrees_of_freedom(labels: Labels) -> int:
    """What the trends leave of the used epochs. Args: labels: (T,)."""
    used = labels[labels >= 0]
    counts = np.unique(used, return_counts=True)[1] if len(used) else np.empty(0, int)
    return int(sum(count - _num_terms(int(count)) for count in counts))


def fit(values: Floats, of: Design) -> Fit:
    """Hold curves against every kind. Args: values: (N, T), finite wherever an epoch is used."""
    centred = np.nan_to_num(values - np.nanmean(values, axis=1, keepdims=True))
    square = np.stack([squares(centred, of, kind) for kind in range(NUM_KINDS)], axis=1)
    scale = scales(square, of.df)
    misfit = square / np.maximum(scale**2, _LEAST) / 2
    log_likelihood = -of.log_det / 2 - (of.df * np.log(scale) + misfit).sum(axis=2)
    return Fit(log_likelihood, scale)


def scales(square: Floats, df: Floats) -> Floats:
    """SDs of the groups, drawn together as far as their differences may be chance.

    Args: square: (..., G), sums of squares; df: (G,). Returns: (..., G).
    Source: the positive part of James, Stein 1961, of the logarithms (not read by us).
    """
    own = np.log(np.maximum(square / df, _LEAST)) / 2
    pooled = np.log(np.maximum(square.sum(axis=-1, keepdims=True) / df.sum(), _LEAST)) / 2
    error = special.polygamma(1, df / 2) / 4
    centre = (own / error).sum(axis=-1, keepdims=True) / (1 / error).sum()
    apart = ((own - centre) ** 2 / error).sum(axis=-1, keepdims=True)
    trust = np.maximum(1 - (len(df) - 1) / np.maximum(apart, _LEAST), 0)
    return np.exp(trust * own + (1 - trust) * pooled)


def squares(centred: NDArray[np.floating], of: Design, kind: int) -> Floats:
    """Sums of the squares of the independent residuals. (N, T) -> (N, G)."""
    residuals = centred.astype(np.float32) @ of.whitened[kind].T
    return np.add.reduceat((residuals**2).astype(float), of.starts, axis=1)


def shares(log_likelihood: Floats) -> Floats:
    """How likely each kind is for each curve, given how common it is among all of them.

    The frequencies of the kinds are estimated by maximum likelihood (the EM algorithm), with three
    more curves that are spread evenly over the kinds.

    Args: log_likelihood: (N, NUM_KINDS), of the curves of one sweep. Returns: the same shape; the
        rows sum to 1.
    Source: Laird 1978, JASA 73, for a mixing distribution by maximum likelihood (not read by us).
    """
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    frequency = _ADDED / _ADDED.sum()
    for _ in range(_ROUNDS):
        share = likelihood * frequency
        share /= share.sum(axis=1, keepdims=True)
        total = _ADDED + share.sum(axis=0)
        frequency = total / total.sum()
    share = likelihood * frequency
    return share / share.sum(axis=1, keepdims=True)


def simulated(num: int, num_epochs: int, kind: int, seed: int) -> NDArray[np.float32]:
    """Curves of nothing but noise of a kind, with unit variance. Returns: (num, T)."""
    r, white = KINDS[kind]
    # The same numbers for every kind, so that their results differ by the kinds alone.
    rng = np.random.default_rng(seed)
    fresh = rng.standard_normal((num, num_epochs), dtype=np.float32)
    if not r:
        return fresh
    fresh[:, 1:] *= np.float32(np.sqrt(1 - r**2))
    slow = np.asarray(lfilter([1.0], [1.0, -r], fresh, axis=1))
    beside = rng.standard_normal((num, num_epochs), dtype=np.float32)
    return (np.sqrt(1 - white) * slow + np.sqrt(white) * beside).astype(np.float32)


def _backfilled(labels: Labels) -> Labels:
    """Epochs that are not used belong to the segment that follows; at the end, to the last."""
    later = np.where(labels >= 0, labels, np.iinfo(np.int64).max)
    filled = np.minimum.accumulate(later[::-1])[::-1]
    return np.where(filled == np.iinfo(np.int64).max, labels.max(), filled)


def _num_terms(num_used: int) -> int:
    return 1 + next(degree for least, degree in _DEGREES if num_used >= least)


def _told(num_used: int, num: int) -> Labels:
    """The epochs that a residual each stands for: all but `num` of them that lie far apart, which
    the polynomial could go through. Returns: (num_used - num,)."""
    through = np.rint(np.linspace(0, num_used - 1, num)).astype(int)
    return np.setdiff1d(np.arange(num_used), through)


def _independent(at: Labels, num: int, kind: int) -> tuple[Floats, float]:
    """Rows that leave a polynomial out and make noise of a kind independent, each by what came
    before it; and the logarithm of the determinant of what they whiten, but for a constant.

    Args: at: (n,) epochs; num: terms of the polynomial. Returns: (n - num, n) and a number.
    """
    time = (at - at.mean()) / max(float(np.ptp(at)) / 2, 1.0)
    powers = np.stack([time**degree for degree in range(num)], axis=1)
    factor = np.linalg.cholesky(_correlation(at, kind))
    inverse = linalg.solve_triangular(factor, np.eye(len(at)), lower=True)
    trend, upper = np.linalg.qr(inverse @ powers)
    beside = np.eye(len(at)) - trend @ trend.T
    told = _told(len(at), num)
    later = np.linalg.cholesky(beside[np.ix_(told, told)])
    rows = linalg.solve_triangular(later, (beside @ inverse)[told], lower=True)
    log_det = np.log(np.diag(factor)).sum() + np.log(np.abs(np.diag(upper))).sum()
    return rows, 2 * float(log_det)


def _correlation(at: Labels, kind: int) -> Floats:
    r, white = KINDS[kind]
    apart = np.abs(at[:, None] - at)
    return (1 - white) * r**apart + white * (apart == 0)


def _grouped(df: list[int]) -> tuple[Labels, Labels]:
    """Neighbouring parts together until each group has _MIN_DF. Returns: where the groups' rows
    start, and how many they are; (G,) each."""
    totals: list[int] = []
    for own in df:
        if not totals or totals[-1] >= _MIN_DF:
            totals.append(0)
        totals[-1] += own
    if len(totals) > 1 and totals[-1] < _MIN_DF:
        last = totals.pop()
        totals[-1] += last
    return np.cumsum([0, *totals[:-1]]), np.array(totals)
