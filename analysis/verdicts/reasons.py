"""The sentences of the labels: what was found, and for "undetermined" what would settle it."""

from collections.abc import Mapping
from typing import Any

import polars as pl
from scipy import stats

from analysis.labels import Course, Noise, Overfit, Status
from analysis.stats.example_order import MOST
from analysis.stats.trend import MIN_POINTS
from analysis.verdicts.margins import Margins
from analysis.verdicts.templates import Rule, first

_MANY_SEEDS = 50  # more than this are not advised

_FELL = "accuracy ends {drop} pp below its peak"
_ROSE = "the loss at the fitted temperature ends {refined_loss_rise:1} % above its minimum"
_LOSS = "the loss ends {loss_rise:1} % above its minimum (at least {loss_rise_low:1})"
_RUN = "these weights end {within_drop} pp below their best window (at least {within_drop_low})"
_HOLDS = "accuracy ends at most {lost} pp below its peak"
_SMALL = (
    f"{_HOLDS} and the loss at the fitted temperature at most {{refined_loss_rise_high:1}} % above "
    "its minimum"
)
_MOVES = "the network's true accuracy moves by about {pop_sd} pp from epoch to epoch"
_COUNTS = "the validation set of {val_n:count} alone makes {fin_sd} pp of it"
_JITTER = "accuracy jitters by {hf_sd} pp from epoch to epoch (at most {hf_sd_high})"
_CAN = "{val_n:count} validation examples alone can make up to {set_sd_can} pp"

_STATUS = {
    Status.DIVERGED: "Diverged: a metric is not finite, or the training loss ended above where it "
    "began.",
    Status.STILL_LEARNING: "Still learning: accuracy rises by {late_slope:3} pp an epoch at the "
    "end (at least {late_slope_low:3}).",
}
_OVERFIT = {
    Overfit.NOTHING_LEARNT: "Neither noise nor overfitting: nothing was learnt.",
    Overfit.OVER_CONFIDENT: f"Over-confident, not worse: {_LOSS}, but {_SMALL}.",
    Overfit.LOSS_ALONE: f"The loss rises and accuracy holds: {_LOSS}, but {_HOLDS}.",
    Overfit.NO_ACCURACY: f"Accuracy is not lost: {_HOLDS}.",
    Overfit.RUN_FELL: f"This run fell: {_RUN}; whether another seed would fall, too, is open: "
    "{harm_cure:text}.",
    Overfit.LOSS_HOLDS: "The loss holds: it ends at most {loss_rise_high:1} % above its minimum.",
}
_NOISE = {
    Noise.BOTH: f"Both kinds of noise: {_MOVES}; {_COUNTS}.",
    Noise.SPIKES: f"A few spikes: {_JITTER}, but {{spikeless_sd}} pp without the few epochs that "
    "stand out most.",
    Noise.SLOW_WANDER: "Slow wander: at most {hf_sd_high} pp from epoch to epoch, but {plateau_sd} "
    "pp over the plateau (at least {plateau_sd_low}).",
    Noise.NO_JITTER: "No jitter: at most {hf_sd_high} pp from epoch to epoch, whoever makes it.",
    Noise.SMALL: f"Little noise: {_JITTER}, whoever makes it.",
}


def with_reasons(rows: pl.DataFrame, m: Margins) -> pl.DataFrame:
    """Add a sentence for each label: status_reason, overfit_reason, noise_reason.

    Args: rows: what the rules have read, judged and said; m: the margins that they judged by.
    """
    measured = _with_open_harm(rows, m)
    texts = {
        "status_reason": _of_label("status", _STATUS, _status_rules()),
        "overfit_reason": _with_run(
            _with_company("overfit", _of_label("overfit", _OVERFIT, _harm_rules(m))), m
        ),
        "noise_reason": _with_company("noise", _of_label("noise", _NOISE, _noise_rules(m))),
    }
    return rows.hstack(measured.select(text.alias(name) for name, text in texts.items()))


def _of_label(label: str, templates: Mapping[Any, str], before: list[Rule]) -> pl.Expr:
    """The sentence of each row's label, unless a rule that comes before it holds."""
    return first([*before, *[(pl.col(label) == word, templates[word]) for word in templates]])


def _with_company(label: str, sentence: pl.Expr) -> pl.Expr:
    """What a row shows by itself, and that it is not told among so many, where it is not."""
    differs = pl.col(label) != pl.col(f"{label}_among")
    among = pl.format(
        "{} This holds of the row by itself: among the {} that are judged here, chance alone can "
        "make one that looks like it.",
        sentence,
        pl.len(),
    )
    return pl.when(differs & sentence.is_not_null()).then(among).otherwise(sentence)


def _with_run(sentence: pl.Expr, m: Margins) -> pl.Expr:
    """What these weights lost, beside the question whether another seed's would, too."""
    sure = (pl.col("run_p") <= m.level) & ~pl.col("overfit").is_in(
        [Overfit.RUN_FELL, Overfit.COMES_APART, Overfit.NOTHING_LEARNT]
    )
    added = pl.concat_str(sentence, first([(sure, f" Of this run: {_RUN}.")]))
    return pl.when(sure).then(added).otherwise(sentence)


def _status_rules() -> list[Rule]:
    chance = pl.col("status") == Status.AT_CHANCE
    ends = "At chance: {final_accuracy:1} % right, and guessing"
    return [
        (
            chance & pl.col("guesses") & (pl.col("chance") == pl.col("guessing_at")),
            f"{ends} among equally frequent classes is right in {{chance:1}} %.",
        ),
        (
            chance & pl.col("guesses"),
            f"{ends} the most frequent class is right in {{chance:1}} %.",
        ),
        (
            pl.col("course_alone") & (pl.col("status") == Status.STILL_LEARNING),
            "Still learning: {course_reason:text}.",
        ),
        (chance, "Nothing was learnt: the training loss ends within 1 % of where it began."),
    ]


def _harm_rules(m: Margins) -> list[Rule]:
    label = pl.col("overfit")
    fallen = (pl.col("harm_p") <= m.level) & (pl.col("drop") >= m.drop)
    overfits, worse = label == Overfit.YES, label == Overfit.ENDS_WORSE
    untold = (
        "whether training accuracy in eval mode falls as well is not known, so this may be "
        "overfitting or training that comes apart"
    )
    of_rate = (
        "the learning rate rises until the end, to {rate_growth:unit} times what it was at half of "
        "training, so this may be the rate's doing"
    )
    grew = pl.col("rate_growth") > m.growth
    apart = label == Overfit.COMES_APART
    unlike = "Training comes apart, which is no overfitting: "
    not_told = label == Overfit.UNDETERMINED
    rise = pl.col("loss_rise_high").is_not_null()
    alone = pl.col("course_alone")
    return [
        (
            alone & overfits,
            "Overfits, and the training loss does not come back up: {course_reason:text}.",
        ),
        (alone & worse & grew, f"Ends worse than it was: {{course_reason:text}}; {of_rate}."),
        (
            alone & worse,
            "Ends worse than it was: {course_reason:text}. Of the training loss nothing is known, "
            "so this may be overfitting or training that comes apart.",
        ),
        (
            alone & (pl.col("course") == Course.IMPROVES) & (label == Overfit.NO),
            "Does not overfit: it is still getting better.",
        ),
        (alone & (label == Overfit.NO), "Does not overfit: {course_reason:text}."),
        (alone & (label == Overfit.LITTLE), "Little is lost: {course_reason:text}."),
        (
            alone & label.is_in([Overfit.NOT_SHOWN, Overfit.UNDETERMINED]),
            "Overfitting is open: {course_reason:text}.",
        ),
        (overfits & fallen, f"Overfits: {_FELL} (at least {{drop_low}})."),
        (overfits, f"Overfits: {_ROSE} (at least {{refined_loss_rise_low:1}})."),
        (
            worse & fallen & grew,
            f"Ends worse than it was: {_FELL} (at least {{drop_low}}); {of_rate}.",
        ),
        (worse & fallen, f"Ends worse than it was: {_FELL} (at least {{drop_low}}); {untold}."),
        (
            worse,
            f"Ends worse than it was: {_ROSE} (at least {{refined_loss_rise_low:1}}); {untold}.",
        ),
        (
            alone & apart,
            f"{unlike}the training loss gives back {{train_loss_regained:0}} % of its fall; "
            "{course_reason:text}.",
        ),
        (
            apart & pl.col("guesses"),
            f"{unlike}{{drop:1}} pp below its peak, accuracy ends at that of guessing.",
        ),
        (
            apart
            & ((pl.col("train_drop") > m.collapse) | pl.col("falls_as_well"))
            & pl.col("train_drop").is_not_null(),
            f"{unlike}accuracy ends {{drop:1}} pp below its peak, and that on the training set "
            "{train_drop:1} pp below its own.",
        ),
        (
            apart & ((pl.col("running_drop") > m.collapse) | pl.col("falls_as_well")),
            f"{unlike}accuracy ends {{drop:1}} pp below its peak, and that on training batches "
            "{running_drop:1} pp below its own.",
        ),
        (
            apart,
            f"{unlike}the training loss gives back {{train_loss_regained:0}} % of its fall.",
        ),
        (
            (label == Overfit.LOSS_RISES) & pl.col("drop").is_null(),
            f"The loss rises: {_LOSS}; what becomes of the accuracy is not known.",
        ),
        (
            label == Overfit.LOSS_RISES,
            f"The loss rises: {_LOSS}; {_FELL}, which may be nothing, and at most {{lost}}.",
        ),
        (
            (label == Overfit.NO) & pl.col("refined_loss_rise_high").is_not_null(),
            f"Does not overfit: {_SMALL}.",
        ),
        (
            label == Overfit.NO,
            f"Does not overfit: {_HOLDS} and the loss at most {{loss_rise_high:1}} % above its "
            "minimum.",
        ),
        (
            label == Overfit.LITTLE,
            "Little is lost, if anything: accuracy ends at most {lost} pp below its peak; "
            "{harm_cure:text}.",
        ),
        (
            not_told & pl.col("drop").is_null() & ~rise,
            "Overfitting cannot be told: too few epochs, or values are missing.",
        ),
        (
            not_told & pl.col("drop_high").is_null() & ~rise,
            f"Overfitting cannot be told from fewer than {MIN_POINTS} usable epochs: train longer.",
        ),
        (
            not_told,
            "Overfitting is undetermined: {open_harm:text}; {harm_cure:text}.",
        ),
    ]


def _noise_rules(m: Margins) -> list[Rule]:
    label = pl.col("noise")
    not_told = label == Noise.UNDETERMINED
    optimizer, both_known = label == Noise.OPTIMIZER, pl.col("fin_sd").is_not_null()
    no_blocks = pl.col("finite_df").is_null()
    suffices = label == Noise.SET_SUFFICES
    own = "the network itself makes at least {pop_sd_least} pp"
    blocks = "validation blocks, or which examples are right, would tell whose it is"
    alone = pl.col("course_alone")
    whose = "whose noise it is, a loss or a score alone does not tell"
    return [
        (
            alone & pl.col("score_fall").is_not_null(),
            f"One evaluation of the score scatters by {{score_jitter:unit}}; {whose}.",
        ),
        (alone, f"One evaluation of the loss scatters by {{run_loss_jitter:unit}}; {whose}."),
        (optimizer & both_known, f"Optimizer noise: {_MOVES}; {_COUNTS}."),
        (optimizer, f"Optimizer noise: {_JITTER}; {_CAN}, so {own}."),
        (
            (label == Noise.VALIDATION_SET) & both_known,
            f"Validation-set noise: {_COUNTS}; {_MOVES}.",
        ),
        (
            label == Noise.VALIDATION_SET,
            f"Validation-set noise: {_JITTER}; by the flips of its predictions the set of "
            "{val_n:count} makes at least {fin_sd_least_claimed} pp.",
        ),
        (
            (label == Noise.NONE) & (pl.col("hf_high") < m.noise**2),
            "No noise to speak of: at most {hf_sd_high} pp from epoch to epoch and "
            "{plateau_sd_high} pp over the plateau, whoever makes it.",
        ),
        (
            label == Noise.NONE,
            "No noise to speak of: at most {pop_sd_high} pp of the optimizer, {fin_sd_high} pp of "
            "the validation set and {plateau_sd_high} pp over the plateau.",
        ),
        (
            (label == Noise.SOME_OPTIMIZER) & ~no_blocks,
            f"The network itself moves: {_MOVES}, but whether by more than {100 * m.noise:g} pp is "
            f"open; {_COUNTS}.",
        ),
        (
            label == Noise.SOME_OPTIMIZER,
            f"The network itself moves: {_JITTER}; {_CAN}, so {own}; {blocks}.",
        ),
        (
            suffices & (pl.col("order_ratio") > MOST),
            f"No evidence that the network moves by itself: {_JITTER}; validation examples that "
            "lie beside each other move together, so the set holds fewer independent ones than "
            "its {val_n:count}, and can make more than these would.",
        ),
        (
            suffices & pl.col("set_most").is_not_null(),
            f"No evidence that the network moves by itself: {_JITTER}; {_CAN}; {blocks}.",
        ),
        (
            suffices,
            f"The network itself stands still, at most {{pop_sd_high}} pp: {_JITTER}, and the rest "
            "is the validation set's.",
        ),
        (
            not_told & pl.col("hf_var").is_null(),
            "Noise cannot be told from {num_usable_epochs:count} usable epochs: at least "
            f"{MIN_POINTS} are needed.",
        ),
        (
            not_told & pl.col("set_most").is_null() & no_blocks,
            f"Whose noise it is cannot be told: {_JITTER}. The number of validation examples would "
            f"bound their part; {blocks}.",
        ),
        (
            not_told & no_blocks,
            f"Whose noise it is cannot be told: {_JITTER}; {_CAN}; {blocks}.",
        ),
        (not_told, f"Whose noise it is cannot be told: {_JITTER}; {_COUNTS}; train longer."),
    ]


def _with_open_harm(rows: pl.DataFrame, m: Margins) -> pl.DataFrame:
    """Which limits stand in the way of "does not overfit", and what would move them.

    With so many seeds as are named, the limit is below the margin in 80 % where nothing is lost, if
    it keeps its width in standard errors. With as many as only bring the half width to the margin,
    in half of the cases: the estimate then scatters around 0.
    """
    at_limit = stats.norm.isf(m.level)
    power = float((at_limit + stats.norm.isf(0.2)) / at_limit) ** 2
    fell = f"{_FELL} ({{drop_low}} to {{drop_high}})"
    rose = f"{_ROSE} ({{refined_loss_rise_low:1}} to {{refined_loss_rise_high:1}})"
    loss = "the loss ends {loss_rise:1} % above its minimum (at most {loss_rise_high:1})"
    parts: list[pl.Expr] = []
    needed = [pl.lit(3.0), pl.col("num_seeds") + 1]
    known = (
        ("drop", m.drop, fell),
        ("refined_loss_rise", m.loss_rise, rose),
        ("loss_rise", m.useful_loss_rise, loss),
    )
    for name, margin, text in known:
        is_open = (pl.col(f"{name}_high") >= margin).fill_null(value=False)
        half = (pl.col(f"{name}_high") - pl.col(name)) / margin
        parts.append(first([(is_open, text)]))
        needed.append(pl.when(is_open).then((power * half**2 * pl.col("num_seeds")).ceil()))
    rows = rows.with_columns(pl.max_horizontal(needed[:4]).alias("seeds"))
    # What the seeds share, they do not average out: the error of a small set, above all.
    of_set = (pl.col("final_accuracy") * (1 - pl.col("final_accuracy")) / pl.col("val_n")).sqrt()
    too_small = (of_set > 2 * m.drop).fill_null(value=False)
    no_blocks = pl.col("finite_df").is_null()
    cure = first(
        [
            (
                (pl.col("num_seeds") < 3) & no_blocks,
                "validation blocks, or which examples are right at each epoch, would tell more "
                "from this one run; {seeds:about} seeds would settle it",
            ),
            (
                too_small,
                "a larger validation set comes before more seeds, which share this one",
            ),
            (pl.col("seeds") <= _MANY_SEEDS, "{seeds:about} seeds would settle it"),
            (
                pl.lit(True),
                "a larger validation set or longer training comes before more seeds",
            ),
        ]
    )
    both = pl.concat_str(parts, separator=", and ", ignore_nulls=True)
    return rows.with_columns(both.alias("open_harm"), cure.alias("harm_cure"))
