"""How far the loss of a run, or any score, ends from its best window, by the noise of its segments.

A loss alone or a score alone is enough: no accuracy, no number of examples and no seeds are needed.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from analysis.curves import Curves, Floats, mean_curves, nan_to_null
from analysis.measures.late import late_slopes, rate_is_steady
from analysis.stats.rise import loss_rises, rises
from analysis.stats.segments import segments, settled
from analysis.stats.trend import contrast_variance

_ENDS = ("", "_low", "_high", "_p")


def measure_run_rise(trials: Curves) -> pl.DataFrame:
    """One row per trial: run_loss_rise, run_loss_rise_low, run_loss_rise_high, run_loss_rise_p.

    The rise is a share of the best level, its limits are one-sided 95 %, and p is one-sided, of
    "the loss of this run does not rise". run_loss_rise_abs and its limits are the same in the unit
    of the loss; a loss that is not above 0 everywhere has these alone. run_loss_best and the
    columns beside it are those of measure_score_fall(), of the loss, in its unit. Null with fewer
    than about 8 settled epochs.
    """
    found = loss_rises(trials.val_loss, trials.lr)
    of_unit = np.stack([*[part * found.best for part in found[:3]], *found[3:]])
    signed = np.flatnonzero(np.isnan(found.rise))
    if len(signed):
        of_unit[:, signed] = rises(trials.val_loss[signed], trials.lr[signed])
    _, _, _, p, _, best_at, worse_from = of_unit
    columns = _named("run_loss_rise", (found.rise, found.low, found.high, p))
    columns |= _named("run_loss_rise_abs", of_unit[:3])
    columns |= _course("run_loss", trials.val_loss, trials.lr, best_at, worse_from)
    return _frame(trials, columns)


def measure_score_fall(trials: Curves, *, higher_is_better: bool = True) -> pl.DataFrame:
    """One row per trial, of Curves.val_score, any score in its own unit. Null without one.

    score_fall, score_fall_low, score_fall_high: how far the score ends on the worse side of its
    best window, with one-sided 95 % limits; score_fall_p: one-sided, of "the score of this run does
    not get worse"
    score_best, score_best_epoch: the level of the best window and the epoch in its middle
    score_worse_from: the first epoch from which on the score is worse than its best window for sure
    score_gain: how far the best window lies on the better side of the first evaluation
    score_slope, score_slope_low: what it gains an epoch at the end, with a one-sided lower limit;
        above 0 it is getting better, whichever direction that is
    score_projected_gain: as projected_gain of late_trend(), in the unit of the score
    score_jitter: SD of one evaluation around the trend
    score_flatters: by how much the best single evaluation looks better than the best window is

    Args: higher_is_better: False for an error, a distance or a loss.
    """
    worse = -trials.val_score if higher_is_better else trials.val_score
    found = rises(worse, trials.lr)
    columns = _named("score_fall", (found.rise, found.low, found.high, found.p))
    columns |= _course("score", worse, trials.lr, found.best_at, found.worse_from)
    if higher_is_better:
        columns["score_best"] = -columns["score_best"]
    return _frame(trials, columns)


def run_rise_of_means(raw: pl.DataFrame, trials: pl.DataFrame) -> pl.DataFrame:
    """measure_run_rise() of the mean curve over seeds; by config_id.

    Args: raw: epochs of raw weights; trials: trial_id, config_id of those to use.
    """
    parts = [measure_run_rise(Curves.of_accuracy(np.empty((0, 3))))]
    parts += [measure_run_rise(means) for means in mean_curves(raw, trials)]
    return pl.concat(parts).rename({"trial_id": "config_id"})


def score_fall_of_means(
    raw: pl.DataFrame, trials: pl.DataFrame, *, higher_is_better: bool = True
) -> pl.DataFrame:
    """measure_score_fall() of the mean curve over seeds; by config_id.

    Args: raw, trials: as of run_rise_of_means(); higher_is_better: as of measure_score_fall().
    """
    curves = [Curves.of_accuracy(np.empty((0, 3))), *mean_curves(raw, trials)]
    parts = [measure_score_fall(means, higher_is_better=higher_is_better) for means in curves]
    return pl.concat(parts).rename({"trial_id": "config_id"})


def _course(
    name: str, worse: Floats, rates: Floats, best_at: Floats, worse_from: Floats
) -> dict[str, Floats]:
    """Where a curve is best, from where on it is worse, whether it still improves, its jitter.

    Args: worse: (N, T), larger is worse; best_at, worse_from: of a Rise.
    """
    values = np.where(np.isfinite(worse), worse, np.nan)
    labels = settled(segments(values, rates), rates)
    slope, low, projected = late_slopes(-values, labels)
    jitter = np.sqrt(contrast_variance(np.nan_to_num(values), labels)[0])
    best = _level(values, best_at)
    single = np.where(np.isfinite(values), values, np.inf).min(axis=1, initial=np.inf)
    return {
        f"{name}_best": best,
        f"{name}_best_epoch": best_at + 1,
        f"{name}_worse_from": worse_from + 1,
        f"{name}_gain": _first(values) - best,
        f"{name}_slope": slope,
        f"{name}_slope_low": low,
        f"{name}_projected_gain": np.where(rate_is_steady(rates), projected, np.nan),
        f"{name}_jitter": jitter,
        f"{name}_flatters": np.maximum(best - single, 0),
    }


def _first(values: Floats) -> Floats:
    """The first known value. (N, T) -> (N,)."""
    known = np.isfinite(values)
    if not values.shape[1]:
        return np.full(len(values), np.nan)
    return values[np.arange(len(values)), known.argmax(axis=1)]


def _level(values: Floats, middle: Floats) -> Floats:
    """The mean of a twentieth of the evaluations, three at least, around one.

    Args: values: (N, T); middle: (N,), the one in the middle. Returns: (N,).
    """
    num = values.shape[1]
    half = max(num // 40, 1)
    centre = np.clip(np.nan_to_num(middle).astype(int), half, max(num - 1 - half, half))
    at = np.clip(centre[:, None] + np.arange(-half, half + 1), 0, max(num - 1, 0))
    near = np.take_along_axis(values, at, axis=1) if num else np.empty((len(values), 1))
    known = np.isfinite(near)
    total = np.where(known, near, 0.0).sum(axis=1)
    mean = total / np.maximum(known.sum(axis=1), 1)
    return np.where(known.any(axis=1) & np.isfinite(middle), mean, np.nan)


def _named(name: str, values: Sequence[Floats] | Floats) -> dict[str, Floats]:
    return {f"{name}{end}": part for end, part in zip(_ENDS, values, strict=False)}


def _frame(trials: Curves, columns: dict[str, Floats]) -> pl.DataFrame:
    ids = pl.Series("trial_id", trials.trial_ids, dtype=pl.String)
    return nan_to_null(pl.DataFrame([ids]).with_columns(**columns))
