"""Measured columns -> labels in words: a status, whether it overfits, what its noise is.

Each label is a claim against a margin that matters to a person; what is not shown either way is
"undetermined", with the datum that would settle it. Nothing is claimed because a test failed to
reject.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from analysis.verdicts.margins import Margins
from analysis.verdicts.reasons import reasons

Floats = NDArray[np.float64]

# What verdict() reads; a column that a frame lacks is null everywhere.
COLUMNS = (
    "diverged",
    "final_accuracy",
    "majority_rate",
    "num_classes",
    "val_n",
    "num_seeds",
    "late_slope",
    "late_slope_low",
    "projected_gain",
    "drop",
    "drop_low",
    "drop_high",
    "harm_p",
    "train_drop",
    "loss_rise",
    "loss_rise_low",
    "loss_rise_high",
    "loss_harm_p",
    "refined_loss_rise",
    "refined_loss_rise_low",
    "refined_loss_rise_high",
    "refined_harm_p",
    "num_usable_epochs",
    "hf_var",
    "hf_df",
    "finite_var",
    "finite_df",
    "pop_df",
    "num_flips",
    "plateau_sd",
    "plateau_sd_low",
    "plateau_sd_high",
    "late_plateau_sd_low",
)


def verdict(
    frame: pl.DataFrame, margins: Margins | None = None, *, adjust: bool = True
) -> pl.DataFrame:
    """One row per trial or configuration, in the frame's order.

    status: "diverged", "at chance", "still learning", "ok".
    overfit: "yes", "over-confident", "no", "undetermined".
    noise: "optimizer", "validation set", "both", "slow wander", "no", "undetermined".
    status_reason, overfit_reason, noise_reason: a plain sentence each; reason: all of them.
    overfit_p, optimizer_p, validation_set_p: of the claims "overfits", "the population's accuracy
    moves by more than the margin", "the validation set alone moves it by more than that".
    A trial that diverged has no other label (null).

    Args:
        frame: those of COLUMNS that are known. diverged (bool): NaN or inf in a metric, or an
            eval-mode training loss above its initial one. final_accuracy: a fraction.
            majority_rate: share of the most frequent class; without it 1 / num_classes.
            late_*, projected_gain: of late.late_trend. drop to refined_harm_p: of harm.harm or
            harm.harm_of_seeds. train_drop: fall of the training accuracy from its peak, of
            overfitting.measures. hf_var to plateau_sd_high: of fluctuation.summarise. num_seeds: 1
            where it is missing.
        adjust: Benjamini-Hochberg over the rows for each of the three p-values, so that at most a
            share `level` of such claims is false, not of the trials that are not so.
    """
    m = margins or Margins()
    known = frame.with_columns(pl.lit(None).alias(n) for n in COLUMNS if n not in frame.columns)
    known = known.select(
        pl.col("diverged").cast(pl.Boolean).fill_null(value=False),
        pl.col("num_seeds").cast(pl.Float64).fill_null(1),
        *[
            pl.col(n).cast(pl.Float64).fill_nan(None)
            for n in COLUMNS
            if n not in ("diverged", "num_seeds")
        ],
    )
    known = _with_p_values(known, m)
    for name in CLAIMS:
        claimed = _adjusted(known[name]) if adjust else known[name]
        known = known.with_columns(claimed.alias(f"{name}_used"))
    known = known.with_columns(_overfit(m)).with_columns(_noise(m))
    # What a rising curve moves over the plateau is its learning, not a wander.
    rising = (pl.col("status") == "still learning") & (pl.col("noise") == "slow wander")
    noise = pl.when(rising).then(pl.lit("undetermined")).otherwise("noise").alias("noise")
    known = known.with_columns(_status(m)).with_columns(noise).with_columns(reasons(m))
    alive = ~pl.col("diverged")
    labels = known.select(
        "status",
        *[pl.when(alive).then(n).alias(n) for n in ("overfit", "noise", *CLAIMS)],
        "status_reason",
        *[pl.when(alive).then(n).alias(n) for n in ("overfit_reason", "noise_reason")],
    ).with_columns(
        pl.concat_str(
            "status_reason", "overfit_reason", "noise_reason", separator=" ", ignore_nulls=True
        ).alias("reason")
    )
    return frame.drop(labels.columns, strict=False).hstack(labels)


CLAIMS = ("overfit_p", "optimizer_p", "validation_set_p")
# Factors of the p-values of chi-square, which are too small: docs/error-rates.md shows that with
# them a part at its margin is claimed in no more than 5 %.
OPTIMIZER, VALIDATION_SET = 1.25, 1.6


def _with_p_values(known: pl.DataFrame, m: Margins) -> pl.DataFrame:
    """CLAIMS, and upper limits of the parts of the noise (variances)."""
    names = ("hf_var", "hf_df", "finite_var", "finite_df", "pop_df")
    s2, nu, v, nu_v, nu_pop = (known[n].to_numpy() for n in names)
    v = np.where(np.isfinite(nu_v), v, np.nan)
    # What the validation set is sensitive to is shared by all seeds: it counts once, not per seed.
    nu_pop = np.fmin(nu, nu_pop)
    with np.errstate(invalid="ignore", divide="ignore"):
        high = nu * s2 / stats.chi2.ppf(m.level, nu)
        columns = {
            # nu s^2 / chi2(.95, nu) - v > margin^2, said as a p-value.
            "optimizer_p": OPTIMIZER * stats.chi2.sf(nu_pop * s2 / (v + m.noise**2), nu_pop),
            "validation_set_p": VALIDATION_SET * stats.chi2.sf(nu_v * v / m.noise**2, nu_v),
            "epochs_needed": epochs_needed(s2, v + m.noise**2, m.level),
            "hf_high": high,
            "pop_high": nu_pop * s2 / stats.chi2.ppf(m.level, nu_pop) - v,
            "fin_high": nu_v * v / stats.chi2.ppf(m.level, nu_v),
        }
    columns |= {name: np.minimum(columns[name], 1) for name in CLAIMS[1:]}
    known = known.with_columns(pl.Series(n, x).fill_nan(None) for n, x in columns.items())
    # What training accuracy loses as well has come apart, and is no overfitting.
    collapsed = pl.col("train_drop") > m.collapse
    known = known.with_columns(collapsed.fill_null(value=False).alias("collapsed"))
    # Two metrics, one claim: Bonferroni.
    both = pl.col("harm_p").is_not_null() & pl.col("refined_harm_p").is_not_null()
    effects = [
        pl.when(pl.col(effect) >= margin).then(p).when(pl.col(p).is_not_null()).then(1.0)
        for effect, margin, p in (
            ("drop", m.drop, "harm_p"),
            ("refined_loss_rise", m.loss_rise, "refined_harm_p"),
        )
    ]
    least = pl.min_horizontal(effects) * pl.when(both).then(2).otherwise(1)
    least = pl.when("collapsed").then(pl.lit(1.0)).otherwise(least.clip(upper_bound=1))
    return known.with_columns(least.alias("overfit_p"))


def epochs_needed(variance: Floats, bound: Floats, level: float) -> Floats:
    """Usable epochs with which so large a jitter is found to be above or below a bound in 80 %.

    Of the normal approximation to a log chi-square, whose df are about 18/35 an epoch.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(variance / bound)
        df = 2 * ((stats.norm.isf(level) + stats.norm.isf(0.2)) / ratio) ** 2
    return np.ceil(35 / 18 * df + 2)


def _adjusted(p: pl.Series) -> pl.Series:
    known = np.isfinite(p.cast(pl.Float64).fill_null(np.nan).to_numpy())
    out = np.full(len(p), np.nan)
    out[known] = benjamini_hochberg(p.drop_nulls().to_numpy())
    return pl.Series(p.name, out).fill_nan(None)


def benjamini_hochberg(p: Floats) -> Floats:
    """The smallest false discovery rate at which each hypothesis is still rejected.

    Source: Benjamini, Hochberg 1995, J. R. Stat. Soc. B 57 (not read by us).
    """
    if not len(p):
        return p
    return stats.false_discovery_control(p)


def _overfit(m: Margins) -> list[pl.Expr]:
    small = (pl.col("drop_high") < m.drop) & (pl.col("refined_loss_rise_high") < m.loss_rise)
    over_confident = (pl.col("loss_harm_p") <= m.level) & (pl.col("loss_rise") >= m.loss_rise)
    label = (
        pl.when(pl.col("overfit_p_used") <= m.level)
        .then(pl.lit("yes"))
        .when(small & over_confident)
        .then(pl.lit("over-confident"))
        .when(small)
        .then(pl.lit("no"))
        .otherwise(pl.lit("undetermined"))
    )
    return [label.alias("overfit")]


def _noise(m: Margins) -> list[pl.Expr]:
    optimizer = (pl.col("optimizer_p_used") <= m.level).fill_null(value=False)
    validation = (pl.col("validation_set_p_used") <= m.level).fill_null(value=False)
    label = (
        pl.when(optimizer & validation)
        .then(pl.lit("both"))
        .when(optimizer)
        .then(pl.lit("optimizer"))
        .when(validation)
        .then(pl.lit("validation set"))
        # In the second half too: in the first, the last of the learning moves as slowly.
        .when(
            (pl.col("hf_high") < m.noise**2)
            & (pl.col("plateau_sd_low") > m.noise)
            & (pl.col("late_plateau_sd_low") > m.noise)
        )
        .then(pl.lit("slow wander"))
        .when(
            (pl.col("pop_high") < m.noise**2)
            & (pl.col("fin_high") < m.noise**2)
            & (pl.col("plateau_sd_high") < m.noise)
        )
        .then(pl.lit("no"))
        .otherwise(pl.lit("undetermined"))
    )
    return [label.alias("noise")]


def _status(m: Margins) -> list[pl.Expr]:
    chance = pl.coalesce("majority_rate", 1 / pl.col("num_classes"))
    error = (chance * (1 - chance) / pl.col("val_n")).sqrt()
    learning = (
        (pl.col("late_slope_low") > 0)
        & (pl.col("projected_gain") > m.gain)
        & (pl.col("overfit") != "yes")
        & ~pl.col("collapsed")
    )
    label = (
        pl.when("diverged")
        .then(pl.lit("diverged"))
        .when(pl.col("final_accuracy") <= chance + 3 * error)
        .then(pl.lit("at chance"))
        .when(learning)
        .then(pl.lit("still learning"))
        .otherwise(pl.lit("ok"))
    )
    return [label.alias("status"), chance.alias("chance")]
