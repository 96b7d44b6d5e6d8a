"""A source -> all that the analysis knows about it: `analyze`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from analysis.answer.answer import Answer
from analysis.answer.build import answer_of
from analysis.answer.sweep import with_sweep
from analysis.causes.effects import paired_effects
from analysis.causes.late import late_components, late_jitter
from analysis.causes.overall import Overall, overall
from analysis.causes.pooled import Causes, causes
from analysis.causes.trained import all_seeds_trained
from analysis.columns import FRAMES, described, estimates, ordered
from analysis.curves import Curves, Floats, curves, nan_to_null
from analysis.measures.best_epoch import measure_best_epoch
from analysis.measures.harm import measure_harm, measure_harm_of_seeds
from analysis.measures.jitter import jitter_components, measure_jitter, pool_jitter
from analysis.measures.late import late_trend, late_trend_of_means
from analysis.measures.learnt import learnt_nothing
from analysis.measures.likely_fall import measure_likely_falls, measure_likely_falls_of_seeds
from analysis.measures.overfitting import measure_overfitting
from analysis.measures.run_rise import (
    measure_run_rise,
    measure_score_fall,
    run_rise_of_means,
    score_fall_of_means,
)
from analysis.measures.within_run import measure_within_run, of_several_runs
from analysis.sources import censoring
from analysis.sources.axes import Axis, axes_of, points
from analysis.sources.evidence import checks, not_recorded, of_loops
from analysis.sources.example_order import order_quality, order_ratio_of
from analysis.sources.frames import Source, open_sources, read_sources
from analysis.sources.logs.reading import Log
from analysis.sources.store import class_counts
from analysis.stats.intervals import mean_interval, pooled_df
from analysis.verdicts.rules import COLUMNS, verdict
from raysweep.errors import InputError
from raysweep.spec import nested_fields
from raysweep.store.files import Store
from raysweep.store.schema import DONE

MAX_CLASS_COUNTS = 5_000_000  # classes times epochs of all trials
# Of the verdict; a sentence for each label, and `reason` with all of them.
LABELS = (
    *("status", "noise", "overfit", "noise_among", "overfit_among", "noise_said", "overfit_said"),
    *("loss_course", "loss_said", "score_course", "score_said"),
    *("status_reason", "noise_reason", "overfit_reason", "reason"),
)


@dataclass(frozen=True)
class Analysis:
    """Tidy frames of one source; columns() says what is in the first three.

    Accuracies are fractions; `_low` and `_high` end two-sided 95 % confidence intervals.

    record: the sweep's own record: spec, versions, hardware, command; of a frame of curves what
        it tells
    axes: what varies, with levels in the order of the spec
    points: one row per planned configuration: config_id, point (its words), a label per axis
    trials: one row per finished trial; estimates are null unless it completed
    configurations: one row per planned configuration, pooled over its completed seeds
    epochs: one live row per trial, epoch and weights_kind
    effects: paired differences between the levels of each axis (see analysis.causes.effects)
    causes: what pools all trials: attribution, ranking, replay and more (analysis.causes.pooled)
    late: the jitter of the second half of training: config_id and columns of measure_jitter()
    overall: the numbers of the answer (analysis.causes.overall)
    quality: check, count, detail
    stores: where bits and class counts can be read with analysis.sources.store; none for curves
    log: what was read, where the source is a log of another tool
    """

    record: dict[str, Any]
    axes: tuple[Axis, ...]
    points: pl.DataFrame
    trials: pl.DataFrame
    configurations: pl.DataFrame
    epochs: pl.DataFrame
    effects: pl.DataFrame
    causes: Causes
    late: pl.DataFrame
    overall: Overall
    quality: pl.DataFrame
    stores: tuple[Store, ...] = ()
    log: Log | None = None

    @property
    def attribution(self) -> pl.DataFrame:
        """Which axis explains how much of each response (see analysis.causes.attribution)."""
        return self.causes.attribution

    @property
    def answer(self) -> Answer:
        """What all of it says: sentences, what to do, what could not be checked."""
        return with_sweep(answer_of(self), self)

    def columns(self) -> pl.DataFrame:
        """Every column of trials, configurations and epochs, in words.

        Returns: one row per column: frame, name, type, unit, meaning, module (that makes it) and
            read_by (page, verdicts, causes, or "you" where nothing here reads it).
        """
        frames = (self.trials, self.configurations, self.epochs)
        return described(dict(zip(FRAMES, frames, strict=True)))


def analyze(source: Source, *, config: Sequence[str] | None = None) -> Analysis:
    """Analyze the latest sweep of a store, of several stores together, or a log of any tool.

    Args:
        source: a store or its folder; the path of a log; what `read_curves` returned; a tidy
            Polars frame, lazy or not, with a row per trial and epoch and the columns of
            analysis.sources.columns; or a sequence of stores, or of logs and frames.
        config: of a log or a frame, the columns that are hyperparameters; by default all columns
            that are not known and constant within every trial.

    Returns: the frames, see Analysis; accuracies are fractions.
    Raises: InputError when there is no such source, no trial of it has finished, or a frame is not
        valid.
    """
    parts = open_sources(source, config=config)
    record, trials, epochs, quality = read_sources(parts, config=config)
    trials = trials.rename({"status": "outcome"})  # of training; `status` is the verdict's
    axes = axes_of(record)
    if taken := estimates() & set(trials.columns):
        name = min(taken)
        raise InputError(f"column {name!r} of the curves has the name of a measure: rename it")
    labels = points(record, axes)
    completed = trials.filter(pl.col("outcome") == "completed")
    used = pl.col("trial_id").is_in(completed["trial_id"].implode())
    raw = epochs.filter((pl.col("weights_kind") == "raw") & used)
    ratio = order_ratio_of(parts, completed["trial_id"].to_list())
    trials = trials.with_columns(pl.lit(ratio, pl.Float64).alias("order_ratio"))
    # Of a score in its own unit: name, higher_is_better.
    higher = (record.get("score") or {}).get("higher_is_better", True)
    components, *measures = _per_trial(raw, completed, higher_is_better=higher)
    pairs = completed.select("trial_id", "config_id")
    crossfit, of_seeds = measure_harm_of_seeds(raw, pairs)
    # A row per trial from every module; those of a whole configuration go to _configurations.
    nothing = learnt_nothing(epochs, trials)
    likely = measure_likely_falls(curves(raw))
    jitter = measure_jitter(components).drop("val_n")
    for measured in (jitter, *measures, crossfit, nothing, likely):
        trials = trials.join(measured, on="trial_id", how="left", maintain_order="left")
    of_scores = pl.col("score_kind").fill_null("right") != "right"
    restored = pl.coalesce(
        pl.col("restored_val_correct").cast(pl.Float64), pl.col("restored_val_score_sum")
    )
    trials = trials.with_columns(
        (restored / pl.col("n_val")).alias("restored_accuracy"),
        # Guessing among classes has no meaning where scores are no counts of right answers.
        pl.when(~of_scores).then(pl.col("guessing_at")).alias("guessing_at"),
    ).with_columns(
        pl.coalesce("restored_accuracy", "final_accuracy").alias("kept_accuracy"),
    )
    trials = censoring.labelled(
        _judged(
            trials,
            finished=pl.col("outcome").is_in(DONE),
            diverged=(pl.col("outcome") == "diverged") & ~pl.col("learnt_nothing"),
            val_n=pl.col("n_val"),
        ),
        pl.col("outcome") == censoring.STOPPED,
    )
    pooled = (
        *(of_seeds, late_trend_of_means(raw, pairs)),
        measure_likely_falls_of_seeds(raw, pairs),
        run_rise_of_means(raw, pairs),
        score_fall_of_means(raw, pairs, higher_is_better=higher),
    )
    stores = tuple(part for part in parts if isinstance(part, Store))
    names = [axis.name for axis in axes]
    classes = _class_counts(stores, raw, completed)
    configurations = _configurations(trials, components, pooled, labels, axes, record)
    compared = _with_one_kind_of_fall(trials)
    late = late_components(raw, pairs)
    of_late = measure_jitter(pool_jitter(late, "config_id"))
    trained = configurations.filter(all_seeds_trained()).join(
        late_jitter(late), on="config_id", how="left", maintain_order="left"
    )
    paired = compared.join(trained.select("config_id"), on="config_id", how="semi")
    effects = paired_effects(paired, trained, labels, axes)
    asked = causes(record, compared, epochs, raw, labels, names, trained["config_id"], classes)
    parts_of_jitter = {"all": components.join(pairs, on="trial_id"), "late": late}
    return Analysis(
        record=record,
        axes=axes,
        points=labels,
        trials=ordered("trials", trials),
        configurations=ordered("configurations", configurations),
        epochs=ordered("epochs", epochs),
        effects=effects,
        causes=asked,
        late=of_late,
        overall=overall(configurations, trials, labels, names, effects, asked, parts_of_jitter),
        quality=pl.concat(
            [
                quality,
                checks(order_quality(ratio, completed.height)),
                not_recorded(epochs, of_loops=bool(stores) and of_loops(trials)),
            ]
        ),
        stores=stores,
        log=next((part.log for part in parts if not isinstance(part, Store)), None),
    )


def _class_counts(
    stores: Sequence[Store], raw: pl.DataFrame, completed: pl.DataFrame
) -> pl.DataFrame | None:
    """Right answers by class, unless they are too many to hold."""
    num_classes = int(completed["num_classes"].max() or 0)  # pyright: ignore[reportArgumentType]
    if not stores or not 0 < num_classes * raw.height <= MAX_CLASS_COUNTS:
        return None
    counts = pl.concat(class_counts(store) for store in stores)
    return counts.unique(["trial_id", "epoch"], keep="first", maintain_order=True)


def _with_one_kind_of_fall(trials: pl.DataFrame) -> pl.DataFrame:
    """With `drop` as trials are compared by it: cross-fitted where any trial has that, else naive.

    Never both: a naive fall is at least 0 and grows with the jitter, so its difference to a
    cross-fitted one would be no effect of a knob. Trials without one are then null.
    """
    if not trials["drop_crossfit"].count():
        return trials
    return trials.with_columns(pl.col("drop_crossfit").alias("drop"))


def _per_trial(
    raw: pl.DataFrame, completed: pl.DataFrame, *, higher_is_better: bool
) -> list[pl.DataFrame]:
    """What each module measures on trials of the same length, a row per trial."""
    num_train = dict(completed.select("trial_id", "n_train").iter_rows())

    def measured(group: Curves) -> list[pl.DataFrame]:
        # A size that is not known is NaN, not 0, which would be a subset without sampling error.
        sizes = np.array([num_train[trial_id] for trial_id in group.trial_ids], float)
        return [
            jitter_components(group),
            measure_overfitting(group, sizes),
            measure_best_epoch(group),
            measure_harm(group),
            late_trend(group),
            measure_run_rise(group),
            measure_score_fall(group, higher_is_better=higher_is_better),
            measure_within_run(group),
        ]

    by_module = zip(*(measured(group) for group in curves(raw)), strict=True)
    return [pl.concat(frames) for frames in by_module]


def _configurations(
    trials: pl.DataFrame,
    components: pl.DataFrame,
    pooled: Sequence[pl.DataFrame],
    labels: pl.DataFrame,
    axes: Sequence[Axis],
    record: dict[str, Any],
) -> pl.DataFrame:
    """Pooled over the completed seeds of each planned configuration."""
    nested = {name for name, kind in nested_fields() if kind}
    varied = [
        name
        for axis in axes
        for name in trials.columns
        if name == axis.name or (axis.name in nested and name.startswith(f"{axis.name}_"))
    ]
    planned = pl.DataFrame(
        {"config_id": [config_id for _, config_id, _ in record["trials"]]}
    ).group_by("config_id", maintain_order=True)
    status = trials.group_by("config_id", maintain_order=True).agg(
        *[pl.col(name).first() for name in varied],
        *[
            (pl.col("outcome") == word).sum().cast(pl.Int64).alias(f"num_{word}")
            for word in ("completed", "diverged", "failed", "stopped")
        ],
        pl.col("stopped_early").sum().cast(pl.Int64).alias("num_stopped_early"),
        pl.col("learnt_nothing").min(),  # all of them
    )
    completed = trials.filter(pl.col("outcome") == "completed")
    config_of = completed.select("trial_id", "config_id")
    jitter = measure_jitter(pool_jitter(components.join(config_of, on="trial_id"), "config_id"))
    table = labels.select("config_id", "point")
    num_seeds = planned.agg(pl.len().cast(pl.Int64).alias("num_seeds"))
    runs = completed.group_by("config_id").agg(of_several_runs())
    for measured in (num_seeds, status, jitter, _means(completed), runs, *pooled):
        table = table.join(measured, on="config_id", how="left", maintain_order="left")
    table = table.with_columns(
        pl.col("^num_(seeds|completed|diverged|failed|stopped|stopped_early)$").fill_null(0)
    )
    classes = trials["num_classes"].max() if "num_classes" in trials.columns else None
    judged = _judged(
        table,
        finished=pl.col("num_completed") + pl.col("num_diverged") > 0,
        diverged=(pl.col("num_completed") == 0)
        & (pl.col("num_diverged") > 0)
        & ~pl.col("learnt_nothing"),
        num_seeds=pl.col("num_completed"),
        num_classes=pl.lit(classes),
        order_ratio=pl.lit(trials["order_ratio"].max(), pl.Float64),
    )
    return censoring.labelled(judged, censoring.whole_configuration())


def _judged(table: pl.DataFrame, *, finished: pl.Expr, **known: pl.Expr) -> pl.DataFrame:
    """With the verdict's labels; those of what never finished are null, its status "failed".

    Args: finished: whether a trial of the row did; known: what the verdict reads under other names
        than the table's.
    """
    seen = table.with_columns(**known)
    labels = verdict(seen.select(name for name in COLUMNS if name in seen.columns)).select(LABELS)
    failed = dict.fromkeys(LABELS) | {"status": "failed", "reason": "No trial finished."}
    done = table.select(finished).to_series()
    judged = labels.select(
        pl.when(done).then(name).otherwise(pl.lit(word)).alias(name)
        for name, word in failed.items()
    )
    return table.hstack(judged)


def _means(completed: pl.DataFrame) -> pl.DataFrame:
    """Means over seeds with Student's 95 % confidence intervals.

    That of the gap adds the error of the one validation set that all seeds share.
    """
    names = ("final_accuracy", "kept_accuracy", "best_naive", "gap")
    table = completed.group_by("config_id", maintain_order=True).agg(
        *[pl.col(name).mean() for name in names],
        *[(pl.col(name).var() / pl.col(name).count()).alias(f"{name}_var") for name in names],
        *[(pl.col(name).count() - 1.0).alias(f"{name}_df") for name in names],
        *[pl.col(f"gap_{end}").mean().alias(f"gap_one_{end}") for end in ("low", "high")],
        pl.col("gap_set_var").mean(),
        pl.col("gap_set_df").mean(),
        pl.col("num_epochs").mean().alias("mean_epochs"),
        pl.col("peak_epoch").median(),
        pl.col("final_loss", "train_drop", "running_drop", "train_loss_regained").mean(),
        pl.col("train_drop_low", "running_drop_low").mean(),
        pl.col("rate_growth").max(),
        pl.when(pl.col("guessing_at").null_count() == 0).then(pl.col("guessing_at").mean()),
    )
    ends: dict[str, Floats] = {}
    for name in names:
        variance, nu = table[f"{name}_var"].to_numpy(), table[f"{name}_df"].to_numpy()
        if name == "gap":
            shared = (table["gap_set_var"].to_numpy(), table["gap_set_df"].to_numpy())
            variance, nu = pooled_df([(variance, np.maximum(nu, 1)), shared])
        ends[f"{name}_low"], ends[f"{name}_high"] = mean_interval(
            table[name].to_numpy(), np.sqrt(variance), nu
        )
        # No accuracy lies beyond all examples, and no gap beyond all of one sign.
        least = -1.0 if name == "gap" else 0.0
        ends[f"{name}_low"] = np.clip(ends[f"{name}_low"], least, 1)
        ends[f"{name}_high"] = np.clip(ends[f"{name}_high"], least, 1)
    table = nan_to_null(table.with_columns(**ends))
    alone = pl.col("gap_df") < 1  # one seed has the interval of its epochs and the validation set
    return table.with_columns(
        pl.when(alone).then(f"gap_one_{end}").otherwise(f"gap_{end}").alias(f"gap_{end}")
        for end in ("low", "high")
    ).drop("^.*_(var|df)$", "^gap_one_.*$")
