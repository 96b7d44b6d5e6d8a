"""Segments: the stretches of a curve within which training went on under the same conditions.

A segment begins where the learning rate jumps: its level, its noise and its trend are then others.
Where no rate is logged, or one that never changes, a jump of the curve shows where one begins.
Slow drift is no jump. A schedule that changes the rate everywhere (cosine, linear, one-cycle) has
no stretch of constant rate: it is cut into thirds, in each of which the noise is roughly one, and
`rate_falls` says that a trend there is the schedule's and promises nothing.

    labels = segments(values, rates)  # (N, T) -> (N, T), 0, 1, ... and -1 where a value is missing
    labels = settled(labels, rates)  # and -1 where conditions have only just changed
"""

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from analysis.curves import Floats

Labels = NDArray[np.int64]

_JUMP = math.log(1.25)  # change of the rate from one evaluation to the next that starts a segment
_OUTSTANDING = 3.0  # and so many times what it changes by around: a cosine's end changes much, too
_SMOOTH = 1 / 3  # a rate that changes at more than this share of the evaluations changes everywhere
_SHORTEST = 3  # evaluations of a segment; a shorter one joins the one before
_AFTER_JUMP = 3  # evaluations after a jump in which training has not settled
_FALLS = 0.75  # a rate that ends below this share of what it was has fallen
# Jumps of a curve: in robust SDs of the same contrast over the whole curve, which holds whatever
# the noise's memory is. Flat curves of any memory exceed it in about 1 % (measured in the tests).
_CURVE_JUMP = 4.5
_NARROWEST, _WIDEST = 5, 12  # evaluations on each side of a jump that tell its size
_FIRST_SHARE = 0.15  # of a curve, at its beginning: learning is too steep there


def segments(values: Floats, rates: Floats | None = None) -> Labels:
    """The segment of every evaluation.

    Args:
        values: (N, T) of any metric, NaN where an evaluation is missing.
        rates: (N, T) learning rates; NaN or None where they are not known.
    Returns: (N, T), numbers from 0 on in the order of time; -1 where the value is missing.
    """
    known = np.isfinite(values)
    if rates is None:
        labels = np.zeros(values.shape, np.int64)
        varies = np.zeros(len(values), bool)
    else:
        steps = log_steps(rates)
        distinct, which = distinct_rows(steps)
        labels = np.reshape(
            [_segments_of_rate(row) for row in distinct], (len(distinct), rates.shape[1])
        )
        labels = labels.astype(np.int64)[which]
        varies = (steps != 0).any(axis=1)
    whole = known.all(axis=1)
    for rows in (np.flatnonzero(whole & ~varies), *np.flatnonzero(~whole & ~varies)[:, None]):
        if len(rows):
            at = np.flatnonzero(known[rows[0]])
            labels[np.ix_(rows, at)] = _segments_of_curves(values[np.ix_(rows, at)])
    return np.where(known, labels, -1)


def settled(labels: Labels, rates: Floats | None = None) -> Labels:
    """The segments without the evaluations at which training has not settled: -1 there.

    Left out are warm-up, the first max(3, 15 %) evaluations of the first segment after it, and 3
    after each jump.

    Args: labels: (N, T) of segments(); rates: (N, T), the same as there. Returns: (N, T).
    """
    steps = log_steps(np.full(labels.shape, np.nan) if rates is None else rates)
    rows = np.concatenate([labels.astype(float), steps], axis=1)
    distinct, which = distinct_rows(rows)
    num = labels.shape[1]
    left_out = [_unsettled(row[:num].astype(np.int64), row[num:]) for row in distinct]
    left_out = np.reshape(left_out, (len(distinct), num)).astype(bool)
    return np.where(left_out[which], -1, labels)


def distinct_rows(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The different rows, and which of them each row is. np.unique(axis=0) takes much longer."""
    flat = np.ascontiguousarray(rows)
    if not flat.size:
        return flat[:1], np.zeros(len(flat), np.int64)
    keys = flat.view(np.dtype((np.void, flat.itemsize * flat.shape[1]))).reshape(-1)
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    return flat[first], which.reshape(-1)


def opened(labels: Labels) -> Labels:
    """The segment of every evaluation: one without a label belongs to that which it opens.

    Args: labels: (N, T) of settled(). Returns: (N, T); of a row without any label, 0.
    """
    none = np.iinfo(np.int64).max
    later = np.where(labels >= 0, labels, none)
    filled = np.minimum.accumulate(later[:, ::-1], axis=1)[:, ::-1]
    return np.where(filled == none, np.maximum(labels.max(axis=1, keepdims=True), 0), filled)


def _unsettled(labels: Labels, steps: Floats) -> NDArray[np.bool_]:
    """Args: labels: (T,); steps: (T - 1,). Returns: (T,)."""
    # A missing evaluation belongs to the segment around it.
    segment = np.maximum.accumulate(labels)
    jumped = np.diff(segment) > 0
    if steps.any():  # between the thirds of a smooth schedule nothing jumps
        jumped &= np.abs(steps) > _JUMP
    begin = _warm_up(steps)
    jumps = [int(at) + 1 for at in np.flatnonzero(jumped) if at + 1 > begin]
    first = (jumps[0] if jumps else len(labels)) - begin
    out = np.zeros(len(labels), bool)
    out[: begin + max(_AFTER_JUMP, math.ceil(_FIRST_SHARE * first))] = True
    for jump in jumps:
        out[jump : jump + _AFTER_JUMP] = True
    return out


def rate_falls(rates: Floats, first: int) -> NDArray[np.bool_]:
    """Whether a rate ends below three quarters of its largest value since an evaluation.

    Args: rates: (N, T); NaN where it is not known, which is not seen to fall; first: the
        evaluation, counted from 0. Returns: (N,).
    """
    late = rates[:, first:]
    largest = np.where(np.isfinite(late), late, -np.inf).max(axis=1)
    last = np.where(np.isfinite(late), late, np.inf)[:, -1]
    return last < _FALLS * largest


def log_steps(rates: Floats) -> Floats:
    """The changes of log rate; 0 where one is not known. (N, T) -> (N, T - 1)."""
    known = np.log(np.where(np.isfinite(rates) & (rates > 0), rates, np.nan))
    steps = np.diff(known, axis=1)
    return np.where(np.isfinite(steps), np.round(steps, 9), 0.0)


def _segments_of_rate(steps: Floats) -> Labels:
    """The segments of one schedule. The unbroken rise at the start, warm-up, is one of its own.

    Args: steps: (T - 1,) of log_steps(). Returns: (T,).
    """
    num, begin = len(steps) + 1, _warm_up(steps)
    starts = _long_enough([begin, *_jumps_of_rate(steps)], num)
    for start, end in zip([0, *starts], [*starts, num], strict=True):
        within = steps[max(start, begin) : end - 1]
        if len(within) and np.mean(within != 0) > _SMOOTH:
            thirds = [start + (end - start) * k // 3 for k in (1, 2)]
            starts = starts + _long_enough(thirds, end, start)
    labels = np.zeros(num, np.int64)
    labels[starts] = 1
    return np.cumsum(labels)


def _warm_up(steps: Floats) -> int:
    """Evaluations of the unbroken rise at the start; 0 for a rate that only ever rises."""
    rising = steps > 0
    return int(np.argmin(rising)) if len(rising) and not rising.all() else 0


def _jumps_of_rate(steps: Floats) -> list[int]:
    size = np.abs(steps)
    if not size.any():
        return []
    around = np.pad(size, 3, mode="reflect" if len(size) > 3 else "edge")
    usual = np.median(sliding_window_view(around, 7), axis=1)
    after = np.arange(len(steps)) >= _warm_up(steps)
    found = (size > _JUMP) & (size > _OUTSTANDING * usual) & after
    return [int(at) + 1 for at in np.flatnonzero(found)]


def _long_enough(starts: list[int], end: int, begin: int = 0) -> list[int]:
    """The starts of segments that are long enough, in order."""
    kept: list[int] = []
    for start in sorted(starts):
        if start - (kept[-1] if kept else begin) >= _SHORTEST and end - start >= _SHORTEST:
            kept.append(start)
    return kept


def _segments_of_curves(values: Floats) -> Labels:
    """Args: values: (N, T), all finite. Returns: (N, T)."""
    starts = np.zeros(values.shape, np.int64)
    first = math.ceil(_FIRST_SHARE * values.shape[1])
    jumps = _jumps(values, first)
    for row in np.flatnonzero(jumps.any(axis=1)):
        starts[row, _with_smaller(values[row], np.flatnonzero(jumps[row]), first)] = 1
    return np.cumsum(starts, axis=1)


def _with_smaller(values: Floats, jumps: Labels, first: int) -> list[int]:
    """The jumps of one curve and those of the parts between them: smaller ones stand out where the
    noise is smaller."""
    found = jumps.tolist()
    for start, end in zip([0, *jumps], [*jumps, len(values)], strict=True):
        part, allowed = values[start:end], _SHORTEST if start else first
        within = np.flatnonzero(_jumps(part[None], allowed)[0])
        if len(within):
            found += [start + at for at in _with_smaller(part, within, allowed)]
    return sorted(found)


def _jumps(values: Floats, first: int) -> NDArray[np.bool_]:
    """Where curves jump: the evaluations from which on the level is another.

    The size of a jump is that of a step beside a cubic in the evaluations around it. It has to
    stand out with isolated spikes and without them.

    Args: values: (N, T); first: the earliest evaluation at which one may be. Returns: (N, T).
    """
    num, length = values.shape
    jumps = np.zeros(values.shape, bool)
    half = min(max(length // 8, _NARROWEST), _WIDEST)
    half = half if length >= 6 * half else _NARROWEST
    if length < 6 * half or not num:
        return jumps
    around = np.pad(values, ((0, 0), (2, 2)), mode="edge")
    without_spikes = np.median(sliding_window_view(around, 5, axis=1), axis=-1)
    sizes = []
    for curves in (values, without_spikes):
        centred = curves - curves.mean(axis=1, keepdims=True)
        size = np.abs(sliding_window_view(centred, 2 * half, axis=1) @ _step_contrast(half))
        usual = 1.4826 * np.median(size, axis=1)
        usual = np.maximum(usual, 1e-9 * np.ptp(values, axis=1))
        sizes.append(size / np.maximum(usual, 1e-300)[:, None])
    size = np.minimum(*sizes)
    around = np.pad(size, ((0, 0), (half, half)))
    # A jump is seen at less than `half` evaluations from it; the steep beginning looks largest at
    # the first ones, which are not allowed.
    peak = size >= sliding_window_view(around, 2 * half + 1, axis=1).max(axis=-1)
    jumps[:, half : half + size.shape[1]] = peak & (size > _CURVE_JUMP)
    jumps[:, :first] = False
    return jumps


@cache
def _step_contrast(half: int) -> Floats:
    """Weights of a step's size in the middle of 2 half values, beside a cubic in time."""
    time = (np.arange(2 * half) - half + 0.5) / half
    cubic = np.stack([time**power for power in range(4)], axis=1)
    step = np.where(time > 0, 1.0, 0.0)
    rest = np.asarray(step - cubic @ np.linalg.lstsq(cubic, step, rcond=None)[0], np.float64)
    return rest / (rest @ step)
