"""Falls of the accuracy by the likelihood of its noise, of all trials of a sweep."""

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from analysis.curves import Curves, Floats, curves, nan_to_null, padded
from analysis.stats.likely_falls import Falls, likely_falls, likely_falls_of_seeds
from analysis.stats.trend import usable_segments

ENDS = ("low", "high", "p")


def measure_likely_falls(groups: Iterable[Curves]) -> pl.DataFrame:
    """One row per trial: likely_drop_low, likely_drop_high, likely_drop_p, in the form that keeps
    its level where nothing but the accuracy is known.

    Args: groups: all trials of the sweep, by length of training.
    """
    parts = list(groups)
    found = likely_falls([(part.val_accuracy, usable_segments(part)) for part in parts])
    ids = [part.trial_ids for part in parts]
    return pl.concat(
        [_frame("trial_id", [], []), *map(_frame, ["trial_id"] * len(ids), ids, found)]
    )


def measure_likely_falls_of_seeds(raw: pl.DataFrame, trials: pl.DataFrame) -> pl.DataFrame:
    """The same of configurations: of one seed as of the trial, of more of their mean curves, up to
    the end of the shortest.

    Args: raw: epochs of raw weights; trials: trial_id, config_id of those to use.
    """
    plan = trials.sort("config_id", "trial_id").with_columns(
        pl.len().over("config_id").alias("num_seeds")
    )
    alone = plan.filter(pl.col("num_seeds") == 1)
    of_alone = measure_likely_falls(curves(raw, alone.select("trial_id")))
    single = of_alone.join(alone.select("trial_id", "config_id"), on="trial_id").drop("trial_id")
    lengths = raw.group_by("trial_id").agg(pl.col("epoch").max().alias("length"))
    several = plan.filter(pl.col("num_seeds") > 1).join(lengths, on="trial_id")
    several = several.with_columns(pl.col("length").min().over("config_id").alias("shortest"))
    ids: list[list[str]] = []
    shapes: list[tuple[Floats, np.ndarray]] = []
    for key, group in several.group_by("num_seeds", "shortest", maintain_order=True):
        num_seeds, shortest = (int(str(number)) for number in key)
        longest = int(str(group["length"].max()))
        made = padded(raw, group["trial_id"], longest)
        values = made.val_accuracy[:, :shortest].reshape(-1, num_seeds, shortest)
        used = usable_segments(made)[:, :shortest].reshape(-1, num_seeds, shortest)
        shapes.append((values, np.where((used >= 0).all(axis=1), used[:, 0], -1)))
        ids.append(group["config_id"].unique(maintain_order=True).to_list())
    found = likely_falls_of_seeds(shapes) if shapes else []
    parts = [_frame("config_id", *pair) for pair in zip(ids, found, strict=True)]
    names = ["config_id", *(f"likely_drop_{end}" for end in ENDS)]
    return pl.concat([single.select(names), *(part.select(names) for part in parts)])


def _frame(key: str, ids: Sequence[str], found: Falls | Sequence[float]) -> pl.DataFrame:
    limits = found.cautious if isinstance(found, Falls) else ([], [], [])
    columns = {f"likely_drop_{end}": part for end, part in zip(ENDS, limits, strict=True)}
    frame = pl.DataFrame([pl.Series(key, ids, dtype=pl.String)])
    return nan_to_null(
        frame.with_columns(
            pl.Series(name, part, dtype=pl.Float64) for name, part in columns.items()
        )
    )
