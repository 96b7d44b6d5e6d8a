"""How many validation examples there are, by the accuracies: each is k / n, within its digits."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MOST = 200_000  # examples
_FALSE = 1e-3  # how many smaller or equal n would fit by chance at most
_BY_CHANCE = 0.02  # that short decimals share a divisor
_FEWEST = 4  # different accuracies
_MOST_VALUES = 60
_ROUNDED = 7  # decimals up to which a number was rounded when it was written
# How far numbers with more decimals are from k / n: doubles, floats, sums of floats.
_ERRORS = (1e-12, 1.2e-7, 1e-6)


def proposed(values: Sequence[float]) -> int | None:
    """Find the smallest n for which every value times n is whole within its digits.

    Args: values: accuracies as the log has them, fractions or percent.
    Returns: None where none fits, or where one would fit by chance.
    """
    different = _different(values)
    if len(different) < _FEWEST:
        return None
    scale = 100.0 if different.max() > 1.5 else 1.0
    for error in _ERRORS:
        halves = np.array([_half_unit(float(value), error * scale) for value in different]) / scale
        if found := _fitting(different / scale, halves):
            return found
        if (halves > error).all():
            break  # all are rounded: no other error makes a difference
    return _of_short_decimals(different / scale)


def is_of_batches(size: int) -> bool:
    """Tell whether a mean over batches of 64 and more would fit such a number, too."""
    return size % 64 == 0


def is_averaged(values: Sequence[float]) -> bool:
    """Tell whether accuracies with many digits are k / n of no n: means of batches perhaps."""
    different = _different(values)
    exact = [value for value in different if _decimals(float(value)) > _ROUNDED]
    return len(exact) >= 2 * _FEWEST and proposed(values) is None


def _fitting(fractions: NDArray[np.float64], halves: NDArray[np.float64]) -> int | None:
    sizes = np.arange(2, _MOST + 1, dtype=float)
    for value, half in zip(fractions, halves, strict=True):
        right = sizes * value
        sizes = sizes[np.abs(right - np.round(right)) <= sizes * half + 1e-9]
    if not len(sizes):
        return None
    smallest = float(sizes[0])
    each = float(np.log(np.minimum(1.0, 2 * smallest * halves)).mean())
    chance = each * _independent(fractions) + math.log(smallest)
    return int(smallest) if chance < math.log(_FALSE) else None


def _independent(fractions: NDArray[np.float64]) -> int:
    """How many of the values are not told by equal steps between others."""
    return len(np.unique(np.diff(fractions).round(9))) + 1


def _of_short_decimals(fractions: NDArray[np.float64]) -> int | None:
    """The n of decimals that share a divisor: 0.765, 0.72 and 0.805 are k / 200.

    Floats of 32 bits that are short decimals were not rounded by anybody, so less proves it.
    """
    single = fractions.astype(np.float32)
    unrounded = (single == fractions).all() and (fractions.round(_ROUNDED) != fractions).all()
    decimals = max(_decimals(float(value)) for value in fractions)
    if decimals > _ROUNDED:
        return None
    whole = 10**decimals
    shared = math.gcd(whole, *(round(float(value) * whole) for value in fractions))
    likely = shared ** -len(fractions) < (_BY_CHANCE if unrounded else _FALSE)
    return whole // shared if shared > 1 and likely else None


def _different(values: Sequence[float]) -> NDArray[np.float64]:
    numbers = np.asarray(values, float)
    numbers = numbers[(numbers > 0) & (numbers < 100) & (numbers != 1)]
    return np.unique(numbers)[:_MOST_VALUES]


def _half_unit(value: float, error: float) -> float:
    """Half a unit of the last digit that was printed, or the error of a number in full."""
    decimals = _decimals(value)
    return 0.5 * 10.0**-decimals * (1 + 1e-9) if decimals <= _ROUNDED else error


def _decimals(value: float) -> int:
    single = np.float32(value)  # what was rounded before a file of floats took it
    text = str(single) if float(single) == value else repr(value)
    return 17 if "e" in text else len(text.partition(".")[2].rstrip("0"))
