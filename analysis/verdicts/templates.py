"""Templates of sentences, filled with the numbers of each row.

`{drop}` stands for that column in pp with two decimals, `{drop:1}` for one decimal, `{val_n:count}`
for a whole number, `{score_best:unit}` for a number in its own unit, `{seeds:about}` for a rough
number that would be needed, `{harm_cure:text}` for a column of text.
"""

from collections.abc import Sequence
from string import Formatter

import polars as pl

from analysis.words import fixed

Rule = tuple[pl.Expr, str]  # where this holds, that template


def first(rules: Sequence[Rule]) -> pl.Expr:
    """The text of the first rule that holds; null where none does."""
    text = pl.lit(None, pl.String)
    for holds, template in reversed(rules):
        text = pl.when(holds).then(filled(template)).otherwise(text)
    return text


def filled(template: str) -> pl.Expr:
    """A template with the numbers of each row."""
    parts: list[pl.Expr] = []
    for words, name, form, _ in Formatter().parse(template):
        parts.append(pl.lit(words))
        if name:
            parts.append(_FORMS[form](name) if form in _FORMS else _pp(name, int(form or 2)))
    return pl.concat_str(parts)


def _pp(name: str, digits: int) -> pl.Expr:
    values = pl.col(name)
    text = fixed(100 * values.clip(-10, 10), digits)
    text = pl.when(values.abs() > 10).then(pl.lit("more than 1,000")).otherwise(text)
    return pl.coalesce(text, pl.lit("?"))


def _count(name: str) -> pl.Expr:
    return pl.coalesce(pl.col(name).round().cast(pl.Int64).cast(pl.String), pl.lit("?"))


def _about(name: str) -> pl.Expr:
    values = pl.col(name)
    text = pl.format("about {}", values.clip(upper_bound=1e9).round().cast(pl.Int64))
    text = pl.when(values > 10_000).then(pl.lit("more than 10,000")).otherwise(text)
    return pl.coalesce(text, pl.lit("more"))


def _unit(name: str) -> pl.Expr:
    return pl.coalesce(pl.col(name).round_sig_figs(3).cast(pl.String), pl.lit("?"))


_FORMS = {"count": _count, "unit": _unit, "about": _about, "text": pl.col}
