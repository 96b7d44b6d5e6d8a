"""The columns of `Analysis.trials`, `.configurations` and `.epochs`, from the table columns.tsv.

python -m analysis.columns > docs/columns.md
"""

import sys
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple

import polars as pl

FRAMES = ("trials", "configurations", "epochs")
ON_DISK = "disk"  # columns of a store's epochs that no frame has
YOU = "you"  # who reads a column that nothing here reads
_OTHERS = "(hyperparameters)"  # stands for the columns that the table can't know


class Column(NamedTuple):
    """One row of the table."""

    frames: tuple[str, ...]
    name: str
    type: str
    unit: str
    meaning: str
    module: str  # that makes it
    read_by: tuple[str, ...]  # packages of the analysis, or YOU


@cache
def all_columns() -> tuple[Column, ...]:
    """The whole table, in the order in which the frames have their columns."""
    text = resources.files("analysis").joinpath("columns.tsv").read_text("utf-8")
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    return tuple(
        Column(tuple(frames.split()), name, kind, unit, meaning, module, tuple(readers.split()))
        for frames, name, kind, unit, meaning, module, readers in rows
    )


def columns_of(frame: str) -> list[Column]:
    """The rows of one of FRAMES, or of ON_DISK."""
    return [column for column in all_columns() if frame in column.frames]


def estimates() -> set[str]:
    """The names that the analysis gives to what it makes; no hyperparameter may have one."""
    ours = [column for frame in FRAMES[:2] for column in columns_of(frame)]
    return {column.name for column in ours if column.module.startswith("analysis/")}


def ordered(frame: str, table: pl.DataFrame) -> pl.DataFrame:
    """A frame with exactly its columns of the table, null where it has none, and all others.

    Args: frame: one of FRAMES; the others are hyperparameters, in the order in which they stand.
    """
    known = columns_of(frame)
    others = [name for name in table.columns if name not in {column.name for column in known}]
    wanted: list[str | pl.Expr] = []
    for column in known:
        if column.name == _OTHERS:
            wanted += others
        elif column.name in table.columns:
            wanted.append(column.name)
        else:
            wanted.append(pl.lit(None, polars_type(column.type)).alias(column.name))
    return table.select(wanted)


def polars_type(name: str) -> pl.DataType:
    """The Polars type of a name such as "Int64" or "List(Float64)"."""
    outer, _, inner = name.partition("(")
    if inner:
        return pl.List(polars_type(inner.removesuffix(")")))
    return getattr(pl, outer)()


def described(frames: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """One row per column of these frames: frame, name, type, unit, meaning, module, read_by."""
    rows: list[Sequence[str]] = []
    for frame, table in frames.items():
        known = {column.name: column for column in columns_of(frame)}
        for name, kind in table.schema.items():
            column = known.get(name, known.get(_OTHERS))
            assert column is not None, name
            _, _, _, unit, meaning, module, readers = column
            if name not in known:
                meaning = "A hyperparameter."
            rows.append((frame, name, str(kind), unit, meaning, module, ", ".join(readers)))
    names = ("frame", *(name for name in Column._fields if name != "frames"))
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


_TITLES = {
    "trials": "`Analysis.trials`: one row per trial",
    "configurations": "`Analysis.configurations`: one row per configuration",
    "epochs": "`Analysis.epochs`: one row per trial, epoch and kind of weights",
    ON_DISK: "On disk only",
}
_INTRODUCTION = """# The columns of the frames

Made by `python -m analysis.columns` from the table that the code reads, `analysis/columns.tsv`.
`Analysis.columns()` gives the rows of one analysis as a Polars frame.

Accuracies are fractions, losses are in nats, epochs count from 1, and null means "not estimated" or
"not recorded". A column is read by the page, the verdicts or the causes, or by nothing here: then
it is for you to use. Of a configuration it is the same, pooled over its completed seeds. What the
estimates are, and when they are null: [the method](method.md)."""
_HEAD = "| column | type | unit | meaning | made by | read by |\n|---|---|---|---|---|---|"


def page() -> str:
    """The page docs/columns.md."""
    parts = [_INTRODUCTION]
    for frame, title in _TITLES.items():
        parts.append(f"## {title}")
        if frame == ON_DISK:
            parts.append(
                "A store's epochs have these columns too, but no frame. `evidence` of "
                "`analysis/sources/store.py` reads them for one trial."
            )
        lines = [_HEAD]
        for column in columns_of(frame):
            name = column.name if column.name == _OTHERS else f"`{column.name}`"
            readers = ", ".join(column.read_by).replace(YOU, "for you to use")
            cells = (name, column.type, column.unit, column.meaning, f"`{column.module}`", readers)
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
