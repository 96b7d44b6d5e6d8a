"""The settings as HTML: a map over two axes with a chooser of what it shows, and one table."""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from analysis.page.verdict import Row, kind
from analysis.results import Analysis
from analysis.sources.axes import Axis, short
from analysis.words import between, number, pp

_X_FIRST, _Y_FIRST = ("batch_size",), ("learning_rate", "lr_scaling")
_MOST_CELLS = 3  # of a map, for each configuration; a random search has none
_MOST_ROWS = 500


class Measure(NamedTuple):
    """Something that the map can show. value: of a row, in the unit of the title."""

    key: str
    title: str
    digits: int
    value: Callable[[Row], float | None]


def _percent(name: str) -> Callable[[Row], float | None]:
    return lambda row: None if row[name] is None else 100 * row[name]


def _share(row: Row) -> float | None:
    share = row["finite_share"]
    return None if share is None else 100 * min(max(share, 0.0), 1.0)


MEASURES = (
    Measure("late", "jitter of the second half, pp", 2, _percent("late_sd")),
    Measure("jitter", "jitter of all epochs, pp", 2, _percent("hf_sd")),
    Measure("share", "the validation set's share of the jitter, %", 0, _share),
    Measure("fall", "fall from the peak, pp", 1, _percent("drop")),
    Measure("gap", "training minus validation accuracy, pp", 1, _percent("gap")),
    Measure("accuracy", "final accuracy, %", 2, _percent("final_accuracy")),
    Measure("seconds", "seconds a run", 1, lambda row: row["seconds"]),
)


class Cell(NamedTuple):
    """A configuration on the map. shown: of each measure its text and tone, from 0 to 1."""

    config_id: str
    name: str
    kind: str
    look: str
    shown: dict[str, tuple[str, float | None]]


class Slice(NamedTuple):
    """A map for one level of the other axes. rows: (label, cells), None where nothing is."""

    title: str
    rows: list[tuple[str, list[Cell | None]]]


class GridMap(NamedTuple):
    """The map: its axes, the measures that it can show, and the slices."""

    x: str
    y: str
    columns: tuple[str, ...]
    measures: list[tuple[str, str]]
    slices: list[Slice]


def grid_map(analysis: Analysis, rows: Sequence[Row]) -> GridMap | None:
    """Place the configurations on a grid. Args: rows: of settings_rows().

    Returns: None where nothing varies, or where most of the grid would be empty.
    """
    axes = analysis.axes
    num_cells = math.prod(len(axis.labels) for axis in axes)
    if not axes or num_cells > _MOST_CELLS * len(rows):
        return None
    x, y, others = _placed(axes)
    tones = {measure.key: _tones(measure, rows) for measure in MEASURES}
    known = [measure for measure in MEASURES if any(tones[measure.key].values())]
    points = {row["config_id"]: row for row in analysis.points.iter_rows(named=True)}
    cells: dict[tuple[str, ...], Cell] = {}
    for row in rows:
        point = points[row["config_id"]]
        place = tuple(point[axis.name] for axis in (*others, *([y] if y else []), x))
        called = kind(row)
        shown = {
            measure.key: (
                _text(measure, row),
                tones[measure.key][row["config_id"]],
            )
            for measure in known
        }
        cells[place] = Cell(row["config_id"], row["setting"].name, called.cell, called.look, shown)
    slices: list[Slice] = []
    for levels in _levels(others):
        title = ", ".join(
            f"{short(axis.name)} {level}" for axis, level in zip(others, levels, strict=True)
        )
        lines = [
            (label, [cells.get((*levels, *([label] if y else []), column)) for column in x.labels])
            for label in (y.labels[::-1] if y else ("",))
        ]
        if any(cell for _, line in lines for cell in line):
            slices.append(Slice(title, lines))
    measures = [(measure.key, measure.title) for measure in known]
    return GridMap(x.title, y.title if y else "", x.labels, measures, slices)


def _placed(axes: Sequence[Axis]) -> tuple[Axis, Axis | None, list[Axis]]:
    """x, y and the rest: batch size against learning rate where they vary, else the longest."""
    left = sorted(axes, key=lambda axis: -len(axis.levels))
    if len(left) == 1:
        return left[0], None, []
    x = next((axis for axis in left if axis.name in _X_FIRST), None)
    y = next((axis for name in _Y_FIRST for axis in left if axis.name == name), None)
    x = x or next(axis for axis in left if axis is not y)
    y = y or next(axis for axis in left if axis is not x)
    return x, y, [axis for axis in axes if axis not in (x, y)]


def _levels(axes: Sequence[Axis]) -> list[tuple[str, ...]]:
    levels: list[tuple[str, ...]] = [()]
    for axis in axes:
        levels = [(*before, label) for before in levels for label in axis.labels]
    return levels


def _text(measure: Measure, row: Row) -> str:
    value = measure.value(row)
    return kind(row).cell if value is None else number(value, measure.digits)


def _tones(measure: Measure, rows: Sequence[Row]) -> dict[str, float | None]:
    """Where each value lies between the least and the largest: all are told apart, none is cut.

    The scale is that of the ranks: one value far beyond the others would make all of them one
    colour on any other.
    """
    values = {row["config_id"]: measure.value(row) for row in rows}
    ordered = sorted({round(v, measure.digits) for v in values.values() if v is not None})
    last = max(len(ordered) - 1, 1)
    return {
        name: None if v is None else round(ordered.index(round(v, measure.digits)) / last, 3)
        for name, v in values.items()
    }


def kinds_said(rows: Sequence[Row]) -> str:
    """Count the settings by what they are called: `Of 36 settings: 14 calm, 10 still rising.`"""
    if len(rows) == 1:
        return ""
    counts = Counter(kind(row).words for row in rows)
    return (
        f"Of {len(rows)} settings: "
        + ", ".join(f"{num} {words}" for words, num in counts.most_common())
        + "."
    )


# --- the table

Column = tuple[str, str, Callable[[Row], tuple[str, float | str | None]]]


def _limited(name: str, digits: int) -> Callable[[Row], tuple[str, float | None]]:
    def cell(row: Row) -> tuple[str, float | None]:
        value = row[name]
        if value is None:
            return "–", None
        low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
        if "share" in name:
            value = min(max(value, 0.0), 1.0)
        return pp(value, digits) + between(low, high, digits), 100 * value

    return cell


def _seconds(row: Row) -> tuple[str, float | None]:
    return ("–", None) if row["seconds"] is None else (number(row["seconds"], 1), row["seconds"])


_COLUMNS: tuple[Column, ...] = (
    ("verdict", "", lambda row: (kind(row).cell, kind(row).cell)),
    (
        "runs",
        "completed of planned",
        lambda row: (f"{row['num_completed']} of {row['num_seeds']}", row["num_completed"]),
    ),
    ("score, %", "best epoch, luck taken off; 95 % limits", _limited("score_nested", 2)),
    ("final accuracy, %", "mean of the last epochs; 95 % limits", _limited("final_accuracy", 2)),
    ("late jitter, pp", "second half; 95 % limits", _limited("late_sd", 2)),
    ("jitter, pp", "all epochs; 95 % limits", _limited("hf_sd", 2)),
    ("of it the set, %", "95 % limits", _limited("finite_share", 0)),
    ("fall, pp", "90 % limits, 95 % on each side", _limited("drop", 2)),
    ("loss rise, %", "90 % limits, 95 % on each side", _limited("loss_rise", 1)),
    ("gap, pp", "training minus validation; 95 % limits", _limited("gap", 1)),
    ("s a run", "", _seconds),
)


class Table(NamedTuple):
    """The table of all settings.

    heads: (title, note); rows: (config_id, letter, cells, its settings as YAML), a cell being the
    text and what it is sorted by
    """

    heads: list[tuple[str, str]]
    rows: list[tuple[str, str, list[tuple[str, Any]], str]]
    num_rows: int


def settings_table(analysis: Analysis, rows: Sequence[Row]) -> Table:
    """Tabulate all settings. Args: rows: of settings_rows(); the best ones come first."""
    shown = [column for column in _COLUMNS if any(column[2](row)[1] is not None for row in rows)]
    points = {row["config_id"]: row for row in analysis.points.iter_rows(named=True)}
    configurations = analysis.record["configurations"]
    places = {
        axis.name: {label: at for at, label in enumerate(axis.labels)} for axis in analysis.axes
    }
    lines: list[tuple[str, str, list[tuple[str, Any]], str]] = []
    for row in rows[:_MOST_ROWS]:
        name = row["config_id"]
        levels = [
            (points[name][axis.name], places[axis.name][points[name][axis.name]])
            for axis in analysis.axes
        ]
        cells = [*levels, *[cell(row) for _, _, cell in shown]]
        text = "\n".join(
            f"{key}: {json.dumps(value)}" for key, value in configurations[name].items()
        )
        lines.append((name, row["setting"].letter, cells, text))
    heads = [(axis.title, "") for axis in analysis.axes] + [(head, note) for head, note, _ in shown]
    return Table(heads, lines, len(rows))
