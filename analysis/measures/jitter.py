"""How much a validation curve jitters around its own trend, and how much of that is only the
finite validation set: one row per trial, pooled per configuration, as published columns."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from analysis.curves import Curves
from analysis.measures.decomposition import (
    MIN_EXAMPLES,
    MIN_FLIPS,
    Split,
    block_gram,
    flip_bounds,
    population_limits,
    population_step_variance,
    split_of_blocks,
)
from analysis.measures.overfitting import window
from analysis.measures.wander import plateau, plateau_limits
from analysis.stats.intervals import variance_factors
from analysis.stats.trend import (
    MIN_POINTS,
    SECOND,
    THIRD,
    Floats,
    Labels,
    Mask,
    contrast_variance,
    contrasts,
    usable_segments,
    valid_contrasts,
)

# What pool() averages with weights hf_df, and what it adds up.
_AVERAGED = (
    "hf_var",
    "finite_var",
    "third_var",
    "plateau_var",
    "plateau_hf_var",
    "plateau_points",
    "robust_sd",
    "downward_variation",
    "lag1_differences",
    "drawdown",
    "finite_var_least",
    "finite_var_most",
    "pop_step_var",
    "late_hf_var",
    "late_plateau_var",
    "late_plateau_points",
)
_SUMMED = ("num_usable_epochs", "hf_df", "num_flips", "turning_count", "turning_num", "turning_var")
_LISTS = ("block_gram", "block_weight", "block_level")
_UNPUBLISHED = (
    "third_var",
    "plateau_var",
    "plateau_hf_var",
    "plateau_points",
    "num_curves",
    "late_hf_var",
    "late_plateau_var",
    "late_plateau_points",
    "finite_var_least",
    "finite_var_most",
    "turning_count",
    "turning_num",
    "turning_var",
    "level",
    *_LISTS,
)


def components(trials: Curves) -> pl.DataFrame:
    """One row per trial with what summarise() and pool() need; nothing is left out yet."""
    labels = usable_segments(trials)
    accuracy = np.nan_to_num(trials.val_accuracy)
    num_trials, num_epochs = accuracy.shape
    hf_var, hf_df = contrast_variance(accuracy, labels)
    usable = labels >= 0
    enough = usable.sum(axis=1) >= MIN_POINTS
    flips = np.where(usable & np.isfinite(trials.flips), trials.flips, 0.0).sum(axis=1)
    counted = (usable & np.isfinite(trials.flips)).sum(axis=1)
    churn = flips / np.maximum(counted, 1) / np.maximum(trials.val_n, 1)
    blocks, w = np.nan_to_num(trials.block_accuracy), trials.block_weight
    has_blocks = blocks.shape[2] > 0
    gram = block_gram(blocks, w, labels)
    finite_var = split_of_blocks(gram, w, hf_df).finite_var if has_blocks else np.nan
    least, most = flip_bounds(trials.flips, trials.val_n, hf_var, labels)
    wander = plateau(accuracy, labels)
    late = plateau(accuracy, np.where(np.arange(num_epochs) < num_epochs // 2, -1, labels))
    turning_count, turning_num, turning_var = turning_points(accuracy, labels)
    last = slice(-window(num_epochs), None)
    frame = pl.DataFrame(
        {
            "hf_var": hf_var,
            "hf_df": hf_df,
            "finite_var": np.broadcast_to(finite_var, num_trials),
            "third_var": contrast_variance(accuracy, labels, THIRD)[0],
            "plateau_var": wander.var,
            "plateau_hf_var": wander.hf_var,
            "plateau_points": wander.num_points,
            "late_hf_var": late.hf_var,
            "late_plateau_var": late.var,
            "late_plateau_points": late.num_points,
            "robust_sd": robust_sd(accuracy, labels),
            "downward_variation": downward_variation(accuracy, labels),
            "turning_count": turning_count,
            "turning_num": turning_num,
            "turning_var": turning_var,
            "lag1_differences": lag1_differences(accuracy, labels),
            "drawdown": drawdown(accuracy, labels),
            "finite_var_least": least,
            "finite_var_most": most,
            "pop_step_var": population_step_variance(
                trials.to_wrong, trials.to_right, trials.val_n, labels
            ),
        }
    ).with_columns(pl.when(pl.Series(enough)).then(pl.all()))
    frame = frame.with_columns(
        pl.Series("trial_id", trials.trial_ids, pl.String),
        pl.Series("num_epochs", np.isfinite(trials.val_accuracy).sum(axis=1)),
        pl.Series("num_usable_epochs", usable.sum(axis=1)),
        pl.Series("val_n", np.nan_to_num(trials.val_n).astype(np.int64)),
        pl.Series("churn", np.where(counted > 0, churn, np.nan)),
        pl.Series("num_flips", np.where(counted > 0, flips, _least_flips(trials, usable))),
        pl.Series("num_curves", np.ones(num_trials)),
        pl.Series("level", trials.val_accuracy[:, last].mean(axis=1)),
        _lists("block_gram", gram.reshape(num_trials, blocks.shape[2] ** 2), enough & has_blocks),
        _lists("block_weight", w, enough & has_blocks),
        _lists("block_level", trials.block_accuracy[:, last].mean(axis=1), enough & has_blocks),
    )
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None))


def _lists(name: str, values: Floats, known: Mask) -> pl.Series:
    """A column of lists; null where the row is not known. Args: values: (N, M)."""
    rows = pl.Series(name, values.astype(float), pl.Array(pl.Float64, values.shape[1]))
    column = pl.when(pl.Series(known)).then(pl.lit(rows.cast(pl.List(pl.Float64))))
    return pl.select(column.alias(name))[name]


def _least_flips(trials: Curves, usable: Mask) -> Floats:
    """At least so many examples flipped, as their blocks moved by so much. Returns: (N,)."""
    moved = np.abs(np.diff(trials.block_accuracy, axis=1)) * trials.block_weight[:, None, :]
    moved = np.where(usable[:, 1:, None], np.nan_to_num(moved), 0.0)
    return np.round(moved.sum(axis=(1, 2)) * trials.val_n)


# --- the shape of a curve; (N, T) accuracy and labels in, (N,) out, NaN without an epoch to count


def robust_sd(values: Floats, labels: Labels) -> Floats:
    """hf_sd with the median of the contrasts in place of their mean square."""
    e = np.abs(contrasts(values, SECOND))
    e = np.where(valid_contrasts(labels, len(SECOND)), e, np.inf)
    num = np.isfinite(e).sum(axis=1)
    if not e.shape[1]:
        return np.full(len(e), np.nan)
    e = np.sort(e, axis=1)
    middle = [
        np.take_along_axis(e, np.maximum(index, 0)[:, None], axis=1)[:, 0]
        for index in ((num - 1) // 2, num // 2)
    ]
    median = np.where(num > 0, (middle[0] + middle[1]) / 2, np.nan)
    return 1.4826 * median / np.sqrt(1.5)


def downward_variation(values: Floats, labels: Labels) -> Floats:
    """Sum of all falls from one epoch to the next."""
    steps = valid_contrasts(labels, 2)
    falls = np.where(steps, np.maximum(-np.diff(values, axis=1), 0), 0.0).sum(axis=1)
    return np.where(steps.any(axis=1), falls, np.nan)


def turning_points(values: Floats, labels: Labels) -> tuple[Floats, Floats, Floats]:
    """Epochs above or below both neighbours, of how many, and the null variance of the count.

    The null is exchangeable epochs: two in three turn. Ties count as if broken by chance.
    """
    steps = np.diff(values, axis=1)
    before, after = np.sign(steps[:, :-1]), np.sign(steps[:, 1:])
    turns = np.where(before * after != 0, before != after, 0.5)
    turns = np.where((before == 0) & (after == 0), 2 / 3, turns)
    valid = valid_contrasts(labels, 3)
    num = valid.sum(axis=1).astype(float)
    next_but = [(valid[:, lag:] & valid[:, :-lag]).sum(axis=1) for lag in (1, 2)]
    variance = 2 / 9 * num - next_but[0] / 18 + next_but[1] / 90
    return np.where(valid, turns, 0.0).sum(axis=1), num, variance


def lag1_differences(values: Floats, labels: Labels) -> Floats:
    """Lag-1 autocorrelation of epoch-to-epoch differences: -1/2 for independent epochs."""
    steps = np.diff(values, axis=1)
    single, double = valid_contrasts(labels, 2), valid_contrasts(labels, 3)
    with np.errstate(invalid="ignore", divide="ignore"):
        square = np.where(single, steps**2, 0.0).sum(axis=1) / single.sum(axis=1)
        product = np.where(double, steps[:, 1:] * steps[:, :-1], 0.0).sum(axis=1)
        return np.where(square > 0, product / double.sum(axis=1) / square, np.nan)


def drawdown(values: Floats, labels: Labels) -> Floats:
    """The largest fall from an epoch to a later one of the same segment."""
    usable = labels >= 0
    lifted = np.where(usable, values + 2.0 * labels, -np.inf)  # a new segment beats all before
    highest = np.maximum.accumulate(lifted, axis=1)
    falls = np.where(usable, highest - np.where(usable, lifted, 0.0), 0.0)
    return np.where(usable.any(axis=1), falls.max(axis=1), np.nan)


# --- pooling and publishing


def pool(parts: pl.DataFrame, by: str) -> pl.DataFrame:
    """Components of the trials of a group, averaged with their degrees of freedom as weights.

    Adds seed_var, seed_pop_var and seed_df: variance between the trials of a group.
    """
    weight = pl.col("hf_df")
    means = [
        ((pl.col(name) * weight).sum() / weight.filter(pl.col(name).is_not_null()).sum()).alias(
            name
        )
        for name in _AVERAGED
    ]
    pooled = parts.group_by(by, maintain_order=True).agg(
        pl.col("val_n").max(),
        *means,
        *[pl.col(name).sum() for name in _SUMMED],
        pl.col("churn").mean(),
        (weight.sum() ** 2 / (weight**2).sum()).alias("num_curves"),
        pl.col("level").var().alias("seed_var"),
        (pl.col("level").count() - 1.0).alias("seed_df"),
    )
    pooled = pooled.join(_pool_blocks(parts, by), on=by, how="left", maintain_order="left")
    pooled = pooled.with_columns(pl.col(pl.Float64).fill_nan(None))
    some = pl.col("hf_df") > 0
    return pooled.with_columns(
        pl.when(some).then(pl.col("hf_df")),
        *[pl.when(pl.col("seed_df") >= 1).then(name) for name in ("seed_df", "seed_pop_var")],
    )


def _pool_blocks(parts: pl.DataFrame, by: str) -> pl.DataFrame:
    """Lists of each group whose trials have blocks of one number, and its seed_pop_var."""
    rows = parts.select(by, "hf_df", *_LISTS).drop_nulls()
    width = pl.col("block_weight").list.len()
    rows = rows.filter(width.n_unique().over(by) == 1)
    found: list[pl.DataFrame] = []
    for _, same in rows.group_by(width.alias("width"), maintain_order=True):
        same = same.sort(by, maintain_order=True)
        group = same[by].rle_id().to_numpy()
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        weight = same["hf_df"].to_numpy()[:, None]
        count = np.diff(np.append(starts, len(group)))[:, None]
        gram, w, level = (_array(same[name]) for name in _LISTS)
        total = np.add.reduceat(weight, starts)
        pooled_w = np.add.reduceat(weight * w, starts) / total
        centred = level - (np.add.reduceat(level, starts) / count)[group]
        every = np.ones(len(starts), bool)
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = np.add.reduceat(centred**2, starts) / (count - 1)
            whole = (centred * pooled_w[group]).sum(axis=1, keepdims=True)
            naive = np.add.reduceat(whole**2, starts)[:, 0] / (count[:, 0] - 1)
            own = (pooled_w**2 * spread).sum(axis=1)
            seed_pop_var = (naive - own) / (1 - (pooled_w**2).sum(axis=1))
        found.append(
            pl.DataFrame(
                {
                    by: same[by].gather(starts),
                    "seed_pop_var": seed_pop_var,
                    "block_gram": _lists(
                        "block_gram", np.add.reduceat(weight * gram, starts) / total, every
                    ),
                    "block_weight": _lists("block_weight", pooled_w, every),
                }
            )
        )
    nothing = rows.select(by, pl.lit(0.0).alias("seed_pop_var"), "block_gram", "block_weight")
    return pl.concat([nothing.clear(), *found])


def _array(lists: pl.Series) -> Floats:
    """(N, M) from a column of lists of one length."""
    return lists.explode().to_numpy().reshape(len(lists), -1)


def summarise(parts: pl.DataFrame) -> pl.DataFrame:
    """The published columns of fluctuation: SDs as fractions of accuracy, shares, limits.

    hf_sd, plateau_sd, fin_sd, finite_share and pop_var (signed) have `_low` and `_high`.
    late_hf_sd and late_plateau_sd_low are the same of the second half of training alone.
    finite_df and pop_df: degrees of freedom of v, and of s^2 as a measure of the population's part.
    fin_sd_least and fin_sd_most are bounds from flips, no limits. The finite-set columns are null
    below MIN_EXAMPLES or MIN_FLIPS.
    """
    known = (pl.col("val_n") >= MIN_EXAMPLES) & (pl.col("num_flips") >= MIN_FLIPS)
    v, nu = pl.col("finite_var"), pl.col("hf_df")
    share = pl.when(pl.col("hf_var") > 0).then(v / pl.col("hf_var"))
    turned = pl.when(pl.col("turning_num") > 0).then(pl.col("turning_num"))
    found = _with_limits(parts)
    found = found.with_columns(
        pl.col("hf_var").sqrt().alias("hf_sd"),
        *[(pl.col("hf_var") * pl.col(f"hf_{end}")).sqrt().alias(f"hf_sd_{end}") for end in _ENDS],
        pl.when(pl.col("third_var") > 0)
        .then(pl.col("hf_var") / pl.col("third_var"))
        .alias("trend_ratio"),
        pl.col("plateau_var").sqrt().alias("plateau_sd"),
        *[pl.col(f"plateau_{end}").sqrt().alias(f"plateau_sd_{end}") for end in _ENDS],
        pl.col("late_hf_var").sqrt().alias("late_hf_sd"),
        pl.col("late_low").sqrt().alias("late_plateau_sd_low"),
        (pl.col("turning_count") / turned).alias("turning_rate"),
        ((pl.col("turning_count") - turned * 2 / 3) / pl.col("turning_var").sqrt()).alias(
            "turning_z"
        ),
        pl.col("finite_var_least").sqrt().alias("fin_sd_least"),
        pl.col("finite_var_most").sqrt().alias("fin_sd_most"),
    )
    return (
        found.with_columns(
            pl.when(known).then(column)
            for column in (
                v.sqrt().alias("fin_sd"),
                *[(v * pl.col(f"fin_{end}")).sqrt().alias(f"fin_sd_{end}") for end in _ENDS],
                (share * ((nu - 2) / nu).clip(0)).alias("finite_share"),
                (share / pl.col("hf_high")).alias("finite_share_low"),
                (share / pl.col("hf_low")).alias("finite_share_high"),
                (pl.col("hf_var") - v).alias("pop_var"),
                *[pl.col(f"pop_{end}").alias(f"pop_var_{end}") for end in _ENDS],
                pl.col("p_no_population_movement"),
                pl.col("finite_df"),
                pl.col("pop_df"),
            )
        )
        .drop(*_UNPUBLISHED, "^(hf|fin|pop|plateau|late)_(low|high)$", strict=False)
        .with_columns(pl.col("num_flips").cast(pl.Int64))
    )


_ENDS = ("low", "high")


def _with_limits(parts: pl.DataFrame) -> pl.DataFrame:
    """Factors hf_, fin_ and variances pop_, plateau_, late_ of `low` and `high`; p; both df."""
    df = parts["hf_df"].cast(pl.Float64).to_numpy()
    split = _split(parts, df)
    s2, v = (parts[name].cast(pl.Float64).to_numpy() for name in ("hf_var", "finite_var"))
    wide, late = (
        plateau_limits(
            *(parts[name].cast(pl.Float64).to_numpy() for name in (*names, "num_curves"))
        )
        for names in (
            ("plateau_var", "plateau_hf_var", "plateau_points"),
            ("late_plateau_var", "late_hf_var", "late_plateau_points"),
        )
    )
    limits = {
        "hf": variance_factors(df),
        "fin": variance_factors(split.finite_df),
        "pop": population_limits(s2, v, split.total_df),
        "plateau": wide,
        "late": late,
    }
    columns = [
        pl.Series(f"{name}_{end}", values)
        for name, both in limits.items()
        for end, values in zip(_ENDS, both, strict=True)
    ]
    columns += [
        pl.Series("p_no_population_movement", split.movement_p),
        pl.Series("finite_df", split.finite_df),
        pl.Series("pop_df", split.total_df),
    ]
    return parts.with_columns(column.fill_nan(None) for column in columns)


def _split(parts: pl.DataFrame, df: Floats) -> Split:
    """(rows of parts,) each; NaN without blocks."""
    found = Split(*(np.full(len(df), np.nan) for _ in Split._fields))
    for at, gram, weight in _same_blocks(parts):
        some = split_of_blocks(gram.reshape(len(at), weight.shape[1], -1), weight, df[at])
        for whole, part in zip(found, some, strict=True):
            whole[at] = part
    return found


def _same_blocks(parts: pl.DataFrame) -> Iterator[tuple[Labels, Floats, Floats]]:
    """Row numbers, block_gram and block_weight of the rows with equally many blocks."""
    rows = parts.select("block_gram", "block_weight").with_row_index("at").drop_nulls()
    width = pl.col("block_weight").list.len()
    for _, same in rows.group_by(width.alias("width"), maintain_order=True):
        yield same["at"].to_numpy(), _array(same["block_gram"]), _array(same["block_weight"])
