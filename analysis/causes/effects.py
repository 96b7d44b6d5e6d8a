"""What each knob did: the paired difference of every level of an axis against its first level.

Only configurations in which every seed trained are compared: a difference to one that diverged or
lost what it had learnt says nothing of what a knob does where training works.

The jitter of the second half of training tells what a knob does to it. Over all epochs the last of
the learning counts as well, and where a knob changes the pace of learning, that decides the sign.

Trials are paired over the seed and over all other axes. They share one validation set, whose error
therefore cancels in a difference and is not added to it. One seed's differences in several slices
are much alike, so the limits rest on the spread between seeds: a slice more is no new evidence of
what another seed would give.
"""

from collections.abc import Sequence

import polars as pl

from analysis.sources.axes import Axis, short
from analysis.stats.intervals import mean_interval, sd_ratio

# Ratios of two SDs, level over reference, by the columns of the variance and its df.
JITTERS = {"late_jitter": ("late_hf_var", "late_hf_df"), "jitter": ("hf_var", "hf_df")}
# Differences, level minus reference.
DIFFERENCES = (
    "final_accuracy",  # mean of the last window
    "kept_accuracy",  # of the weights that training leaves: restored ones, else the last window
    "gap",
    "drop",
    "loss_rise",
    "num_epochs",
)
# Never a marginal effect of the batch size: it acts with the learning rate, and how it does depends
# on the scaling rule.
_CONDITIONS = {"batch_size": ("learning_rate", "lr_scaling"), "lr_scaling": ("batch_size",)}
_MAX_SLICES = 12  # beyond, effects within a slice are not listed one by one

_ESTIMATE = {
    "given": pl.String,  # the other axes' levels that hold, "" for none
    "response": pl.String,
    "estimate": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "num_pairs": pl.Int64,
    "num_slices": pl.Int64,
}
SCHEMA = {
    "axis": pl.String,
    "level": pl.String,
    "reference": pl.String,
    "scope": pl.String,  # pooled: over the slices of the other axes; slice: within one
} | _ESTIMATE


def paired_effects(
    trials: pl.DataFrame,
    configurations: pl.DataFrame,
    points: pl.DataFrame,
    axes: Sequence[Axis],
) -> pl.DataFrame:
    """Compare every level of every axis with its first level.

    Args: trials: completed ones with the columns of DIFFERENCES, of the configurations that are
        compared; configurations: these, with config_id and the columns of JITTERS pooled over
        seeds; points: config_id and the axes' labels; axes: to compare.
    Returns: columns as SCHEMA, a row per axis, level, scope, condition and response.
    """
    variances = [name for names in JITTERS.values() for name in names]
    jitter = configurations.select("config_id", *variances).join(points, on="config_id")
    parts = [pl.DataFrame(schema=SCHEMA)]
    names = [axis.name for axis in axes]
    labelled = trials.select("config_id", "seed", *DIFFERENCES).join(points, on="config_id")
    for axis in axes:
        others = [name for name in names if name != axis.name]
        held = [name for name in _CONDITIONS.get(axis.name, ()) if name in others]
        for level in axis.labels[1:]:
            pairs = _pairs(labelled, axis, level, [*others, "seed"], DIFFERENCES)
            slices = _pairs(jitter, axis, level, others, variances)
            num_slices = pairs.select(others).n_unique() if others else 1
            scopes = [("pooled", held)]
            if held != others and 1 < num_slices <= _MAX_SLICES:
                scopes.append(("slice", others))
            for scope, by in scopes:
                ratios = [_ratios(slices, by, response) for response in JITTERS]
                rows = pl.concat([_differences(pairs, others, by), *ratios])
                about = (axis.name, level, axis.labels[0], scope)
                named = [
                    pl.lit(word).alias(name) for name, word in zip(SCHEMA, about, strict=False)
                ]
                parts.append(rows.select(*named, *_ESTIMATE))
    return pl.concat(parts)


def _pairs(
    rows: pl.DataFrame, axis: Axis, level: str, on: list[str], values: Sequence[str]
) -> pl.DataFrame:
    """Rows of a level beside those of the first level: `<value>` and `<value>_0`."""
    keep = [*on, *values]
    ours = rows.filter(pl.col(axis.name) == level).select(keep)
    theirs = rows.filter(pl.col(axis.name) == axis.labels[0]).select(keep)
    theirs = theirs.rename({name: f"{name}_0" for name in values})
    if on:
        return ours.join(theirs, on=on, how="inner").sort(on)
    return ours.join(theirs, how="cross")


def _given(by: Sequence[str]) -> pl.Expr:
    if not by:
        return pl.lit("").alias("given")
    words = [pl.lit(short(name) + " ") + pl.col(name).cast(pl.String) for name in by]
    return pl.concat_str(words, separator=" · ").alias("given")


def _differences(pairs: pl.DataFrame, others: list[str], by: list[str]) -> pl.DataFrame:
    """Mean paired differences with Student's limits, whose error is clustered by seed."""
    change = [(pl.col(name) - pl.col(f"{name}_0")).cast(pl.Float64) for name in DIFFERENCES]
    long = pairs.select(*by, "seed", _given(others).alias("slice"), *change).unpivot(
        index=[*by, "seed", "slice"], variable_name="response", value_name="difference"
    )
    of_seeds = (
        long.drop_nulls("difference")
        .group_by(*by, "response", "seed", maintain_order=True)
        .agg(pl.col("difference").sum().alias("total"), pl.len().alias("num"), pl.col("slice"))
    )
    num, estimate = pl.col("num").sum(), pl.col("total").sum() / pl.col("num").sum()
    apart = (pl.col("total") - pl.col("num") * estimate).pow(2).sum()
    # Seeds with more pairs than others count as fewer seeds.
    effective = num.cast(pl.Float64).pow(2) / pl.col("num").cast(pl.Float64).pow(2).sum()
    stats = of_seeds.group_by(*by, "response", maintain_order=True).agg(
        estimate.alias("estimate"),
        pl.when(pl.len() > 1)
        .then((apart * pl.len() / (pl.len().cast(pl.Int64) - 1)).sqrt() / num)
        .alias("se"),
        (effective - 1).clip(1).alias("df"),
        num.cast(pl.Int64).alias("num_pairs"),
        pl.col("slice").explode().n_unique().cast(pl.Int64).alias("num_slices"),
    )
    # Seeds that agree to the last example tell nothing about their spread: no limits then.
    stats = stats.with_columns(pl.when(pl.col("se") > 1e-12).then(pl.col("se")))
    low, high = mean_interval(
        stats["estimate"].to_numpy(), stats["se"].to_numpy(), stats["df"].to_numpy()
    )
    return (
        stats.with_columns(
            _given(by),
            pl.Series("low", low, pl.Float64).fill_nan(None),
            pl.Series("high", high, pl.Float64).fill_nan(None),
        )
        .sort(*by, "response", maintain_order=True)
        .select(_ESTIMATE.keys())
    )


def _ratios(slices: pl.DataFrame, by: list[str], response: str) -> pl.DataFrame:
    """Ratio of the jitters: SDs around the trend, each pooled over the seeds of a slice."""
    variance, df = JITTERS[response]
    names = (variance, df, f"{variance}_0", f"{df}_0")
    usable = slices.drop_nulls(names).filter((pl.col(variance) > 0) & (pl.col(names[2]) > 0))
    rows: list[dict[str, object]] = []
    usable = usable.sort(by, maintain_order=True) if by else usable
    for _, group in usable.with_columns(_given(by)).group_by("given", maintain_order=True):
        ratio, low, high = sd_ratio(*(group[name].to_numpy() for name in names))
        rows.append(
            {
                "given": group["given"][0],
                "response": response,
                "estimate": ratio,
                "low": low,
                "high": high,
                "num_pairs": group.height,
                "num_slices": group.height,
            }
        )
    return pl.DataFrame(rows, schema=_ESTIMATE)


def is_clear() -> pl.Expr:
    """Tell whether an interval leaves out "no change": 1 for a jitter, 0 for a difference."""
    nothing = pl.when(pl.col("response").is_in(list(JITTERS))).then(1.0).otherwise(0.0)
    return ((pl.col("low") > nothing) | (pl.col("high") < nothing)).fill_null(False)
