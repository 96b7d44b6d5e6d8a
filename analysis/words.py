"""Numbers as a person reads them: single ones, and columns of a frame."""

import polars as pl


def number(value: float, digits: int) -> str:
    """A number with a real minus sign and no negative zero."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def pp(value: float, digits: int = 2) -> str:
    """A fraction in percent or percentage points, without the unit."""
    return number(100 * value, digits)


def between(low: float | None, high: float | None, digits: int = 2) -> str:
    """Limits in percent or percentage points, in brackets; nothing without them."""
    if low is None or high is None:
        return ""
    return f" ({pp(low, digits)} to {pp(high, digits)})"


def interval_text(name: str, alias: str | None = None, scale: float = 100) -> pl.Expr:
    """`1.20 (1.02 to 1.41)`, in pp."""
    parts = [fixed(scale * pl.col(name + end), 2) for end in ("", "_low", "_high")]
    return with_limits(*parts).alias(alias or f"{name}_tip")


def with_limits(value: pl.Expr, low: pl.Expr, high: pl.Expr) -> pl.Expr:
    """`1.20 (1.02 to 1.41)` of three texts, without brackets where there are no limits."""
    whole = pl.format("{} ({} to {})", value, low, high)
    return pl.when(low.is_null()).then(value).otherwise(whole)


def fixed(values: pl.Expr, digits: int) -> pl.Expr:
    """Numbers as text with so many decimals, never a negative zero."""
    text = values.round(digits).cast(pl.Decimal(18, digits)).cast(pl.String)
    return text.str.replace("-", "−", literal=True)
