"""How noisy the gradient is: the batch size at which its noise equals the gradient itself."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from analysis.curves import Floats
from analysis.stats.ratios import MIN_PAIRS, ratio_of_means

COLUMNS = ("gns_small_sq", "gns_big_sq", "gns_b_small", "gns_b_big", "gns_steps")
SCHEMA = {
    "noise_scale": pl.Float64,  # examples: tr(Sigma) / |G|^2
    "noise_scale_low": pl.Float64,
    "noise_scale_high": pl.Float64,
    "gradient_sq": pl.Float64,  # |G|^2 of the true gradient, squared units of the gradient
    "gradient_sq_low": pl.Float64,
    "noise_trace": pl.Float64,  # tr(Sigma), the variance of one example's gradient
    "noise_share": pl.Float64,  # of the squared step that was taken: noise over noise plus signal
    "num_noise_epochs": pl.Int64,
    "num_noise_steps": pl.Int64,
    "noise_scale_reason": pl.String,
}


def components(
    small_sq: Floats, big_sq: Floats, b_small: Floats, b_big: Floats
) -> tuple[Floats, Floats]:
    """Unbiased |G|^2 and tr(Sigma) from squared norms of the gradients of two batch sizes.

    Either may be negative by chance. NaN where the two sizes are the same. (n,) each.
    Source: McCandlish, Kaplan, Amodei 2018, appendix A.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        gradient_sq = (b_big * big_sq - b_small * small_sq) / (b_big - b_small)
        trace = (small_sq - big_sq) / (1 / b_small - 1 / b_big)
    same = ~(b_big > b_small)
    return np.where(same, np.nan, gradient_sq), np.where(same, np.nan, trace)


def noise_scales(epochs: pl.DataFrame, by: Sequence[str] = ("trial_id",)) -> pl.DataFrame:
    """One row per group with the columns of SCHEMA.

    The groups' epochs are weighted by the steps that they are the mean of. The limits take epochs
    for independent; a gradient that shrinks from epoch to epoch widens them. Group by a phase of
    training too, to follow the scale over training.

    Args: epochs: rows with `by` and COLUMNS; rows where those are null are left out.
    """
    told = epochs.select(*by, *COLUMNS).drop_nulls(COLUMNS)
    trace = told.select(pl.col(name).cast(pl.Float64) for name in COLUMNS[:4]).to_numpy().T
    gradient_sq, noise = components(*trace)
    told = told.select(
        *by, pl.Series("G", gradient_sq), pl.Series("S", noise), "gns_steps", "gns_b_big"
    )
    found: list[dict[str, object]] = []
    for key, group in told.group_by(by, maintain_order=True):
        G, S, steps = (group[name].to_numpy().astype(float) for name in ("G", "S", "gns_steps"))
        ratio = ratio_of_means(S, G, steps)
        used = np.isfinite(G) & np.isfinite(S) & (steps > 0)
        row: dict[str, object] = dict(zip(by, key, strict=True))
        row |= {"num_noise_epochs": ratio.num, "num_noise_steps": int(steps[used].sum())}
        if ratio.num:
            mean_S = float(np.average(S[used], weights=steps[used]))
            row["noise_trace"] = mean_S
        if ratio.num >= MIN_PAIRS:
            row |= {"gradient_sq": ratio.below, "gradient_sq_low": ratio.below_low}
        if np.isfinite(ratio.value):
            per_step = ratio.value / float(np.average(group["gns_b_big"].to_numpy()[used]))
            row |= {
                "noise_scale": ratio.value,
                "noise_scale_low": ratio.low,
                "noise_scale_high": ratio.high,
                "noise_share": per_step / (1 + per_step),
            }
        else:
            row["noise_scale_reason"] = _why(ratio.num)
        found.append(row)
    schema = {name: epochs.schema[name] for name in by} | SCHEMA
    table = pl.DataFrame(found, schema=schema)
    missing = epochs.select(by).unique(maintain_order=True).join(table, on=by, how="anti")
    nothing = missing.with_columns(pl.lit("no gradients recorded").alias("noise_scale_reason"))
    return pl.concat([table, nothing], how="diagonal").sort(by)


def _why(num_epochs: int) -> str:
    if num_epochs < MIN_PAIRS:
        return f"{num_epochs} epochs with gradients; {MIN_PAIRS} are needed"
    return "the true gradient is lost in its noise: its lower limit is not above 0"
