"""Which epochs are as good as the best one, and how good the best one really is."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.curves import Curves
from analysis.overfitting import block_variance
from analysis.stats import mean_interval
from analysis.tied import block_deviations, tied_with_best

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MIN_EXAMPLES = 100  # of the validation set, for the tied set


def measures(trials: Curves, seed: int = 0) -> pl.DataFrame:
    """One row per trial; accuracies are fractions, epochs count from 1; null without blocks.

    best_nested: accuracy of the best epoch, chosen on all blocks but one and read on that one,
    averaged over blocks; with limits for other validation sets, these weights kept. optimism:
    the highest accuracy minus best_nested, never negative. tied_from_epoch, tied_to_epoch,
    num_tied: the first and the last of the epochs that can't be told from the best, and how many
    they are.
    """
    num_trials, _, num_blocks = trials.block_accuracy.shape
    ids = pl.Series("trial_id", trials.trial_ids, dtype=pl.String)
    if num_blocks < 2:
        none = np.full(num_trials, np.nan)
        return _frame(ids, dict.fromkeys(("best_nested", "low", "high", "optimism"), none),
                      np.zeros(trials.val_accuracy.shape, bool))  # fmt: skip
    reads, _ = held_out(trials.block_accuracy, trials.block_weight)
    nested = (trials.block_weight * reads).sum(axis=1)
    variance, used = block_variance(reads, trials.block_weight)
    low, high = mean_interval(nested, np.sqrt(variance), used - 1)
    naive = np.where(np.isnan(trials.val_accuracy), -np.inf, trials.val_accuracy).max(axis=1)
    deviations = block_deviations(trials.block_accuracy, trials.block_weight)
    tied = tied_with_best(trials.val_accuracy, deviations, seed)
    tied &= (trials.val_n >= MIN_EXAMPLES)[:, None]
    return _frame(
        ids, {"best_nested": nested, "low": low, "high": high, "optimism": naive - nested}, tied
    )


def _frame(ids: pl.Series, numbers: dict[str, Floats], tied: NDArray[np.bool_]) -> pl.DataFrame:
    known: NDArray[np.bool_] = np.asarray(tied.any(axis=1))
    epochs = {
        "tied_from_epoch": tied.argmax(axis=1) + 1,
        "tied_to_epoch": tied.shape[1] - tied[:, ::-1].argmax(axis=1),
        "num_tied": tied.sum(axis=1),
    }
    return (
        pl.DataFrame({"trial_id": ids, **numbers, **epochs})
        .rename({"low": "best_nested_low", "high": "best_nested_high"})
        .with_columns(pl.col(pl.Float64).fill_nan(None))
        .with_columns(pl.when(pl.Series(known)).then(pl.col(name)) for name in epochs)
    )


def held_out(blocks: Floats, weight: Floats) -> tuple[Floats, Ints]:
    """Accuracy of each block at the epoch that is best on all the others, and that epoch from 0.

    Args: blocks: (N, T, K), NaN where an epoch is missing; weight: (N, K). Returns: (N, K) both;
        NaN where no epoch has a value.
    """
    parts, total = _weighted(blocks, weight)
    chosen = np.argmax(total[:, :, None] - parts, axis=1)
    return np.take_along_axis(blocks, chosen[:, None, :], axis=1)[:, 0], chosen


def held_out_twice(blocks: Floats, weight: Floats) -> Floats:
    """For each block: what held_out would give as the mean if that block didn't exist.

    So whole procedures that pick by the nested score can be judged on the block left out.

    Args: as held_out. Returns: (N, K).
    """
    parts, total = _weighted(blocks, weight)
    rows = np.arange(len(blocks))
    sums = np.zeros(weight.shape)
    for k in range(weight.shape[1]):
        for other in range(k):
            epoch = np.argmax(total - parts[:, :, k] - parts[:, :, other], axis=1)
            sums[:, k] += parts[rows, epoch, other]
            sums[:, other] += parts[rows, epoch, k]
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(sums), sums, np.nan) / (1 - weight)


def _weighted(blocks: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Blocks times their weights (N, T, K), and accuracy (N, T); -inf where an epoch is missing."""
    parts = blocks * weight[:, None, :]
    missing = np.asarray(np.isnan(parts).any(axis=2))
    return np.where(missing[:, :, None], 0.0, parts), np.where(missing, -np.inf, parts.sum(axis=2))
