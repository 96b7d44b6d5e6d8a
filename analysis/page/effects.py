"""What each knob did: in sentences, as a table, and as what each of its levels reaches."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from analysis.answer.settings import Setting
from analysis.causes.effects import JITTERS, is_clear
from analysis.causes.trained import all_seeds_trained
from analysis.page.charts import knobs_chart
from analysis.page.figures import Figure
from analysis.results import Analysis
from analysis.sources.axes import Axis
from analysis.words import fixed, listed, number, with_limits

Row = dict[str, Any]


class _Response(NamedTuple):
    """What an effect is on: its names, and how to write a change of it."""

    words: str  # in a sentence
    table: str  # in the table
    scale: float = 100.0
    digits: int = 2
    unit: str = " pp"
    nothing: float = 0.0  # the estimate of no change


_RESPONSES = {
    "late_jitter": _Response(
        "jitter in the second half",
        "jitter, second half, ratio",
        digits=0,
        unit=" %",
        nothing=1.0,
    ),
    "jitter": _Response(
        "jitter over all epochs",
        "jitter, all epochs, ratio",
        digits=0,
        unit=" %",
        nothing=1.0,
    ),
    "gap": _Response("the gap", "gap, pp"),
    "drop": _Response("the fall from the peak", "fall from the peak, pp"),
    "loss_rise": _Response(
        "the rise of the loss from its minimum",
        "rise of the loss, %",
        digits=1,
        unit=" %",
    ),
    "final_accuracy": _Response("final accuracy", "final accuracy, pp"),
    "kept_accuracy": _Response("accuracy of the weights that are kept", "kept accuracy, pp"),
    "num_epochs": _Response("the number of epochs", "epochs", scale=1.0, digits=1, unit=""),
}
# What is said of an axis, and in which order.
_ASKED = ("late_jitter", "gap", "drop", "loss_rise", "final_accuracy")
_ASKED_OF_STOPPING = ("num_epochs", "kept_accuracy", "drop", "loss_rise")


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


def effects_figure(analysis: Analysis, names: Mapping[str, Setting]) -> Figure | None:
    """Draw what each level of each knob reaches, among the settings that trained.

    Args: names: of all settings. Returns: None where nothing varies or nothing trained.
    """
    if not analysis.axes:
        return None
    trained = analysis.configurations.filter(all_seeds_trained())
    scores = analysis.causes.ranking.select("config_id", "score_nested")
    late = analysis.late.select("config_id", pl.col("hf_sd").alias("late"))
    table = (
        trained.drop([axis.name for axis in analysis.axes], strict=False)
        .join(analysis.points.drop("point"), on="config_id", maintain_order="left")
        .join(scores, on="config_id", how="left", maintain_order="left")
        .join(late, on="config_id", how="left", maintain_order="left")
        .with_columns(
            accuracy=(100 * pl.coalesce("score_nested", "final_accuracy")).round(3),
            late=(100 * pl.col("late")).round(4),
        )
        .drop_nulls("accuracy")
    )
    if not table.height:
        return None
    settings = [names[name].name for name in table["config_id"]]
    data = pl.concat(
        table.select(
            pl.lit(axis.title).alias("axis"),
            pl.col(axis.name).cast(pl.String).alias("level"),
            pl.Series("setting", settings),
            "accuracy",
            "late",
            (pl.col("accuracy") == pl.col("accuracy").max().over(axis.name)).alias("best"),
        )
        for axis in analysis.axes
    )
    sentences = [one for axis in analysis.axes for one in effect_sentences(analysis, axis)]
    left_out = analysis.points.height - table.height
    without = f" {left_out} that did not are left out." if left_out else ""
    return Figure(
        name="effects",
        title="What each knob does",
        finding=sentences[0] if sentences else "No two settings that trained can be compared.",
        how="Grey: every setting that trained; blue: at each level the one with the best score, so "
        f"a knob is seen at the best of the others.{without} The sentences compare the last level "
        "with the first, paired over seeds and over the other knobs, with 95 % intervals; batch "
        "size only at equal learning rate and scaling. Jitter is that of the second half, where "
        "the learning is over.",
        description="Scatter plots of accuracy and of late jitter over the levels of each knob.",
        charts=[knobs_chart(data, [(axis.title, axis.labels) for axis in analysis.axes])],
        data={"knobs": data},
        table=_compared(analysis),
        notes=sentences[1:],
    )


def _compared(analysis: Analysis) -> pl.DataFrame:
    """All effects in the order of the axes, in words and numbers."""
    order = {axis.name: place for place, axis in enumerate(analysis.axes)}
    unscaled = pl.col("response").is_in([*JITTERS, "num_epochs"])
    scale = pl.when(unscaled).then(1.0).otherwise(100.0)
    given = pl.when(pl.col("given") == "").then(pl.lit("")).otherwise(pl.format(", at {}", "given"))
    level = pl.format(
        "{} {} against {}", pl.col("axis").str.replace_all("_", " "), "level", "reference"
    )
    units = {name: response.table for name, response in _RESPONSES.items()}
    return (
        analysis.effects.with_columns(
            (level + given).alias("comparison"),
            pl.col("axis").replace_strict(order, return_dtype=pl.Int64).alias("place"),
            *[(pl.col(name) * scale).round(4) for name in ("estimate", "low", "high")],
        )
        .with_columns(pl.int_range(pl.len()).over("place", "scope").alias("row"))
        .sort("place", "row", maintain_order=True)
        .select(
            "comparison",
            pl.col("scope").replace({"slice": "one slice"}),
            pl.col("response").replace_strict(units, default=pl.col("response")),
            with_limits(*[fixed(pl.col(name), 2) for name in ("estimate", "low", "high")]).alias(
                "change"
            ),
            pl.col("num_pairs").alias("pairs"),
        )
    )
