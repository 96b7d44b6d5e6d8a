"""Which epochs are as good as the best one, and how good the best one really is."""

import itertools

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.curves import Curves, Floats, nan_to_null
from analysis.stats.best_set import block_deviations, tied_with_best
from analysis.stats.intervals import mean_interval
from analysis.stats.windows import block_variance

Ints = NDArray[np.int64]

MIN_EXAMPLES = 100  # of the validation set, for the tied set
NUM_FOLDS = 5  # with more, the choice hardly changes between folds, and the score scatters more
NUM_PARTITIONS = 8


def measure_best_epoch(trials: Curves, seed: int = 0) -> pl.DataFrame:
    """One row per trial; accuracies are fractions, epochs count from 1; null without blocks.

    best_nested is the accuracy of the best epoch, chosen on four fifths of the blocks and read on
    the fifth left out, in turn and for NUM_PARTITIONS ways to cut them. Its 95 % confidence
    interval is over validation sets, with these weights. optimism is the highest accuracy minus
    best_nested, never negative. tied_from_epoch and tied_to_epoch are the first and the last of
    the epochs that can't be told from the best.
    """
    num_trials, _, num_blocks = trials.block_accuracy.shape
    ids = pl.Series("trial_id", trials.trial_ids, dtype=pl.String)
    if num_blocks < 2:
        none = np.full(num_trials, np.nan)
        return _frame(
            ids,
            dict.fromkeys(("best_nested", "best_nested_low", "best_nested_high", "optimism"), none),
            np.zeros(trials.val_accuracy.shape, bool),
        )
    weight = trials.block_weight
    nested = (held_out(trials.block_accuracy, weight, seed).mean(axis=1) * weight).sum(axis=1)
    variance, used = block_variance(at_best(trials.block_accuracy, weight), weight)
    low, high = mean_interval(nested, np.sqrt(variance), used - 1)
    naive = np.where(np.isnan(trials.val_accuracy), -np.inf, trials.val_accuracy).max(axis=1)
    deviations = block_deviations(trials.block_accuracy, weight)
    tied = tied_with_best(trials.val_accuracy, deviations, seed)
    tied &= (trials.val_n >= MIN_EXAMPLES)[:, None]
    numbers = {
        "best_nested": nested,
        "best_nested_low": low,
        "best_nested_high": high,
        "optimism": naive - nested,
    }
    return _frame(ids, numbers, tied)


def _frame(ids: pl.Series, numbers: dict[str, Floats], tied: NDArray[np.bool_]) -> pl.DataFrame:
    known: NDArray[np.bool_] = np.asarray(tied.any(axis=1))
    epochs = {
        "tied_from_epoch": tied.argmax(axis=1) + 1,
        "tied_to_epoch": tied.shape[1] - tied[:, ::-1].argmax(axis=1),
    }
    frame = nan_to_null(pl.DataFrame({"trial_id": ids, **numbers, **epochs}))
    return frame.with_columns(pl.when(pl.Series(known)).then(pl.col(list(epochs))))


def folds(num_blocks: int, seed: int = 0) -> Ints:
    """Which fold each block is in, for every partition (NUM_PARTITIONS, K)."""
    rng = np.random.default_rng(seed)
    dealt = np.arange(num_blocks) % min(NUM_FOLDS, num_blocks)
    return np.stack([rng.permutation(dealt) for _ in range(NUM_PARTITIONS)])


def held_out(blocks: Floats, weight: Floats, seed: int = 0) -> Floats:
    """Accuracy of each block at the epoch that is best on the other folds, for every partition.

    Args: blocks: (N, T, K), NaN where an epoch is missing; weight: (N, K).
    Returns: (N, NUM_PARTITIONS, K); NaN where no epoch has a value.
    """
    fold = folds(weight.shape[1], seed)
    each, total = _sums_of_folds(blocks, weight, fold)
    chosen = np.argmax(total[:, None, None] - each, axis=3)  # (N, P, F)
    epoch = np.take_along_axis(chosen, np.broadcast_to(fold, (len(chosen), *fold.shape)), axis=2)
    return np.take_along_axis(blocks, epoch, axis=1)


def held_out_twice(blocks: Floats, weight: Floats, seed: int = 0) -> Floats:
    """For each fold: what held_out would give as a mean if that fold didn't exist.

    So whole procedures that pick by the nested score can be judged on the fold left out.

    Args: as held_out. Returns: (N, NUM_PARTITIONS, F).
    """
    fold = folds(weight.shape[1], seed)
    each, total = _sums_of_folds(blocks, weight, fold)
    num_folds = each.shape[2]
    sums = np.zeros(each.shape[:3])
    for f, other in itertools.combinations(range(num_folds), 2):
        chosen = np.argmax(total[:, None] - each[:, :, f] - each[:, :, other], axis=2)[..., None]
        sums[:, :, f] += np.take_along_axis(each[:, :, other], chosen, axis=2)[..., 0]
        sums[:, :, other] += np.take_along_axis(each[:, :, f], chosen, axis=2)[..., 0]
    left = weight @ np.reshape(fold != np.arange(num_folds)[:, None, None], (-1, fold.shape[1])).T
    left = left.reshape(len(blocks), num_folds, len(fold)).transpose(0, 2, 1)
    known = np.reshape(np.isfinite(total).any(axis=1), (-1, 1, 1))
    with np.errstate(invalid="ignore", divide="ignore"):  # two folds have all examples: not known
        return np.where(known, sums / left, np.nan)


def at_best(blocks: Floats, weight: Floats) -> Floats:
    """Accuracy of the blocks at the best epoch of all. Args: as held_out. Returns: (N, K)."""
    total = (blocks * weight[:, None, :]).sum(axis=2)
    epoch = np.argmax(np.where(np.isnan(total), -np.inf, total), axis=1)
    return blocks[np.arange(len(blocks)), epoch]


def _sums_of_folds(blocks: Floats, weight: Floats, fold: Ints) -> tuple[Floats, Floats]:
    """What each fold adds to accuracy (N, P, F, T), and accuracy (N, T), -inf where missing."""
    parts = (blocks * weight[:, None, :]).transpose(0, 2, 1)
    total = parts.sum(axis=1)
    is_in = np.asarray(fold[:, None, :] == np.arange(fold.max() + 1)[:, None])  # (P, F, K)
    each = is_in.reshape(-1, fold.shape[1]).astype(float) @ np.nan_to_num(parts)
    total = np.where(np.isnan(total), -np.inf, total)
    return each.reshape(len(blocks), *is_in.shape[:2], -1), total
