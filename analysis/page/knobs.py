"""What each knob did, in sentences and as a table's cells."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from analysis.results import Analysis
from analysis.sources.axes import Axis
from analysis.words import number

# response: (in a sentence, over a column)
RESPONSES = {
    "jitter": ("jitter", "jitter"),
    "gap": ("the gap", "gap"),
    "drop": ("the fall from the peak", "fall from the peak"),
    "loss_rise": ("the rise of the loss from its minimum", "rise of the loss"),
    "final_accuracy": ("final accuracy", "final accuracy"),
    "num_epochs": ("the number of epochs", "epochs"),
    "kept_accuracy": ("accuracy of the weights that are kept", "kept weights"),
    "chosen_accuracy": (
        "accuracy of the restored weights against the best epoch of a full run",
        "restored against best epoch",
    ),
}
# What is said of an axis, and in which order.
ASKED = ("jitter", "gap", "drop", "loss_rise", "final_accuracy")
ASKED_OF_STOPPING = ("num_epochs", "kept_accuracy", "chosen_accuracy", "drop", "loss_rise")

Row = dict[str, Any]


def sentences(analysis: Analysis, axis: Axis) -> list[str]:
    """What going from the first level of an axis to its last did, given what must be held."""
    said: list[str] = []
    for given, level, by_response in _effects(analysis, axis):
        text = effect_words(by_response, asked_of(axis))
        held = f" at {given}" if given else ""
        name = axis.title.capitalize()
        said.append(f"{name} {level} instead of {axis.labels[0]}{held} {text}.")
    return said


def rows(analysis: Analysis) -> list[Row]:
    """Every axis, first level to the last that completed, as cells: axis, step, given, and a cell
    per response asked.

    A cell: change (text), limits (text), direction (1, -1, 0 for no clear change).
    """
    found: list[Row] = []
    for axis in analysis.axes:
        for given, level, by_response in _effects(analysis, axis):
            cells = [_cell(by_response.get(name)) for name in asked_of(axis)]
            step = f"{axis.labels[0]} → {level}"
            found.append(
                {
                    "axis": axis.title,
                    "step": step,
                    "given": given,
                    "cells": cells,
                    "heads": [RESPONSES[name][1] for name in asked_of(axis)],
                }
            )
    return found


def asked_of(axis: Axis) -> tuple[str, ...]:
    """The responses that answer what an axis is varied for."""
    return ASKED_OF_STOPPING if axis.name == "early_stopping" else ASKED


def _effects(analysis: Analysis, axis: Axis) -> list[tuple[str, str, dict[str, Row]]]:
    """(what is held, level, response -> row of effects), a level against the first: the last
    one that has trials to compare, since those beyond it may all have diverged."""
    pooled = analysis.effects.filter((pl.col("axis") == axis.name) & (pl.col("scope") == "pooled"))
    found: dict[str, dict[str, dict[str, Row]]] = {}
    for row in pooled.iter_rows(named=True):
        levels = found.setdefault(row["given"], {})
        levels.setdefault(row["level"], {})[row["response"]] = row
    last: list[tuple[str, str, dict[str, Row]]] = []
    for given, levels in found.items():
        level = max(levels, key=axis.labels.index)
        last.append((given, level, levels[level]))
    return last


def _cell(row: Row | None) -> Row:
    if row is None:
        return {"change": "–", "limits": "", "direction": 0}
    ratio = row["response"] == "jitter"
    scale, digits, unit = (100.0, 0, " %") if ratio else _units(row["response"])
    values = [
        None if row[name] is None else scale * (row[name] - ratio)
        for name in ("estimate", "low", "high")
    ]
    estimate, low, high = ("" if v is None else number(v, digits) for v in values)
    direction = (1 if values[0] > 0 else -1) if is_clear_row(row) and values[0] else 0
    limits = f"{low} to {high}" if low else ""
    sign = "+" if values[0] and values[0] > 0 and not estimate.startswith("0.00") else ""
    return {"change": f"{sign}{estimate}{unit}", "limits": limits, "direction": direction}


def effect_words(by_response: dict[str, Row], asked: Sequence[str]) -> str:
    """One effect: first what clearly changed, then what did not."""
    changed: list[str] = []
    unclear: list[str] = []
    unknown: list[str] = []
    for name in asked:
        row = by_response.get(name)
        if row is None or (name == "num_epochs" and row["estimate"] == 0):
            continue
        words = RESPONSES[name][0]
        if is_clear_row(row):
            verb = "raises" if row["estimate"] > (1 if name == "jitter" else 0) else "lowers"
            changed.append(f"{verb} {words} by {_amount(row)}")
        elif row["low"] is None and row["estimate"] != 0:
            unknown.append(words)
        else:
            unclear.append(f"{words}{_limits(row)}")
    if unclear:
        changed.append(f"shows no clear change in {_list(unclear)}")
    if unknown:
        changed.append(f"has too few seeds for an interval of {_list(unknown)}")
    return _list(changed)


def is_clear_row(row: Row) -> bool:
    """Whether a row of `effects` leaves out "no change"."""
    nothing = 1.0 if row["response"] == "jitter" else 0.0
    return row["low"] is not None and (row["low"] > nothing or row["high"] < nothing)


def _amount(row: Row) -> str:
    """How much a response changed, without its sign."""
    if row["response"] == "jitter":
        change, low, high = (100 * (row[name] - 1) for name in ("estimate", "low", "high"))
        if change < 0:
            change, low, high = -change, -high, -low
        return f"{change:.0f} % ({low:.0f} to {high:.0f})"
    scale, digits, unit = _units(row["response"])
    values = [scale * row[name] for name in ("estimate", "low", "high")]
    if values[0] < 0:
        values = [-values[0], -values[2], -values[1]]
    change, low, high = (number(value, digits) for value in values)
    return f"{change}{unit} ({low} to {high})"


def _limits(row: Row) -> str:
    if row["low"] is None:
        return ""
    if row["response"] == "jitter":
        low, high = (number(100 * (row[name] - 1), 0) for name in ("low", "high"))
        return f" ({low} to {high} %)"
    scale, digits, unit = _units(row["response"])
    return f" ({number(scale * row['low'], digits)} to {number(scale * row['high'], digits)}{unit})"


def _units(response: str) -> tuple[float, int, str]:
    if response == "num_epochs":
        return 1.0, 1, ""
    return (100.0, 1, " %") if response == "loss_rise" else (100.0, 2, " pp")


def _list(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
