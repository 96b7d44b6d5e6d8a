"""How much a validation curve jitters around its own trend, and how much of that is only the
finite validation set: one row per trial, pooled per configuration, as published columns."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from analysis.curves import Curves, Floats, nan_to_null
from analysis.measures.decomposition import (
    MIN_EXAMPLES,
    MIN_FLIPS,
    VarianceSplit,
    block_gram,
    flip_bounds,
    population_interval,
    set_bound,
    split_of_blocks,
)
from analysis.measures.wander import plateau, plateau_interval
from analysis.stats.intervals import ratio_factors, variance_factors
from analysis.stats.trend import (
    MIN_POINTS,
    SECOND,
    THIRD,
    Labels,
    Mask,
    contrast_variance,
    contrasts,
    usable_segments,
    valid_contrasts,
)

SPIKES = 0.05  # share of the epochs that may be spikes
# What measure_jitter() alone reads: the arguments of plateau_interval, and variances.
_WHOLE = ("plateau_var", "plateau_hf_var", "plateau_points")
_LATE = ("late_plateau_var", "late_hf_var", "late_plateau_points")
_BOUNDS = ("finite_var_least", "finite_var_most", "set_var_most")
_INTERNAL = ("third_var", "spikeless_var", *_BOUNDS, *_WHOLE, *_LATE)
_LISTS = ("block_gram", "block_weight")
# The columns that pool_jitter() averages with weights hf_df, and those that it adds up.
_AVERAGED = ("hf_var", "finite_var", *_INTERNAL)
_SUMMED = ("num_usable_epochs", "hf_df", "num_flips")


def jitter_components(trials: Curves, labels: Labels | None = None) -> pl.DataFrame:
    """One row per trial with what pool_jitter() and measure_jitter() need, few data or not.

    Args: labels: (N, T), the segment of each epoch that counts, -1 for the others; by default
        those of usable_segments().
    """
    labels = usable_segments(trials) if labels is None else labels
    labels = np.where(np.isfinite(trials.val_accuracy), labels, -1)  # not of a loss alone
    accuracy = np.nan_to_num(trials.val_accuracy)
    num_trials, num_epochs = accuracy.shape
    hf_var, hf_df = contrast_variance(accuracy, labels)
    usable = labels >= 0
    enough = usable.sum(axis=1) >= MIN_POINTS
    known = usable & np.isfinite(trials.flips)
    counted = known.sum(axis=1)
    flips = np.where(known, trials.flips, 0.0).sum(axis=1)
    churn = flips / np.maximum(counted, 1) / np.maximum(trials.val_n, 1)
    blocks, w = np.nan_to_num(trials.block_accuracy), trials.block_weight
    has_blocks = blocks.shape[2] > 0
    gram = block_gram(blocks, w, labels)
    finite_var = split_of_blocks(gram, w, hf_df).finite_var if has_blocks else np.nan
    second_half = np.where(np.arange(num_epochs) < num_epochs // 2, -1, labels)
    whole, late = plateau(accuracy, labels), plateau(accuracy, second_half)
    least, most = flip_bounds(trials.flips, trials.val_n, hf_var, labels)
    variances = {
        "hf_var": hf_var,
        "hf_df": hf_df,
        "finite_var": finite_var,
        "third_var": contrast_variance(accuracy, labels, THIRD)[0],
        "spikeless_var": without_spikes(accuracy, labels),
        "finite_var_least": least,
        "finite_var_most": most,
        "set_var_most": set_bound(accuracy, trials.val_n, labels),
        **dict(zip(_WHOLE, whole, strict=True)),
        **dict(zip(_LATE, late, strict=True)),
    }
    frame = pl.DataFrame(
        {
            "trial_id": pl.Series(trials.trial_ids, dtype=pl.String),
            **{name: np.where(enough, values, np.nan) for name, values in variances.items()},
            "num_epochs": np.isfinite(trials.val_accuracy).sum(axis=1),
            "num_usable_epochs": usable.sum(axis=1),
            "val_n": np.nan_to_num(trials.val_n).astype(np.int64),
            "churn": np.where(counted > 0, churn, np.nan),
            "num_flips": np.where(counted > 0, flips, _least_flips(trials, usable)),
            "num_curves": np.ones(num_trials),
            "block_gram": _lists(gram.reshape(num_trials, blocks.shape[2] ** 2), enough),
            "block_weight": _lists(w, enough),
        }
    )
    if not has_blocks:
        frame = frame.with_columns(pl.lit(None, frame.schema[name]).alias(name) for name in _LISTS)
    return nan_to_null(frame)


def without_spikes(values: Floats, labels: Labels) -> Floats:
    """contrast_variance() of each curve without the SPIKES of its epochs that stand out most.

    An epoch stands out by its contrast with the mean of its two neighbours. Where a few spikes make
    the jitter, it is much smaller without them; a jitter of normal noise loses a little.

    Args: values, labels: (N, T). Returns: (N,); NaN without a contrast.
    """
    num = max(values.shape[1] - 2, 0)
    valid = valid_contrasts(labels, len(SECOND))
    size = np.where(valid, np.abs(contrasts(values, SECOND)), -1.0)
    left_out = np.ceil(SPIKES * valid.sum(axis=1)).astype(int)
    rank = np.argsort(np.argsort(-size, axis=1, kind="stable"), axis=1, kind="stable")
    kept = labels.copy()
    kept[:, 1 : num + 1][rank < left_out[:, None]] = -1
    return contrast_variance(values, kept)[0]


def _lists(values: Floats, known: Mask) -> pl.Series:
    """A column of lists; null where the row is not known. Args: values: (N, M)."""
    rows = pl.Series(values.astype(float), dtype=pl.Array(pl.Float64, values.shape[1]))
    return pl.select(
        pl.when(pl.Series(known)).then(pl.lit(rows.cast(pl.List(pl.Float64))))
    ).to_series()


def _least_flips(trials: Curves, usable: Mask) -> Floats:
    """At least so many examples flipped, as their blocks moved by so much. Returns: (N,)."""
    moved = np.abs(np.diff(trials.block_accuracy, axis=1)) * trials.block_weight[:, None, :]
    moved = np.where(usable[:, 1:, None], np.nan_to_num(moved), 0.0)
    return np.round(moved.sum(axis=(1, 2)) * trials.val_n)


def pool_jitter(parts: pl.DataFrame, by: str) -> pl.DataFrame:
    """Components of the trials of a group, averaged with their degrees of freedom as weights."""
    weight = pl.col("hf_df")
    means = [
        (pl.col(name) * weight).sum() / weight.filter(pl.col(name).is_not_null()).sum()
        for name in _AVERAGED
    ]
    pooled = parts.group_by(by, maintain_order=True).agg(
        pl.col("val_n").max(),
        *means,
        pl.col(_SUMMED).sum(),
        pl.col("churn").mean(),
        (weight.sum() ** 2 / (weight**2).sum()).alias("num_curves"),
    )
    pooled = pooled.join(_pool_blocks(parts, by), on=by, how="left", maintain_order="left")
    pooled = nan_to_null(pooled)
    return pooled.with_columns(pl.when(weight > 0).then(weight))


def _pool_blocks(parts: pl.DataFrame, by: str) -> pl.DataFrame:
    """The lists of each group whose trials have blocks of one number."""
    rows = parts.select(by, "hf_df", *_LISTS).drop_nulls()
    width = pl.col("block_weight").list.len()
    rows = rows.filter(width.n_unique().over(by) == 1)
    pooled = [rows.select(by, *_LISTS).clear()]
    for _, same in rows.group_by(width.alias("width"), maintain_order=True):
        same = same.sort(by, maintain_order=True)
        starts = np.flatnonzero(np.diff(same[by].rle_id().to_numpy(), prepend=-1))
        weight = same["hf_df"].to_numpy()[:, None]
        total, every = np.add.reduceat(weight, starts), np.ones(len(starts), bool)
        means = {
            name: _lists(np.add.reduceat(weight * _array(same[name]), starts) / total, every)
            for name in _LISTS
        }
        pooled.append(pl.DataFrame({by: same[by].gather(starts), **means}))
    return pl.concat(pooled)


def _array(lists: pl.Series) -> Floats:
    """(N, M) from a column of lists of one length."""
    return lists.explode().to_numpy().reshape(len(lists), -1)


def measure_jitter(parts: pl.DataFrame) -> pl.DataFrame:
    """The published columns of the jitter: SDs as fractions of accuracy, shares, intervals.

    hf_sd, plateau_sd, fin_sd, finite_share and pop_var (signed) have 95 % confidence intervals,
    `_low` and `_high`. late_hf_sd and late_plateau_sd_low are of the second half of training
    alone; spikeless_sd is hf_sd without the few epochs that stand out most. finite_df and pop_df
    are the degrees of freedom of v, and of s^2 as a measure of the population's part. fin_sd_least
    and fin_sd_most are bounds from flips, and no interval; set_sd_most is the most that so many
    examples can make, whatever they do. The columns of the finite set are null below MIN_EXAMPLES
    or MIN_FLIPS.

    Args: parts: rows of jitter_components() or pool_jitter().
    """
    s2, nu, v = (_numbers(parts, name) for name in ("hf_var", "hf_df", "finite_var"))
    split = _split(parts, nu)
    whole, late = (
        plateau_interval(*(_numbers(parts, name) for name in (*names, "num_curves")))
        for names in (_WHOLE, _LATE)
    )
    hf_low, hf_high = variance_factors(nu)
    fin_low, fin_high = variance_factors(split.finite_df)
    ratio_low, ratio_high = ratio_factors(split.finite_df, split.total_df)
    pop_low, pop_high = population_interval(s2, v, split.total_df)
    known = (_numbers(parts, "val_n") >= MIN_EXAMPLES) & (_numbers(parts, "num_flips") >= MIN_FLIPS)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(s2 > 0, v / s2, np.nan)
        third = _numbers(parts, "third_var")
        columns = {
            "hf_sd": np.sqrt(s2),
            "hf_sd_low": np.sqrt(s2 * hf_low),
            "hf_sd_high": np.sqrt(s2 * hf_high),
            "trend_ratio": np.where(third > 0, s2 / third, np.nan),
            "plateau_sd": np.sqrt(_numbers(parts, "plateau_var")),
            "plateau_sd_low": np.sqrt(whole[0]),
            "plateau_sd_high": np.sqrt(whole[1]),
            "late_hf_sd": np.sqrt(_numbers(parts, "late_hf_var")),
            "late_plateau_sd_low": np.sqrt(late[0]),
            "fin_sd_least": np.sqrt(_numbers(parts, "finite_var_least")),
            "fin_sd_most": np.sqrt(_numbers(parts, "finite_var_most")),
            "spikeless_sd": np.sqrt(_numbers(parts, "spikeless_var")),
            "set_sd_most": np.sqrt(_numbers(parts, "set_var_most")),
        }
        of_the_set = {
            "fin_sd": np.sqrt(v),
            "fin_sd_low": np.sqrt(v * fin_low),
            "fin_sd_high": np.sqrt(v * fin_high),
            "finite_share": share * np.maximum((nu - 2) / nu, 0),
            # A ratio of two estimates, each with its error over validation sets.
            "finite_share_low": np.clip(share * ratio_low, 0, 1),
            "finite_share_high": np.clip(share * ratio_high, 0, 1),
            "pop_var": s2 - v,
            "pop_var_low": pop_low,
            "pop_var_high": pop_high,
            "p_no_population_movement": split.movement_p,
            "finite_df": split.finite_df,
            "pop_df": split.total_df,
        }
    columns |= {name: np.where(known, values, np.nan) for name, values in of_the_set.items()}
    kept = parts.drop(*_INTERNAL, *_LISTS, "num_curves")
    return nan_to_null(kept.with_columns(pl.col("num_flips").cast(pl.Int64), **columns))


def _numbers(parts: pl.DataFrame, name: str) -> Floats:
    """A column, NaN where it is null."""
    return parts[name].cast(pl.Float64).to_numpy()


def _split(parts: pl.DataFrame, df: Floats) -> VarianceSplit:
    """(rows of parts,) each; NaN without blocks."""
    found = VarianceSplit(*(np.full(len(df), np.nan) for _ in VarianceSplit._fields))
    for at, gram, weight in _same_blocks(parts):
        some = split_of_blocks(gram.reshape(len(at), weight.shape[1], -1), weight, df[at])
        for whole, part in zip(found, some, strict=True):
            whole[at] = part
    return found


def _same_blocks(parts: pl.DataFrame) -> Iterator[tuple[Labels, Floats, Floats]]:
    """Row numbers, block_gram and block_weight of the rows with equally many blocks."""
    rows = parts.select(_LISTS).with_row_index("at").drop_nulls()
    width = pl.col("block_weight").list.len()
    for _, same in rows.group_by(width.alias("width"), maintain_order=True):
        yield same["at"].to_numpy(), _array(same["block_gram"]), _array(same["block_weight"])
