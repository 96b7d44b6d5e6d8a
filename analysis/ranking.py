"""Which configurations are the best, and how good "the best one" really is."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.best_epoch import held_out, held_out_twice
from analysis.curves import curves
from analysis.overfitting import block_variance
from analysis.stats import mean_interval, pooled_df
from analysis.tied import block_deviations, distance_to_best

Floats = NDArray[np.float64]

SCHEMA = {
    "config_id": pl.String,
    "rank": pl.Int64,  # by score_nested, from 1
    "num_seeds": pl.Int64,
    "score_naive": pl.Float64,  # mean over seeds of the highest accuracy
    "score_nested": pl.Float64,  # the same with the epoch chosen on other blocks
    "score_nested_low": pl.Float64,
    "score_nested_high": pl.Float64,
    "tied_with_best": pl.Boolean,
    "behind_low": pl.Float64,  # limits of how far it is behind the best, each one-sided
    "behind_high": pl.Float64,
}
_NO_NESTED = pl.DataFrame(schema=SCHEMA).drop("num_seeds", "score_naive")


@dataclass(frozen=True)
class Winner:
    """The configuration that ranks first, and what "the best one" is worth.

    naive: the highest mean over seeds of the highest accuracy, over all configurations.
    nested: accuracy of the networks of the best configuration at their best epochs, configuration
        and epochs chosen on other validation blocks; with limits for other validation sets, these
        networks kept.
    nested_new_seeds: the same with the configuration chosen on other seeds too: what training it
        once more would give. None where a configuration has fewer than two seeds.
    """

    config_id: str
    num_configurations: int
    naive: float
    nested: float
    nested_low: float
    nested_high: float
    nested_new_seeds: float | None

    @property
    def optimism(self) -> float:
        """How much the naive score is too good."""
        return self.naive - self.nested


class _Reads(NamedTuple):
    """C configurations, S seeds (NaN beyond a configuration's own), K blocks."""

    config_ids: list[str]
    outer: Floats  # (C, S, K), accuracy of a block at the epoch chosen without it
    inner: Floats  # (C, S, K), the nested score if that block didn't exist
    weight: Floats  # (K,)
    one_set: bool  # whether all trials were judged on the same blocks


def ranking(
    raw: pl.DataFrame, trials: pl.DataFrame, seed: int = 0
) -> tuple[pl.DataFrame, Winner | None]:
    """Configurations from the best to the worst, columns as SCHEMA; and the winner.

    Without validation blocks there are naive scores only, no ranks and no winner.

    Args: raw: epochs of raw weights; trials: trial_id, config_id of those to use.
    """
    used = raw.join(trials.select("trial_id", "config_id"), on="trial_id", maintain_order="left")
    naive = (
        used.group_by("config_id", "trial_id")
        .agg(pl.col("val_accuracy").max())
        .group_by("config_id")
        .agg(
            pl.len().alias("num_seeds"),
            pl.col("val_accuracy").sort().mean().alias("score_naive"),
        )
    )
    reads = _reads(used, trials)
    nested = pl.DataFrame(schema=SCHEMA) if reads is None else _nested(reads, seed)
    frame = naive.join(
        nested.drop("num_seeds", "score_naive", strict=False), on="config_id", how="left"
    )
    frame = frame.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
    frame = frame.with_columns(pl.col(pl.Float64).fill_nan(None)).sort(
        "rank", pl.col("score_naive").neg(), "config_id", nulls_last=True
    )
    return frame, None if reads is None else _winner(reads, frame)


def _reads(used: pl.DataFrame, trials: pl.DataFrame) -> _Reads | None:
    ids, outer, inner, weight = [], [], [], []
    for group in curves(used):
        if group.block_accuracy.shape[2] > 1:
            ids += group.trial_ids
            outer.append(held_out(group.block_accuracy, group.block_weight)[0])
            inner.append(held_out_twice(group.block_accuracy, group.block_weight))
            weight.append(group.block_weight)
    if not ids or len({part.shape[1] for part in outer}) > 1:
        return None
    weights = np.concatenate(weight)
    place = (
        pl.DataFrame({"trial_id": ids})
        .join(trials, on="trial_id", how="left", maintain_order="left")
        .select(
            "config_id",
            pl.col("config_id").rank("dense").cast(pl.Int64).alias("row") - 1,
            (pl.col("trial_id").rank("ordinal").over("config_id").cast(pl.Int64) - 1).alias("seed"),
        )
    )
    row, number = place["row"].to_numpy(), place["seed"].to_numpy()
    shape = (row.max() + 1, number.max() + 1, weights.shape[1])

    def stacked(parts: list[Floats]) -> Floats:
        out = np.full(shape, np.nan)
        out[row, number] = np.concatenate(parts)
        return out

    return _Reads(
        config_ids=place["config_id"].unique().sort().to_list(),
        outer=stacked(outer),
        inner=stacked(inner),
        weight=weights.mean(axis=0),
        one_set=bool(np.allclose(weights, weights[0])),
    )


def _nested(reads: _Reads, seed: int) -> pl.DataFrame:
    means = np.nanmean(reads.outer, axis=1)  # (C, K)
    scores = means @ reads.weight
    weight = np.broadcast_to(reads.weight, means.shape)
    num_seeds = np.isfinite(reads.outer[:, :, 0]).sum(axis=1)
    spread, total = _seed_variance(reads, means, num_seeds)
    block_var, num_blocks = block_variance(means, weight)
    variance, df = pooled_df(
        [(np.maximum(spread, 0) / num_seeds, num_seeds - 1.0), (block_var, num_blocks - 1)]
    )
    low, high = mean_interval(scores, np.sqrt(variance), df)
    deviations = block_deviations(means[None], reads.weight[None])[0]
    tied = np.isfinite(scores)
    behind_low = behind_high = scores
    # The spread between seeds is pooled: at first over all, then over those still in question.
    for _ in range(2):
        own_var, own_df = _pooled_spread(spread[tied], total[tied], num_seeds[tied])
        tied, behind_low, behind_high = distance_to_best(
            scores, deviations, own_var / num_seeds, own_df, seed
        )
    none = np.full(len(scores), np.nan)
    return pl.DataFrame(
        {
            "config_id": reads.config_ids,
            "score_nested": scores,
            "score_nested_low": low,
            "score_nested_high": high,
            "tied_with_best": tied if reads.one_set else [None] * len(tied),
            "behind_low": behind_low if reads.one_set else none,
            "behind_high": behind_high if reads.one_set else none,
        }
    ).with_columns(pl.col("score_nested").rank("ordinal", descending=True).alias("rank"))


def _seed_variance(reads: _Reads, means: Floats, num_seeds: Floats) -> tuple[Floats, Floats]:
    """Between seeds: variance of population accuracy (signed), and of the scores. Both (C,).

    What each seed's own errors on the validation examples add is read off the blocks, as the
    interaction of seed and block, and taken off: the blocks' variance has it already.
    """
    w = reads.weight
    per_seed = reads.outer @ w  # (C, S)
    centre = np.nanmean(per_seed, axis=1)
    rest = reads.outer - per_seed[:, :, None] - (means - centre[:, None])[:, None]
    below = np.maximum(num_seeds - 1, 1)
    total = np.nansum((per_seed - centre[:, None]) ** 2, axis=1) / below
    own = np.nansum(w**2 * rest**2, axis=(1, 2)) / (1 - (w**2).sum()) / below
    return total - own, total


def _pooled_spread(spread: Floats, total: Floats, num_seeds: Floats) -> tuple[float, float]:
    """One variance between seeds for all these configurations, and its degrees of freedom."""
    df = num_seeds - 1.0
    pooled = float(df @ spread) / max(df.sum(), 1)
    if pooled <= 0:
        return 0.0, 1.0
    return pooled, float(df.sum() * (pooled / (df @ total / df.sum())) ** 2)


def _winner(reads: _Reads, frame: pl.DataFrame) -> Winner:
    """Configuration and epochs chosen without a block, read on it, for every block in turn."""
    means, by = np.nanmean(reads.outer, axis=1), np.nanmean(reads.inner, axis=1)
    chosen = np.argmax(by, axis=0)
    reads_of_best = means[chosen, np.arange(len(chosen))]
    nested = float(reads_of_best @ reads.weight)
    variance, used = block_variance(reads_of_best[None], reads.weight[None])
    low, high = mean_interval([nested], np.sqrt(variance), used - 1)
    return Winner(
        config_id=frame["config_id"][0],
        num_configurations=frame["score_nested"].count(),
        naive=float(
            frame.filter(pl.col("score_nested").is_not_null())["score_naive"].to_numpy().max()
        ),
        nested=nested,
        nested_low=float(low[0]),
        nested_high=float(high[0]),
        nested_new_seeds=_with_new_seeds(reads),
    )


def _with_new_seeds(reads: _Reads) -> float | None:
    """The configuration chosen on the other blocks of the other seeds, for every seed in turn."""
    known = np.isfinite(reads.inner[:, :, 0])
    if known.sum(axis=1).min() < 2:
        return None
    others = np.nansum(reads.inner, axis=1, keepdims=True) - np.nan_to_num(reads.inner)
    num_others = known.sum(axis=1, keepdims=True) - known
    score = np.where(known[:, :, None], others / num_others[:, :, None], -np.inf)  # (C, S, K)
    chosen = np.argmax(score, axis=0)[None]
    return float(np.mean(np.take_along_axis(reads.outer, chosen, axis=0)[0] @ reads.weight))
