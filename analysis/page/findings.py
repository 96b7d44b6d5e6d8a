"""An analysis in a practitioner's words: numbers with their intervals, and never more than they
show."""

from typing import Any

import polars as pl

from analysis.labels import Noise, Outcome, Overfit, Status
from analysis.page.best import best_sentences
from analysis.page.effects import effect_sentences
from analysis.results import Analysis
from analysis.sources import censoring
from analysis.verdicts.advice import CALM, advice
from analysis.verdicts.margins import Margins
from analysis.words import between, first_few, plural, pp

MARGINS = Margins()
_TREND_RATIO = 1.5  # of the second- to the third-difference variance: above, trend is in it
_MAX_NAMED = 2

# Whose noise it is: of some configurations, and of one.
_WHOSE = {
    Noise.OPTIMIZER: ("by the network itself in {}", "the network itself moves"),
    Noise.VALIDATION_SET: (
        "for the small validation set in {}",
        "it is the small validation set that moves",
    ),
    Noise.BOTH: ("for both in {}", "the network itself and the small validation set both move"),
    Noise.SET_SUFFICES: (
        "by no more than the validation set can make in {}",
        "the validation set alone can make as much",
    ),
    Noise.SOME_OPTIMIZER: ("in part by the network itself in {}", "the network moves, too"),
    Noise.SPIKES: ("in a few spikes in {}", "a few epochs stand out"),
    Noise.SMALL: ("by little in {}", "by little"),
    Noise.UNDETERMINED: ("why is not settled in {}", "whose noise it is, is not settled"),
}
_QUIET = {Noise.NONE, Noise.NO_JITTER}
_SPARED = {Overfit.NO, Overfit.NO_ACCURACY, Overfit.OVER_CONFIDENT, Overfit.LOSS_ALONE}

Row = dict[str, Any]


def answer(analysis: Analysis) -> str:
    """Answer "noise or overfitting" by counting configurations by their labels."""
    table = analysis.configurations
    if not table["num_completed"].sum():
        return "No trial completed: all that finished diverged."
    if not table["hf_sd"].count():
        return "Too few epochs to tell noise from overfitting: 11 are needed, 40 are better."
    harmed = pl.col("overfit_among").is_in([Overfit.YES, Overfit.ENDS_WORSE])
    num_jumpy, num_fallen = _jumpy(table).height, table.filter(harmed).height
    heading = "Neither noise nor overfitting is clear."
    if num_jumpy and num_fallen:
        heading = "Both."
    elif num_jumpy or num_fallen:
        first = ("Noise", "overfitting") if num_jumpy else ("Overfitting", "noise")
        heading = f"{first[0]} more than {first[1]}."
    elif set(table["noise"]) <= _QUIET and set(table["overfit"]) <= _SPARED:
        heading = "Neither noise nor overfitting."
    return f"{heading} {_noise_counts(table)}. {_harm_counts(table)}."


def _jumpy(table: pl.DataFrame) -> pl.DataFrame:
    """Configurations whose accuracy moves from epoch to epoch for sure by more than the margin."""
    return table.filter(pl.col("hf_sd_low") > MARGINS.noise)


def _noise_counts(table: pl.DataFrame) -> str:
    how = f"jitters by more than {pp(MARGINS.noise, 1)} pp from epoch to epoch"
    jumpy = _jumpy(table)
    if table.height == 1:
        if not jumpy.height:
            return f"That validation accuracy {how} is not clear"
        whose = _WHOSE.get(jumpy["noise"][0], _WHOSE[Noise.UNDETERMINED])[1]
        return f"Validation accuracy clearly {how}: {whose}"
    if not jumpy.height:
        return f"In none of {table.height} configurations validation accuracy clearly {how}"
    counts = [
        words.format(number)
        for label, (words, _) in _WHOSE.items()
        if (number := jumpy.filter(noise_among=label).height)
    ]
    return (
        f"In {jumpy.height} of {table.height} configurations validation accuracy clearly {how}: "
        f"{', '.join(counts)}"
    )


# Overfitting, label by label: of one configuration, and of several.
_HARM = {
    Overfit.YES: ("It overfits", "overfit for sure"),
    Overfit.ENDS_WORSE: ("It ends worse than it was", "for sure end worse than they were"),
    Overfit.COMES_APART: ("Its training comes apart", "come apart"),
    Overfit.NOTHING_LEARNT: ("It learns nothing", "learn nothing"),
    Overfit.OVER_CONFIDENT: (
        "It grows over-confident, but loses no accuracy",
        "grow over-confident without losing accuracy",
    ),
    Overfit.LOSS_ALONE: (
        "Its loss rises, its accuracy holds",
        "lose no accuracy as the loss rises",
    ),
    Overfit.RUN_FELL: ("This run fell", "fell in this run"),
    Overfit.LOSS_RISES: ("Its loss rises", "have a rising loss, their accuracy is not settled"),
    Overfit.NO: ("It does not overfit", "for sure do not"),
    Overfit.NO_ACCURACY: ("It loses no accuracy", "lose no accuracy"),
    Overfit.LITTLE: ("It loses little, if anything", "lose little, if anything"),
    Overfit.LOSS_HOLDS: ("Its loss holds", "have a loss that holds"),
    Overfit.UNDETERMINED: ("Whether it overfits is not settled", "are not settled"),
}


def _harm_counts(table: pl.DataFrame) -> str:
    counts = {label: table.filter(overfit_among=label).height for label in Overfit}
    if table.height == 1:
        return next((_HARM[label][0] for label, num in counts.items() if num), "It diverged")
    parts = [f"{counts[Overfit.YES] or 'none'} {_HARM[Overfit.YES][1]}"]
    parts += [
        f"{num} {_HARM[label][1]}" for label, num in counts.items() if num and label != Overfit.YES
    ]
    return f"Of {table.height}: {'; '.join(parts)}"


def summary(analysis: Analysis) -> list[tuple[str, str]]:
    """Say what the sweep shows. Returns: (what it is about, sentences)."""
    table, axes = analysis.configurations, analysis.axes
    is_scored = analysis.causes.winner is not None
    about_best = "Best configuration" if is_scored else "Highest final accuracy"
    parts = [
        ("Noise", _noise_sentences(table, num_val(analysis))),
        ("Overfitting", overfitting_sentences(table)),
        ("The knob", effect_sentences(analysis, axes[0]) if len(axes) in (1, 2) else []),
        ("Unstable", _unstable_sentences(table)),
        ("Still learning", _unfinished_sentences(table)),
        ("Stopped by the scheduler", censoring.sentences(table)),
        (about_best, best_sentences(analysis) if table.height > 1 else []),
    ]
    return [(about, " ".join(sentences)) for about, sentences in parts if sentences]


def num_val(analysis: Analysis) -> int:
    """Count the examples in the validation set; 0 where that is not known."""
    return int(analysis.trials["n_val"].max() or 0)  # pyright: ignore[reportArgumentType]


def _noise_sentences(table: pl.DataFrame, num_val: int) -> list[str]:
    """How large the jitter is, and how much of it the validation set makes."""
    measured = table.drop_nulls("hf_sd").sort("hf_sd", maintain_order=True)
    if not measured.height:
        return []
    if measured.height == 1:
        return [configuration(measured.row(0, named=True), num_val)]
    points, jitters = measured["point"], measured["hf_sd"]
    sentences = [
        f"From epoch to epoch, validation accuracy jitters by {pp(_median(measured, 'hf_sd'))} pp "
        f"(SD around its trend; median of {measured.height} configurations), from "
        f"{pp(jitters[0])} pp ({points[0]}) to {pp(jitters[-1])} pp ({points[-1]})."
    ]
    split = measured.drop_nulls("finite_share")
    if split.height:
        share = min(max(_median(split, "finite_share"), 0), 1)
        flips = ""
        if split["churn"].count():
            between_two = pp(_median(split, "churn"), 1)
            flips = (
                f", though predictions keep flipping ({between_two} % of them between two epochs)"
            )
        sentences.append(
            f"In the median configuration {100 * share:.0f} % of the jitter's variance is there "
            f"only because the validation set has {num_val:,} examples: a larger one would take it "
            f"out of the curve{flips}. The rest is the network itself getting better and worse."
        )
    return sentences


def overfitting_sentences(table: pl.DataFrame) -> list[str]:
    """Describe gap, fall from the peak and rise of the loss over all configurations.

    Args: table: `Analysis.configurations`.
    Returns: of a single configuration with a gap, the loss alone: its own sentences have the rest.
    """
    gaps = table.drop_nulls("gap").sort("gap", maintain_order=True)
    if table.height == 1 and gaps.height:
        return _risen(table)
    sentences: list[str] = []
    if gaps.height:
        sentences.append(
            f"Training accuracy ends {_gap(_median(gaps, 'gap'))} validation accuracy in the "
            f"median, {_gap(gaps['gap'][-1])} at most ({gaps['point'][-1]}); a gap alone is no "
            "harm."
        )
    fallen = table.filter(pl.col("overfit").is_in([Overfit.YES, Overfit.ENDS_WORSE]))
    if fallen.height:
        worst = fallen.sort("drop", maintain_order=True).row(-1, named=True)
        reason = worst["overfit_reason"]
        sentences.append(
            f"The harm is largest at {worst['point']}: {reason[:1].lower()}{reason[1:]}"
        )
    elif table["drop_high"].count():
        spared = table.filter(pl.col("drop_high") < MARGINS.drop).height
        sentences.append(
            f"No overfitting is clear; a fall of accuracy by more than {pp(MARGINS.drop, 1)} pp "
            f"from its peak is excluded in {spared or 'none'} of {table.height} configurations."
        )
    return sentences + _risen(table)


def _risen(table: pl.DataFrame) -> list[str]:
    """In how many configurations the validation loss rises by more than its noise."""
    risen = table.filter(pl.col("loss_rise_low") > MARGINS.loss_rise).height
    if not risen:
        return []
    return [
        f"In {risen} the validation loss ends more than {pp(MARGINS.loss_rise, 0)} % above its "
        "minimum, by more than noise makes: there the network grows over-confident, or loses "
        "what tells the classes apart."
    ]


def _unstable_sentences(table: pl.DataFrame) -> list[str]:
    """Which configurations diverged, failed, or lost what they had learned."""
    sentences: list[str] = []
    for outcome, count in ((Outcome.DIVERGED, "num_diverged"), (Outcome.FAILED, "num_failed")):
        rows = table.filter(pl.col(count) > 0)
        if rows.height:
            trials = plural(int(rows[count].sum()), "trial")
            sentences.append(f"{trials} {outcome}: {_points(rows)}.")
    collapsed = table.filter(pl.col("train_drop") > MARGINS.collapse)
    if collapsed.height:
        sentences.append(
            f"Training accuracy itself falls by more than {pp(MARGINS.collapse, 0)} pp, which is "
            f"no overfitting: {_points(collapsed)}."
        )
    return sentences


def _unfinished_sentences(table: pl.DataFrame) -> list[str]:
    """Which configurations were still learning when training ended."""
    rising = table.filter(status=Status.STILL_LEARNING)
    if not rising.height:
        return []
    return [
        f"In {rising.height} of {table.height} configurations accuracy still rises, by enough for "
        f"{pp(MARGINS.gain, 0)} pp and more in as many epochs again: {_points(rising)}. More "
        "epochs or a higher learning rate come first there."
    ]


def _points(rows: pl.DataFrame) -> str:
    return first_few(rows["point"].to_list(), _MAX_NAMED)


def configuration(row: Row, num_val: int) -> str:
    """Say what moves in a configuration, whose noise it is, whether it overfits, what to turn.

    Args: row: of `Analysis.configurations`; num_val: examples in the validation set.
    """
    if not row["num_completed"]:
        counts = [
            f"{row[f'num_{outcome}']} {outcome}"
            for outcome in (Outcome.DIVERGED, Outcome.FAILED, Outcome.STOPPED)
            if row[f"num_{outcome}"]
        ]
        return f"No completed trial ({', '.join(counts) or 'not finished'})."
    sentences: list[str] = []
    if row["status"] in (Status.AT_CHANCE, Status.STILL_LEARNING):
        sentences.append(row["status_reason"])
    sentences += _movement(row, num_val)
    if row["gap"] is not None:
        sentences.append(
            f"Training minus validation accuracy is {pp(row['gap'], 1)} pp"
            f"{between(row['gap_low'], row['gap_high'], 1)}."
        )
    if row["overfit_reason"]:
        sentences.append(row["overfit_reason"])
    if row["num_stopped_early"]:
        sentences.append(
            f"{row['num_stopped_early']} of {row['num_completed']} seeds stopped early, after "
            f"{row['mean_epochs']:.0f} epochs on average; the restored weights reach "
            f"{pp(row['kept_accuracy'])} %"
            f"{between(row['kept_accuracy_low'], row['kept_accuracy_high'])}."
        )
    clauses = advice(row, num_val)
    if clauses:
        sentences.append(f"To turn: {'; '.join(clauses)}.")
    return " ".join(sentences)


def _movement(row: Row, num_val: int) -> list[str]:
    """The jitter, the validation set's share of it, and whose noise it is called."""
    if row["hf_sd"] is None:
        return ["Too few epochs after burn-in to measure the jitter."]
    jitter = f"Accuracy jitters by {pp(row['hf_sd'])} pp" + between(
        row["hf_sd_low"], row["hf_sd_high"]
    )
    if row["finite_share"] is not None:
        share, low, high = (
            100 * min(max(row[f"finite_share{end}"], 0), 1) for end in ("", "_low", "_high")
        )
        part = f"{share:.0f} % of that variance ({low:.0f} to {high:.0f})"
        if low == 100:
            part = "all of that variance"
        jitter += f", {part} only for having {num_val:,} validation examples"
    sentences = [f"{jitter}."]
    if row["noise_reason"]:
        sentences.append(row["noise_reason"])
    late = row["late_hf_sd"]
    if late is not None and late < CALM * row["hf_sd"]:
        sentences.append(
            f"Most of that is early: in the second half of training it is {pp(late)} pp, so it "
            "calms down by itself."
        )
    if row["trend_ratio"] is not None and row["trend_ratio"] > _TREND_RATIO:
        sentences.append("Part of that is trend: the curve bends too fast to tell.")
    return sentences


def _gap(gap: float) -> str:
    return f"{pp(abs(gap), 1)} pp {'below' if gap < 0 else 'above'}"


def _median(table: pl.DataFrame, name: str) -> float:
    return float(table[name].median())  # pyright: ignore[reportArgumentType]
