"""How far the loss of a run ends above its best window, by the noise of its own segments."""

import polars as pl

from analysis.curves import Curves, nan_to_null
from analysis.stats.rise import loss_rises

ENDS = ("", "_low", "_high", "_p")


def measure_run_rise(trials: Curves) -> pl.DataFrame:
    """One row per trial: run_loss_rise, run_loss_rise_low, run_loss_rise_high, run_loss_rise_p.

    The rise is a share of the best level, its limits are one-sided 95 %, and p is one-sided, of
    "the loss of this run does not rise". Null with fewer than about 8 settled epochs.
    """
    found = loss_rises(trials.val_loss, trials.lr)
    values = (found.rise, found.low, found.high, found.p)
    columns = {f"run_loss_rise{end}": part for end, part in zip(ENDS, values, strict=True)}
    ids = pl.Series("trial_id", trials.trial_ids, dtype=pl.String)
    return nan_to_null(pl.DataFrame([ids]).with_columns(**columns))
