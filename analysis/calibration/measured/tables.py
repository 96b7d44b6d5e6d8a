"""What the programs beside this file share: how they print tables, and what stands in them."""

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from analysis.curves import Floats

SEED = 20260101
PP = 0.01  # of accuracy
Table: TypeAlias = tuple[str, str, Iterable[str]]  # title, head and rows, cells between " | "


def write(title: str, head: str, rows: Iterable[str]) -> None:
    """Print a Markdown table. Args: head, rows: cells between " | "."""
    rule = " | ".join("---:" for _ in head.split(" | "))
    lines = [f"**{title}**", "", *(f"| {line} |" for line in (head, rule, *rows))]
    sys.stdout.write("\n".join(lines) + "\n\n")
    sys.stdout.flush()


def write_all(tables: Mapping[int, Callable[[np.random.Generator], Table]], seed: int) -> None:
    """Print tables, each from random numbers of its own. Args: tables: by part of the seed."""
    for number, table in tables.items():
        write(*table(np.random.default_rng([seed, number])))


def cells(form: str, values: Iterable[Any]) -> str:
    """Several cells of the same form, such as ".3f"."""
    return " | ".join(f"{value:{form}}" for value in values)


def bias(errors: Floats) -> str:
    """Mean and its standard error, in pp."""
    return f"{errors.mean() / PP:+.2f} ± {errors.std(ddof=1) / np.sqrt(len(errors)) / PP:.2f}"


def mean(values: pl.Series) -> float:
    """Of what is not null."""
    return float(values.drop_nulls().to_numpy().mean())


def share(frame: pl.DataFrame, condition: pl.Expr) -> str:
    """How often a condition holds, nulls left out."""
    return f"{float(frame.select(condition.mean()).item()):.3f}"


def holds(name: str, target: float) -> pl.Expr:
    """Whether the interval of a column holds a number."""
    return (pl.col(f"{name}_low") < target) & (pl.col(f"{name}_high") > target)
