"""Which configurations are the best, and how good "the best one" really is."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.curves import Curves, Floats
from analysis.measures.best_epoch import at_best, folds, held_out, held_out_twice
from analysis.stats.best_set import block_deviations, distance_to_best
from analysis.stats.intervals import mean_interval
from analysis.stats.windows import block_variance

Ints = NDArray[np.int64]

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
    """C configurations, S seeds (NaN beyond a configuration's own), P partitions of K blocks."""

    config_ids: list[str]
    naive: Floats  # (C, S), the highest accuracy
    best: Floats  # (C, S, K), accuracy of the blocks at the best epoch
    outer: Floats  # (C, S, P, K), accuracy of a block at the epoch chosen without its fold
    inner: Floats  # (C, S, P, F), the nested score if that fold didn't exist
    folds: Ints  # (P, K)
    weight: Floats  # (K,)
    one_set: bool  # whether all trials were judged on the same blocks


def ranking(
    groups: Iterable[Curves], config_of: Mapping[str, str]
) -> tuple[pl.DataFrame, Winner | None]:
    """Rank configurations from the best to the worst.

    Trials without validation blocks are left out, unless none has them: then there are naive
    scores only, no ranks and no winner.

    Args: groups: the trials, as curves() gives them; config_of: trial_id -> config_id.
    Returns: columns as SCHEMA, and the winner.
    """
    reads = _reads(groups, config_of)
    num_seeds = np.isfinite(reads.naive).sum(axis=1)
    naive = _mean_over_seeds(reads.naive)
    columns = {"config_id": reads.config_ids, "num_seeds": num_seeds, "score_naive": naive}
    with_blocks = bool(np.isfinite(reads.best).any())
    if with_blocks:
        columns |= _nested(reads, num_seeds)
    frame = pl.DataFrame(
        {name: columns.get(name, [None] * len(naive)) for name in SCHEMA}, SCHEMA, strict=False
    ).with_columns(
        pl.col(pl.Float64).fill_nan(None),
        pl.col("score_nested").fill_nan(None).rank("ordinal", descending=True).alias("rank"),
    )
    frame = frame.cast({"rank": pl.Int64}).sort(
        "rank", pl.col("score_naive").neg(), "config_id", nulls_last=True
    )
    return frame, _winner(reads, frame) if with_blocks else None


def _reads(groups: Iterable[Curves], config_of: Mapping[str, str]) -> _Reads:
    groups = [group for group in groups if group.trial_ids]
    # Folds need the same number of blocks everywhere: the one that most trials have.
    counts = Counter[int]()
    for group in groups:
        counts[group.block_accuracy.shape[2]] += len(group.trial_ids)
    num_blocks = max(counts, key=lambda number: (number > 1, counts[number]), default=0)
    groups = [group for group in groups if group.block_accuracy.shape[2] == num_blocks]
    config_of_row = [config_of[trial_id] for group in groups for trial_id in group.trial_ids]
    config_ids = sorted(set(config_of_row))
    row_of = {config_id: row for row, config_id in enumerate(config_ids)}
    rows = [row_of[config_id] for config_id in config_of_row]
    num_seeds = Counter[str]()
    numbers: list[int] = []  # of each trial among the seeds of its configuration
    for config_id in config_of_row:
        numbers.append(num_seeds[config_id])
        num_seeds[config_id] += 1
    shape = len(config_ids), max(num_seeds.values(), default=0)

    def stacked(values: list[Floats]) -> Floats:
        joined = np.concatenate(values or [np.empty((len(rows), 0))])
        out = np.full((*shape, *joined.shape[1:]), np.nan)
        out[rows, numbers] = joined
        return out

    weights = [group.block_weight for group in groups] or [np.ones((1, 0))]
    weight = np.concatenate(weights)
    parts = [(group.block_accuracy, group.block_weight) for group in groups if num_blocks > 1]
    return _Reads(
        config_ids=config_ids,
        naive=stacked([_highest(group.val_accuracy) for group in groups] or [np.empty(0)]),
        best=stacked([at_best(*part) for part in parts]),
        outer=stacked([held_out(*part) for part in parts]),
        inner=stacked([held_out_twice(*part) for part in parts]),
        folds=folds(num_blocks),
        weight=weight.mean(axis=0),
        one_set=bool(np.allclose(weight, weight[0])),
    )


def _mean_over_seeds(values: Floats) -> Floats:
    """(C, S, ...) -> (C, ...); NaN where no seed has a value."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0.0).sum(axis=1) / there.sum(axis=1)


def _highest(accuracy: Floats) -> Floats:
    top = np.where(np.isnan(accuracy), -np.inf, accuracy).max(axis=1)
    return np.where(np.isfinite(top), top, np.nan)


def _nested(reads: _Reads, num_seeds: Floats) -> dict[str, Any]:
    scores = _mean_over_seeds(reads.outer).mean(axis=1) @ reads.weight
    means = _mean_over_seeds(reads.best)  # (C, K)
    spread, total = _seed_variance(reads, means, num_seeds)
    block_var, num_blocks = block_variance(means, np.broadcast_to(reads.weight, means.shape))
    shared = np.maximum(num_seeds, 1)
    variance = np.maximum(spread, 0) / shared + block_var
    # Satterthwaite; `spread` is a difference, and known as badly as all of `total`.
    of_seeds = (np.where(spread > 0, total, 0) / shared) ** 2 / np.maximum(num_seeds - 1, 1)
    below = of_seeds + block_var**2 / np.maximum(num_blocks - 1, 1)
    df = np.divide(variance**2, below, out=np.full_like(below, np.inf), where=below > 0)
    df = np.where(num_blocks > 1, np.maximum(df, 1), np.nan)
    low, high = mean_interval(scores, np.sqrt(variance), df)
    columns = {
        "score_nested": scores,
        "score_nested_low": np.clip(low, 0, 1),
        "score_nested_high": np.clip(high, 0, 1),
    }
    if not reads.one_set:
        return columns
    deviations = block_deviations(means[None], reads.weight[None])[0]
    tied = np.isfinite(scores)
    # The spread between seeds is pooled: at first over all, then over those still in question.
    for _ in range(2):
        own_var, own_df = _pooled_spread(spread[tied], total[tied], num_seeds[tied])
        tied, behind_low, behind_high = distance_to_best(
            scores, deviations, own_var / np.maximum(num_seeds, 1), own_df
        )
        columns |= {"tied_with_best": tied, "behind_low": behind_low, "behind_high": behind_high}
    return columns


def _seed_variance(reads: _Reads, means: Floats, num_seeds: Floats) -> tuple[Floats, Floats]:
    """Between seeds: variance that blocks don't show (signed), and of the scores. Both (C,).

    What each seed's own errors on the validation examples add is read off the blocks, as the
    interaction of seed and block, and taken off: the blocks' variance has it already.
    """
    w = reads.weight
    at_peak = reads.best @ w  # (C, S)
    rest = reads.best - at_peak[:, :, None] - (means - (means @ w)[:, None])[:, None]
    per_seed = reads.outer.mean(axis=2) @ w
    below = np.maximum(num_seeds - 1, 1)
    total = np.nansum((per_seed - _mean_over_seeds(per_seed)[:, None]) ** 2, axis=1) / below
    with np.errstate(invalid="ignore", divide="ignore"):  # one block has all examples: not known
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
    """Configuration and epochs chosen without a fold, read on it, for every fold in turn."""
    config_id = frame["config_id"][0]
    chosen = _best_of(_mean_over_seeds(reads.inner), reads.folds)
    outer = np.take_along_axis(_mean_over_seeds(reads.outer), chosen[None], axis=0)[0]
    nested = float(outer.mean(axis=0) @ reads.weight)
    blocks = _mean_over_seeds(reads.best)[[reads.config_ids.index(config_id)]]
    variance, used = block_variance(blocks, reads.weight[None])
    low, high = mean_interval([nested], np.sqrt(variance), used - 1)
    return Winner(
        config_id=config_id,
        num_configurations=frame["score_nested"].count(),
        naive=float(frame["score_naive"].to_numpy().max()),
        nested=nested,
        nested_low=float(np.clip(low[0], 0, 1)),
        nested_high=float(np.clip(high[0], 0, 1)),
        nested_new_seeds=_with_new_seeds(reads),
    )


def _best_of(scores: Floats, fold: Ints) -> Ints:
    """The best configuration without each block's fold.

    Args: scores: (C, P, F); fold: (P, K). Returns: (P, K).
    """
    best = np.argmax(np.where(np.isnan(scores), -np.inf, scores), axis=0)
    return np.take_along_axis(best, fold, axis=1)


def _with_new_seeds(reads: _Reads) -> float | None:
    """The configuration chosen on the other blocks of the other seeds, for every seed in turn."""
    there = np.isfinite(reads.inner[:, :, 0, 0])
    if there.sum(axis=1).min() < 2:
        return None
    scores: list[float] = []
    for s in range(there.shape[1]):
        # Where a configuration has fewer seeds, it takes no part in the rounds of the others.
        others = _mean_over_seeds(np.delete(reads.inner, s, axis=1))
        others = np.where(there[:, s, None, None], others, np.nan)
        chosen = _best_of(others, reads.folds)
        outer = np.take_along_axis(reads.outer[:, s], chosen[None], axis=0)[0]
        scores.append(float(outer.mean(axis=0) @ reads.weight))
    return float(np.mean(scores))
