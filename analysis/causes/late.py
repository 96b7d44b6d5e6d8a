"""The jitter of the second half of training, where the learning is over and the optimizer's own
noise is left: by trial, and pooled over any group of trials."""

from collections.abc import Iterable

import numpy as np
import polars as pl

from analysis.curves import Curves, curves
from analysis.measures.jitter import jitter_components, measure_jitter, pool_jitter
from analysis.stats.trend import Labels, usable_segments


def late_components(raw: pl.DataFrame, trials: pl.DataFrame) -> pl.DataFrame:
    """Measure the components of the jitter over the second half of each trial's own epochs.

    Args: raw: epochs of raw weights; trials: trial_id and config_id of those that count.
    Returns: rows of jitter_components(), with config_id.
    """
    parts = [jitter_components(group, _second_half(group)) for group in curves(raw, trials)]
    return pl.concat(parts).join(trials.select("trial_id", "config_id"), on="trial_id")


def _second_half(trials: Curves) -> Labels:
    early = np.arange(trials.num_epochs) < trials.num_epochs // 2
    return np.where(early, -1, usable_segments(trials))


def late_jitter(parts: pl.DataFrame) -> pl.DataFrame:
    """Pool the late jitter of each configuration over its seeds.

    Args: parts: of late_components(). Returns: config_id, late_hf_var, late_hf_df.
    """
    return pool_jitter(parts, "config_id").select(
        "config_id", pl.col("hf_var", "hf_df").name.prefix("late_")
    )


def pooled(parts: pl.DataFrame, config_ids: Iterable[str]) -> dict[str, float | None]:
    """Pool the jitter of all trials of some configurations into one row.

    Args: parts: rows of jitter_components() with config_id.
    Returns: the columns of measure_jitter(); all None without a trial.
    """
    chosen = parts.filter(pl.col("config_id").is_in(list(config_ids)))
    if not chosen.height:
        return dict.fromkeys(measure_jitter(pool_jitter(parts, "config_id").clear()).columns)
    one = pool_jitter(chosen.with_columns(pl.lit(0).alias("all")), "all")
    return measure_jitter(one).row(0, named=True)
