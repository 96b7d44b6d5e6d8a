"""The figure of the curves, within what one page can hold."""

from collections.abc import Mapping

import polars as pl

from analysis.answer.settings import Setting
from analysis.labels import Outcome
from analysis.page.charts import MARKS, curves_chart
from analysis.page.figures import Figure
from analysis.results import Analysis
from analysis.words import fixed, interval_text, pp

# What is drawn of an epoch; the others' copies would take most of a gigabyte in a large sweep.
_TRIAL_COLUMNS = ("trial_id", "config_id", "seed")
_EPOCH_COLUMNS = ("epoch", "val_accuracy", "val_loss", "train_eval_accuracy", "train_eval_loss")
MAX_CURVE_ROWS = 100_000  # rows of seeds' curves that one page holds
_MAX_PANELS = 6  # up to so many configurations are all shown; beyond, two that one chooses


def curves_figure(analysis: Analysis, names: Mapping[str, Setting]) -> Figure | None:
    """Draw every seed's curves: of all configurations, or of two that the reader chooses.

    Args: names: of all settings; the first two that are drawn are shown first.
    Returns: None where there are no curves.
    """
    drawn = (Outcome.COMPLETED, Outcome.DIVERGED, Outcome.STOPPED)
    trials = analysis.trials.filter(pl.col("outcome").is_in(drawn))
    epochs = (
        analysis.epochs.select(*_TRIAL_COLUMNS, "weights_kind", *_EPOCH_COLUMNS)
        .filter(pl.col("weights_kind") == "raw")
        .join(trials.select("trial_id"), on="trial_id", how="semi", maintain_order="left")
    )
    censored = trials.filter(pl.col("outcome") == Outcome.STOPPED).select("trial_id")
    present = analysis.points.join(
        epochs.group_by("config_id").agg(pl.len().alias("num_rows")),
        on="config_id",
        maintain_order="left",
    )
    if not present.height:
        return None
    chosen = _within_budget(present, analysis.configurations)
    epochs = epochs.join(chosen, on="config_id", how="semi", maintain_order="left")
    kept = set(chosen["config_id"])
    choices = [(name, setting.name) for name, setting in names.items() if name in kept]
    if len(choices) <= _MAX_PANELS:
        by_row = chosen.sort([axis.name for axis in reversed(analysis.axes)], maintain_order=True)
        panels = list(by_row["config_id"])
        columns = min(len(panels), 3 if len(panels) != 4 else 2)
    else:
        second = [name for name in (*_of_interest(analysis), *dict(choices)) if name in kept]
        panels = list(dict.fromkeys([choices[0][0], *second]))[:2]
        columns = 2
    points = dict(choices)
    last = int(epochs["epoch"].max())  # pyright: ignore[reportArgumentType]
    marks = _marks(trials.join(chosen, on="config_id", how="semi", maintain_order="left"))
    chart = curves_chart(
        [(config_id, points[config_id]) for config_id in panels],
        first_epoch=max(1, min(4, last // 4)),
        last_epoch=last,
        columns=columns,
        marks=[mark for mark in MARKS if mark in set(marks["mark"])],
        training=bool(epochs["train_eval_accuracy"].count()),
    )
    return Figure(
        name="curves",
        title="Curves, every seed",
        finding=_finding(analysis),
        how=_how(censored.height, present.height, chosen.height),
        description="Validation accuracy of every seed over the epochs, its mean and band, "
        "training accuracy dashed, loss beneath.",
        charts=[chart],
        data={
            "seeds": epochs.select(
                *("config_id", "seed", "epoch"),
                (100 * pl.col("val_accuracy")).round(3).alias("accuracy"),
                pl.col("val_loss").round(4).alias("loss"),
            ).sort("config_id", "seed", "epoch"),
            # Where some seeds' curves are cut, a mean would jump to that of the others.
            "means": _seed_means(epochs.join(censored, on="trial_id", how="anti")),
            "marks": marks,
        },
        table=_table(trials, analysis.points),
        choices=choices,
        panels=panels,
    )


def _how(num_censored: int, num_points: int, num_drawn: int) -> str:
    how = (
        "Thin lines: seeds; thick: their mean, with a band of one SD between seeds; dashed: the "
        "same weights on a fixed part of the training set, in eval mode; loss beneath. The best "
        "epoch is the naive one: the highest point of a noisy curve. A click on the map opens a "
        "setting in the second panel."
    )
    if num_censored:
        how += f" {num_censored} curves end where the scheduler stopped them; they are in no mean."
    if num_points > num_drawn:
        how += (
            f" To keep the page small, {num_points - num_drawn} of {num_points} configurations are "
            "not drawn: those kept are spread evenly over the range of the jitter."
        )
    return how


def _within_budget(present: pl.DataFrame, configurations: pl.DataFrame) -> pl.DataFrame:
    """Configurations whose curves fit the page, spread evenly over the jitter's ranks."""
    total = int(present["num_rows"].sum())
    if total <= MAX_CURVE_ROWS:
        return present
    num_drawn = max(2, present.height * MAX_CURVE_ROWS // total)
    ranked = present.join(
        configurations.select("config_id", "hf_sd"), on="config_id", how="left"
    ).sort("hf_sd", "config_id")
    places = [round(i * (ranked.height - 1) / (num_drawn - 1)) for i in range(num_drawn)]
    chosen = ranked[sorted(set(places))]
    return present.join(chosen, on="config_id", how="semi", maintain_order="left")


def _of_interest(analysis: Analysis) -> list[str]:
    """What stands beside the best: what overfits, or the calmest that ties with it."""
    found = analysis.overall
    calmest = [found.calmer.config_id] if found.calmer else []
    return [*found.overfits, *calmest]


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
    completed = trials.filter(pl.col("outcome") == Outcome.COMPLETED)
    places = (
        (completed, "peak_epoch", "best_naive"),
        (completed, "restored_epoch", "restored_accuracy"),
        (completed.filter("stopped_early"), "epochs_run", "last_accuracy"),
    )
    marks = [
        rows.select(
            "config_id",
            "seed",
            pl.col(epoch).cast(pl.Int64).alias("epoch"),
            (100 * pl.col(accuracy)).round(3).alias("accuracy"),
            pl.lit(mark).alias("mark"),
        )
        for mark, (rows, epoch, accuracy) in zip(MARKS, places, strict=True)
    ]
    return pl.concat(marks).drop_nulls("epoch")


def _finding(analysis: Analysis) -> str:
    judged = analysis.trials.drop_nulls("best_naive")
    if not judged.height:
        return "No trial has completed; the curves are those of diverged ones."
    optimism = float((judged["best_naive"] - judged["final_accuracy"]).median())  # pyright: ignore[reportArgumentType]
    num_stopped = int(judged["stopped_early"].sum())
    finding = (
        "Picking the best epoch instead of the mean of the last ones flatters by "
        f"{pp(optimism, 1)} pp in the median run."
    )
    if num_stopped:
        finding += f" {num_stopped} trials stopped early; their curves end there."
    return finding


def _table(trials: pl.DataFrame, points: pl.DataFrame) -> pl.DataFrame:
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
        interval_text("drop", "fall from the peak (naive; 90 % limits), pp"),
    )
