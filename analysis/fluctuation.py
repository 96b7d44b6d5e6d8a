"""How much a validation curve jitters around its own trend, and how much of that is only the
finite validation set."""

import math
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.curves import Curves
from analysis.stats import variance_factors

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Contrast rows. A quadratic trend leaves little in the first and nothing in the second.
SECOND = (0.5, -1.0, 0.5)  # Gasser, Sroka, Jennen-Steinmetz 1986, Biometrika 73
THIRD = (1.0, -3.0, 3.0, -1.0)
MIN_POINTS = 8  # usable epochs; with fewer, a fluctuation is not estimable
MIN_EXAMPLES = 100  # of the validation set, for the finite-set part
MIN_FLIPS = 200  # over the usable epochs, for the same
_JUMP = math.log(1.25)  # change of the learning rate in one epoch that starts a new segment
_AFTER_JUMP = 3  # epochs left out after it

# What pool() adds up; summarise() makes the published columns of it.
PARTS = ("hf_var", "hf_df", "finite_var", "third_var", "plateau_var", "churn", "num_flips")


def segments(lr: Floats) -> NDArray[np.int64]:
    """Which stretch of constant conditions an epoch belongs to; -1 where it is not usable.

    Left out are warm-up, the first max(3, 15 %) epochs of the first segment, and 3 epochs after a
    jump of the learning rate. Smooth schedules are cut into thirds of training.

    Args: lr: (N, T). Returns: (N, T).
    """
    filled = np.where(np.isfinite(lr) & (lr > 0), lr, np.nan)
    steps = np.diff(np.log(filled), axis=1)
    steps = np.round(np.nan_to_num(steps), 9)
    distinct, inverse = np.unique(steps, axis=0, return_inverse=True)
    labels = [_segments_of_one(row) for row in distinct]
    return np.reshape(labels, (-1, lr.shape[1])).astype(np.int64)[inverse.reshape(-1)]


def _segments_of_one(steps: Floats) -> NDArray[np.int64]:
    """Args: steps: (T - 1,) changes of log lr. Returns: (T,)."""
    num_epochs = len(steps) + 1
    rising = steps > 0
    warmup = int(np.argmin(rising)) if not rising.all() else 0
    after = steps[warmup:]
    labels = np.zeros(num_epochs, np.int64)
    if len(after) and np.mean(after != 0) > 1 / 3:
        labels = np.arange(num_epochs) * 3 // num_epochs
        burn_in = max(3, math.ceil(0.15 * (num_epochs - warmup)))
    else:
        jumps = warmup + 1 + np.flatnonzero(np.abs(after) > _JUMP)
        first = int(jumps[0]) if len(jumps) else num_epochs
        burn_in = max(3, math.ceil(0.15 * (first - warmup)))
        for jump in jumps:
            labels[jump:] += 1
        for jump in jumps:
            labels[jump : jump + _AFTER_JUMP] = -1
    labels[: warmup + burn_in] = -1
    return labels


def usable_epochs(
    num_epochs: int,
    *,
    warmup_epochs: float = 0,
    schedule: str = "constant",
    step_epochs: int | None = None,
) -> int:
    """How many epochs of a planned trial will count for its fluctuation."""
    return int((segments(_planned_lr(num_epochs, warmup_epochs, schedule, step_epochs)) >= 0).sum())


def planned_df(
    num_epochs: int,
    *,
    num_seeds: int = 1,
    warmup_epochs: float = 0,
    schedule: str = "constant",
    step_epochs: int | None = None,
) -> float:
    """Degrees of freedom of the pooled jitter of a planned configuration, about 18/35 an epoch."""
    labels = segments(_planned_lr(num_epochs, warmup_epochs, schedule, step_epochs))
    return num_seeds * float(_df(_valid(labels, len(SECOND)), SECOND)[0])


def _planned_lr(
    num_epochs: int, warmup_epochs: float, schedule: str, step_epochs: int | None
) -> Floats:
    epoch = np.arange(1, num_epochs + 1)
    lr = np.ones(num_epochs)
    if schedule == "step" and step_epochs:
        lr = 0.1 ** ((epoch - 1) // step_epochs)
    elif schedule == "cosine":
        lr = 0.5 * (1 + np.cos(np.pi * epoch / (num_epochs + 1)))
    return (lr * np.clip(epoch / max(warmup_epochs, 1), 0, 1))[None]


def _valid(labels: NDArray[np.int64], width: int) -> Mask:
    """Which contrasts lie wholly in one segment. Returns: (N, T - width + 1)."""
    num = max(labels.shape[1] - width + 1, 0)
    first = labels[:, :num]
    valid = first >= 0
    for shift in range(1, width):
        valid = valid & (labels[:, shift : shift + num] == first)
    return valid


def contrasts(values: Floats, stencil: Sequence[float]) -> Floats:
    """The rows of DA. Args: values: (N, T, ...). Returns: (N, T - len(stencil) + 1, ...)."""
    num = max(values.shape[1] - len(stencil) + 1, 0)
    return sum(
        (weight * values[:, shift : shift + num] for shift, weight in enumerate(stencil)),
        np.zeros((values.shape[0], num, *values.shape[2:])),
    )


def _gram(stencil: Sequence[float]) -> list[float]:
    """Inner products of a contrast row with itself shifted by 0, 1, ..."""
    w = np.asarray(stencil)
    return [float(w[: len(w) - lag] @ w[lag:]) for lag in range(len(w))]


def _df(valid: Mask, stencil: Sequence[float]) -> Floats:
    """tr(DD')^2 / tr((DD')^2), with D the valid contrast rows of each trial. Returns: (N,)."""
    gram = _gram(stencil)
    num = valid.sum(axis=1).astype(float)
    square = gram[0] ** 2 * num
    for lag in range(1, len(stencil)):
        square = square + 2 * gram[lag] ** 2 * (valid[:, lag:] & valid[:, :-lag]).sum(axis=1)
    return np.divide((gram[0] * num) ** 2, square, out=np.zeros_like(num), where=num > 0)


def contrast_variance(
    values: Floats, labels: NDArray[np.int64], stencil: Sequence[float] = SECOND
) -> tuple[Floats, Floats]:
    """Variance around a smooth trend, s^2 = |DA|^2 / tr(DD'), and its degrees of freedom.

    Args: values, labels: (N, T). Returns: (N,), (N,); NaN without a contrast.
    Source: Gasser, Sroka, Jennen-Steinmetz 1986 for the stencil SECOND.
    """
    valid = _valid(labels, len(stencil))
    squares = np.where(valid, contrasts(values, stencil) ** 2, 0.0).sum(axis=1)
    return _over_trace(squares, valid, stencil), _df(valid, stencil)


def finite_variance(
    block_accuracy: Floats, block_weight: Floats, labels: NDArray[np.int64]
) -> Floats:
    """The part of contrast_variance that a validation set of this size makes by itself.

    Each contrast of accuracy has, over validation sets, the variance that its blocks show:
    sum_k w_k^2 (Y_k - r)^2 / (1 - sum_k w_k^2), Y_k being the contrast of block k and r of all.

    Args: block_accuracy: (N, T, K); block_weight: (N, K). Returns: (N,).
    """
    valid = _valid(labels, len(SECOND))
    if block_accuracy.shape[2] < 2:
        return np.full(len(labels), np.nan)
    Y = contrasts(block_accuracy, SECOND)
    w = block_weight[:, None, :]
    r = (w * Y).sum(axis=2, keepdims=True)
    v = (w**2 * (Y - r) ** 2).sum(axis=2) / (1 - (w**2).sum(axis=2))
    return _over_trace(np.where(valid, v, 0.0).sum(axis=1), valid, SECOND)


def _over_trace(total: Floats, valid: Mask, stencil: Sequence[float]) -> Floats:
    trace = _gram(stencil)[0] * valid.sum(axis=1)
    return np.divide(total, trace, out=np.full_like(total, np.nan), where=trace > 0)


def quadratic_residuals(values: Floats, used: Mask) -> Floats:
    """What a quadratic in time leaves of the used epochs; 0 elsewhere. Args: both (N, T)."""
    time = np.linspace(-1, 1, values.shape[1])
    X = used[:, :, None] * np.stack([np.ones_like(time), time, time**2], axis=1)
    y = np.where(used, values, 0.0)
    XX = np.einsum("nti,ntj->nij", X, X) + 1e-12 * np.eye(3)
    beta = np.linalg.solve(XX, np.einsum("nti,nt->ni", X, y)[:, :, None])
    return np.where(used, y - (X @ beta)[:, :, 0], 0.0)


def plateau_variance(values: Floats, labels: NDArray[np.int64]) -> Floats:
    """Variance around a quadratic over the last segment: jitter and slow wander together.

    Args: values, labels: (N, T). Returns: (N,); NaN with fewer than MIN_POINTS epochs there.
    """
    last = labels.max(axis=1, keepdims=True)
    used = (labels == last) & (last >= 0)
    num = used.sum(axis=1)
    squares = (quadratic_residuals(values, used) ** 2).sum(axis=1)
    return np.where(num >= MIN_POINTS, squares / np.maximum(num - 3, 1), np.nan)


def usable_segments(trials: Curves) -> NDArray[np.int64]:
    """segments() with the epochs that are missing left out."""
    return np.where(np.isnan(trials.val_accuracy), -1, segments(trials.lr))


def components(trials: Curves) -> pl.DataFrame:
    """One row per trial with what summarise() and pool() need; nothing is left out yet."""
    labels = usable_segments(trials)
    accuracy = np.nan_to_num(trials.val_accuracy)
    hf_var, hf_df = contrast_variance(accuracy, labels)
    usable = labels >= 0
    num_usable = usable.sum(axis=1)
    enough = num_usable >= MIN_POINTS
    flips = np.where(usable & np.isfinite(trials.flips), trials.flips, 0.0).sum(axis=1)
    counted = (usable & np.isfinite(trials.flips)).sum(axis=1)
    churn = flips / np.maximum(counted, 1) / np.maximum(trials.val_n, 1)
    blocks = np.nan_to_num(trials.block_accuracy)
    frame = pl.DataFrame(
        {
            "trial_id": pl.Series(trials.trial_ids, dtype=pl.String),
            "num_epochs": np.isfinite(trials.val_accuracy).sum(axis=1),
            "num_usable_epochs": num_usable,
            "val_n": np.nan_to_num(trials.val_n).astype(np.int64),
            "hf_var": np.where(enough, hf_var, np.nan),
            "hf_df": np.where(enough, hf_df, np.nan),
            "finite_var": np.where(
                enough, finite_variance(blocks, trials.block_weight, labels), np.nan
            ),
            "third_var": np.where(
                enough, contrast_variance(accuracy, labels, THIRD)[0], np.nan
            ),
            "plateau_var": plateau_variance(accuracy, labels),
            "churn": np.where(counted > 0, churn, np.nan),
            "num_flips": flips,
        }
    )  # fmt: skip
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None))


def pool(parts: pl.DataFrame, by: str) -> pl.DataFrame:
    """Components of the trials of a group, their variances weighted by degrees of freedom."""
    weight = pl.col("hf_df")
    means = [
        ((pl.col(name) * weight).sum() / weight.filter(pl.col(name).is_not_null()).sum()).alias(
            name
        )
        for name in ("hf_var", "finite_var", "third_var", "plateau_var")
    ]
    pooled = parts.group_by(by, maintain_order=True).agg(
        pl.col("num_usable_epochs").sum(),
        pl.col("val_n").max(),
        *means,
        pl.col("hf_df").sum(),
        pl.col("churn").mean(),
        pl.col("num_flips").sum(),
    )
    pooled = pooled.with_columns(pl.col(pl.Float64).fill_nan(None))
    return pooled.with_columns(pl.when(pl.col("hf_df") > 0).then(pl.col("hf_df")))


def summarise(parts: pl.DataFrame) -> pl.DataFrame:
    """The published columns of fluctuation: SDs as fractions of accuracy, shares, limits.

    Adds hf_sd, trend_ratio, plateau_sd, fin_sd, finite_share, pop_var (signed) and `_low`,
    `_high` of them. The finite-set columns are null below MIN_EXAMPLES or MIN_FLIPS.
    """
    low, high = variance_factors(parts["hf_df"].to_numpy())
    nu = pl.col("hf_df")
    known = (pl.col("val_n") >= MIN_EXAMPLES) & (pl.col("num_flips") >= MIN_FLIPS)
    v = pl.when(known).then(pl.col("finite_var"))
    share = pl.when(pl.col("hf_var") > 0).then(v / pl.col("hf_var"))
    factors = parts.with_columns(
        pl.Series("factor_low", low).fill_nan(None), pl.Series("factor_high", high).fill_nan(None)
    )
    return (
        factors.with_columns(
            pl.col("hf_var").sqrt().alias("hf_sd"),
            (pl.col("hf_var") * pl.col("factor_low")).sqrt().alias("hf_sd_low"),
            (pl.col("hf_var") * pl.col("factor_high")).sqrt().alias("hf_sd_high"),
            pl.when(pl.col("third_var") > 0)
            .then(pl.col("hf_var") / pl.col("third_var"))
            .alias("trend_ratio"),
            pl.col("plateau_var").sqrt().alias("plateau_sd"),
            v.sqrt().alias("fin_sd"),
            (share * ((nu - 2) / nu).clip(0)).alias("finite_share"),
            (share / pl.col("factor_high")).alias("finite_share_low"),
            (share / pl.col("factor_low")).alias("finite_share_high"),
            (pl.col("hf_var") - v).alias("pop_var"),
            (pl.col("hf_var") * pl.col("factor_low") - v).alias("pop_var_low"),
            (pl.col("hf_var") * pl.col("factor_high") - v).alias("pop_var_high"),
        )
        .drop("factor_low", "factor_high", "third_var", "plateau_var")
        .with_columns(pl.col("num_flips").cast(pl.Int64))
    )
