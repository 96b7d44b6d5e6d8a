"""Simulated curves -> what verdict() reads, and its labels, one row per configuration."""

import numpy as np
import polars as pl

from analysis.curves import Curves, nan_to_null
from analysis.measures.cutoffs import shipped
from analysis.measures.harm import fall_of_seeds, measure_harm
from analysis.measures.jitter import jitter_components, measure_jitter, pool_jitter
from analysis.measures.late import late_trend
from analysis.measures.overfitting import measure_overfitting
from analysis.measures.run_rise import measure_run_rise
from analysis.measures.within_run import measure_within_run, of_several_runs
from analysis.stats.likely_falls import likely_falls, likely_falls_of_seeds
from analysis.stats.trend import usable_segments
from analysis.verdicts.rules import verdict

_OF_TRAINING = (
    *("train_drop", "running_drop", "train_loss_regained", "guessing_at", "rate_growth"),
)


def measured(curves: Curves, num_seeds: int) -> pl.DataFrame:
    """What verdict() reads, one row per configuration.

    Args: curves: trials in the order of configurations, then seeds.
    """
    parts = jitter_components(curves)
    num = len(curves.trial_ids) // num_seeds
    config = pl.Series("config_id", np.arange(num).repeat(num_seeds))
    if num_seeds == 1:
        found = measure_jitter(parts).drop("trial_id")
        found = found.hstack(measure_harm(curves).drop("trial_id"))
        mean = curves
    else:
        pooled = pool_jitter(parts.with_columns(config), "config_id")
        found = measure_jitter(pooled).drop("config_id")
        ends = np.full((num, num_seeds), curves.num_epochs)
        found = found.hstack(fall_of_seeds(curves, ends, shipped())[0].drop("config_id"))
        shape = (num, num_seeds, -1)
        mean = Curves.of_accuracy(
            curves.val_accuracy.reshape(shape).mean(axis=1),
            val_loss=curves.val_loss.reshape(shape).mean(axis=1),
            lr=curves.lr[::num_seeds],
        )
    unknown = np.full(len(curves.trial_ids), np.nan)
    training = measure_overfitting(curves, unknown)
    training = training.hstack(measure_within_run(curves).drop("trial_id"))
    of_training = (
        training.with_columns(config)
        .group_by("config_id", maintain_order=True)
        .agg(pl.col(*_OF_TRAINING, "final_accuracy").mean(), *of_several_runs())
    )
    found = found.hstack(of_training.drop("config_id"))
    found = found.hstack(_likely(curves, num_seeds))
    for of_mean in (late_trend(mean), measure_run_rise(mean)):
        found = found.hstack(of_mean.drop("trial_id"))
    return found.with_columns(pl.lit(num_seeds).alias("num_seeds"))


def _likely(curves: Curves, num_seeds: int) -> pl.DataFrame:
    """By the likelihood of noise that all these configurations tell together, as of one sweep."""
    used = usable_segments(curves)
    if num_seeds == 1:
        (falls,) = likely_falls([(curves.val_accuracy, used)])
    else:
        shape = (-1, num_seeds, curves.num_epochs)
        every = used.reshape(shape)
        labels = np.where((every >= 0).all(axis=1), every[:, 0], -1)
        (falls,) = likely_falls_of_seeds([(curves.val_accuracy.reshape(shape), labels)])
    limits = falls.cautious._asdict()
    return nan_to_null(pl.DataFrame({f"likely_drop_{end}": part for end, part in limits.items()}))


def judged(curves: Curves, num_seeds: int) -> pl.DataFrame:
    """Measures and labels, each configuration by itself."""
    return verdict(measured(curves, num_seeds), adjust=False)
