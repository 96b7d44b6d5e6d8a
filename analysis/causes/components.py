"""How much of what one epoch of one trial shows is the configuration, the seed, the epoch, or the
finite validation set."""

from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.causes.attribution import noncentral_limits
from analysis.curves import Curves, Floats, curves
from analysis.measures.decomposition import MIN_EXAMPLES
from analysis.stats.intervals import variance_factors
from analysis.stats.trend import quadratic_residuals, usable_segments
from analysis.stats.windows import inflation

Row = dict[str, Any]
_WINDOW = 1 / 3  # of training, at its end
MIN_WINDOW = 8  # usable epochs there

SCHEMA = {
    # configuration (of those that ran), seed, epoch: of the population; validation set: what it
    # makes of one epoch against another
    "component": pl.String,
    "variance": pl.Float64,  # squared accuracy, as a fraction; signed
    "variance_low": pl.Float64,
    "variance_high": pl.Float64,
    "df": pl.Float64,
    "num_configurations": pl.Int64,
    "num_trials": pl.Int64,
    "reason": pl.String,
}
_LEVELS = {
    "trial_id": pl.String,
    "level": pl.Float64,  # mean accuracy of the window
    "blocks": pl.List(pl.Float64),  # the same of each block
    "weights": pl.List(pl.Float64),
    "within": pl.Float64,  # variance of one epoch around a quadratic
    "finite": pl.Float64,  # its part from the finite validation set
    "inflation": pl.Float64,  # of the variance of the mean, by autocorrelation
    "num": pl.Float64,  # epochs of the window
}


def _trial_levels(trials: Curves) -> pl.DataFrame:
    """Where each trial ends and how it scatters around that; columns as _LEVELS.

    Trials with fewer than MIN_WINDOW usable epochs in the last _WINDOW of training are left out.
    """
    T = trials.num_epochs
    late = np.arange(T) >= T - max(MIN_WINDOW, round(T * _WINDOW))
    used = (usable_segments(trials) >= 0) & late
    num = used.sum(axis=1).astype(float)
    below = np.maximum(num, 1)
    residual = quadratic_residuals(np.nan_to_num(trials.val_accuracy), used)
    within = (residual**2).sum(axis=1) / np.maximum(num - 3, 1)
    accuracy = np.where(used, trials.val_accuracy, 0.0).sum(axis=1) / below
    parts = np.where(used[:, :, None], trials.block_accuracy, 0.0)
    w, K = trials.block_weight, parts.shape[2]
    finite = np.full(len(num), np.nan)
    if K > 1:
        apart = np.stack(
            [quadratic_residuals(parts[:, :, k], used) - residual for k in range(K)], axis=2
        )
        scale = (1 - (w**2).sum(axis=1)) * np.maximum(num - 3, 1)
        with np.errstate(invalid="ignore", divide="ignore"):  # one block has all: not known
            finite = (w[:, None, :] ** 2 * apart**2).sum(axis=(1, 2)) / scale
        finite = np.where(trials.val_n >= MIN_EXAMPLES, finite, np.nan)
    frame = pl.DataFrame(
        {
            "trial_id": trials.trial_ids,
            "level": accuracy,
            "blocks": (parts.sum(axis=1) / below[:, None]).tolist(),
            "weights": w.tolist(),
            "within": within,
            "finite": finite,
            "inflation": inflation(residual, num, 3),
            "num": num,
        },
        schema=_LEVELS,
    )
    return frame.filter(pl.col("num") >= MIN_WINDOW)


def variance_components(raw: pl.DataFrame, trials: pl.DataFrame) -> pl.DataFrame:
    """Split what an epoch shows into configuration, seed, epoch and finite validation set.

    A configuration's and a seed's part are of the population: what the one validation set makes of
    the differences is taken off. Its error of the level that all trials share is in none of them.
    The parts are found by the method of moments.

    Args: raw: epochs of raw weights; trials: trial_id and config_id of those that completed.
    Returns: columns as SCHEMA, a row per component.
    """
    parts = [_trial_levels(group) for group in curves(raw)]
    levels = pl.concat(parts).join(trials, on="trial_id", how="inner").sort("trial_id")
    C, N = levels["config_id"].n_unique(), levels.height
    counts: Row = {"num_configurations": C, "num_trials": N}
    if N < 2:
        return pl.DataFrame([counts | {"reason": "fewer than two trials"}], schema=SCHEMA)
    within, finite, inflation, num = (
        levels[name].to_numpy() for name in ("within", "finite", "inflation", "num")
    )
    is_split = bool(np.isfinite(finite).all()) and levels["blocks"].list.len().n_unique() == 1
    finite = finite if is_split else np.zeros(N)
    remark = None if is_split else "the finite-set part is unknown and stays in"
    squares = _mean_squares(levels, is_split)
    # The mean of a window of autocorrelated epochs still carries some of their movement.
    left = float(np.mean((within - finite) * inflation / num))
    # No limits for epoch and validation set: with many trials what is left is how sensitive the
    # one validation set happens to be, which a chi-square distribution knows nothing of.
    set_part = float(np.mean(finite))
    components: dict[str, Row] = {
        "configuration": _between_configurations(squares),
        "seed": _between_seeds(squares, left),
        "epoch": {
            "variance": float(np.mean(within)) - set_part,
            "df": float(((num - 3) / inflation).sum()),
        },
        "validation set": {"variance": set_part if is_split else None},
    }
    return pl.DataFrame(
        [{"component": name, "reason": remark} | row | counts for name, row in components.items()],
        schema=SCHEMA,
    )


class _MeanSquares(NamedTuple):
    """Sums of squares of the levels, and what the finite set makes of each."""

    seed: float
    seed_df: float
    seed_finite: float
    config: float
    config_df: float
    config_finite: float
    per_config: float  # trials per configuration, if balanced


def _mean_squares(levels: pl.DataFrame, is_split: bool) -> _MeanSquares:
    """Args: levels: as _LEVELS, with config_id; is_split: whether blocks are known of all."""
    config = levels["config_id"].rank("dense").to_numpy().astype(int) - 1
    level, N = levels["level"].to_numpy(), levels.height
    blocks, weight = (
        np.array(levels[name].to_list()) if is_split else np.empty((N, 0))
        for name in ("blocks", "weights")
    )
    sizes = np.bincount(config)
    C = len(sizes)
    means = np.bincount(config, level) / sizes
    block_means = np.empty((C, blocks.shape[1]))
    for k, column in enumerate(blocks.T):
        block_means[:, k] = np.bincount(config, column) / sizes
    within, between = level - means[config], means - float((sizes @ means) / N)
    apart = block_means - (sizes @ block_means) / N
    return _MeanSquares(
        seed=float((within**2).sum()),
        seed_df=float(N - C),
        seed_finite=_of_set(blocks - block_means[config], within, weight),
        config=float((sizes * between**2).sum()),
        config_df=float(C - 1),
        config_finite=_of_set(apart, between, weight[:C], sizes),
        per_config=(N - (sizes**2).sum() / N) / max(C - 1, 1),
    )


def _between_seeds(squares: _MeanSquares, left: float) -> Row:
    """A mean square less what is known of it, with the chi-square limits of the mean square."""
    df = squares.seed_df
    if df < 1:
        return {"reason": "one seed per configuration"}
    square, taken_off = squares.seed / df, squares.seed_finite / df + left
    low, high = variance_factors(df)
    return {
        "variance": square - taken_off,
        "variance_low": square * float(low) - taken_off,
        "variance_high": square * float(high) - taken_off,
        "df": df,
    }


def _between_configurations(squares: _MeanSquares) -> Row:
    df, per = squares.config_df, squares.per_config
    if df < 1:
        return {"reason": "one configuration"}
    if squares.seed_df < 1:
        return {"reason": "one seed per configuration"}
    noise = squares.seed / squares.seed_df
    low, high = noncentral_limits(squares.config, df, noise, squares.seed_df)
    seed_finite = squares.seed_finite / squares.seed_df
    excess = (squares.config_finite - seed_finite * df) / df / per
    return {
        "variance": (squares.config / df - noise) / per - excess,
        "variance_low": low / df / per - max(excess, 0.0),
        "variance_high": high / df / per - min(excess, 0.0),
        "df": df,
    }


def _of_set(
    blocks: Floats, level: Floats, weight: Floats, times: NDArray[np.int64] | None = None
) -> float:
    """What the finite set makes of sum(level^2), level being differences that its blocks share."""
    if not blocks.shape[1]:
        return 0.0
    spread = (weight**2 * (blocks - level[:, None]) ** 2).sum(axis=1)
    spread = spread / (1 - (weight**2).sum(axis=1))
    return float((spread * (1 if times is None else times)).sum())
