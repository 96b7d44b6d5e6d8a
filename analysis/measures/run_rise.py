"""How far the loss of a run ends above its best window, by the noise of its own segments."""

import numpy as np
import polars as pl

from analysis.curves import Curves, nan_to_null
from analysis.stats.rise import loss_rises, rises

ENDS = ("", "_low", "_high", "_p")


def measure_run_rise(trials: Curves) -> pl.DataFrame:
    """One row per trial: run_loss_rise, run_loss_rise_low, run_loss_rise_high, run_loss_rise_p.

    The rise is a share of the best level, its limits are one-sided 95 %, and p is one-sided, of
    "the loss of this run does not rise". run_loss_rise_abs and its limits are the same in the unit
    of the loss; a loss that is not above 0 everywhere has these alone. Null with fewer than about
    8 settled epochs.
    """
    found = loss_rises(trials.val_loss, trials.lr)
    values = (found.rise, found.low, found.high, found.p)
    columns = {f"run_loss_rise{end}": part for end, part in zip(ENDS, values, strict=True)}
    of_unit = np.stack([part * found.best for part in found[:3]])
    rows = np.flatnonzero(np.isnan(found.rise))
    if len(rows):
        of_unit[:, rows] = rises(trials.val_loss[rows], trials.lr[rows])[:3]
    columns |= {f"run_loss_rise_abs{end}": part for end, part in zip(ENDS, of_unit, strict=False)}
    ids = pl.Series("trial_id", trials.trial_ids, dtype=pl.String)
    return nan_to_null(pl.DataFrame([ids]).with_columns(**columns))
