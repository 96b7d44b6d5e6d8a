"""A figure of the page, and the figures that have a cell or a row for every configuration."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import polars as pl

from analysis.labels import Outcome
from analysis.page.charts import Chart, MapAxes, grid_map, measures_chart
from analysis.results import Analysis
from analysis.sources.axes import Axis, short
from analysis.words import fixed, interval_text, pp

PLACE = ("x", "y", "slice", "config_id", "point")  # of a configuration on a map of the grid
_MAX_MEASURED = 48  # configurations in the figure with a row for each
_MAX_UNSORTED = 6  # up to so many stand in the order of the plan, more in that of their jitter
_X_FIRST, _Y_FIRST = ("batch_size",), ("learning_rate", "lr_scaling")


@dataclass(frozen=True)
class Figure:
    """One figure of the page: what it shows, its charts, and the same in numbers.

    name: its id on the page
    finding: what it shows, said first
    how: how to read it
    description: of its charts, for a reader who can't see them
    data: the frames that its charts name
    table: the numbers, behind a click
    shown: a small table that needs no click
    choices: (config_id, point) that its panels can be set to
    panels: the config_id that each panel shows at first
    notes: further findings, and what is missing, with commands in backticks
    """

    name: str
    title: str
    finding: str
    how: str
    description: str = ""
    charts: Sequence[Chart] = ()
    data: dict[str, pl.DataFrame] = field(default_factory=dict)
    table: pl.DataFrame = field(default_factory=pl.DataFrame)
    choices: list[tuple[str, str]] = field(default_factory=list)
    panels: list[str] = field(default_factory=list)
    notes: Sequence[str] = ()
    shown: pl.DataFrame | None = None


class _Mapped(NamedTuple):
    """A measure that has a map."""

    name: str
    digits: int
    title: str
    column: str  # of the table


_MAPPED = (
    _Mapped("hf_sd", 2, "Fluctuation: jitter from epoch to epoch", "jitter, pp"),
    _Mapped("gap", 1, "Overfitting: gap, training minus validation", "gap, pp"),
    _Mapped("drop", 1, "Overfitting: fall from the peak to the end", "fall, pp"),
)
_MEASURED = {
    "hf_sd": "jitter (SD), pp",
    "gap": "gap, pp",
    "drop": "fall from the peak, pp",
    "final_accuracy": "final accuracy, %",
}


def maps_figure(analysis: Analysis) -> Figure | None:
    """Draw jitter, gap and fall from the peak over the grid.

    Returns: None where fewer than two axes vary or nothing is measured.
    """
    if len(analysis.axes) < 2:
        return None
    table, axes = grid(analysis)
    data = table.select(
        *PLACE,
        *[
            expression
            for name, digits, *_ in _MAPPED
            for expression in (
                (100 * pl.col(name)).round(4).alias(name),
                _cell_text(name, digits),
                interval_text(name),
            )
        ],
    )
    drawn = [
        grid_map(data, value=measure.name, title=measure.title, axes=axes)
        for measure in _MAPPED
        if data[measure.name].count()
    ]
    if not drawn:
        return None
    return Figure(
        name="maps",
        title="Fluctuation and overfitting over the grid",
        finding=_maps_finding(analysis),
        how="Percentage points, pooled over seeds; brighter is more. Hover for the 95 % interval, "
        "click to see the curves.",
        description=f"Heat maps of jitter, gap and fall from the peak over {axes.x} and {axes.y}, "
        "one column per level of the other axes.",
        charts=drawn,
        data={"maps": data},
        table=table.select(
            pl.col("point").alias("configuration"),
            *[interval_text(measure.name, measure.column) for measure in _MAPPED],
        ),
    )


def grid(analysis: Analysis) -> tuple[pl.DataFrame, MapAxes]:
    """Place the configurations on a map of the grid.

    Returns: the configurations with the columns PLACE, in the order of the map; the map's axes.
    """
    x, y, others = _grid_axes(analysis.axes)
    table = analysis.points.join(
        analysis.configurations.drop([axis.name for axis in analysis.axes], strict=False),
        on="config_id",
        suffix="_same",
        maintain_order="left",
    ).sort([axis.name for axis in others] + [y.name, x.name], maintain_order=True)
    words = [pl.format("{} {}", pl.lit(short(axis.name)), axis.name) for axis in others]
    placed = table.with_columns(
        pl.col(x.name).cast(pl.String).alias("x"),
        pl.col(y.name).cast(pl.String).alias("y"),
        (pl.concat_str(words, separator=" · ") if words else pl.lit("")).alias("slice"),
    )
    return placed, MapAxes(x.title, y.title, sliced=bool(others))


def _grid_axes(axes: Sequence[Axis]) -> tuple[Axis, Axis, list[Axis]]:
    """x, y and the rest: batch size against learning rate where they vary, else the longest."""
    left = sorted(axes, key=lambda axis: -len(axis.levels))
    x = next((axis for axis in left if axis.name in _X_FIRST), None)
    y = next((axis for name in _Y_FIRST for axis in left if axis.name == name), None)
    x = x or next(axis for axis in left if axis is not y)
    y = y or next(axis for axis in left if axis is not x)
    return x, y, [axis for axis in axes if axis not in (x, y)]


def _cell_text(name: str, digits: int) -> pl.Expr:
    """The measure as text, or why there is none."""
    text = pl.lit("–")
    for outcome in (Outcome.FAILED, Outcome.STOPPED, Outcome.DIVERGED):
        text = pl.when(pl.col(f"num_{outcome}") > 0).then(pl.lit(outcome)).otherwise(text)
    value = fixed(100 * pl.col(name), digits)
    return pl.when(pl.col(name).is_null()).then(text).otherwise(value).alias(f"{name}_text")


def _maps_finding(analysis: Analysis) -> str:
    measured = analysis.configurations.drop_nulls("hf_sd").sort("hf_sd", maintain_order=True)
    if not measured.height:
        return "Too few epochs to measure the jitter."
    low, high = measured["hf_sd"][0], measured["hf_sd"][-1]
    # A curve that hardly moves makes no factor.
    differs = f"goes from {pp(low)} to {pp(high)} pp"
    if low > 5e-5:
        differs = f"differs by a factor of {high / low:.1f}"
    fallen = measured.filter(pl.col("drop_low") > 0).height
    return (
        f"Over the grid the jitter {differs}; accuracy falls from its peak (lower limit above 0) "
        f"in {fallen} of {measured.height} configurations."
    )


def measures_figure(analysis: Analysis) -> Figure | None:
    """Draw a row per configuration with its intervals.

    Returns: None where the configurations are too many or not measured.
    """
    measured = analysis.configurations.drop_nulls("hf_sd")
    if not 0 < measured.height <= _MAX_MEASURED:
        return None
    if measured.height > _MAX_UNSORTED:
        measured = measured.sort("hf_sd", descending=True, maintain_order=True)
    panels = [(name, title) for name, title in _MEASURED.items() if measured[name].count()]
    data = measured.select(
        "config_id",
        "point",
        *[(pl.col(name + e) * 100).round(3) for name, _ in panels for e in ("", "_low", "_high")],
        (pl.col("fin_sd") * 100).round(3),
    )
    split = measured.drop_nulls("fin_sd")
    finding = "The jitter of each configuration, beside what its validation set makes by itself."
    if split.height:
        moving = split.filter(pl.col("pop_var_low") > 0).height
        finding = (
            f"In {moving} of {split.height} configurations the jitter is larger than the finite "
            "validation set explains: there the network itself moves."
        )
    return Figure(
        name="measures",
        title="How much is only the validation set",
        finding=finding,
        how="Dots: pooled over seeds, with 95 % intervals. Orange bars: the jitter that a "
        "validation set of this size would show if the true accuracy stood still. The widest "
        "intervals may be cut.",
        description="Jitter, gap, fall from the peak and final accuracy of each configuration "
        "with their intervals.",
        charts=[measures_chart(data, panels)],
        data={"measures": data},
        table=measured.select(
            pl.col("point").alias("configuration"),
            interval_text("hf_sd", "jitter, pp"),
            fixed(100 * pl.col("fin_sd"), 2).alias("made by the validation set, pp"),
            interval_text("finite_share", "its share of the variance, %"),
            fixed(100 * pl.col("churn"), 2).alias("predictions that flip, %"),
            fixed(100 * pl.col("plateau_sd"), 2).alias("jitter and slow wander, pp"),
        ),
    )
