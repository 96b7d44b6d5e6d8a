"""Measured columns -> labels in words: a status, whether it overfits, what its noise is.

Each label is a claim against a margin that matters to a person; what is not shown either way is
"undetermined", with the datum that would settle it. Nothing is claimed because a test failed to
reject.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from analysis.contrasts import MIN_POINTS
from analysis.decomposition import MIN_EXAMPLES, MIN_FLIPS
from analysis.margins import Margins
from analysis.words import fixed

Floats = NDArray[np.float64]

# What verdict() reads; a column that a frame lacks is null everywhere.
COLUMNS = (
    "diverged", "final_accuracy", "majority_rate", "num_classes", "val_n", "num_seeds",
    "late_slope", "late_slope_low", "projected_gain",
    "drop", "drop_low", "drop_high", "harm_p",
    "loss_rise", "loss_rise_low", "loss_rise_high", "loss_harm_p",
    "refined_loss_rise", "refined_loss_rise_low", "refined_loss_rise_high", "refined_harm_p",
    "num_usable_epochs", "hf_var", "hf_df", "finite_var", "finite_df", "num_flips",
    "plateau_sd", "plateau_sd_low", "plateau_sd_high",
)  # fmt: skip


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
            harm.harm_of_seeds. hf_var to plateau_sd_high: of fluctuation.summarise. num_seeds: 1
            where it is missing.
        adjust: Benjamini-Hochberg over the rows for each of the three p-values, so that at most a
            share `level` of such claims is false, not of the trials that are not so.
    """
    m = margins or Margins()
    known = frame.with_columns(pl.lit(None).alias(n) for n in COLUMNS if n not in frame.columns)
    known = known.select(
        pl.col("diverged").cast(pl.Boolean).fill_null(value=False),
        pl.col("num_seeds").cast(pl.Float64).fill_null(1),
        *[pl.col(n).cast(pl.Float64).fill_nan(None) for n in COLUMNS
          if n not in ("diverged", "num_seeds")],
    )  # fmt: skip
    known = _with_p_values(known, m)
    for name in CLAIMS:
        claimed = _adjusted(known[name]) if adjust else known[name]
        known = known.with_columns(claimed.alias(f"{name}_used"))
    known = known.with_columns(_overfit(m)).with_columns(_noise(m))
    # What a rising curve moves over the plateau is its learning, not a wander.
    rising = (pl.col("status") == "still learning") & (pl.col("noise") == "slow wander")
    noise = pl.when(rising).then(pl.lit("undetermined")).otherwise("noise").alias("noise")
    known = known.with_columns(_status(m)).with_columns(noise).with_columns(_texts(m))
    alive = ~pl.col("diverged")
    labels = known.select(
        "status",
        *[pl.when(alive).then(n).alias(n) for n in ("overfit", "noise", *CLAIMS)],
        "status_reason",
        *[pl.when(alive).then(n).alias(n) for n in ("overfit_reason", "noise_reason")],
    ).with_columns(
        pl.concat_str("status_reason", "overfit_reason", "noise_reason",
                      separator=" ", ignore_nulls=True).alias("reason")
    )  # fmt: skip
    return frame.drop(labels.columns, strict=False).hstack(labels)


MANY_SEEDS = 50  # more than this are not advised
CLAIMS = ("overfit_p", "optimizer_p", "validation_set_p")
# Factors of the p-values of chi-square, which are too small: docs/error-rates.md shows that with
# them a part at its margin is claimed in no more than 5 %.
OPTIMIZER, VALIDATION_SET = 1.25, 1.6


def _with_p_values(known: pl.DataFrame, m: Margins) -> pl.DataFrame:
    """CLAIMS, and upper limits of the parts of the noise (variances)."""
    s2, nu, v, nu_v = (known[n].to_numpy() for n in ("hf_var", "hf_df", "finite_var", "finite_df"))
    v = np.where(np.isfinite(nu_v), v, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        high = nu * s2 / stats.chi2.ppf(m.level, nu)
        columns = {
            # nu s^2 / chi2(.95, nu) - v > margin^2, said as a p-value.
            "optimizer_p": OPTIMIZER * stats.chi2.sf(nu * s2 / (v + m.noise**2), nu),
            "validation_set_p": VALIDATION_SET * stats.chi2.sf(nu_v * v / m.noise**2, nu_v),
            "epochs_needed": epochs_needed(s2, v + m.noise**2, m.level),
            "hf_high": high,
            "pop_high": high - v,
            "fin_high": nu_v * v / stats.chi2.ppf(m.level, nu_v),
        }
    columns |= {name: np.minimum(columns[name], 1) for name in CLAIMS[1:]}
    known = known.with_columns(pl.Series(n, x).fill_nan(None) for n, x in columns.items())
    # Two metrics, one claim: Bonferroni.
    both = pl.col("harm_p").is_not_null() & pl.col("refined_harm_p").is_not_null()
    effects = [
        pl.when(pl.col(effect) >= margin).then(p).when(pl.col(p).is_not_null()).then(1.0)
        for effect, margin, p in (
            ("drop", m.drop, "harm_p"), ("refined_loss_rise", m.loss_rise, "refined_harm_p")
        )
    ]  # fmt: skip
    least = pl.min_horizontal(effects) * pl.when(both).then(2).otherwise(1)
    return known.with_columns(least.clip(upper_bound=1).alias("overfit_p"))


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
        .when((pl.col("hf_high") < m.noise**2) & (pl.col("plateau_sd_low") > m.noise))
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


# --- sentences


def _texts(m: Margins) -> list[pl.Expr]:
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
            "diverged": pl.lit("Diverged: a metric is not finite, or the training loss ended above "
                               "where it began."),
            "at chance": pl.format(
                "At chance: {} % right, and guessing the most frequent class is right in {} %.",
                _pp("final_accuracy", 1), _pp("chance", 1),
            ),
            "still learning": pl.format(
                "Still learning: accuracy rises by {} pp an epoch at the end (at least {}), so as "
                "many epochs again promise up to {} pp.",
                _pp("late_slope", 3), _pp("late_slope_low", 3), _pp("projected_gain", 1),
            ),
        },
    )  # fmt: skip


def _overfit_text(m: Margins) -> pl.Expr:
    fallen = (pl.col("harm_p") <= m.level) & (pl.col("drop") >= m.drop)
    drop = pl.format(
        "accuracy ends {} pp below its peak (at least {})", _pp("drop"), _pp("drop_low")
    )
    rise = pl.format(
        "the loss at the fitted temperature ends {} % above its minimum (at least {})",
        _pp("refined_loss_rise", 1), _pp("refined_loss_rise_low", 1),
    )  # fmt: skip
    small = pl.format(
        "accuracy ends at most {} pp below its peak and the loss at the fitted temperature at most "
        "{} % above its minimum",
        _pp("drop_high"), _pp("refined_loss_rise_high", 1),
    )  # fmt: skip
    half = pl.max_horizontal(
        (pl.col("drop_high") - pl.col("drop")) / m.drop,
        (pl.col("refined_loss_rise_high") - pl.col("refined_loss_rise")) / m.loss_rise,
    )
    seeds = pl.max_horizontal((half**2 * pl.col("num_seeds")).ceil(), pl.lit(3.0))
    more = pl.max_horizontal(seeds, pl.col("num_seeds") + 1)
    undetermined = (
        pl.when(pl.col("drop").is_null())
        .then(pl.lit("Overfitting cannot be told: too few epochs, or accuracies are missing."))
        .when(pl.col("drop_high").is_null())
        .then(pl.lit(f"Overfitting cannot be told from fewer than {MIN_POINTS} usable epochs: "
                     "train longer."))
        .when(pl.col("refined_loss_rise_high").is_null() & (pl.col("drop_high") < m.drop))
        .then(pl.format("Overfitting cannot be excluded: accuracy ends at most {} pp below its "
                        "peak, but the validation loss at the fitted temperature is not known.",
                        _pp("drop_high")))
        .otherwise(pl.format("Overfitting is undetermined: accuracy ends {} pp below its peak, "
                             "limits {} and {}; {}.",
                             _pp("drop"), _pp("drop_low"), _pp("drop_high"),
                             pl.when(more <= MANY_SEEDS)
                             .then(pl.format("{} seeds would settle it", _about(more)))
                             .otherwise(pl.lit("longer training comes before more seeds"))))
    )  # fmt: skip
    return _by_label(
        "overfit",
        {
            "yes": pl.format("Overfits: {}.", pl.when(fallen).then(drop).otherwise(rise)),
            "over-confident": pl.format(
                "Over-confident, not worse: the loss ends {} % above its minimum, but {}.",
                _pp("loss_rise", 1), small,
            ),
            "no": pl.format("Does not overfit: {}.", small),
            "undetermined": undetermined,
        },
    )  # fmt: skip


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
        "the population's accuracy moves by about {} pp from epoch to epoch", _pp(pop)
    )
    counts = pl.format("the validation set of {} alone makes {} pp of it",
                       _count("val_n"), _pp(fin))  # fmt: skip
    return _by_label(
        "noise",
        {
            "optimizer": pl.format("Optimizer noise: {}; {}.", moves, counts),
            "validation set": pl.format("Validation-set noise: {}; {}.", counts, moves),
            "both": pl.format("Both kinds of noise: {}; {}.", moves, counts),
            "slow wander": pl.format(
                "Slow wander: at most {} pp from epoch to epoch, but {} pp over the plateau (at "
                "least {}).",
                _pp(pl.col("hf_high").sqrt()), _pp("plateau_sd"), _pp("plateau_sd_low"),
            ),
            "no": pl.format(
                "No noise to speak of: at most {} pp of the optimizer, {} pp of the validation set "
                "and {} pp over the plateau.",
                _pp(pl.col("pop_high").clip(0).sqrt()), _pp(pl.col("fin_high").sqrt()),
                _pp("plateau_sd_high"),
            ),
            "undetermined": _undetermined_noise(m),
        },
    )  # fmt: skip


def _undetermined_noise(m: Margins) -> pl.Expr:
    """Part by part, what is not known and what would settle it."""
    square = m.noise**2
    epochs = pl.max_horizontal("epochs_needed", pl.col("num_usable_epochs") + 1)
    examples = (pl.col("val_n") * pl.col("fin_high") / square).ceil()
    # Where nothing is claimed, what stands in the way of "no" is named; a claim came before.
    pop_open = (pl.col("pop_high") >= square) & (pl.col("optimizer_p_used") > m.level)
    fin_open = (pl.col("fin_high") >= square) & (pl.col("validation_set_p_used") > m.level)
    parts = [
        pl.when(pop_open).then(
            pl.format("the optimizer's part is below {} pp, which {} usable epochs over all "
                      "seeds (now {}) would settle",
                      _pp(pl.col("pop_high").sqrt()), _about(epochs),
                      _count("num_usable_epochs"))
        ),
        pl.when(fin_open).then(
            pl.format("the validation set's part is {} pp (below {}), which {} examples (now {}) "
                      "would bring under {} pp",
                      _pp(pl.col("finite_var").sqrt()), _pp(pl.col("fin_high").sqrt()),
                      _about(examples), _count("val_n"), pl.lit(f"{100 * m.noise:g}"))
        ),
        pl.when(~pop_open & ~fin_open).then(
            pl.format("over the plateau accuracy moves by {} pp (below {}), and a longer one, "
                      "with more epochs, would say more",
                      _pp("plateau_sd"), _pp("plateau_sd_high"))
        ),
    ]  # fmt: skip
    return (
        pl.when(pl.col("hf_var").is_null())
        .then(pl.format("Noise cannot be told from {} usable epochs: at least {} are needed.",
                        _count("num_usable_epochs"),
                        pl.lit(str(MIN_POINTS))))
        .when(pl.col("finite_df").is_null())
        .then(pl.format("Noise is {} pp from epoch to epoch, but whose it is cannot be told: that "
                        "takes validation blocks or bits, {} examples and {} flips.",
                        _pp(pl.col("hf_var").sqrt()), pl.lit(str(MIN_EXAMPLES)),
                        pl.lit(str(MIN_FLIPS))))
        .otherwise(pl.format("Noise is undetermined: {}.",
                             pl.concat_str(parts, separator="; ", ignore_nulls=True)))
    )  # fmt: skip
