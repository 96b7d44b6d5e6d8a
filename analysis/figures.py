"""An analysis -> the figures of its page: chart, caption, and the tidy frames that they draw."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from analysis import charts
from analysis.axes import Axis
from analysis.effects import is_clear
from analysis.findings import pp
from analysis.results import Analysis

MAX_CURVE_ROWS = 100_000  # rows of seeds' curves that one page holds
MAX_PANELS = 6  # up to so many configurations are all shown; beyond, two that one chooses
MAX_MEASURED = 48  # configurations in the figure with a row for each
_X_FIRST, _Y_FIRST = ("batch_size",), ("learning_rate", "lr_scaling")


@dataclass(frozen=True)
class Figure:
    """One figure: `data` are the frames its chart names, `table` the same in numbers.

    finding: what it shows, said first; how: how to read it. choices: (config_id, point) that its
    panels can be set to, `panels` how many there are.
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


def figures(analysis: Analysis) -> list[Figure]:
    """Those that can be drawn from what there is, in the order of the page."""
    drawn = [maps(analysis), curves(analysis), measures(analysis), effects(analysis)]
    return [figure for figure in drawn if figure is not None]


def maps(analysis: Analysis) -> Figure | None:
    """Jitter, gap and fall from the peak over the grid; None for fewer than two axes."""
    if len(analysis.axes) < 2:
        return None
    x, y, others = _grid_axes(analysis.axes)
    table = analysis.points.join(
        analysis.configurations.drop([axis.name for axis in analysis.axes], strict=False),
        on="config_id",
        suffix="_same",
        maintain_order="left",
    )
    words = [pl.format("{} {}", pl.lit(axis.title), axis.name) for axis in others]
    shown = [("hf_sd", 2), ("gap", 1), ("drop", 1)]
    data = table.sort(
        [axis.name for axis in others] + [y.name, x.name], maintain_order=True
    ).select(
        pl.col(x.name).cast(pl.String).alias("x"),
        pl.col(y.name).cast(pl.String).alias("y"),
        (pl.concat_str(words, separator=" · ") if words else pl.lit("")).alias("slice"),
        "config_id",
        "point",
        *[
            expression
            for name, digits in shown
            for expression in (
                (100 * pl.col(name)).round(4).alias(name),
                _cell_text(name, digits),
                _interval_text(name),
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
            facet_title=None if not others else "",
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
        how="Percentage points, pooled over seeds; brighter is more. Click a cell to see its "
        "curves; hover for the 95 % interval.",
        description=f"Heat maps of jitter, gap and fall from the peak over {x.title} and "
        f"{y.title}, one column per level of the other axes.",
        charts=drawn,
        data={"maps": data},
        table=table.select(
            pl.col("point").alias("configuration"),
            *[_interval_text(name, words) for name, words in
              (("hf_sd", "jitter, pp"), ("gap", "gap, pp"), ("drop", "fall, pp"))],
        ),
    )  # fmt: skip


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
        .when(pl.col("num_failed") > 0)
        .then(pl.lit("failed"))
        .otherwise(pl.lit("–"))
    )
    return (
        pl.when(pl.col(name).is_null())
        .then(empty)
        .otherwise(_fixed(100 * pl.col(name), digits))
        .alias(f"{name}_text")
    )


def _interval_text(name: str, alias: str | None = None, scale: float = 100) -> pl.Expr:
    """`1.20 (1.02 to 1.41)`, in pp."""
    parts = [_fixed(scale * pl.col(name + end), 2) for end in ("", "_low", "_high")]
    return _with_limits(*parts).alias(alias or f"{name}_tip")


def _with_limits(value: pl.Expr, low: pl.Expr, high: pl.Expr) -> pl.Expr:
    whole = pl.format("{} ({} to {})", value, low, high)
    return pl.when(low.is_null()).then(value).otherwise(whole)


def _fixed(values: pl.Expr, digits: int) -> pl.Expr:
    """Numbers as text with so many decimals, never a negative zero."""
    return values.round(digits).cast(pl.Decimal(18, digits)).cast(pl.String)


def _maps_finding(analysis: Analysis) -> str:
    known = analysis.configurations.drop_nulls("hf_sd").sort("hf_sd", maintain_order=True)
    if not known.height:
        return "Too few epochs to measure the jitter."
    ratio = known["hf_sd"][-1] / max(known["hf_sd"][0], 1e-9)
    fallen = known.filter(pl.col("drop_low") > 0).height
    return (
        f"Over the grid the jitter differs by a factor of {ratio:.1f}; accuracy falls from its "
        f"peak (lower limit above 0) in {fallen} of {known.height} configurations."
    )


def curves(analysis: Analysis) -> Figure | None:
    """Every seed's curves: of all configurations, or of two that the reader chooses."""
    shown = analysis.trials.filter(pl.col("status").is_in(["completed", "diverged"]))
    epochs = analysis.epochs.filter(pl.col("weights_kind") == "raw").join(
        shown.select("trial_id"), on="trial_id", how="semi", maintain_order="left"
    )
    present = analysis.points.join(
        epochs.group_by("config_id").agg(pl.len().alias("num_rows")),
        on="config_id",
        maintain_order="left",
    )
    if not present.height:
        return None
    kept = _within_budget(present, analysis.configurations)
    epochs = epochs.join(kept, on="config_id", how="semi", maintain_order="left")
    choices = list(kept.select("config_id", "point").iter_rows())
    if len(choices) <= MAX_PANELS:
        by_row = kept.sort([axis.name for axis in reversed(analysis.axes)], maintain_order=True)
        panels = list(by_row["config_id"])
        columns = min(len(panels), 3 if len(panels) != 4 else 2)
    else:
        panels, columns = _two_to_compare(analysis.configurations, kept), 2
    points = dict(choices)
    last = int(epochs["epoch"].max())  # pyright: ignore[reportArgumentType]
    chart = charts.curves(
        [(config_id, points[config_id]) for config_id in panels],
        first_epoch=max(1, min(4, last // 4)),
        last_epoch=last,
        columns=columns,
    )
    left_out = present.height - kept.height
    how = (
        "Thin lines: seeds; thick: their mean, with a band of one SD between seeds; dashed: the "
        "same weights on a fixed part of the training set, in eval mode; loss beneath. The best "
        "epoch is the naive one: the highest point of a noisy curve."
    )
    if left_out:
        how += (
            f" To keep the page small, {left_out} of {present.height} configurations are not "
            "drawn: those kept are spread evenly over the range of the jitter."
        )
    return Figure(
        name="curves",
        title="Curves, every seed",
        finding=_curves_finding(analysis),
        how=how,
        description="Validation accuracy of every seed over the epochs, its mean and band, "
        "training accuracy dashed, loss beneath.",
        charts=[chart],
        data={
            "seeds": epochs.select(
                "config_id",
                "seed",
                "epoch",
                (100 * pl.col("val_accuracy")).round(3).alias("accuracy"),
                pl.col("val_loss").round(4).alias("loss"),
            ).sort("config_id", "seed", "epoch"),
            "means": _seed_means(epochs),
            "marks": _marks(shown.join(kept, on="config_id", how="semi", maintain_order="left")),
        },
        table=_curve_table(shown, analysis.points),
        choices=choices,
        panels=panels,
    )


def _within_budget(present: pl.DataFrame, configurations: pl.DataFrame) -> pl.DataFrame:
    """Configurations whose curves fit the page, spread evenly over the jitter's ranks."""
    total = int(present["num_rows"].sum())
    if total <= MAX_CURVE_ROWS:
        return present
    num_kept = max(2, present.height * MAX_CURVE_ROWS // total)
    ranked = present.join(
        configurations.select("config_id", "hf_sd"), on="config_id", how="left"
    ).sort("hf_sd", "config_id")
    places = [round(i * (ranked.height - 1) / (num_kept - 1)) for i in range(num_kept)]
    chosen = ranked[sorted(set(places))]
    return present.join(chosen, on="config_id", how="semi", maintain_order="left")


def _two_to_compare(configurations: pl.DataFrame, kept: pl.DataFrame) -> list[str]:
    """The one that falls most (or jitters most), and the one that ends highest."""
    known = configurations.join(kept, on="config_id", how="semi", maintain_order="left")
    fallen = known.filter(pl.col("drop_low") > 0).sort("drop", descending=True, maintain_order=True)
    jumpy = known.drop_nulls("hf_sd").sort("hf_sd", descending=True, maintain_order=True)
    best = known.drop_nulls("final_accuracy").sort(
        "final_accuracy", descending=True, maintain_order=True
    )
    ids = [*fallen["config_id"][:1], *jumpy["config_id"][:1], *kept["config_id"]]
    first = ids[0]
    second = next(name for name in [*best["config_id"][:1], *kept["config_id"]] if name != first)
    return [first, second]


def _seed_means(epochs: pl.DataFrame) -> pl.DataFrame:
    mean, spread = pl.col("val_accuracy").mean(), pl.col("val_accuracy").std()
    return (
        epochs.group_by("config_id", "epoch")
        .agg(
            (100 * mean).round(3).alias("accuracy"),
            (100 * (mean - spread)).round(3).alias("accuracy_low"),
            (100 * (mean + spread)).round(3).alias("accuracy_high"),
            (100 * pl.col("train_eval_accuracy").mean()).round(3).alias("train_accuracy"),
            pl.col("val_loss").mean().round(4).alias("loss"),
            pl.col("train_eval_loss").mean().round(4).alias("train_loss"),
        )
        .sort("config_id", "epoch")
    )


def _marks(trials: pl.DataFrame) -> pl.DataFrame:
    trials = trials.filter(pl.col("status") == "completed")
    kinds = [
        trials.select("config_id", "seed", pl.col("peak_epoch").cast(pl.Int64).alias("epoch"),
                      (100 * pl.col("best_naive")).alias("accuracy"),
                      pl.lit(charts.MARKS[0]).alias("mark")),
        trials.select("config_id", "seed", pl.col("restored_epoch").cast(pl.Int64).alias("epoch"),
                      (100 * pl.col("restored_accuracy")).alias("accuracy"),
                      pl.lit(charts.MARKS[1]).alias("mark")),
        trials.filter(pl.col("stopped_early")).select(
                      "config_id", "seed", pl.col("epochs_run").cast(pl.Int64).alias("epoch"),
                      (100 * pl.col("last_accuracy")).alias("accuracy"),
                      pl.lit(charts.MARKS[2]).alias("mark")),
    ]  # fmt: skip
    return pl.concat(kinds).drop_nulls("epoch").with_columns(pl.col("accuracy").round(3))


def _curves_finding(analysis: Analysis) -> str:
    known = analysis.trials.drop_nulls("best_naive")
    if not known.height:
        return "No trial has completed; the curves are those of diverged ones."
    optimism = float((known["best_naive"] - known["final_accuracy"]).median())  # pyright: ignore[reportArgumentType]
    stopped = int(known["stopped_early"].sum())
    said = (
        f"The best epoch reads {pp(optimism, 1)} pp higher than the last epochs' mean (median of "
        f"{known.height} trials): part of that is luck of the draw, more so the larger the jitter."
    )
    if stopped:
        said += f" {stopped} trials stopped early; their curves end there."
    return said


def _curve_table(trials: pl.DataFrame, points: pl.DataFrame) -> pl.DataFrame:
    rows = trials.join(points.select("config_id", "point"), on="config_id", maintain_order="left")
    return rows.select(
        pl.col("point").alias("configuration"),
        "seed",
        "status",
        pl.col("epochs_run").alias("epochs"),
        _fixed(100 * pl.col("final_accuracy"), 2).alias("final accuracy, %"),
        _fixed(100 * pl.col("best_naive"), 2).alias("best epoch's accuracy (naive), %"),
        pl.col("peak_epoch").alias("best epoch"),
        _fixed(100 * pl.col("restored_accuracy"), 2).alias("restored weights, %"),
        _interval_text("hf_sd", "jitter, pp"),
        _interval_text("gap", "gap, pp"),
        _interval_text("drop", "fall from the peak (naive), pp"),
    )


def measures(analysis: Analysis) -> Figure | None:
    """A row per configuration with its intervals; None when they are too many or not measured."""
    known = analysis.configurations.drop_nulls("hf_sd")
    if not 0 < known.height <= MAX_MEASURED:
        return None
    names = [name for name in ("hf_sd", "gap", "drop", "final_accuracy")
             if known[name].drop_nulls().len()]  # fmt: skip
    titles = {
        "hf_sd": "jitter (SD), pp",
        "gap": "gap, pp",
        "drop": "fall from the peak, pp",
        "final_accuracy": "final accuracy, %",
    }
    ends = ("", "_low", "_high")
    data = known.sort("hf_sd", descending=True, maintain_order=True).select(
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
        "validation set of this size would show if the true accuracy stood still.",
        description="Jitter, gap, fall from the peak and final accuracy of each configuration "
        "with their intervals.",
        charts=[charts.measures(data, [(name, titles[name]) for name in names])],
        data={"measures": data},
        table=known.sort("hf_sd", descending=True, maintain_order=True).select(
            pl.col("point").alias("configuration"),
            _interval_text("hf_sd", "jitter, pp"),
            _fixed(100 * pl.col("fin_sd"), 2).alias("made by the validation set, pp"),
            _interval_text("finite_share", "its share of the variance, %"),
            _fixed(100 * pl.col("churn"), 2).alias("predictions that flip, %"),
            _fixed(100 * pl.col("plateau_sd"), 2).alias("jitter and slow wander, pp"),
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
    contrast = pl.format(
        "{}: {} against {}", pl.col("axis").str.replace_all("_", " "), "level", "reference"
    ) + pl.when(pl.col("given") == "").then(pl.lit("")).otherwise(pl.format(", at {}", "given"))
    labelled = (
        analysis.effects.with_columns(
            contrast.alias("contrast"),
            pl.col("axis").replace_strict(order, return_dtype=pl.Int64).alias("place"),
            is_clear().alias("clear"),
            *[(pl.col(name) * scale).round(4) for name in ("estimate", "low", "high")],
        )
        .with_columns(pl.int_range(pl.len()).over("place", "scope").alias("row"))
        .sort("place", "row", maintain_order=True)
    )
    data = labelled.filter((pl.col("scope") == "pooled") & pl.col("response").is_in(list(titles)))
    clear = data.filter(pl.col("clear")).height
    return Figure(
        name="effects",
        title="What each knob did",
        finding=f"{clear} of {data.height} contrasts leave out no change (blue).",
        how="Each level against the first, paired over seeds and over the other axes; batch size "
        "only at equal learning rate and scaling. Bars: 95 % intervals, each for itself. All "
        "trials share the validation set, so its error cancels. Epochs are the same for all, so a "
        "larger batch makes fewer updates.",
        description="Interval plot of paired differences per hyperparameter for jitter, gap, "
        "fall from the peak, loss and accuracy.",
        charts=[charts.effects(data, shown)],
        data={"effects": data.select("contrast", "response", "estimate", "low", "high", "clear")},
        table=labelled.select(
            "contrast",
            pl.col("scope").replace({"slice": "one slice"}),
            pl.col("response").str.replace_all("_", " "),
            _with_limits(*[_fixed(pl.col(name), 2) for name in ("estimate", "low", "high")]).alias(
                "change"
            ),
            pl.col("num_pairs").alias("pairs"),
        ),
    )
