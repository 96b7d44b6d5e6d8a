"""An analysis -> the figures of its page: chart, caption, and the tidy frames that they draw."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from analysis.causes.effects import is_clear
from analysis.page import charts
from analysis.results import Analysis
from analysis.sources.axes import Axis, short
from analysis.words import fixed, interval_text, number, pp, with_limits

MAX_MEASURED = 48  # configurations in the figure with a row for each
MAX_UNSORTED = 6  # up to so many stand in the order of the plan, more in that of their jitter
PLACE = ("x", "y", "slice", "config_id", "point")  # of a configuration on a map of the grid
_X_FIRST, _Y_FIRST = ("batch_size",), ("learning_rate", "lr_scaling")


@dataclass(frozen=True)
class Figure:
    """One figure: `data` are the frames its chart names, `table` the same in numbers.

    finding: what it shows, said first; how: how to read it. choices: (config_id, point) that its
    panels can be set to, `panels` how many there are. notes: further findings, and what is missing,
    with commands in backticks. shown: a small table that needs no click.
    """

    name: str
    title: str
    finding: str
    how: str
    description: str
    charts: Sequence[charts.Chart]
    data: dict[str, pl.DataFrame]
    table: pl.DataFrame
    choices: list[tuple[str, str]] = field(default_factory=list)
    panels: list[str] = field(default_factory=list)
    notes: Sequence[str] = ()
    shown: pl.DataFrame | None = None


def maps(analysis: Analysis) -> Figure | None:
    """Jitter, gap and fall from the peak over the grid; None for fewer than two axes."""
    if len(analysis.axes) < 2:
        return None
    table, x, y = grid(analysis)
    shown = [("hf_sd", 2), ("gap", 1), ("drop", 1)]
    data = table.select(
        *PLACE,
        *[
            expression
            for name, digits in shown
            for expression in (
                (100 * pl.col(name)).round(4).alias(name),
                _cell_text(name, digits),
                interval_text(name),
            )
        ],
    )
    titles = {
        "hf_sd": "Fluctuation: jitter from epoch to epoch",
        "gap": "Overfitting: gap, training minus validation",
        "drop": "Overfitting: fall from the peak to the end",
    }
    drawn = [
        charts.grid_map(
            data,
            value=name,
            title=titles[name],
            x_title=x.title,
            y_title=y.title,
            facet_title=None if len(analysis.axes) == 2 else "",
        )
        for name, _ in shown
        if data[name].drop_nulls().len()
    ]
    if not drawn:
        return None
    return Figure(
        name="maps",
        title="Fluctuation and overfitting over the grid",
        finding=_maps_finding(analysis),
        how="Percentage points, pooled over seeds; brighter is more. Hover for the 95 % interval, "
        "click to see the curves.",
        description=f"Heat maps of jitter, gap and fall from the peak over {x.title} and "
        f"{y.title}, one column per level of the other axes.",
        charts=drawn,
        data={"maps": data},
        table=table.select(
            pl.col("point").alias("configuration"),
            *[
                interval_text(name, words)
                for name, words in (
                    ("hf_sd", "jitter, pp"),
                    ("gap", "gap, pp"),
                    ("drop", "fall, pp"),
                )
            ],
        ),
    )


def grid(analysis: Analysis) -> tuple[pl.DataFrame, Axis, Axis]:
    """The configurations with their PLACE on a map, in its order, and its two axes."""
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
    return placed, x, y


def _grid_axes(axes: Sequence[Axis]) -> tuple[Axis, Axis, list[Axis]]:
    """x, y and the rest: batch size against learning rate where they vary, else the longest."""
    left = sorted(axes, key=lambda axis: -len(axis.levels))
    x = next((axis for axis in left if axis.name in _X_FIRST), None)
    y = next((axis for name in _Y_FIRST for axis in left if axis.name == name), None)
    x = x or next(axis for axis in left if axis is not y)
    y = y or next(axis for axis in left if axis is not x)
    return x, y, [axis for axis in axes if axis not in (x, y)]


def _cell_text(name: str, digits: int) -> pl.Expr:
    empty = (
        pl.when(pl.col("num_diverged") > 0)
        .then(pl.lit("diverged"))
        .when(pl.col("num_stopped") > 0)
        .then(pl.lit("stopped"))
        .when(pl.col("num_failed") > 0)
        .then(pl.lit("failed"))
        .otherwise(pl.lit("–"))
    )
    return (
        pl.when(pl.col(name).is_null())
        .then(empty)
        .otherwise(fixed(100 * pl.col(name), digits))
        .alias(f"{name}_text")
    )


def _maps_finding(analysis: Analysis) -> str:
    known = analysis.configurations.drop_nulls("hf_sd").sort("hf_sd", maintain_order=True)
    if not known.height:
        return "Too few epochs to measure the jitter."
    low, high = known["hf_sd"][0], known["hf_sd"][-1]
    # A curve that hardly moves makes no factor.
    differs = f"goes from {pp(low)} to {pp(high)} pp"
    if low > 5e-5:
        differs = f"differs by a factor of {high / low:.1f}"
    fallen = known.filter(pl.col("drop_low") > 0).height
    return (
        f"Over the grid the jitter {differs}; accuracy falls from its "
        f"peak (lower limit above 0) in {fallen} of {known.height} configurations."
    )


def measures(analysis: Analysis) -> Figure | None:
    """A row per configuration with its intervals; None when they are too many or not measured."""
    known = analysis.configurations.drop_nulls("hf_sd")
    if not 0 < known.height <= MAX_MEASURED:
        return None
    names = [
        name
        for name in ("hf_sd", "gap", "drop", "final_accuracy")
        if known[name].drop_nulls().len()
    ]
    titles = {
        "hf_sd": "jitter (SD), pp",
        "gap": "gap, pp",
        "drop": "fall from the peak, pp",
        "final_accuracy": "final accuracy, %",
    }
    ends = ("", "_low", "_high")
    if known.height > MAX_UNSORTED:
        known = known.sort("hf_sd", descending=True, maintain_order=True)
    data = known.select(
        "config_id",
        "point",
        *[(pl.col(name + end) * 100).round(3) for name in names for end in ends],
        (pl.col("fin_sd") * 100).round(3),
    )
    shared = known.drop_nulls("fin_sd")
    finding = "The jitter of each configuration, beside what its validation set makes by itself."
    if shared.height:
        moving = shared.filter(pl.col("pop_var_low") > 0).height
        finding = (
            f"In {moving} of {shared.height} configurations the jitter is larger than the finite "
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
        charts=[charts.measures(data, [(name, titles[name]) for name in names])],
        data={"measures": data},
        table=known.select(
            pl.col("point").alias("configuration"),
            interval_text("hf_sd", "jitter, pp"),
            fixed(100 * pl.col("fin_sd"), 2).alias("made by the validation set, pp"),
            interval_text("finite_share", "its share of the variance, %"),
            fixed(100 * pl.col("churn"), 2).alias("predictions that flip, %"),
            fixed(100 * pl.col("plateau_sd"), 2).alias("jitter and slow wander, pp"),
        ),
    )


def effects(analysis: Analysis) -> Figure | None:
    """Intervals of what each knob did; None when nothing varies."""
    pooled = analysis.effects.filter(pl.col("scope") == "pooled")
    stopping = any(axis.name == "early_stopping" for axis in analysis.axes)
    titles = {
        "jitter": "jitter, ratio",
        "gap": "gap, pp",
        "drop": "fall from the peak, pp",
        "loss_rise": "rise of the loss, %",
        "final_accuracy": "final accuracy, pp",
    }
    if stopping:
        titles |= {"kept_accuracy": "kept accuracy, pp", "num_epochs": "epochs"}
    present = set(pooled["response"])
    shown = [(name, words) for name, words in titles.items() if name in present]
    if not shown:
        return None
    order = {axis.name: place for place, axis in enumerate(analysis.axes)}
    scale = pl.when(pl.col("response").is_in(["jitter", "num_epochs"])).then(1.0).otherwise(100.0)
    comparison = pl.format(
        "{} {} against {}", pl.col("axis").str.replace_all("_", " "), "level", "reference"
    ) + pl.when(pl.col("given") == "").then(pl.lit("")).otherwise(pl.format(", at {}", "given"))
    labelled = (
        analysis.effects.with_columns(
            comparison.alias("comparison"),
            pl.col("axis").replace_strict(order, return_dtype=pl.Int64).alias("place"),
            is_clear().alias("clear"),
            *[(pl.col(name) * scale).round(4) for name in ("estimate", "low", "high")],
        )
        .with_columns(pl.int_range(pl.len()).over("place", "scope").alias("row"))
        .sort("place", "row", maintain_order=True)
    )
    data = labelled.filter((pl.col("scope") == "pooled") & pl.col("response").is_in(list(titles)))
    return Figure(
        name="effects",
        title="What each knob did",
        finding=_effects_finding(data),
        how="Blue intervals leave out “no change”. Each level against the first, paired over seeds "
        "and over the other axes; batch size only at equal learning rate and scaling. Bars: 95 % "
        "intervals, each for itself. All trials share the validation set, so its error cancels. "
        "In the same number of epochs a larger batch makes fewer updates.",
        description="Interval plot of paired differences per hyperparameter for jitter, gap, "
        "fall from the peak, loss and accuracy.",
        charts=[charts.effects(data, shown)],
        data={"effects": data.select("comparison", "response", "estimate", "low", "high", "clear")},
        table=labelled.select(
            "comparison",
            pl.col("scope").replace({"slice": "one slice"}),
            pl.col("response").str.replace_all("_", " "),
            with_limits(*[fixed(pl.col(name), 2) for name in ("estimate", "low", "high")]).alias(
                "change"
            ),
            pl.col("num_pairs").alias("pairs"),
        ),
    )


def _effects_finding(data: pl.DataFrame) -> str:
    """The largest clear change of each response that tells noise from overfitting."""
    said: list[str] = []
    for response, words, size in (
        ("jitter", "jitter", pl.col("estimate").log().abs()),
        ("drop", "the fall from the peak", pl.col("estimate").abs()),
        ("gap", "the gap", pl.col("estimate").abs()),
    ):
        clear = data.filter((pl.col("response") == response) & pl.col("clear"))
        if clear.height:
            row = clear.sort(size, descending=True, maintain_order=True).row(0, named=True)
            change = row["estimate"]
            amount = (
                f"{number(100 * (change - 1), 0)} %"
                if response == "jitter"
                else f"{number(change, 1)} pp"
            )
            said.append(f"{words} changes most with {row['comparison']} ({amount})")
    if not said:
        return "No comparison leaves out “no change”: with these seeds, no knob is shown to matter."
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."
