"""How noisy the gradient is: the batch size at which its noise equals the gradient itself."""

import numpy as np
import polars as pl

from analysis.curves import Floats
from analysis.stats.ratios import MIN_PAIRS, ratio_of_means

SCHEMA = {
    "trial_id": pl.String,
    "noise_scale": pl.Float64,  # examples: tr(Sigma) / |G|^2
    "noise_scale_low": pl.Float64,
    "noise_scale_high": pl.Float64,
    "num_noise_epochs": pl.Int64,
    "noise_scale_reason": pl.String,
}
_NORMS = ("gns_small_sq", "gns_big_sq", "gns_b_small", "gns_b_big")


def gradient_and_noise(
    small_sq: Floats, big_sq: Floats, b_small: Floats, b_big: Floats
) -> tuple[Floats, Floats]:
    """Estimate gradient and noise without bias, from squared norms at two batch sizes.

    Args: small_sq, big_sq: squared norms, (n,); b_small, b_big: their batch sizes, (n,).
    Returns: |G|^2 of the true gradient and tr(Sigma), the variance of one example's gradient, (n,)
        each. Either may be negative by chance; NaN where the two sizes are the same.
    Source: McCandlish, Kaplan, Amodei 2018, appendix A.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        gradient_sq = (b_big * big_sq - b_small * small_sq) / (b_big - b_small)
        trace = (small_sq - big_sq) / (1 / b_small - 1 / b_big)
    same = ~(b_big > b_small)
    return np.where(same, np.nan, gradient_sq), np.where(same, np.nan, trace)


def noise_scales(epochs: pl.DataFrame) -> pl.DataFrame:
    """Estimate the gradient noise scale of each trial.

    A trial's epochs are weighted by the steps that they are the mean of. The limits take epochs
    for independent; a gradient that shrinks from epoch to epoch widens them.

    Args: epochs: trial_id, gns_steps and squared norms of gradients with their batch sizes (gns_*);
        rows where any is null are left out.
    Returns: columns as SCHEMA, a row per trial.
    """
    recorded = epochs.select("trial_id", *_NORMS, "gns_steps").drop_nulls()
    norms = recorded.select(pl.col(_NORMS).cast(pl.Float64)).to_numpy().T
    gradient_sq, trace = gradient_and_noise(*norms)
    recorded = recorded.with_columns(pl.Series("G", gradient_sq), pl.Series("S", trace))
    rows: list[dict[str, object]] = []
    for (trial_id,), group in recorded.group_by("trial_id", maintain_order=True):
        G, S, steps = (group[name].to_numpy().astype(float) for name in ("G", "S", "gns_steps"))
        ratio = ratio_of_means(S, G, steps)
        row: dict[str, object] = {"trial_id": trial_id, "num_noise_epochs": ratio.num}
        if np.isfinite(ratio.value):
            row |= {
                "noise_scale": ratio.value,
                "noise_scale_low": ratio.low,
                "noise_scale_high": ratio.high,
            }
        elif ratio.num < MIN_PAIRS:
            few = f"{ratio.num} epochs with gradients; {MIN_PAIRS} are needed"
            row["noise_scale_reason"] = few
        else:
            lost = "the true gradient is lost in its noise: its lower limit is not above 0"
            row["noise_scale_reason"] = lost
        rows.append(row)
    table = pl.DataFrame(rows, schema=SCHEMA)
    missing = epochs.select("trial_id").unique().join(table, on="trial_id", how="anti")
    nothing = missing.with_columns(pl.lit("no gradients recorded").alias("noise_scale_reason"))
    return pl.concat([table, nothing], how="diagonal").sort("trial_id")
