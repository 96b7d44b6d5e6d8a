"""Claims and limits -> labels in words: a status, whether it overfits, what its noise is.

Each label is a claim against a margin that matters to a person, or a limit that is worth telling;
what has neither is "undetermined", with the datum that would settle it. Nothing is claimed because
a test failed to reject. A datum more never takes an answer away: the rules of a label stand in
order, and each rests on what it needs alone.
"""

import polars as pl

from analysis.labels import Course, Noise, Overfit, Status
from analysis.verdicts.claims import COLUMNS, measured, with_adjusted, with_claims
from analysis.verdicts.margins import Margins
from analysis.verdicts.reasons import with_reasons
from analysis.verdicts.statements import with_statements

__all__ = ["COLUMNS", "verdict"]

_LABELS = ("overfit", "noise", "overfit_among", "noise_among")
_TEXTS = ("overfit_said", "noise_said")
_COURSES = ("loss_course", "loss_said", "score_course", "score_said")
_P_VALUES = ("overfit_p", "optimizer_p", "validation_set_p")


def verdict(
    frame: pl.DataFrame, margins: Margins | None = None, *, adjust: bool = True
) -> pl.DataFrame:
    """Judge trials or configurations, one per row.

    Args:
        frame: a row per trial or configuration with those of COLUMNS that are known.
        margins: what is worth a claim; by default Margins().
        adjust: whether the labels among all rows rest on p-values that are corrected for the
            number of rows (Benjamini-Hochberg). At most a share `level` of their claims is then
            false, which is not to say of the rows without the effect.

    Returns: the frame with these columns, in its order. status, noise, overfit: a member of Status,
        Noise, Overfit, of the row by itself; noise_among and overfit_among: the same among all
        rows. A trial that diverged has no noise and no overfit (null). noise_said, overfit_said:
        the label with its number, short. loss_course, score_course: a member of Course, where the
        loss or the score is known; loss_said, score_said: likewise short. status_reason,
        noise_reason, overfit_reason: a sentence each; reason: all of them. overfit_p, optimizer_p,
        validation_set_p: of the claims "overfits", "the population's accuracy moves by more than
        the margin", "the validation set alone moves it by more than that".
    Source: Benjamini, Hochberg 1995, J. R. Stat. Soc. B 57 (not read by us).
    """
    m = margins or Margins()
    rows = with_adjusted(with_claims(measured(frame), m), adjust=adjust)
    chance = pl.coalesce("majority_rate", 1 / pl.col("num_classes"), "guessing_at")
    rows = rows.with_columns(chance.alias("chance")).with_columns(_guesses().alias("guesses"))
    rows = rows.with_columns(
        _overfit(m, "").alias("overfit"), _overfit(m, "_used").alias("overfit_among")
    ).with_columns(_status(m).alias("status"))
    rows = rows.with_columns(_noise(m, "").alias("noise"), _noise(m, "_used").alias("noise_among"))
    rows = with_reasons(with_statements(rows, m), m)
    alive = ~pl.col("diverged")
    reasons = ("overfit_reason", "noise_reason")
    labels = rows.select(
        "status",
        *[
            pl.when(alive).then(name).alias(name)
            for name in (*_LABELS, *_TEXTS, *_COURSES, *_P_VALUES)
        ],
        "status_reason",
        *[pl.when(alive).then(name).alias(name) for name in reasons],
    ).with_columns(
        pl.concat_str("status_reason", *reasons, separator=" ", ignore_nulls=True).alias("reason")
    )
    return frame.drop(labels.columns, strict=False).hstack(labels)


def _first(*rules: tuple[pl.Expr, str], default: str) -> pl.Expr:
    """The word of the first rule that holds."""
    word = pl.lit(default)
    for holds, label in reversed(rules):
        word = pl.when(holds.fill_null(value=False)).then(pl.lit(label)).otherwise(word)
    return word


def _guesses() -> pl.Expr:
    """Whether the network ends no better than by guessing, as far as is known."""
    chance = pl.col("chance")
    error = (chance * (1 - chance) / pl.col("val_n")).sqrt().fill_null(0.0)
    at_chance = pl.col("final_accuracy") <= chance + 3 * error
    return at_chance.fill_null(value=False) | pl.col("guessing_at").is_not_null()


def _overfit(m: Margins, used: str) -> pl.Expr:
    collapsed, guesses = pl.col("collapsed"), pl.col("guesses")
    harmed = pl.col(f"overfit_p{used}") <= m.level
    rises = pl.col(f"loss_p{used}") <= m.level
    run_fell = pl.col(f"run_p{used}") <= m.level
    fallen = pl.any_horizontal(
        pl.col("drop") >= m.drop, pl.col("fall_p") <= m.level, rises, run_fell
    ).fill_null(value=False)
    accuracy_holds = pl.col("lost") < m.drop
    refined_holds = pl.col("refined_loss_rise_high") < m.loss_rise
    loss_holds = pl.col("loss_rise_high") < m.loss_rise
    # Where the fitted temperature is known, the loss at it is what tells harm.
    no_loss = pl.coalesce(refined_holds, loss_holds)
    alone, course = pl.col("course_alone"), pl.col("course")
    trained = pl.col("train_drop").is_not_null()
    trained |= alone & pl.col("train_loss_regained").is_not_null()
    return _first(
        (guesses & (pl.col("drop") > m.collapse), Overfit.COMES_APART),
        (guesses | pl.col("learnt_nothing"), Overfit.NOTHING_LEARNT),
        (collapsed & fallen, Overfit.COMES_APART),
        (harmed & trained, Overfit.YES),
        (harmed, Overfit.ENDS_WORSE),
        (alone & (course == Course.SLIGHTLY), Overfit.LITTLE),
        (alone & course.is_in([Course.HOLDS, Course.IMPROVES]), Overfit.NO),
        (alone & (course == Course.NOT_SHOWN), Overfit.NOT_SHOWN),
        (alone, Overfit.UNDETERMINED),
        (rises & accuracy_holds & refined_holds, Overfit.OVER_CONFIDENT),
        (rises & accuracy_holds, Overfit.LOSS_ALONE),
        (rises, Overfit.LOSS_RISES),
        (run_fell, Overfit.RUN_FELL),
        (accuracy_holds & no_loss, Overfit.NO),
        (accuracy_holds, Overfit.NO_ACCURACY),
        (pl.col("lost") < m.useful_drop, Overfit.LITTLE),
        (pl.col("loss_rise_high") < m.useful_loss_rise, Overfit.LOSS_HOLDS),
        default=Overfit.UNDETERMINED,
    )


def _noise(m: Margins, used: str) -> pl.Expr:
    square = m.noise**2
    moves = (pl.col(f"optimizer_p{used}") <= m.level).fill_null(value=False)
    optimizer = moves & ~pl.col("spikes")
    validation_set = (pl.col(f"validation_set_p{used}") <= m.level).fill_null(value=False)
    quiet = (pl.col("hf_high") < square) | (
        (pl.col("pop_high") < square) & (pl.col("fin_high") < square)
    )
    # In the second half too: in the first, the last of the learning moves as slowly. And what a
    # rising curve moves over the plateau is its learning, not a wander.
    wanders = (
        (pl.col("hf_high") < square)
        & (pl.col("plateau_sd_low") > m.noise)
        & (pl.col("late_plateau_sd_low") > m.noise)
        & (pl.col("status") != Status.STILL_LEARNING)
    )
    # No evidence that the network moves by itself: the set alone makes, or can make, all of it.
    of_the_set = (pl.col("pop_high") < square) | pl.col("set_sd_most").is_not_null()
    return _first(
        (optimizer & validation_set, Noise.BOTH),
        (optimizer, Noise.OPTIMIZER),
        (validation_set, Noise.VALIDATION_SET),
        (pl.col("spikes") & (pl.col("hf_var") > square), Noise.SPIKES),
        (wanders, Noise.SLOW_WANDER),
        (quiet & (pl.col("plateau_sd_high") < m.noise), Noise.NONE),
        (quiet, Noise.NO_JITTER),
        (pl.col("hf_high") < m.useful_noise**2, Noise.SMALL),
        (pl.col(f"some_optimizer_p{used}") <= m.level, Noise.SOME_OPTIMIZER),
        (of_the_set, Noise.SET_SUFFICES),
        default=Noise.UNDETERMINED,
    )


def _status(m: Margins) -> pl.Expr:
    learning = (
        (pl.col("late_slope_low") > 0)
        & (pl.col("projected_gain") > m.gain)
        & ~pl.col("overfit").is_in([Overfit.YES, Overfit.ENDS_WORSE])
        & ~pl.col("collapsed")
    )
    improves = pl.col("course_alone") & (pl.col("course") == Course.IMPROVES)
    learning |= improves & (pl.col("course_promise") > m.course)
    return _first(
        (pl.col("diverged"), Status.DIVERGED),
        (pl.col("guesses") | pl.col("learnt_nothing"), Status.AT_CHANCE),
        (learning, Status.STILL_LEARNING),
        default=Status.OK,
    )
