"""Numbers and lists as a person reads them: single ones, and columns of a frame."""

import math
from collections.abc import Sequence

import polars as pl


def number(value: float, digits: int) -> str:
    """A number as text, with a real minus sign and without a negative zero."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def pp(value: float, digits: int = 2) -> str:
    """A fraction in percent or percentage points, without the unit."""
    return number(100 * value, digits)


def between(low: float | None, high: float | None, digits: int = 2) -> str:
    """Limits, given as fractions, in percent or percentage points: ` (1.02 to 1.41)`.

    Returns: text that can follow a number; empty where a limit is not known (None or NaN).
    """
    if low is None or high is None or math.isnan(low + high):
        return ""
    return f" ({pp(low, digits)} to {pp(high, digits)})"


def plural(count: int, noun: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def listed(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def first_few(parts: Sequence[str], most: int) -> str:
    """`a, b and 3 more`: the first `most` of the parts, and how many others there are."""
    more = f" and {len(parts) - most} more" if len(parts) > most else ""
    return ", ".join(parts[:most]) + more


def capitalized(text: str) -> str:
    """The text with a capital first letter and all others as they are."""
    return text[:1].upper() + text[1:]


def interval_text(
    name: str, alias: str | None = None, *, scale: float = 100, digits: int = 2
) -> pl.Expr:
    """`1.20 (1.02 to 1.41)` of the columns <name>, <name>_low and <name>_high, times `scale`."""
    parts = [fixed(scale * pl.col(name + end), digits) for end in ("", "_low", "_high")]
    return with_limits(*parts).alias(alias or f"{name}_tip")


def with_limits(value: pl.Expr, low: pl.Expr, high: pl.Expr) -> pl.Expr:
    """`1.20 (1.02 to 1.41)` of three texts, without brackets where there are no limits."""
    whole = pl.format("{} ({} to {})", value, low, high)
    return pl.when(low.is_null()).then(value).otherwise(whole)


def fixed(values: pl.Expr, digits: int) -> pl.Expr:
    """Numbers as text with so many decimals, never a negative zero."""
    text = values.round(digits).cast(pl.Decimal(18, digits)).cast(pl.String)
    return text.str.replace("-", "−", literal=True)
