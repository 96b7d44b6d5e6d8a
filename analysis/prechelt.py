"""Prechelt's measures of overfitting, at the last epoch: descriptions, not tests."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.curves import Curves

Floats = NDArray[np.float64]

STRIP = 5  # epochs, Prechelt's k
_LEAST_LOSS = 1e-4  # losses are taken as at least this: near 0 a ratio says nothing
_LEAST_PROGRESS = 0.1  # and progress, per thousand


def measures(trials: Curves) -> pl.DataFrame:
    """One row per trial; null where an epoch is missing or there are fewer than two strips.

    prechelt_gl: validation loss above its smallest so far, in percent. prechelt_progress: mean
    training loss of the last strip above its smallest there, per thousand. prechelt_pq: their
    ratio. prechelt_up: successive strips, back from the end, over which the validation loss rose.
    `_smooth`: the same of the validation loss averaged over the last STRIP epochs, since noise
    alone drives the raw ones.

    Source: Prechelt 1998, Neural Networks 11.
    """
    progress = _progress(trials.train_loss)
    columns = {"prechelt_progress": progress}
    for name, loss in (("", trials.val_loss), ("_smooth", _trailing_mean(trials.val_loss))):
        gl = _generalization_loss(loss)
        columns[f"prechelt_gl{name}"] = gl
        columns[f"prechelt_pq{name}"] = gl / np.maximum(progress, _LEAST_PROGRESS)
        columns[f"prechelt_up{name}"] = _strips_up(loss)
    frame = pl.DataFrame(
        {"trial_id": pl.Series(trials.trial_ids, dtype=pl.String), **columns}
    ).with_columns(pl.col(pl.Float64).fill_nan(None))
    return frame.with_columns(pl.col("^prechelt_up.*$").cast(pl.Int64))


def _trailing_mean(values: Floats) -> Floats:
    """(N, T) -> (N, T - STRIP + 1)."""
    if values.shape[1] < STRIP:
        return values[:, :0]
    return np.lib.stride_tricks.sliding_window_view(values, STRIP, axis=1).mean(axis=-1)


def _generalization_loss(loss: Floats) -> Floats:
    """GL at the last epoch, in percent."""
    if loss.shape[1] < STRIP + 1:
        return np.full(len(loss), np.nan)
    loss = np.maximum(loss, _LEAST_LOSS)
    return 100 * (loss[:, -1] / loss.min(axis=1) - 1)


def _progress(loss: Floats) -> Floats:
    """P_k at the last epoch, per thousand."""
    if loss.shape[1] < 2 * STRIP:
        return np.full(len(loss), np.nan)
    strip = np.maximum(loss[:, -STRIP:], _LEAST_LOSS)
    return 1000 * (strip.mean(axis=1) / strip.min(axis=1) - 1)


def _strips_up(loss: Floats) -> Floats:
    """For how many s UP_s holds at the last epoch."""
    if loss.shape[1] < STRIP + 1:
        return np.full(len(loss), np.nan)
    rose = np.diff(loss[:, ::-1][:, ::STRIP], axis=1) < 0  # from the last strip back
    count = np.cumprod(rose, axis=1).sum(axis=1).astype(float)
    return np.where(np.isfinite(loss).all(axis=1), count, np.nan)
