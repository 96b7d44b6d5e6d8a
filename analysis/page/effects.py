"""What each knob did: in sentences, as cells of a table, and as a figure of intervals."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import polars as pl

from analysis.causes.effects import JITTERS, is_clear
from analysis.page.charts import effects_chart
from analysis.page.figures import Figure
from analysis.results import Analysis
from analysis.sources.axes import Axis
from analysis.words import capitalized, fixed, listed, number, with_limits

Row = dict[str, Any]


class _Response(NamedTuple):
    """What an effect is on: its names, and how to write a change of it."""

    words: str  # in a sentence
    head: str  # over a column
    panel: str | None  # over a panel of the figure; None: it has none
    scale: float = 100.0
    digits: int = 2
    unit: str = " pp"
    nothing: float = 0.0  # the estimate of no change


_RESPONSES = {
    "late_jitter": _Response(
        "jitter in the second half",
        "jitter, second half",
        "jitter, second half, ratio",
        digits=0,
        unit=" %",
        nothing=1.0,
    ),
    "jitter": _Response(
        "jitter over all epochs",
        "jitter, all epochs",
        "jitter, all epochs, ratio",
        digits=0,
        unit=" %",
        nothing=1.0,
    ),
    "gap": _Response("the gap", "gap", "gap, pp"),
    "drop": _Response("the fall from the peak", "fall from the peak", "fall from the peak, pp"),
    "loss_rise": _Response(
        "the rise of the loss from its minimum",
        "rise of the loss",
        "rise of the loss, %",
        digits=1,
        unit=" %",
    ),
    "final_accuracy": _Response("final accuracy", "final accuracy", "final accuracy, pp"),
    "kept_accuracy": _Response(
        "accuracy of the weights that are kept", "kept weights", "kept accuracy, pp"
    ),
    "num_epochs": _Response(
        "the number of epochs", "epochs", "epochs", scale=1.0, digits=1, unit=""
    ),
}
# What is said of an axis, and in which order.
_ASKED = ("late_jitter", "gap", "drop", "loss_rise", "final_accuracy")
_ASKED_OF_STOPPING = ("num_epochs", "kept_accuracy", "drop", "loss_rise")
_ONLY_OF_STOPPING = ("kept_accuracy", "num_epochs")  # panels that other sweeps don't have


def effect_sentences(analysis: Analysis, axis: Axis) -> list[str]:
    """Say what going from the first level of an axis to its last did, given what must be held."""
    sentences: list[str] = []
    for given, level, by_response in _last_levels(analysis, axis):
        held = f" at {given}" if given else ""
        sentences.append(
            f"{axis.title.capitalize()} {level} instead of {axis.labels[0]}{held} "
            f"{effect_words(by_response, _asked_of(axis))}."
        )
    return sentences


def effect_tables(analysis: Analysis) -> list[dict[str, Any]]:
    """Tabulate the effect of every axis, from its first level to the last that completed.

    Returns: a table per group of axes that are asked the same: `heads` (of the responses) and
        `rows`. A row has axis, step, given and cells; a cell has change and limits (text) and
        direction (1, -1, or 0 for no clear change).
    """
    tables: dict[tuple[str, ...], list[Row]] = {}
    for axis in analysis.axes:
        asked = _asked_of(axis)
        for given, level, by_response in _last_levels(analysis, axis):
            row = {
                "axis": axis.title,
                "step": f"{axis.labels[0]} → {level}",
                "given": given,
                "cells": [_cell(by_response.get(name)) for name in asked],
            }
            tables.setdefault(asked, []).append(row)
    return [
        {"heads": [_RESPONSES[name].head for name in asked], "rows": rows}
        for asked, rows in tables.items()
    ]


def _asked_of(axis: Axis) -> tuple[str, ...]:
    """The responses that answer what an axis is varied for."""
    return _ASKED_OF_STOPPING if axis.name == "early_stopping" else _ASKED


def _last_levels(analysis: Analysis, axis: Axis) -> list[tuple[str, str, dict[str, Row]]]:
    """(what is held, level, response -> row of effects), a level against the first: the last
    one that has trials to compare, since those beyond it may all have diverged."""
    pooled = analysis.effects.filter(axis=axis.name, scope="pooled")
    by_given: dict[str, dict[str, dict[str, Row]]] = {}
    for row in pooled.with_columns(is_clear().alias("clear")).iter_rows(named=True):
        levels = by_given.setdefault(row["given"], {})
        levels.setdefault(row["level"], {})[row["response"]] = row
    for levels in by_given.values():
        for by_response in levels.values():
            if "late_jitter" not in by_response and "jitter" in by_response:  # a short run
                by_response["late_jitter"] = by_response["jitter"]
    last = {given: max(levels, key=axis.labels.index) for given, levels in by_given.items()}
    return [(given, level, by_given[given][level]) for given, level in last.items()]


def _changes(row: Row) -> list[float | None]:
    """Estimate and limits as changes in the response's unit."""
    response = _RESPONSES[row["response"]]
    return [
        None if row[name] is None else response.scale * (row[name] - response.nothing)
        for name in ("estimate", "low", "high")
    ]


def _cell(row: Row | None) -> Row:
    if row is None:
        return {"change": "–", "limits": "", "direction": 0}
    response = _RESPONSES[row["response"]]
    values = _changes(row)
    change = values[0] or 0.0
    text, low, high = ("" if v is None else number(v, response.digits) for v in values)
    sign = "+" if change > 0 and not text.startswith("0.00") else ""
    return {
        "change": f"{sign}{text}{response.unit}",
        "limits": f"{low} to {high}" if low else "",
        "direction": (change > 0) - (change < 0) if row["clear"] else 0,
    }


def effect_words(by_response: dict[str, Row], asked: Sequence[str]) -> str:
    """Compare a level with the first in words: what clearly changed, then what did not.

    Args: by_response: rows of `Analysis.effects` with `clear`; asked: the responses to name.
    """
    clauses: list[str] = []
    unclear: list[str] = []
    unknown: list[str] = []
    for name in asked:
        row = by_response.get(name)
        if row is None or (name == "num_epochs" and row["estimate"] == 0):
            continue
        words = _RESPONSES[name].words
        if row["clear"]:
            clauses.append(_clear_change(row))
        elif row["low"] is None and row["estimate"] != 0:
            unknown.append(words)
        else:
            unclear.append(f"{words}{_limits(row)}")
    if unclear:
        clauses.append(f"shows no clear change in {listed(unclear)}")
    if unknown:
        clauses.append(f"has too few seeds for an interval of {listed(unknown)}")
    return listed(clauses)


def _clear_change(row: Row) -> str:
    """`lowers the gap by 1.20 pp (1.02 to 1.41)`."""
    response = _RESPONSES[row["response"]]
    change, low, high = (value or 0.0 for value in _changes(row))
    verb = "raises" if change > 0 else "lowers"
    if change < 0:
        change, low, high = -change, -high, -low
    text, least, most = (number(value, response.digits) for value in (change, low, high))
    return f"{verb} {response.words} by {text}{response.unit} ({least} to {most})"


def _limits(row: Row) -> str:
    if row["low"] is None:
        return ""
    response = _RESPONSES[row["response"]]
    low, high = (number(value or 0.0, response.digits) for value in _changes(row)[1:])
    return f" ({low} to {high}{response.unit})"


# --- the figure


def effects_figure(analysis: Analysis) -> Figure | None:
    """Draw the intervals of what each knob did. Returns: None where nothing varies."""
    if not analysis.effects.height:
        return None
    stopping = any(axis.name == "early_stopping" for axis in analysis.axes)
    titles = {
        name: response.panel
        for name, response in _RESPONSES.items()
        if response.panel and (stopping or name not in _ONLY_OF_STOPPING)
    }
    compared = _compared(analysis)
    data = compared.filter((pl.col("scope") == "pooled") & pl.col("response").is_in(list(titles)))
    present = set(data["response"])
    panels = [(name, title) for name, title in titles.items() if name in present]
    if not panels:
        return None
    return Figure(
        name="effects",
        title="What each knob did",
        finding=_finding(data),
        how="Blue intervals leave out “no change”. Each level against the first, paired over seeds "
        "and over the other axes; batch size only at equal learning rate and scaling. Bars: 95 % "
        "intervals, each for itself. All trials share the validation set, so its error cancels. "
        "In the same number of epochs a larger batch makes fewer updates.",
        description="Interval plot of paired differences per hyperparameter for jitter, gap, "
        "fall from the peak, loss and accuracy.",
        charts=[effects_chart(data, panels)],
        data={"effects": data.select("comparison", "response", "estimate", "low", "high", "clear")},
        table=compared.select(
            "comparison",
            pl.col("scope").replace({"slice": "one slice"}),
            pl.col("response").str.replace_all("_", " "),
            with_limits(*[fixed(pl.col(name), 2) for name in ("estimate", "low", "high")]).alias(
                "change"
            ),
            pl.col("num_pairs").alias("pairs"),
        ),
    )


def _compared(analysis: Analysis) -> pl.DataFrame:
    """All effects in the order of the axes, with `comparison` in words and `clear`."""
    order = {axis.name: place for place, axis in enumerate(analysis.axes)}
    unscaled = pl.col("response").is_in([*JITTERS, "num_epochs"])
    scale = pl.when(unscaled).then(1.0).otherwise(100.0)
    given = pl.when(pl.col("given") == "").then(pl.lit("")).otherwise(pl.format(", at {}", "given"))
    level = pl.format(
        "{} {} against {}", pl.col("axis").str.replace_all("_", " "), "level", "reference"
    )
    return (
        analysis.effects.with_columns(
            (level + given).alias("comparison"),
            pl.col("axis").replace_strict(order, return_dtype=pl.Int64).alias("place"),
            is_clear().alias("clear"),
            *[(pl.col(name) * scale).round(4) for name in ("estimate", "low", "high")],
        )
        .with_columns(pl.int_range(pl.len()).over("place", "scope").alias("row"))
        .sort("place", "row", maintain_order=True)
    )


def _finding(data: pl.DataFrame) -> str:
    """The largest clear change of each response that tells noise from overfitting."""
    largest: list[str] = []
    for name, size in (
        ("late_jitter", pl.col("estimate").log().abs()),
        ("drop", pl.col("estimate").abs()),
        ("gap", pl.col("estimate").abs()),
    ):
        clear = data.filter((pl.col("response") == name) & pl.col("clear"))
        if clear.height:
            row = clear.sort(size, descending=True, maintain_order=True).row(0, named=True)
            change = row["estimate"]
            amount = f"{number(change, 1)} pp"
            if name in JITTERS:
                amount = f"{number(100 * (change - 1), 0)} %"
            words = _RESPONSES[name].words
            largest.append(f"{words} changes most with {row['comparison']} ({amount})")
    if not largest:
        return "No comparison leaves out “no change”: with these seeds, no knob is shown to matter."
    return capitalized(f"{'; '.join(largest)}.")
