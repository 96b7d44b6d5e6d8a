"""A file with a table in it -> a frame: CSV, Parquet, and JSON lines."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from raysweep.errors import InputError, shown

SUFFIXES = (".csv", ".parquet", ".pq", ".jsonl", ".ndjson")


def read_table(path: Path, *, texts: Sequence[str] = ("trial_id",)) -> pl.DataFrame:
    """The whole table. In a CSV file `nan` and `inf` are numbers and an empty cell is null.

    Args: texts: columns of a CSV file that stay text even if they look like numbers.

    Raises: InputError when there is no such file, or it holds no table.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path} is not a table: {', '.join(SUFFIXES)} are read")
    if not path.is_file():
        raise InputError(f"no file at {path}")
    try:
        if suffix == ".csv":
            return _with_numbers(pl.read_csv(path, infer_schema=False, glob=False), texts)
        if suffix in (".parquet", ".pq"):
            return pl.read_parquet(path, glob=False)
        return _from_lines(path)
    except (pl.exceptions.PolarsError, OSError, ValueError, OverflowError, TypeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise InputError(f"{path} can't be read as a table: {first}") from error
    except RecursionError:
        raise InputError(f"{path} can't be read as a table: it is nested too deeply") from None


def _with_numbers(table: pl.DataFrame, texts: Sequence[str]) -> pl.DataFrame:
    """Columns of text that holds nothing but numbers, as numbers."""
    columns: list[pl.Series] = []
    for column in table:
        if column.name not in texts:
            for kind in (pl.Int64, pl.Float64):
                cast = column.str.strip_chars().cast(kind, strict=False)
                if cast.null_count() == column.null_count() < len(column):
                    column = cast
                    break
        columns.append(column)
    return pl.DataFrame(columns)


_SPELT = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _from_lines(path: Path) -> pl.DataFrame:
    """One JSON object a line; numbers that are not finite may be spelt as text."""
    text = path.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    for row in rows:
        if not isinstance(row, dict):
            raise ValueError(f"a line holds {shown(row)}, where an object is expected")
    plain = [
        {
            name: _SPELT.get(value, value) if isinstance(value, str) else value
            for name, value in row.items()
            if not isinstance(value, dict)
        }
        for row in rows
    ]
    return pl.DataFrame(plain, infer_schema_length=None, strict=False)
