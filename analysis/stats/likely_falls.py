"""Does a curve end below its peak for sure? Told by the likelihood of its noise's kind.

The statistic is the largest mean of a window minus the last one. It is never negative, so it is
compared with what noise alone would show: simulated noise of every kind, each kind as likely as
the curve and the sweep's other curves make it.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.curves import Floats
from analysis.stats.noise_kinds import (
    Design,
    Fit,
    Labels,
    degrees_of_freedom,
    design,
    design_of,
    fit,
    scales,
    shares,
    simulated,
    squares,
)
from analysis.stats.windows import window_length, window_means

LEVEL = 0.05  # of the test and of each one-sided limit
MIN_SEEDS = 3  # for the test over seeds
MIN_DF = 4  # of the noise beside the trends
_CAUTION = 0.9  # of the posterior of p, where one curve of accuracies is all that is known
_NUM_SIMULATED = 3000  # curves of each kind
_SEED = 20261128
_MAX_POINTS = 128  # of a curve; of a longer one neighbouring epochs are averaged
_TAIL = 0.02  # share of the simulated falls from which the tail is read
_RATIO = 1.25  # steps in which the ratio of two groups' noise is read
_MAX_STEPS = 20  # of them
_BISECTIONS = 25
_NEGLIGIBLE = 0.002  # a kind that is less likely than that for each curve is left out

Sorted = NDArray[np.float32]
_Mix = Callable[[Floats, Floats], Floats]


class Limits(NamedTuple):
    """One-sided 95 % limits of a fall, at least 0, and p of "it does not fall"; all (N,)."""

    low: Floats
    high: Floats
    p: Floats


class Falls(NamedTuple):
    """Falls from the largest window mean to the last one; NaN where nothing can be told.

    fall: (N,). likely: averaged over the kinds of noise as they are likely. cautious: 0.9 of that
    likelihood says at most so large a p, and at least so tight limits: where nothing but one
    curve of accuracies is known of a trial, this one keeps the level under noise of any memory.
    """

    fall: Floats
    likely: Limits
    cautious: Limits


class _Cell(NamedTuple):
    """Curves of one design."""

    number: int  # of the length of training
    rows: NDArray[np.int64]
    values: Floats  # (N, T), perhaps binned
    length: int  # of a window
    of: Design
    fit: Fit


def likely_falls(curves: Sequence[tuple[Floats, Labels]]) -> list[Falls]:
    """Measure the falls of all curves of one metric in one sweep, which share kinds of noise.

    Args: curves: for each length of training, values (N, T), larger ones better, NaN where
        missing; and labels (N, T), the segment of each epoch, -1 where training has not settled.
    Returns: for each length, Falls of its curves.
    """
    cells = [cell for number, group in enumerate(curves) for cell in _cells(number, *group)]
    return _found(cells, [len(values) for values, _ in curves])


def likely_falls_of_seeds(curves: Sequence[tuple[Floats, Labels]]) -> list[Falls]:
    """Measure the same of the mean curves of configurations with two seeds or more.

    With three seeds or more a second test has to pass: Student's t of the seeds' own falls from the
    window that is best on average. Seeds that drift apart each in its own way make a fall of the
    mean that no noise around its trend tells of.

    Args: curves: for each length of training and number of seeds, values (C, S, T), and labels
        (C, T). Returns: for each, Falls of its C configurations.
    """
    of_means = likely_falls([(values.mean(axis=1), labels) for values, labels in curves])
    return [
        falls if values.shape[1] < MIN_SEEDS else _both(falls, _over_seeds(values))
        for falls, (values, _) in zip(of_means, curves, strict=True)
    ]


def _found(cells: Sequence[_Cell], nums: Sequence[int]) -> list[Falls]:
    found = [_nothing(num) for num in nums]
    if not cells:
        return found
    share = shares(np.concatenate([cell.fit.log_likelihood for cell in cells]))
    ends = np.cumsum([len(cell.rows) for cell in cells])[:-1]
    for cell, of_cell in zip(cells, np.split(share, ends), strict=True):
        _fill(found[cell.number], cell.rows, _falls(cell, of_cell))
    return found


def _over_seeds(values: Floats) -> Limits:
    """Args: values: (C, S, T)."""
    num, num_seeds, num_epochs = values.shape
    means = window_means(values.reshape(num * num_seeds, -1), window_length(num_epochs))
    means = means.reshape(num, num_seeds, -1)
    on_average = means.mean(axis=1)
    best = np.where(np.isnan(on_average), -np.inf, on_average).argmax(axis=1)[:, None, None]
    own = np.take_along_axis(means, best, axis=2)[:, :, 0] - means[:, :, -1]
    fall, se = own.mean(axis=1), own.std(axis=1, ddof=1) / np.sqrt(num_seeds)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where(fall > 0, fall / se, 0.0)
    half = stats.t.isf(LEVEL, num_seeds - 1) * se
    return Limits(np.maximum(fall - half, 0), fall + half, stats.t.sf(t, num_seeds - 1))


def _both(falls: Falls, other: Limits) -> Falls:
    """A fall only where both say so."""
    limits = [
        Limits(
            np.minimum(a.low, other.low), np.maximum(a.high, other.high), np.maximum(a.p, other.p)
        )
        for a in falls[1:]
    ]
    return Falls(falls.fall, *limits)


def _cells(number: int, values: Floats, labels: Labels) -> list[_Cell]:
    num_epochs = values.shape[1]
    length = window_length(num_epochs)
    known = np.isfinite(values).all(axis=1)
    if num_epochs < 2 * length or not known.any():
        return []
    step = -(-num_epochs // _MAX_POINTS)
    distinct, which = np.unique(labels, axis=0, return_inverse=True)
    cells: list[_Cell] = []
    for place, row in enumerate(distinct):
        rows = np.flatnonzero((which.reshape(-1) == place) & known)
        of_bins = _label_of_bins(row, step)
        if not len(rows) or degrees_of_freedom(of_bins) < MIN_DF:
            continue
        of, binned = design(of_bins), _binned(values[rows], step)
        in_bins = max(1, round(length / step))
        cells.append(_Cell(number, rows, binned, in_bins, of, fit(binned, of)))
    return cells


def _binned(values: Floats, step: int) -> Floats:
    """Means of `step` epochs, counted from the end. (N, T) -> (N, T // step)."""
    num = values.shape[1] // step
    return values[:, values.shape[1] - num * step :].reshape(len(values), num, step).mean(axis=2)


def _label_of_bins(labels: Labels, step: int) -> Labels:
    """A bin with two labels is not used. (T,) -> (T // step,)."""
    num = len(labels) // step
    bins = labels[len(labels) - num * step :].reshape(num, step)
    return np.where((bins == bins[:, :1]).all(axis=1), bins[:, 0], -1)


def _nothing(num: int) -> Falls:
    def missing() -> Floats:
        return np.full(num, np.nan)

    limits = [Limits(missing(), missing(), missing()) for _ in range(2)]
    return Falls(missing(), *limits)


def _fill(whole: Falls, rows: NDArray[np.int64], part: Falls) -> None:
    whole.fall[rows] = part.fall
    for ours, theirs in zip(whole[1:], part[1:], strict=True):
        for one, other in zip(ours, theirs, strict=True):
            one[rows] = other


# --- curves of one design


def _falls(cell: _Cell, share: Floats) -> Falls:
    means = _window_means(cell.values, cell.of, cell.length)
    found = _nothing(len(means.last))
    found.fall[:] = means.best.max(axis=1) - means.last
    kinds = np.flatnonzero(share.max(axis=0) > _NEGLIGIBLE)
    share = share[:, kinds] / share[:, kinds].sum(axis=1, keepdims=True)
    scale = cell.fit.scale[:, kinds]
    steps = _ratio_steps(scale, share)
    distinct, which = np.unique(steps, axis=0, return_inverse=True)
    for place, row in enumerate(distinct):
        rows = np.flatnonzero(which.reshape(-1) == place)
        key = tuple(int(step) for step in row)
        about = (cell.of.key, cell.length, key)
        tables = [_tables(*about, int(kind)) for kind in kinds]
        unit, weight = scale[rows].max(axis=2), share[rows]
        best, last = means.best[rows], means.last[rows]
        num_segments = len(tables[0].fall)
        lead = np.maximum.reduceat(best, means.starts, axis=1) - last[:, None]  # of each segment
        for limits, mixed in ((found.likely, _mean), (found.cautious, _upper)):
            # A segment may lie far below the last: what its noise could do is then beside the
            # point, so each one is tested by itself, and the smallest p counts for all of them.
            p, low = np.ones(len(rows)), np.zeros(len(rows))
            for s in range(num_segments):
                falls = [table.fall[s] for table in tables]
                of_kind = [_tail(f, lead[:, s] / unit[:, k]) for k, f in enumerate(falls)]
                p = np.minimum(p, num_segments * mixed(np.stack(of_kind, axis=1), weight))
                critical = _critical(falls, unit, weight, mixed, LEVEL / num_segments)
                low = np.maximum(low, lead[:, s] - critical)
            limits.p[rows], limits.low[rows] = p, low
            # Whichever group holds the true peak, its own limit is one of these.
            reach = [
                _critical([table.pair[h] for table in tables], unit, weight, mixed, LEVEL)
                for h in range(best.shape[1])
            ]
            above = best - last[:, None] + np.stack(reach, axis=1)
            limits.high[rows] = np.maximum(above.max(axis=1), 0)
    return found


def _ratio_steps(scale: Floats, share: Floats) -> Labels:
    """The groups' noise below that of the loudest, in steps. (N, kinds, G) -> (N, G)."""
    log = np.einsum("nkg,nk->ng", np.log(scale), share)
    below = (log.max(axis=1, keepdims=True) - log) / np.log(_RATIO)
    return np.minimum(np.floor(below), _MAX_STEPS).astype(np.int64)


def _mean(of_kind: Floats, weight: Floats) -> Floats:
    return (of_kind * weight).sum(axis=1)


def _upper(of_kind: Floats, weight: Floats) -> Floats:
    """The _CAUTION quantile over the kinds. (N, kinds) -> (N,)."""
    order = np.argsort(of_kind, axis=1)
    total = np.take_along_axis(weight, order, axis=1).cumsum(axis=1)
    at = (total >= _CAUTION - 1e-9).argmax(axis=1)[:, None]
    return np.take_along_axis(np.take_along_axis(of_kind, order, axis=1), at, axis=1)[:, 0]


def _tail(table: Sorted, z: Floats) -> Floats:
    """How often noise alone falls by as much. Beyond the table's last part the tail is a power,
    which is heavier than those of normal and of Student's distributions."""
    num = len(table)
    first = int(num * (1 - _TAIL))
    start = max(float(table[first]), 1e-12)
    slope = 1 / max(float(np.mean(np.log(np.maximum(table[first:], start) / start))), 1e-9)
    far = _TAIL * np.exp(-slope * np.log(np.maximum(z / start, 1)))
    return np.where(z > start, far, (num - np.searchsorted(table, z)) / num)


def _critical(
    tables: Sequence[Sorted], unit: Floats, weight: Floats, mixed: _Mix, level: float
) -> Floats:
    """What noise alone exceeds that often. Args: tables: of each kind; unit, weight: (N, kinds)."""
    low = np.zeros(len(unit))
    high = (unit * [max(float(table[-1]), 0.0) for table in tables]).max(axis=1)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        above = [
            1 - np.searchsorted(table, middle / unit[:, k]) / len(table)
            for k, table in enumerate(tables)
        ]
        more = mixed(np.stack(above, axis=1), weight) > level
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    return high


# --- noise alone


class _Means(NamedTuple):
    """Means of windows, by the groups that hold their middles; the last group always does."""

    best: Floats  # (N, H), the largest of a group
    first: Floats  # (N, H)
    last: Floats  # (N,), of the end
    group: Labels  # (H,)
    starts: Labels  # of each segment, its first place among the H


def _window_means(values: NDArray[np.floating], of: Design, length: int) -> _Means:
    """Windows lie within one segment; so the last one is shorter where its segment is."""
    means = window_means(values.astype(float), length)
    first = of.segment[: means.shape[1]]
    group = np.where(first == of.segment[length - 1 :], of.group[length // 2 :][: len(first)], -1)
    size = int((of.segment == of.segment[-1]).sum())
    last = values[:, -min(length, size) :].mean(axis=1, dtype=float)
    groups = np.unique([*group[group >= 0], of.group[-1]])
    best, earliest, segment = [], [], []
    for number in groups:
        at = np.flatnonzero(group == number)
        is_last = number == groups[-1]
        top = means[:, at].max(axis=1, initial=-np.inf)
        best.append(np.maximum(top, last) if is_last else top)
        earliest.append(means[:, at[0]] if len(at) else last)
        segment.append(of.segment[-1] if is_last else first[at[0]])
    starts = np.unique(segment, return_index=True)[1]
    return _Means(np.stack(best, axis=1), np.stack(earliest, axis=1), last, groups, starts)


class _Tables(NamedTuple):
    """Of simulated curves without a trend, in units of the loudest group's noise as it is
    estimated."""

    fall: list[Sorted]  # of each segment
    pair: list[Sorted]  # of each group: the mean of its first window minus the last one


@lru_cache(maxsize=1024)
def _tables(key: bytes, length: int, steps: tuple[int, ...], kind: int) -> _Tables:
    noise, scale = _noise(key, length, kind)
    # In each group the noise is as loud as it must be to be estimated as loud as it was.
    loud = (_RATIO ** -np.array(steps, float) / scale)[:, noise.group]  # (n, S)
    last = loud[:, -1] * noise.last
    fall = np.maximum.reduceat(loud * noise.best, noise.starts, axis=1) - last[:, None]
    pair = loud * noise.first - last[:, None]
    return _Tables(*(list(np.sort(part, axis=0).T.astype(np.float32)) for part in (fall, pair)))


@lru_cache(maxsize=256)
def _noise(key: bytes, length: int, kind: int) -> tuple[_Means, Floats]:
    """Means of simulated curves, and their scales as they are estimated, (n, G)."""
    of = design_of(key)
    noise = simulated(_NUM_SIMULATED, len(of.segment), kind, _SEED)
    return _window_means(noise, of, length), scales(squares(noise, of, kind), of.df)
