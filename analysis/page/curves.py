"""An analysis -> the figure of its curves, within what one page can hold."""

import polars as pl

from analysis.page import charts
from analysis.page.figures import Figure
from analysis.results import Analysis
from analysis.sources import censoring
from analysis.words import fixed, interval_text, pp

# What is drawn of an epoch; the others' copies would take most of a gigabyte in a large sweep.
EPOCH_COLUMNS = (
    "trial_id",
    "config_id",
    "seed",
    "weights_kind",
    "epoch",
    "val_accuracy",
    "val_loss",
    "train_eval_accuracy",
    "train_eval_loss",
)
MAX_CURVE_ROWS = 100_000  # rows of seeds' curves that one page holds
MAX_PANELS = 6  # up to so many configurations are all shown; beyond, two that one chooses


def curve_figure(analysis: Analysis) -> Figure | None:
    """Every seed's curves: of all configurations, or of two that the reader chooses."""
    shown = analysis.trials.filter(
        pl.col("outcome").is_in(["completed", "diverged", censoring.STOPPED])
    )
    epochs = (
        analysis.epochs.select(EPOCH_COLUMNS)
        .filter(pl.col("weights_kind") == "raw")
        .join(shown.select("trial_id"), on="trial_id", how="semi", maintain_order="left")
    )
    censored = shown.filter(pl.col("outcome") == censoring.STOPPED).select("trial_id")
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
    if censored.height:
        how += (
            f" {censored.height} curves end where the scheduler stopped them; they are in no mean."
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
            # Where some seeds' curves are cut, a mean would jump to that of the others.
            "means": _seed_means(epochs.join(censored, on="trial_id", how="anti")),
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
    trials = trials.filter(pl.col("outcome") == "completed")
    kinds = [
        trials.select(
            "config_id",
            "seed",
            pl.col("peak_epoch").cast(pl.Int64).alias("epoch"),
            (100 * pl.col("best_naive")).alias("accuracy"),
            pl.lit(charts.MARKS[0]).alias("mark"),
        ),
        trials.select(
            "config_id",
            "seed",
            pl.col("restored_epoch").cast(pl.Int64).alias("epoch"),
            (100 * pl.col("restored_accuracy")).alias("accuracy"),
            pl.lit(charts.MARKS[1]).alias("mark"),
        ),
        trials.filter(pl.col("stopped_early")).select(
            "config_id",
            "seed",
            pl.col("epochs_run").cast(pl.Int64).alias("epoch"),
            (100 * pl.col("last_accuracy")).alias("accuracy"),
            pl.lit(charts.MARKS[2]).alias("mark"),
        ),
    ]
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
        "outcome",
        pl.col("epochs_run").alias("epochs"),
        fixed(100 * pl.col("final_accuracy"), 2).alias("final accuracy, %"),
        fixed(100 * pl.col("best_naive"), 2).alias("best epoch's accuracy (naive), %"),
        pl.col("peak_epoch").alias("best epoch"),
        fixed(100 * pl.col("restored_accuracy"), 2).alias("restored weights, %"),
        interval_text("hf_sd", "jitter, pp"),
        interval_text("gap", "gap, pp"),
        interval_text("drop", "fall from the peak (naive), pp"),
    )
