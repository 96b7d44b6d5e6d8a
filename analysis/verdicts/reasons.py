"""The sentences of the labels: what was found, and for "undetermined" what would settle it.

A sentence is a template. `{drop}` stands for that column in pp with two decimals, `{drop:1}` for
one decimal, `{val_n:count}` for a whole number, `{seeds:about}` for a rough number that would be
needed, `{harm_cure:text}` for a column of text.
"""

from collections.abc import Mapping
from string import Formatter
from typing import Any

import polars as pl
from scipy import stats

from analysis.labels import Noise, Overfit, Status
from analysis.measures.decomposition import MIN_EXAMPLES, MIN_FLIPS
from analysis.stats.trend import MIN_POINTS
from analysis.verdicts.margins import Margins
from analysis.words import fixed

_MANY_SEEDS = 50  # more than this are not advised
_MANY_EPOCHS = 10  # nor more than so many times those at hand

Rule = tuple[pl.Expr, str]  # where this holds, that template

_FELL = "accuracy ends {drop} pp below its peak"
_ROSE = "the loss at the fitted temperature ends {refined_loss_rise:1} % above its minimum"
_SMALL = (
    "accuracy ends at most {drop_high} pp below its peak and the loss at the fitted temperature at "
    "most {refined_loss_rise_high:1} % above its minimum"
)
_MOVES = "the network's true accuracy moves by about {pop_sd} pp from epoch to epoch"
_COUNTS = "the validation set of {val_n:count} alone makes {fin_sd} pp of it"

_STATUS = {
    Status.DIVERGED: "Diverged: a metric is not finite, or the training loss ended above where it "
    "began.",
    Status.AT_CHANCE: "At chance: {final_accuracy:1} % right, and guessing the most frequent class "
    "is right in {chance:1} %.",
    Status.STILL_LEARNING: "Still learning: accuracy rises by {late_slope:3} pp an epoch at the "
    "end (at least {late_slope_low:3}), so as many epochs again promise up to {projected_gain:1} "
    "pp.",
}
_OVERFIT = {
    Overfit.OVER_CONFIDENT: "Over-confident, not worse: the loss ends {loss_rise:1} % above its "
    f"minimum, but {_SMALL}.",
    Overfit.NO: f"Does not overfit: {_SMALL}.",
    Overfit.UNDETERMINED: "Overfitting is undetermined: {open_harm:text}; {harm_cure:text}.",
}
_NOISE = {
    Noise.OPTIMIZER: f"Optimizer noise: {_MOVES}; {_COUNTS}.",
    Noise.VALIDATION_SET: f"Validation-set noise: {_COUNTS}; {_MOVES}.",
    Noise.BOTH: f"Both kinds of noise: {_MOVES}; {_COUNTS}.",
    Noise.SLOW_WANDER: "Slow wander: at most {hf_sd_high} pp from epoch to epoch, but {plateau_sd} "
    "pp over the plateau (at least {plateau_sd_low}).",
    Noise.NONE: "No noise to speak of: at most {pop_sd_high} pp of the optimizer, {fin_sd_high} pp "
    "of the validation set and {plateau_sd_high} pp over the plateau.",
    Noise.UNDETERMINED: "Noise is undetermined: {open_noise:text}.",
}


def with_reasons(rows: pl.DataFrame, m: Margins) -> pl.DataFrame:
    """Add a sentence for each label: status_reason, overfit_reason, noise_reason.

    Args: rows: what the rules have read and judged; m: the margins that they judged by.
    """
    measured = rows.with_columns(
        (pl.col("hf_var") - pl.col("finite_var")).clip(0).sqrt().alias("pop_sd"),
        pl.col("finite_var").sqrt().alias("fin_sd"),
        pl.col("hf_var").sqrt().alias("hf_sd"),
        pl.col("hf_high").sqrt().alias("hf_sd_high"),
        pl.col("pop_high").clip(0).sqrt().alias("pop_sd_high"),
        pl.col("fin_high").sqrt().alias("fin_sd_high"),
    )
    measured = _with_open_noise(_with_open_harm(measured, m), m)
    texts = {
        "status_reason": _of_label("status", _STATUS, []),
        "overfit_reason": _of_label("overfit", _OVERFIT, _overfit_rules(m)),
        "noise_reason": _of_label("noise", _NOISE, _noise_rules()),
    }
    return rows.hstack(measured.select(text.alias(name) for name, text in texts.items()))


def _of_label(label: str, templates: Mapping[Any, str], before: list[Rule]) -> pl.Expr:
    """The sentence of each row's label, unless a rule that comes before it holds."""
    return _first([*before, *[(pl.col(label) == word, templates[word]) for word in templates]])


def _overfit_rules(m: Margins) -> list[Rule]:
    fallen = (pl.col("harm_p") <= m.level) & (pl.col("drop") >= m.drop)
    overfits = pl.col("overfit") == Overfit.YES
    is_open = pl.col("overfit") == Overfit.UNDETERMINED
    no_loss = pl.col("refined_loss_rise_high").is_null() & (pl.col("drop_high") < m.drop)
    return [
        (overfits & fallen, f"Overfits: {_FELL} (at least {{drop_low}})."),
        (overfits, f"Overfits: {_ROSE} (at least {{refined_loss_rise_low:1}})."),
        (
            is_open & pl.col("collapsed"),
            "Training comes apart, which is no overfitting: accuracy ends {drop:1} pp below its "
            "peak, and that on the training set {train_drop:1} pp below its own.",
        ),
        (
            is_open & pl.col("drop").is_null(),
            "Overfitting cannot be told: too few epochs, or accuracies are missing.",
        ),
        (
            is_open & pl.col("drop_high").is_null(),
            f"Overfitting cannot be told from fewer than {MIN_POINTS} usable epochs: train longer.",
        ),
        (
            is_open & no_loss,
            "Overfitting cannot be excluded: accuracy ends at most {drop_high} pp below its peak, "
            "but the validation loss at the fitted temperature is not known.",
        ),
    ]


def _noise_rules() -> list[Rule]:
    is_open = pl.col("noise") == Noise.UNDETERMINED
    return [
        (
            is_open & pl.col("hf_var").is_null(),
            "Noise cannot be told from {num_usable_epochs:count} usable epochs: at least "
            f"{MIN_POINTS} are needed.",
        ),
        (
            is_open & pl.col("finite_df").is_null(),
            "Noise is {hf_sd} pp from epoch to epoch, but whose it is cannot be told: that takes "
            f"validation blocks or bits, {MIN_EXAMPLES} examples and {MIN_FLIPS} flips.",
        ),
    ]


def _with_open_harm(rows: pl.DataFrame, m: Margins) -> pl.DataFrame:
    """Which limits stand in the way of "does not overfit", and how many seeds would move them.

    With so many, the limit is below the margin in 80 % where nothing is lost, if it keeps its width
    in standard errors. With as many as only bring the half width to the margin, in half of the
    cases: the estimate then scatters around 0.
    """
    at_limit = stats.norm.isf(m.level)
    power = float((at_limit + stats.norm.isf(0.2)) / at_limit) ** 2
    fell = f"{_FELL} ({{drop_low}} to {{drop_high}})"
    rose = f"{_ROSE} ({{refined_loss_rise_low:1}} to {{refined_loss_rise_high:1}})"
    parts: list[pl.Expr] = []
    needed = [pl.lit(3.0), pl.col("num_seeds") + 1]
    for name, margin, text in (("drop", m.drop, fell), ("refined_loss_rise", m.loss_rise, rose)):
        is_open = (pl.col(f"{name}_high") >= margin).fill_null(value=False)
        half = (pl.col(f"{name}_high") - pl.col(name)) / margin
        parts.append(_first([(is_open, text)]))
        needed.append(pl.when(is_open).then((power * half**2 * pl.col("num_seeds")).ceil()))
    rows = rows.with_columns(pl.max_horizontal(needed).alias("seeds"))
    cure = _first(
        [
            (pl.col("seeds") <= _MANY_SEEDS, "{seeds:about} seeds would settle it"),
            (pl.lit(True), "a larger validation set or longer training comes before more seeds"),
        ]
    )
    both = pl.concat_str(parts, separator=", and ", ignore_nulls=True)
    return rows.with_columns(both.alias("open_harm"), cure.alias("harm_cure"))


def _with_open_noise(rows: pl.DataFrame, m: Margins) -> pl.DataFrame:
    """Part by part, what is not known of the noise and what would settle it."""
    square, margin = m.noise**2, f"{100 * m.noise:g}"
    # Where nothing is claimed, what stands in the way of "no" is named; a claim came before.
    pop_open = (pl.col("pop_high") >= square) & (pl.col("optimizer_p_used") > m.level)
    fin_open = (pl.col("fin_high") >= square) & (pl.col("validation_set_p_used") > m.level)
    quiet = ~pop_open & ~fin_open
    rising = pl.col("status") == Status.STILL_LEARNING
    affordable = pl.col("needed") <= _MANY_EPOCHS * pl.col("num_usable_epochs")
    own = "the network's own part is below {pop_sd_bound} pp, "
    still = (
        "from epoch to epoch the network moves by at most {pop_sd_high} pp and the validation set "
        "by at most {fin_sd_high}, but "
    )
    network: list[Rule] = [
        (
            pop_open & affordable,
            f"{own}which {{needed:about}} usable epochs over all seeds (now "
            "{num_usable_epochs:count}) would settle",
        ),
        (pop_open, f"{own}so near {margin} pp that no affordable training would settle it"),
    ]
    validation_set: list[Rule] = [
        (
            fin_open,
            "the validation set's part is {fin_sd} pp (below {fin_sd_high}), which "
            f"{{examples:about}} examples (now {{val_n:count}}) would bring under {margin} pp",
        )
    ]
    plateau: list[Rule] = [
        (
            quiet & rising,
            f"{still}while the curve still rises nobody can tell whether it also wanders slowly: "
            "train until it is flat",
        ),
        (
            quiet,
            f"{still}over the plateau accuracy moves by {{plateau_sd}} pp (limit "
            "{plateau_sd_high}), which is slow wander or the last of the learning: train longer",
        ),
    ]
    parts = [_first(rules) for rules in (network, validation_set, plateau)]
    return rows.with_columns(
        pl.max_horizontal("epochs_needed", pl.col("num_usable_epochs") + 1).alias("needed"),
        (pl.col("val_n") * pl.col("fin_high") / square).ceil().alias("examples"),
        pl.col("pop_high").sqrt().alias("pop_sd_bound"),
    ).with_columns(pl.concat_str(parts, separator="; ", ignore_nulls=True).alias("open_noise"))


# --- templates


def _first(rules: list[Rule]) -> pl.Expr:
    """The text of the first rule that holds; null where none does."""
    text = pl.lit(None, pl.String)
    for holds, template in reversed(rules):
        text = pl.when(holds).then(_filled(template)).otherwise(text)
    return text


def _filled(template: str) -> pl.Expr:
    """A template with the numbers of each row."""
    parts: list[pl.Expr] = []
    for words, name, form, _ in Formatter().parse(template):
        parts.append(pl.lit(words))
        if name:
            parts.append(_FORMS[form](name) if form in _FORMS else _pp(name, int(form or 2)))
    return pl.concat_str(parts)


def _pp(name: str, digits: int) -> pl.Expr:
    values = pl.col(name)
    text = fixed(100 * values.clip(-10, 10), digits)
    text = pl.when(values.abs() > 10).then(pl.lit("more than 1,000")).otherwise(text)
    return pl.coalesce(text, pl.lit("?"))


def _count(name: str) -> pl.Expr:
    return pl.coalesce(pl.col(name).round().cast(pl.Int64).cast(pl.String), pl.lit("?"))


def _about(name: str) -> pl.Expr:
    values = pl.col(name)
    text = pl.format("about {}", values.clip(upper_bound=1e9).round().cast(pl.Int64))
    text = pl.when(values > 10_000).then(pl.lit("more than 10,000")).otherwise(text)
    return pl.coalesce(text, pl.lit("more"))


_FORMS = {"count": _count, "about": _about, "text": pl.col}
