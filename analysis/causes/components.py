"""How much of what one epoch of one trial shows is the configuration, the seed, the epoch, or the
finite validation set."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.causes.attribution import noncentral_limits
from analysis.curves import Curves, Floats, curves
from analysis.measures.decomposition import MIN_EXAMPLES
from analysis.stats.intervals import variance_factors
from analysis.stats.trend import quadratic_residuals, usable_segments
from analysis.stats.windows import inflation

WINDOW = 1 / 3  # of training, at its end
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


def trial_levels(trials: Curves) -> pl.DataFrame:
    """Where each trial ends and how it scatters around that; columns as _LEVELS.

    Trials with fewer than MIN_WINDOW usable epochs in the last WINDOW of training are left out.
    """
    T = trials.num_epochs
    late = np.arange(T) >= T - max(MIN_WINDOW, round(T * WINDOW))
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
    """Four rows, by the method of moments; columns as SCHEMA.

    A configuration's and a seed's part are of the population: what the one validation set makes of
    the differences is taken off. Its error of the level that all trials share is in none of them.

    Args: raw: epochs of raw weights; trials: trial_id and config_id of those that completed.
    """
    parts = [trial_levels(group) for group in curves(raw)]
    levels = pl.concat(parts).join(trials, on="trial_id", how="inner").sort("trial_id")
    config = levels["config_id"].rank("dense").to_numpy().astype(int) - 1
    C, N = int(levels["config_id"].n_unique()), levels.height
    counts: dict[str, Any] = {"num_configurations": C, "num_trials": N}
    if N < 2:
        return pl.DataFrame([counts | {"reason": "fewer than two trials"}], schema=SCHEMA)
    within, finite, inflation, num = (
        levels[name].to_numpy() for name in ("within", "finite", "inflation", "num")
    )
    known = bool(np.isfinite(finite).all()) and levels["blocks"].list.len().n_unique() == 1
    remark = None if known else "the finite-set part is unknown and stays in"
    blocks = np.array(levels["blocks"].to_list()) if known else np.empty((N, 0))
    weight = np.array(levels["weights"].to_list()) if known else np.empty((N, 0))
    finite = finite if known else np.zeros(N)
    level = levels["level"].to_numpy()

    # Mean squares, each with what the finite set makes of it.
    sizes = np.bincount(config)
    means = np.bincount(config, level) / sizes
    block_means = (
        np.stack([np.bincount(config, column) / sizes for column in blocks.T], axis=1)
        if known
        else np.empty((C, 0))
    )
    seed_df, config_df = float(N - C), float(C - 1)
    seed_square = float(((level - means[config]) ** 2).sum())
    seed_finite = _of_set(blocks - block_means[config], level - means[config], weight)
    grand = float((sizes @ means) / N)
    config_square = float((sizes * (means - grand) ** 2).sum())
    apart = block_means - (sizes @ block_means) / N
    config_finite = _of_set(apart, means - grand, weight[:C], sizes)

    # No limits for these two: with many trials what is left is how sensitive the one validation
    # set happens to be, which a chi-square distribution knows nothing of.
    set_part = float(np.mean(finite))
    rows: list[dict[str, Any]] = [
        {
            "component": "epoch",
            "variance": float(np.mean(within)) - set_part,
            "reason": remark,
            "df": float(((num - 3) / inflation).sum()),
        },
        {"component": "validation set", "variance": set_part if known else None, "reason": remark},
    ]
    # The mean of a window of autocorrelated epochs still carries some of their movement.
    left = float(np.mean((within - finite) * inflation / num))
    if seed_df >= 1:
        square = seed_square / seed_df
        rows.insert(0, _limited("seed", square, seed_df, seed_finite / seed_df + left))
        rows[0]["reason"] = remark
    else:
        rows.insert(0, {"component": "seed", "reason": "one seed per configuration"})
    rows.insert(0, {"component": "configuration"} | counts)
    if config_df < 1 or seed_df < 1:
        why = "one configuration" if config_df < 1 else "one seed per configuration"
        rows[0]["reason"] = why
    else:
        per = (N - (sizes**2).sum() / N) / config_df  # trials per configuration, if balanced
        noise = seed_square / seed_df
        low, high = noncentral_limits(config_square, config_df, noise, seed_df)
        excess = (config_finite - seed_finite / seed_df * config_df) / config_df / per
        rows[0] |= {
            "variance": (config_square / config_df - noise) / per - excess,
            "variance_low": low / config_df / per - max(excess, 0.0),
            "variance_high": high / config_df / per - min(excess, 0.0),
            "df": config_df,
            "reason": remark,
        }
    return pl.DataFrame([row | counts for row in rows], schema=SCHEMA)


def _of_set(
    blocks: Floats, level: Floats, weight: Floats, times: NDArray[np.int64] | None = None
) -> float:
    """What the finite set makes of sum(level^2), level being differences that its blocks share."""
    if not blocks.shape[1]:
        return 0.0
    spread = (weight**2 * (blocks - level[:, None]) ** 2).sum(axis=1)
    spread = spread / (1 - (weight**2).sum(axis=1))
    return float((spread * (1 if times is None else times)).sum())


def _limited(name: str, square: float, df: float, known: float) -> dict[str, Any]:
    """A mean square less what is known of it, with the chi-square limits of the mean square."""
    low, high = variance_factors(df)
    return {
        "component": name,
        "variance": square - known,
        "df": df,
        "variance_low": square * float(low) - known,
        "variance_high": square * float(high) - known,
    }
