"""Measured columns -> labels in words: a status, whether it overfits, what its noise is.

Each label is a claim against a margin that matters to a person; what is not shown either way is
"undetermined", with the datum that would settle it. Nothing is claimed because a test failed to
reject.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from analysis.labels import Noise, Overfit, Status
from analysis.verdicts.margins import Margins
from analysis.verdicts.reasons import with_reasons

Floats = NDArray[np.float64]

# What verdict() reads, by where it comes from; a column that a frame lacks is null everywhere.
_READ = {
    # diverged (bool): NaN or inf in a metric, or an eval-mode training loss above its initial one;
    # final_accuracy: a fraction; num_seeds: 1 where it is missing.
    "training": ("diverged", "final_accuracy", "val_n", "num_seeds"),
    # majority_rate: share of the most frequent class; without it, 1 / num_classes.
    "classes": ("majority_rate", "num_classes"),
    "measures.late": ("late_slope", "late_slope_low", "projected_gain"),
    "measures.overfitting": ("train_drop",),  # fall of the training accuracy from its peak
    "measures.harm, accuracy": ("drop", "drop_low", "drop_high", "harm_p"),
    "measures.harm, loss": ("loss_rise", "loss_rise_low", "loss_rise_high", "loss_harm_p"),
    "measures.harm, loss at the fitted temperature": (
        *("refined_loss_rise", "refined_loss_rise_low", "refined_loss_rise_high"),
        "refined_harm_p",
    ),
    "measures.jitter": (
        *("num_usable_epochs", "num_flips"),
        *("hf_var", "hf_df", "finite_var", "finite_df", "pop_df"),
        *("plateau_sd", "plateau_sd_low", "plateau_sd_high", "late_plateau_sd_low"),
    ),
}
COLUMNS = tuple(name for names in _READ.values() for name in names)

_CLAIMS = ("overfit_p", "optimizer_p", "validation_set_p")
# Factors of the p-values of chi-square, which are too small: docs/error-rates.md shows that with
# them a part at its margin is claimed in no more than 5 %.
_OPTIMIZER_FACTOR, _VALIDATION_SET_FACTOR = 1.25, 1.6


def verdict(
    frame: pl.DataFrame, margins: Margins | None = None, *, adjust: bool = True
) -> pl.DataFrame:
    """Judge trials or configurations, one per row.

    Args:
        frame: a row per trial or configuration with those of COLUMNS that are known.
        margins: what is worth a claim; by default Margins().
        adjust: whether the p-values of each claim are corrected for the number of rows
            (Benjamini-Hochberg). At most a share `level` of the claims is then false, which is not
            to say of the rows without the effect.

    Returns: the frame with these columns, in its order. status, noise, overfit: a member of Status,
        Noise, Overfit; a trial that diverged has no noise and no overfit (null). status_reason,
        noise_reason, overfit_reason: a sentence each; reason: all of them. overfit_p, optimizer_p,
        validation_set_p: of the claims "overfits", "the population's accuracy moves by more than
        the margin", "the validation set alone moves it by more than that".
    Source: Benjamini, Hochberg 1995, J. R. Stat. Soc. B 57 (not read by us).
    """
    m = margins or Margins()
    rows = _with_p_values(_measured(frame), m)
    for name in _CLAIMS:
        p_values = _adjusted(rows[name]) if adjust else rows[name]
        rows = rows.with_columns(p_values.alias(f"{name}_used"))
    chance = pl.coalesce("majority_rate", 1 / pl.col("num_classes")).alias("chance")
    rows = rows.with_columns(chance, _overfit(m), _noise(m)).with_columns(_status(m))
    # What a rising curve moves over the plateau is its learning, not a wander.
    rising = (pl.col("status") == Status.STILL_LEARNING) & (pl.col("noise") == Noise.SLOW_WANDER)
    noise = pl.when(rising).then(pl.lit(Noise.UNDETERMINED)).otherwise("noise").alias("noise")
    rows = with_reasons(rows.with_columns(noise), m)
    alive = ~pl.col("diverged")
    labels = rows.select(
        "status",
        *[pl.when(alive).then(name).alias(name) for name in ("overfit", "noise", *_CLAIMS)],
        "status_reason",
        *[pl.when(alive).then(name).alias(name) for name in ("overfit_reason", "noise_reason")],
    ).with_columns(
        pl.concat_str(
            "status_reason", "overfit_reason", "noise_reason", separator=" ", ignore_nulls=True
        ).alias("reason")
    )
    return frame.drop(labels.columns, strict=False).hstack(labels)


def _measured(frame: pl.DataFrame) -> pl.DataFrame:
    """All COLUMNS as numbers, null where they are not known or NaN."""
    missing = [pl.lit(None).alias(name) for name in COLUMNS if name not in frame.columns]
    return frame.with_columns(missing).select(
        pl.col("diverged").cast(pl.Boolean).fill_null(value=False),
        pl.col("num_seeds").cast(pl.Float64).fill_null(1),
        *[
            pl.col(name).cast(pl.Float64).fill_nan(None)
            for name in COLUMNS
            if name not in ("diverged", "num_seeds")
        ],
    )


def _with_p_values(rows: pl.DataFrame, m: Margins) -> pl.DataFrame:
    """With the p-values of _CLAIMS, and upper limits of the parts of the noise (variances)."""
    names = ("hf_var", "hf_df", "finite_var", "finite_df", "pop_df")
    s2, nu, v, nu_v, nu_pop = (rows[name].to_numpy() for name in names)
    v = np.where(np.isfinite(nu_v), v, np.nan)
    # What the validation set is sensitive to is shared by all seeds: it counts once, not per seed.
    nu_pop = np.fmin(nu, nu_pop)
    with np.errstate(invalid="ignore", divide="ignore"):
        # nu s^2 / chi2(.95, nu) - v > margin^2, said as a p-value.
        optimizer_p = stats.chi2.sf(nu_pop * s2 / (v + m.noise**2), nu_pop)
        validation_set_p = stats.chi2.sf(nu_v * v / m.noise**2, nu_v)
        columns = {
            "optimizer_p": np.minimum(_OPTIMIZER_FACTOR * optimizer_p, 1),
            "validation_set_p": np.minimum(_VALIDATION_SET_FACTOR * validation_set_p, 1),
            "epochs_needed": _epochs_needed(s2, v + m.noise**2, m.level),
            "hf_high": nu * s2 / stats.chi2.ppf(m.level, nu),
            "pop_high": nu_pop * s2 / stats.chi2.ppf(m.level, nu_pop) - v,
            "fin_high": nu_v * v / stats.chi2.ppf(m.level, nu_v),
        }
    rows = rows.with_columns(pl.Series(name, x).fill_nan(None) for name, x in columns.items())
    # What training accuracy loses as well has come apart, and is no overfitting.
    collapsed = (pl.col("train_drop") > m.collapse).fill_null(value=False)
    # Two metrics, one claim: Bonferroni.
    both = pl.col("harm_p").is_not_null() & pl.col("refined_harm_p").is_not_null()
    p_values = [
        pl.when(pl.col(effect) >= margin).then(p).when(pl.col(p).is_not_null()).then(1.0)
        for effect, margin, p in (
            ("drop", m.drop, "harm_p"),
            ("refined_loss_rise", m.loss_rise, "refined_harm_p"),
        )
    ]
    least = pl.min_horizontal(p_values) * pl.when(both).then(2).otherwise(1)
    overfit_p = pl.when(collapsed).then(pl.lit(1.0)).otherwise(least.clip(upper_bound=1))
    return rows.with_columns(collapsed.alias("collapsed"), overfit_p.alias("overfit_p"))


def _epochs_needed(variance: Floats, bound: Floats, level: float) -> Floats:
    """Usable epochs with which so large a jitter is found to be above or below a bound in 80 %.

    The log of a chi-square is taken as normal; its df are about 18/35 an epoch.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(variance / bound)
        df = 2 * ((stats.norm.isf(level) + stats.norm.isf(0.2)) / ratio) ** 2
    return np.ceil(35 / 18 * df + 2)


def _adjusted(p_values: pl.Series) -> pl.Series:
    """The smallest false discovery rate at which each hypothesis is still rejected."""
    adjusted = np.full(len(p_values), np.nan)
    if p_values.count():
        there = p_values.is_not_null().to_numpy()
        adjusted[there] = stats.false_discovery_control(p_values.drop_nulls().to_numpy())
    return pl.Series(p_values.name, adjusted).fill_nan(None)


def _overfit(m: Margins) -> pl.Expr:
    small = (pl.col("drop_high") < m.drop) & (pl.col("refined_loss_rise_high") < m.loss_rise)
    over_confident = (pl.col("loss_harm_p") <= m.level) & (pl.col("loss_rise") >= m.loss_rise)
    return (
        pl.when(pl.col("overfit_p_used") <= m.level)
        .then(pl.lit(Overfit.YES))
        .when(small & over_confident)
        .then(pl.lit(Overfit.OVER_CONFIDENT))
        .when(small)
        .then(pl.lit(Overfit.NO))
        .otherwise(pl.lit(Overfit.UNDETERMINED))
        .alias("overfit")
    )


def _noise(m: Margins) -> pl.Expr:
    optimizer = (pl.col("optimizer_p_used") <= m.level).fill_null(value=False)
    validation_set = (pl.col("validation_set_p_used") <= m.level).fill_null(value=False)
    # In the second half too: in the first, the last of the learning moves as slowly.
    wanders = (
        (pl.col("hf_high") < m.noise**2)
        & (pl.col("plateau_sd_low") > m.noise)
        & (pl.col("late_plateau_sd_low") > m.noise)
    )
    quiet = (
        (pl.col("pop_high") < m.noise**2)
        & (pl.col("fin_high") < m.noise**2)
        & (pl.col("plateau_sd_high") < m.noise)
    )
    return (
        pl.when(optimizer & validation_set)
        .then(pl.lit(Noise.BOTH))
        .when(optimizer)
        .then(pl.lit(Noise.OPTIMIZER))
        .when(validation_set)
        .then(pl.lit(Noise.VALIDATION_SET))
        .when(wanders)
        .then(pl.lit(Noise.SLOW_WANDER))
        .when(quiet)
        .then(pl.lit(Noise.NONE))
        .otherwise(pl.lit(Noise.UNDETERMINED))
        .alias("noise")
    )


def _status(m: Margins) -> pl.Expr:
    chance = pl.col("chance")
    error = (chance * (1 - chance) / pl.col("val_n")).sqrt()
    learning = (
        (pl.col("late_slope_low") > 0)
        & (pl.col("projected_gain") > m.gain)
        & (pl.col("overfit") != Overfit.YES)
        & ~pl.col("collapsed")
    )
    return (
        pl.when("diverged")
        .then(pl.lit(Status.DIVERGED))
        .when(pl.col("final_accuracy") <= chance + 3 * error)
        .then(pl.lit(Status.AT_CHANCE))
        .when(learning)
        .then(pl.lit(Status.STILL_LEARNING))
        .otherwise(pl.lit(Status.OK))
        .alias("status")
    )
