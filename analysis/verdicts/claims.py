"""Measured columns -> the numbers that labels rest on: p-values of claims, limits and bounds."""

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from analysis.measures.harm import MIN_SEEDS
from analysis.stats.example_order import MOST
from analysis.verdicts.courses import with_courses
from analysis.verdicts.margins import Margins

Floats = NDArray[np.float64]

# What verdict() reads, by where it comes from; a column that a frame lacks is null everywhere.
_READ = {
    # diverged (bool): NaN or inf in a metric, or an eval-mode training loss above its initial one;
    # learnt_nothing (bool): an eval-mode training loss that ended about where it began;
    # final_accuracy: a fraction; num_seeds: 1 where it is missing.
    "training": ("diverged", "learnt_nothing", "final_accuracy", "val_n", "num_seeds"),
    # majority_rate: share of the most frequent class; without it, 1 / num_classes.
    "classes": ("majority_rate", "num_classes"),
    "measures.late": ("late_slope", "late_slope_low", "projected_gain"),
    # Falls of the training accuracy from its peak, in eval mode and as it is accumulated; the share
    # of its fall that the training loss gives back; 1/k where the network guesses among k classes.
    "measures.overfitting": ("train_drop", "running_drop", "train_loss_regained", "guessing_at"),
    "measures.harm, accuracy": ("drop", "drop_low", "drop_high", "harm_p"),
    "measures.harm, loss": ("loss_rise", "loss_rise_low", "loss_rise_high", "loss_harm_p"),
    "measures.harm, loss at the fitted temperature": (
        *("refined_loss_rise", "refined_loss_rise_low", "refined_loss_rise_high"),
        "refined_harm_p",
    ),
    "measures.within_run": (
        *("within_drop", "within_drop_low", "within_drop_high", "within_drop_p"),
    ),
    # Above MOST, examples that lie beside each other move together: they are not independent.
    "sources.example_order": ("order_ratio",),
    "measures.likely_fall": ("likely_drop_low", "likely_drop_high", "likely_drop_p"),
    "measures.run_rise": (
        *("run_loss_rise", "run_loss_rise_low", "run_loss_rise_high", "run_loss_rise_p"),
        *("run_loss_rise_abs", "run_loss_rise_abs_low", "run_loss_rise_abs_high"),
        *("score_fall", "score_fall_low", "score_fall_high", "score_fall_p"),
        *("run_loss_best", "run_loss_best_epoch", "run_loss_worse_from", "run_loss_gain"),
        *("run_loss_slope", "run_loss_slope_low", "run_loss_projected_gain", "run_loss_jitter"),
        *("score_best", "score_best_epoch", "score_worse_from", "score_gain"),
        *("score_slope", "score_slope_low", "score_projected_gain", "score_jitter"),
    ),
    "measures.jitter": (
        *("num_usable_epochs", "num_flips"),
        *("hf_var", "hf_df", "finite_var", "finite_df", "pop_df"),
        *("fin_sd_least", "fin_sd_most", "set_sd_most", "spikeless_sd"),
        *("finite_share_high", "p_no_population_movement"),
        *("plateau_sd", "plateau_sd_low", "plateau_sd_high", "late_plateau_sd_low"),
    ),
}
COLUMNS = tuple(name for names in _READ.values() for name in names)
_BOOLEANS = ("diverged", "learnt_nothing")

# The p-values that are corrected for the number of rows.
CLAIMS = ("overfit_p", "run_p", "loss_p", "optimizer_p", "some_optimizer_p", "validation_set_p")
# Factors of the p-values of chi-square, which are too small: docs/error-rates.md shows that with
# them a part at its margin is claimed in no more than 5 %.
_OPTIMIZER_FACTOR, _VALIDATION_SET_FACTOR = 1.25, 1.6
# Two metrics tell of one harm: the accuracy is tested at the whole level, whatever else is known,
# and the loss at the fitted temperature at this share of it. So a column more takes no answer away.
_REFINED_FACTOR = 8.0
_LIKELY_FACTOR, _LIKELY_FACTOR_OF_SEEDS = 1.25, 2.0
_MIN_SPIKY_DF = 10  # of the jitter: with fewer, one epoch of normal noise can stand out as much
# Standard errors that a bound from flips, which are counted, allows for.
_FLIP_ERRORS = 2.0


def measured(frame: pl.DataFrame) -> pl.DataFrame:
    """All COLUMNS as numbers, null where they are not known or NaN."""
    missing = [pl.lit(None).alias(name) for name in COLUMNS if name not in frame.columns]
    rows = frame.with_columns(missing).select(
        *[pl.col(name).cast(pl.Boolean).fill_null(value=False) for name in _BOOLEANS],
        pl.col("num_seeds").cast(pl.Float64).fill_null(1),
        *[
            pl.col(name).cast(pl.Float64).fill_nan(None)
            for name in COLUMNS
            if name not in (*_BOOLEANS, "num_seeds")
        ],
    )
    # By the noise of its own segments, where it is known, the loss tells more.
    sharper = pl.col("run_loss_rise").is_not_null()
    of_run = {
        "loss_rise": "run_loss_rise",
        "loss_rise_low": "run_loss_rise_low",
        "loss_rise_high": "run_loss_rise_high",
        "loss_harm_p": "run_loss_rise_p",
    }
    rows = rows.with_columns(
        pl.when(sharper).then(of_run[name]).otherwise(name).alias(name) for name in of_run
    )
    # By the likelihood of the noise first; the cut-offs of the worst noise are far on the safe side
    # of it, and tell alone where there is no likelihood. The cross-fitted test of several seeds is
    # not, so the likelihood has a smaller part of the level there, and no upper limit.
    seeds = pl.col("num_seeds") >= MIN_SEEDS
    factor = pl.when(seeds).then(_LIKELY_FACTOR_OF_SEEDS).otherwise(_LIKELY_FACTOR)
    sharper_high = pl.min_horizontal("drop_high", "likely_drop_high")
    return rows.with_columns(
        pl.min_horizontal("harm_p", factor * pl.col("likely_drop_p")).alias("harm_p"),
        pl.max_horizontal("drop_low", "likely_drop_low").alias("drop_low"),
        pl.when(seeds)
        .then(pl.coalesce("drop_high", "likely_drop_high"))
        .otherwise(sharper_high)
        .alias("drop_high"),
    )


class _Set(NamedTuple):
    """What is known of v, the validation set's own part of the jitter's variance; (N,) each."""

    v: Floats  # by its blocks
    df: Floats
    least: Floats  # by flips
    most: Floats  # by flips, or by the number of examples


def with_claims(rows: pl.DataFrame, m: Margins) -> pl.DataFrame:
    """Add the p-values of CLAIMS, and limits.

    hf_high, pop_high, fin_high: upper limits of the jitter's variance and of its parts; pop_least,
    fin_least: the least that a part can be; set_most: the most that the validation set can make.

    Args: rows: of measured(); m: the margins of the claims.
    """
    names = ("hf_var", "hf_df", "pop_df", "num_flips")
    s2, nu, nu_pop, flips = (rows[name].to_numpy() for name in names)
    the_set = _set_of(rows)
    # What the validation set is sensitive to is shared by all seeds: it counts once, not per seed.
    nu_pop = np.fmin(nu, nu_pop)
    square = m.noise**2
    with np.errstate(invalid="ignore", divide="ignore"):
        # nu s^2 / chi2(.95, nu) - v > margin^2, said as a p-value; likewise with the most that v
        # can be in place of v. The smaller one of the two: the second is far on the safe side.
        above = np.fmin(
            _p_above(s2, nu_pop, the_set.v + square), _p_above(s2, nu_pop, the_set.most + square)
        )
        moves = np.fmin(
            _OPTIMIZER_FACTOR * _p_above(s2, nu_pop, the_set.most),
            rows["p_no_population_movement"].to_numpy(),
        )
        # Without the epochs that stand out most, whose noise is not that of the others.
        without = rows["spikeless_sd"].to_numpy() ** 2
        calm = _p_above(without, nu_pop, np.fmin(the_set.v, the_set.most) + square)
        by_blocks = stats.chi2.sf(the_set.df * the_set.v / square, the_set.df)
        by_flips = stats.chi2.sf(flips / 2 * the_set.least / square, flips / 2)
        hf_high = nu * s2 / stats.chi2.ppf(m.level, nu)
        pop_high = nu_pop * s2 / stats.chi2.ppf(m.level, nu_pop) - the_set.v
        fin_high = the_set.df * the_set.v / stats.chi2.ppf(m.level, the_set.df)
        fin_least = the_set.df * the_set.v / stats.chi2.isf(m.level, the_set.df)
        least = nu_pop * s2 / stats.chi2.isf(m.level, nu_pop)
        columns = {
            "optimizer_p": np.minimum(_OPTIMIZER_FACTOR * above, 1),
            "some_optimizer_p": np.minimum(moves, 1),
            "validation_set_p": np.minimum(
                np.fmin(_VALIDATION_SET_FACTOR * by_blocks, by_flips), 1
            ),
            "calm_p": np.minimum(_OPTIMIZER_FACTOR * calm, 1),
            "hf_high": hf_high,
            # The whole bounds its parts.
            "pop_high": np.fmin(hf_high, np.maximum(pop_high, 0)),
            "fin_high": np.fmin(np.fmin(hf_high, fin_high), the_set.most),
            "pop_least": np.maximum(least - np.fmin(the_set.v, the_set.most), 0),
            "fin_least": np.fmax(fin_least, the_set.least),
            "set_most": the_set.most,
        }
    rows = rows.with_columns(pl.Series(name, x).fill_nan(None) for name, x in columns.items())
    # What rests on independent examples is not claimed where they move together.
    together = (pl.col("order_ratio") > MOST).fill_null(value=False)
    rows = rows.with_columns(
        pl.when(~together).then(name).alias(name)
        for name in ("optimizer_p", "some_optimizer_p", "calm_p", "set_most", "within_drop_p")
    )
    spiky = pl.col("hf_var") > m.spikes * pl.col("spikeless_sd") ** 2
    spiky &= pl.col("hf_df") >= _MIN_SPIKY_DF
    rows = rows.with_columns(
        (spiky & ~(pl.col("calm_p") <= m.level)).fill_null(value=False).alias("spikes")
    )
    no_accuracy = pl.col("drop").is_null() & pl.col("final_accuracy").is_null()
    rows = with_courses(rows, m).with_columns(
        (no_accuracy & pl.col("course").is_not_null()).alias("course_alone"), _collapsed(m)
    )
    return rows.with_columns(*_of_harm(m))


def _set_of(rows: pl.DataFrame) -> _Set:
    names = ("finite_var", "finite_df", "num_flips", "fin_sd_least", "fin_sd_most", "set_sd_most")
    v, df, flips, least, most, of_size = (rows[name].to_numpy() for name in names)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = _FLIP_ERRORS / np.sqrt(flips)
        by_flips = np.where(flips > 0, most**2 * (1 + error), np.nan)
    return _Set(np.where(np.isfinite(df), v, np.nan), df, least**2, np.fmin(by_flips, of_size**2))


def _p_above(s2: Floats, nu: Floats, variance: Floats) -> Floats:
    """Of "the true variance is no more than so much"."""
    return stats.chi2.sf(nu * s2 / variance, nu)


def _collapsed(m: Margins) -> pl.Expr:
    """What training loses as well has come apart, and is no overfitting.

    In eval mode the accuracy tells; where that is not known, what was accumulated in train mode.
    """
    running = (pl.col("running_drop") > m.collapse).fill_null(value=False)
    loss = (pl.col("train_loss_regained") > m.regained).fill_null(value=False)
    of_eval = pl.col("train_drop") > m.collapse
    return pl.coalesce(of_eval, running | loss).alias("collapsed")


def _of_harm(m: Margins) -> list[pl.Expr]:
    def claimed(effect: str, margin: float, p: str) -> pl.Expr:
        return pl.when(pl.col(effect) >= margin).then(p).when(pl.col(p).is_not_null()).then(1.0)

    of_accuracy = claimed("drop", m.drop, "harm_p")
    refined = claimed("refined_loss_rise", m.loss_rise, "refined_harm_p")
    least = pl.min_horizontal(of_accuracy, refined * _REFINED_FACTOR).clip(upper_bound=1)
    # Where no accuracy is known, the score or the loss is all there is.
    least = pl.when("course_alone").then("course_p").otherwise(least)
    return [
        pl.when("collapsed").then(pl.lit(1.0)).otherwise(least).alias("overfit_p"),
        least.alias("fall_p"),
        claimed("loss_rise", m.loss_rise, "loss_harm_p").alias("loss_p"),
        claimed("within_drop", m.drop, "within_drop_p").alias("run_p"),
        # What this run lost, and what another seed would: the sharper one of the two limits.
        pl.min_horizontal("drop_high", "within_drop_high").clip(0).alias("lost"),
    ]


def with_adjusted(rows: pl.DataFrame, *, adjust: bool) -> pl.DataFrame:
    """Add `<claim>_used`: the p-values of CLAIMS among all rows, or as they are."""
    used = [_adjusted(rows[name]) if adjust else rows[name] for name in CLAIMS]
    return rows.with_columns(values.alias(f"{values.name}_used") for values in used)


def _adjusted(p_values: pl.Series) -> pl.Series:
    """The smallest false discovery rate at which each hypothesis is still rejected."""
    adjusted = np.full(len(p_values), np.nan)
    if p_values.count():
        there = p_values.is_not_null().to_numpy()
        adjusted[there] = stats.false_discovery_control(p_values.drop_nulls().to_numpy())
    return pl.Series(p_values.name, adjusted).fill_nan(None)
