"""How far the weights at the end of a run lie below those at its best window: of each trial."""

import numpy as np
import polars as pl

from analysis.curves import Curves, nan_to_null
from analysis.stats.windows import window_length, window_means
from analysis.stats.within_run import end_fall

MIN_EXAMPLES = 100  # of the validation set
# Wrong answers in every epoch: with fewer, the temperature that all blocks share is fitted to so
# few of them that the blocks' refined losses are far from independent of each other.
MIN_WRONG = 20


def measure_within_run(trials: Curves) -> pl.DataFrame:
    """One row per trial; null without five blocks and 100 examples, of the refined loss also below
    20 wrong answers.

    within_drop, within_drop_low, within_drop_high, within_drop_p: how far the accuracy of the last
    window lies below that of the run's best window, a fraction. within_loss_rise and
    within_refined_loss_rise with the same endings: how far the losses end above their smallest
    window mean, as a share of it. Each limit is one-sided 95 %, over validation sets, with the
    weights as they are; p is one-sided, of "no window is better than the last".
    """
    length = window_length(trials.num_epochs)
    parts = {
        "within_drop": (trials.block_accuracy, None),
        "within_loss_rise": (-trials.block_loss, trials.val_loss),
        "within_refined_loss_rise": (-trials.block_refined, trials.refined_loss),
    }
    wrong = trials.val_n * (1 - np.where(np.isnan(trials.val_accuracy), 0, trials.val_accuracy).T)
    few_wrong = wrong.min(axis=0) < MIN_WRONG
    columns: dict[str, object] = {"trial_id": pl.Series(trials.trial_ids, dtype=pl.String)}
    for name, (means, loss) in parts.items():
        found = end_fall(means, trials.block_weight, length)
        scale = np.ones(len(trials.trial_ids))
        if loss is not None:
            windows = window_means(loss, length)
            scale = np.where(np.isnan(windows), np.inf, windows).min(axis=1)
        known = (trials.val_n >= MIN_EXAMPLES) & (scale > 0)
        if name == "within_refined_loss_rise":
            known &= ~few_wrong
        scale = np.where(known, scale, np.nan)
        columns |= {
            name: found.fall / scale,
            f"{name}_low": found.low / scale,
            f"{name}_high": found.high / scale,
            f"{name}_p": np.where(np.isnan(scale), np.nan, found.p),
        }
    return nan_to_null(pl.DataFrame(columns))


def of_several_runs() -> list[pl.Expr]:
    """Aggregate what single runs tell over the runs of a configuration: within_drop.

    Runs share the validation set, so their errors may go together: then the mean of limits is the
    limit of the mean, and twice the mean of p-values is one, whatever their dependence.

    Source: Rueschendorf 1982, Advances in Applied Probability 14 (not read by us).
    """
    factor = pl.when(pl.len() > 1).then(2.0).otherwise(1.0)
    return [
        *[pl.col(f"within_drop{end}").mean() for end in ("", "_low", "_high")],
        (pl.col("within_drop_p").mean() * factor).clip(upper_bound=1.0),
    ]
