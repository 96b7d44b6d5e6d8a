"""The short form of a label: what was found, in a number with its limit."""

import polars as pl

from analysis.labels import Noise, Overfit
from analysis.verdicts.margins import Margins
from analysis.verdicts.templates import Rule, first

_FELL = "fell by at least {drop_low} pp"
_REFINED = "the loss at the fitted temperature rose by at least {refined_loss_rise_low:1} %"
_ROSE = "the loss rose by at least {loss_rise_low:1} %"
_LOST = "lost at most {lost} pp"
_RUN = "these weights end at least {within_drop_low} pp below their best window"
# With these labels, that is said already or beside the point.
_OTHERWISE = (Overfit.RUN_FELL, Overfit.COMES_APART, Overfit.NOTHING_LEARNT)
_MOVES = "moves by at most {hf_sd_high} pp from epoch to epoch, whoever makes it"
_NETWORK = "the network moves by at least {pop_sd_least} pp"
_SHARE = "; at least {least_share:0} % of the jitter is the network"
_SET = "the validation set makes at least {fin_sd_least_claimed} pp"


def with_statements(rows: pl.DataFrame, m: Margins) -> pl.DataFrame:
    """Add overfit_said and noise_said, and the numbers in them as SDs and shares.

    Args: rows: what the rules have read and judged; m: the margins that they judged by.
    """
    rows = rows.with_columns(
        (pl.col("hf_var") - pl.col("finite_var")).clip(0).sqrt().alias("pop_sd"),
        pl.col("finite_var").sqrt().alias("fin_sd"),
        pl.col("hf_var").sqrt().alias("hf_sd"),
        pl.col("hf_high").sqrt().alias("hf_sd_high"),
        pl.col("pop_high").sqrt().alias("pop_sd_high"),
        pl.col("fin_high").sqrt().alias("fin_sd_high"),
        pl.col("pop_least").sqrt().alias("pop_sd_least"),
        pl.col("fin_least").sqrt().alias("fin_sd_least_claimed"),
        pl.col("set_most").sqrt().alias("set_sd_can"),
        (1 - pl.col("finite_share_high")).alias("least_share"),
    )
    run_fell = (pl.col("run_p") <= m.level) & ~pl.col("overfit").is_in(_OTHERWISE)
    return rows.with_columns(
        pl.concat_str(first(_overfit(m)), first([(run_fell, f"; {_RUN}")]).fill_null("")).alias(
            "overfit_said"
        ),
        first(_noise()).alias("noise_said"),
    )


def _overfit(m: Margins) -> list[Rule]:
    label = pl.col("overfit")
    harmed = label.is_in([Overfit.YES, Overfit.ENDS_WORSE])
    by_accuracy = (pl.col("harm_p") <= m.level) & (pl.col("drop") >= m.drop)
    alone = label.is_in([Overfit.LOSS_ALONE, Overfit.OVER_CONFIDENT])
    bounded = label.is_in([Overfit.NO, Overfit.NO_ACCURACY, Overfit.LITTLE])
    return [
        (pl.col("course_alone"), "{course_said:text}"),
        (harmed & by_accuracy, _FELL),
        (harmed, _REFINED),
        (label == Overfit.COMES_APART, "training comes apart"),
        (label == Overfit.NOTHING_LEARNT, "nothing was learnt"),
        (alone, f"{_ROSE}, accuracy {_LOST}"),
        ((label == Overfit.LOSS_RISES) & (pl.col("lost") < m.useful_drop), f"{_ROSE}, {_LOST}"),
        (label == Overfit.LOSS_RISES, _ROSE),
        (label == Overfit.RUN_FELL, _RUN),
        (bounded, _LOST),
        (label == Overfit.LOSS_HOLDS, "the loss rose by at most {loss_rise_high:1} %"),
        (pl.lit(True), "undetermined"),
    ]


def _noise() -> list[Rule]:
    label = pl.col("noise")
    shared = pl.col("least_share") > 0
    alone = pl.col("course_alone")
    of_score = pl.col("score_fall").is_not_null()
    return [
        (alone & of_score, "the score scatters by {score_jitter:unit}"),
        (alone, "the loss scatters by {run_loss_jitter:unit}"),
        (label == Noise.BOTH, f"{_NETWORK}, {_SET}"),
        ((label == Noise.OPTIMIZER) & shared, _NETWORK + _SHARE),
        (label.is_in([Noise.OPTIMIZER, Noise.SOME_OPTIMIZER]), _NETWORK),
        (label == Noise.VALIDATION_SET, _SET),
        (label == Noise.SPIKES, "a few spikes; without them it moves by {spikeless_sd} pp"),
        (label == Noise.SLOW_WANDER, "wanders by at least {plateau_sd_low} pp"),
        (label == Noise.NONE, "moves by at most {plateau_sd_high} pp over the plateau"),
        (label.is_in([Noise.NO_JITTER, Noise.SMALL]), _MOVES),
        (
            (label == Noise.SET_SUFFICES) & pl.col("set_sd_can").is_not_null(),
            "jitters by at most {hf_sd_high} pp; {val_n:count} validation examples can make "
            "{set_sd_can}",
        ),
        (label == Noise.SET_SUFFICES, "the network moves by at most {pop_sd_high} pp"),
        (pl.lit(True), "undetermined"),
    ]
