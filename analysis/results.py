"""A store -> all that the analysis knows about its latest sweep."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis import fluctuation, frames, overfitting
from analysis.axes import Axis, axes_of, points
from analysis.curves import curves
from analysis.effects import effects
from analysis.stats import mean_interval, pooled_df
from raysweep.store import Store


@dataclass(frozen=True)
class Analysis:
    """Tidy frames of one sweep. Accuracies are fractions; limits are two-sided 95 %.

    record: the sweep's own record: spec, versions, hardware, command
    axes: what varies, with levels in the order of the spec
    points: one row per planned configuration: config_id, point (its words), a label per axis
    trials: one row per finished trial; estimates are null unless it completed
    configurations: one row per planned configuration, pooled over its completed seeds
    epochs: one live row per trial, epoch and weights_kind
    effects: paired contrasts of the levels of each axis (see analysis.effects)
    quality: check, count, detail
    """

    record: dict[str, Any]
    axes: tuple[Axis, ...]
    points: pl.DataFrame
    trials: pl.DataFrame
    configurations: pl.DataFrame
    epochs: pl.DataFrame
    effects: pl.DataFrame
    quality: pl.DataFrame


def analyze(source: Store | Path | str) -> Analysis:
    """Analyze the latest sweep of a store.

    Raises: InputError when there is no store, or no trial of the sweep has finished.
    """
    store = source if isinstance(source, Store) else Store.existing(source)
    record, trials, epochs, quality = frames.read(store)
    axes = axes_of(record)
    labels = points(record, axes)
    completed = trials.filter(pl.col("status") == "completed")
    raw = epochs.filter(pl.col("weights_kind") == "raw").join(
        completed.select("trial_id"), on="trial_id", how="semi", maintain_order="left"
    )
    components, measures = _per_trial(raw, completed)
    crossfit, drops = overfitting.crossfit(raw, completed.select("trial_id", "config_id"))
    estimates = (
        completed.select("trial_id", "restored_val_correct", "n_val")
        .join(fluctuation.summarise(components), on="trial_id", how="left")
        .join(measures, on="trial_id", how="left")
        .join(crossfit, on="trial_id", how="left")
        .with_columns((pl.col("restored_val_correct") / pl.col("n_val")).alias("restored_accuracy"))
        .with_columns(
            pl.coalesce("restored_accuracy", "final_accuracy").alias("kept_accuracy"),
            pl.coalesce("restored_accuracy", "best_naive").alias("chosen_accuracy"),
        )
        .drop("restored_val_correct", "n_val", "val_n")
    )
    trials = trials.join(estimates, on="trial_id", how="left", maintain_order="left")
    configurations = _configurations(trials, components, drops, labels, axes, record)
    paired = trials.filter(pl.col("status") == "completed").with_columns(
        pl.coalesce("drop_crossfit", "drop").alias("drop")
    )
    return Analysis(
        record=record,
        axes=axes,
        points=labels,
        trials=trials,
        configurations=configurations,
        epochs=epochs,
        effects=effects(paired, configurations, labels, axes),
        quality=quality,
    )


def _per_trial(raw: pl.DataFrame, completed: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    num_train = dict(completed.select("trial_id", "n_train").iter_rows())
    components: list[pl.DataFrame] = []
    measures: list[pl.DataFrame] = []
    for group in curves(raw):
        components.append(fluctuation.components(group))
        sizes = np.array([num_train[trial_id] or 0 for trial_id in group.trial_ids], float)
        measures.append(overfitting.measures(group, sizes))
    return pl.concat(components), pl.concat(measures)


def _configurations(
    trials: pl.DataFrame,
    components: pl.DataFrame,
    drops: pl.DataFrame,
    labels: pl.DataFrame,
    axes: Sequence[Axis],
    record: dict[str, Any],
) -> pl.DataFrame:
    """Pooled over the completed seeds of each planned configuration."""
    varied = [
        name
        for axis in axes
        for name in trials.columns
        if name == axis.name or name.startswith(f"{axis.name}_")
    ]
    planned = pl.DataFrame(
        {"config_id": [config_id for _, config_id, _ in record["trials"]]}
    ).group_by("config_id", maintain_order=True)
    status = trials.group_by("config_id", maintain_order=True).agg(
        *[pl.col(name).first() for name in varied],
        *[
            (pl.col("status") == word).sum().cast(pl.Int64).alias(f"num_{word}")
            for word in ("completed", "diverged", "failed")
        ],
        pl.col("stopped_early").sum().cast(pl.Int64).alias("num_stopped_early"),
    )
    completed = trials.filter(pl.col("status") == "completed")
    config_of = completed.select("trial_id", "config_id")
    jitter = fluctuation.summarise(
        fluctuation.pool(components.join(config_of, on="trial_id"), "config_id")
    )
    return (
        labels.select("config_id", "point")
        .join(planned.agg(pl.len().cast(pl.Int64).alias("num_seeds")), on="config_id", how="left")
        .join(status, on="config_id", how="left", maintain_order="left")
        .with_columns(pl.col("^num_.*$").fill_null(0))
        .join(jitter, on="config_id", how="left", maintain_order="left")
        .join(_means(completed), on="config_id", how="left", maintain_order="left")
        .join(drops, on="config_id", how="left", maintain_order="left")
        .with_columns(pl.col("drop").is_not_null().alias("drop_is_crossfit"))
        .with_columns(
            pl.coalesce(name, f"{name}_naive").alias(name)
            for name in ("drop", "drop_low", "drop_high")
        )
        .drop("drop_naive", "drop_low_naive", "drop_high_naive")
    )


def _means(completed: pl.DataFrame) -> pl.DataFrame:
    """Means over seeds with Student's limits.

    The gap's limits add the error of the one validation set that all seeds share. The naive drop
    keeps its own limits where there is one seed.
    """
    names = ("final_accuracy", "kept_accuracy", "chosen_accuracy", "best_naive", "loss_rise", "gap")
    one = pl.len() == 1
    table = completed.group_by("config_id", maintain_order=True).agg(
        *[pl.col(name).mean() for name in names],
        *[(pl.col(name).var() / pl.col(name).count()).alias(f"{name}_var") for name in names],
        *[(pl.col(name).count() - 1.0).alias(f"{name}_df") for name in names],
        *[pl.col(f"gap_{end}").mean().alias(f"gap_one_{end}") for end in ("low", "high")],
        pl.col("gap_set_var").mean(),
        pl.col("gap_set_df").mean(),
        pl.col("num_epochs").mean().alias("mean_epochs"),
        pl.col("peak_epoch").median(),
        pl.col("train_drop").mean(),
        pl.col("late_gain").mean(),
        pl.col("drop").mean().alias("drop_naive"),
        *[
            pl.when(one).then(pl.col(f"drop_{end}").first()).alias(f"drop_{end}_naive")
            for end in ("low", "high")
        ],
    )
    limits: list[pl.Series] = []
    for name in names:
        variance, nu = table[f"{name}_var"].to_numpy(), table[f"{name}_df"].to_numpy()
        if name == "gap":
            shared = (table["gap_set_var"].to_numpy(), table["gap_set_df"].to_numpy())
            variance, nu = pooled_df([(variance, np.maximum(nu, 1)), shared])
        for end, values in zip(
            ("low", "high"),
            mean_interval(table[name].to_numpy(), np.sqrt(variance), nu),
            strict=True,
        ):
            limits.append(pl.Series(f"{name}_{end}", values, pl.Float64).fill_nan(None))
    return (
        table.with_columns(limits)
        .with_columns(
            # With one seed, the limits that its epochs and the validation set give.
            pl.when(pl.col("gap_df") < 1)
            .then(pl.col(f"gap_one_{end}"))
            .otherwise(pl.col(f"gap_{end}"))
            .alias(f"gap_{end}")
            for end in ("low", "high")
        )
        .drop("gap_set_var", "gap_set_df", "gap_one_low", "gap_one_high",
              *[f"{name}_{part}" for name in names for part in ("var", "df")])
    )  # fmt: skip
