"""The sentences of the labels: what was found, and for "undetermined" what would settle it."""

import polars as pl
from scipy import stats

from analysis.measures.decomposition import MIN_EXAMPLES, MIN_FLIPS
from analysis.stats.trend import MIN_POINTS
from analysis.verdicts.margins import Margins
from analysis.words import fixed

MANY_SEEDS = 50  # more than this are not advised
MANY_EPOCHS = 10  # nor more than so many times those at hand


def reasons(m: Margins) -> list[pl.Expr]:
    """status_reason, overfit_reason, noise_reason, of the frame that verdict() has judged."""
    return [
        _status_text(m).alias("status_reason"),
        _overfit_text(m).alias("overfit_reason"),
        _noise_text(m).alias("noise_reason"),
    ]


def _pp(values: pl.Expr | str, digits: int = 2) -> pl.Expr:
    values = pl.col(values) if isinstance(values, str) else values
    text = fixed(100 * values.clip(-10, 10), digits)
    text = pl.when(values.abs() > 10).then(pl.lit("more than 1,000")).otherwise(text)
    return pl.coalesce(text, pl.lit("?"))


def _by_label(label: str, texts: dict[str, pl.Expr]) -> pl.Expr:
    """The text of each row's label."""
    out = pl.lit(None, pl.String)
    for word, text in texts.items():
        out = pl.when(pl.col(label) == word).then(text).otherwise(out)
    return out


def _status_text(m: Margins) -> pl.Expr:
    return _by_label(
        "status",
        {
            "diverged": pl.lit(
                "Diverged: a metric is not finite, or the training loss ended above where it began."
            ),
            "at chance": pl.format(
                "At chance: {} % right, and guessing the most frequent class is right in {} %.",
                _pp("final_accuracy", 1),
                _pp("chance", 1),
            ),
            "still learning": pl.format(
                "Still learning: accuracy rises by {} pp an epoch at the end (at least {}), so as "
                "many epochs again promise up to {} pp.",
                _pp("late_slope", 3),
                _pp("late_slope_low", 3),
                _pp("projected_gain", 1),
            ),
        },
    )


def _overfit_text(m: Margins) -> pl.Expr:
    fallen = (pl.col("harm_p") <= m.level) & (pl.col("drop") >= m.drop)
    drop = pl.format(
        "accuracy ends {} pp below its peak (at least {})", _pp("drop"), _pp("drop_low")
    )
    rise = pl.format(
        "the loss at the fitted temperature ends {} % above its minimum (at least {})",
        _pp("refined_loss_rise", 1),
        _pp("refined_loss_rise_low", 1),
    )
    small = pl.format(
        "accuracy ends at most {} pp below its peak and the loss at the fitted temperature at most "
        "{} % above its minimum",
        _pp("drop_high"),
        _pp("refined_loss_rise_high", 1),
    )
    undetermined = (
        pl.when("collapsed")
        .then(
            pl.format(
                "Training comes apart, which is no overfitting: accuracy ends {} pp below "
                "its peak, and that on the training set {} pp below its own.",
                _pp("drop", 1),
                _pp("train_drop", 1),
            )
        )
        .when(pl.col("drop").is_null())
        .then(pl.lit("Overfitting cannot be told: too few epochs, or accuracies are missing."))
        .when(pl.col("drop_high").is_null())
        .then(
            pl.lit(
                f"Overfitting cannot be told from fewer than {MIN_POINTS} usable epochs: "
                "train longer."
            )
        )
        .when(pl.col("refined_loss_rise_high").is_null() & (pl.col("drop_high") < m.drop))
        .then(
            pl.format(
                "Overfitting cannot be excluded: accuracy ends at most {} pp below its "
                "peak, but the validation loss at the fitted temperature is not known.",
                _pp("drop_high"),
            )
        )
        .otherwise(_open_harm(m))
    )
    return _by_label(
        "overfit",
        {
            "yes": pl.format("Overfits: {}.", pl.when(fallen).then(drop).otherwise(rise)),
            "over-confident": pl.format(
                "Over-confident, not worse: the loss ends {} % above its minimum, but {}.",
                _pp("loss_rise", 1),
                small,
            ),
            "no": pl.format("Does not overfit: {}.", small),
            "undetermined": undetermined,
        },
    )


def _open_harm(m: Margins) -> pl.Expr:
    """Which limit stands in the way of "does not overfit", and how many seeds would move it.

    With so many, the limit is below the margin in 80 % where nothing is lost, if it keeps its width
    in standard errors. With as many as only bring the half width to the margin, in half of the
    cases: the estimate then scatters around 0.
    """
    at_limit = stats.norm.isf(m.level)
    power = float((at_limit + stats.norm.isf(0.2)) / at_limit) ** 2
    parts: list[pl.Expr] = []
    needed: list[pl.Expr] = []
    for name, margin, what, digits in (
        ("drop", m.drop, "accuracy ends {} pp below its peak ({} to {})", 2),
        (
            "refined_loss_rise",
            m.loss_rise,
            "the loss at the fitted temperature ends {} % above its minimum ({} to {})",
            1,
        ),
    ):
        is_open = (pl.col(f"{name}_high") >= margin).fill_null(value=False)
        values = [_pp(f"{name}{end}", digits) for end in ("", "_low", "_high")]
        parts.append(pl.when(is_open).then(pl.format(what, *values)))
        half = (pl.col(f"{name}_high") - pl.col(name)) / margin
        needed.append(pl.when(is_open).then((power * half**2 * pl.col("num_seeds")).ceil()))
    seeds = pl.max_horizontal(*needed, pl.lit(3.0), pl.col("num_seeds") + 1)
    more = (
        pl.when(seeds <= MANY_SEEDS)
        .then(pl.format("{} seeds would settle it", _about(seeds)))
        .otherwise(pl.lit("a larger validation set or longer training comes before more seeds"))
    )
    said = pl.concat_str(parts, separator=", and ", ignore_nulls=True)
    return pl.format("Overfitting is undetermined: {}; {}.", said, more)


def _count(name: str) -> pl.Expr:
    return pl.coalesce(pl.col(name).round().cast(pl.Int64).cast(pl.String), pl.lit("?"))


def _about(values: pl.Expr) -> pl.Expr:
    """A number of epochs, seeds or examples that would be needed."""
    text = pl.format("about {}", values.clip(upper_bound=1e9).round().cast(pl.Int64))
    text = pl.when(values > 10_000).then(pl.lit("more than 10,000")).otherwise(text)
    return pl.coalesce(text, pl.lit("more"))


def _noise_text(m: Margins) -> pl.Expr:
    pop = (pl.col("hf_var") - pl.col("finite_var")).clip(0).sqrt()
    fin = pl.col("finite_var").sqrt()
    moves = pl.format(
        "the network's true accuracy moves by about {} pp from epoch to epoch", _pp(pop)
    )
    counts = pl.format(
        "the validation set of {} alone makes {} pp of it", _count("val_n"), _pp(fin)
    )
    return _by_label(
        "noise",
        {
            "optimizer": pl.format("Optimizer noise: {}; {}.", moves, counts),
            "validation set": pl.format("Validation-set noise: {}; {}.", counts, moves),
            "both": pl.format("Both kinds of noise: {}; {}.", moves, counts),
            "slow wander": pl.format(
                "Slow wander: at most {} pp from epoch to epoch, but {} pp over the plateau (at "
                "least {}).",
                _pp(pl.col("hf_high").sqrt()),
                _pp("plateau_sd"),
                _pp("plateau_sd_low"),
            ),
            "no": pl.format(
                "No noise to speak of: at most {} pp of the optimizer, {} pp of the validation set "
                "and {} pp over the plateau.",
                _pp(pl.col("pop_high").clip(0).sqrt()),
                _pp(pl.col("fin_high").sqrt()),
                _pp("plateau_sd_high"),
            ),
            "undetermined": _undetermined_noise(m),
        },
    )


def _undetermined_noise(m: Margins) -> pl.Expr:
    """Part by part, what is not known and what would settle it."""
    square = m.noise**2
    epochs = pl.max_horizontal("epochs_needed", pl.col("num_usable_epochs") + 1)
    examples = (pl.col("val_n") * pl.col("fin_high") / square).ceil()
    margin = pl.lit(f"{100 * m.noise:g}")
    # Where nothing is claimed, what stands in the way of "no" is named; a claim came before.
    pop_open = (pl.col("pop_high") >= square) & (pl.col("optimizer_p_used") > m.level)
    fin_open = (pl.col("fin_high") >= square) & (pl.col("validation_set_p_used") > m.level)
    settled = (
        pl.when(epochs <= MANY_EPOCHS * pl.col("num_usable_epochs"))
        .then(
            pl.format(
                "which {} usable epochs over all seeds (now {}) would settle",
                _about(epochs),
                _count("num_usable_epochs"),
            )
        )
        .otherwise(pl.format("so near {} pp that no affordable training would settle it", margin))
    )
    parts = [
        pl.when(pop_open).then(
            pl.format(
                "the network's own part is below {} pp, {}", _pp(pl.col("pop_high").sqrt()), settled
            )
        ),
        pl.when(fin_open).then(
            pl.format(
                "the validation set's part is {} pp (below {}), which {} examples (now {}) "
                "would bring under {} pp",
                _pp(pl.col("finite_var").sqrt()),
                _pp(pl.col("fin_high").sqrt()),
                _about(examples),
                _count("val_n"),
                margin,
            )
        ),
    ]
    quiet = pl.format(
        "from epoch to epoch the network moves by at most {} pp and the validation "
        "set by at most {}, but",
        _pp(pl.col("pop_high").clip(0).sqrt()),
        _pp(pl.col("fin_high").sqrt()),
    )
    rising = pl.lit(
        "while the curve still rises nobody can tell whether it also wanders slowly: "
        "train until it is flat"
    )
    wander = pl.format(
        "over the plateau accuracy moves by {} pp (limit {}), which is slow wander "
        "or the last of the learning: train longer",
        _pp("plateau_sd"),
        _pp("plateau_sd_high"),
    )
    slow = pl.when(pl.col("status") == "still learning").then(rising).otherwise(wander)
    parts.append(pl.when(~pop_open & ~fin_open).then(pl.format("{} {}", quiet, slow)))
    return (
        pl.when(pl.col("hf_var").is_null())
        .then(
            pl.format(
                "Noise cannot be told from {} usable epochs: at least {} are needed.",
                _count("num_usable_epochs"),
                pl.lit(str(MIN_POINTS)),
            )
        )
        .when(pl.col("finite_df").is_null())
        .then(
            pl.format(
                "Noise is {} pp from epoch to epoch, but whose it is cannot be told: that "
                "takes validation blocks or bits, {} examples and {} flips.",
                _pp(pl.col("hf_var").sqrt()),
                pl.lit(str(MIN_EXAMPLES)),
                pl.lit(str(MIN_FLIPS)),
            )
        )
        .otherwise(
            pl.format(
                "Noise is undetermined: {}.",
                pl.concat_str(parts, separator="; ", ignore_nulls=True),
            )
        )
    )
