"""An analysis in a practitioner's words: numbers with their intervals, and never more than they
show."""

from typing import Any

import polars as pl

from analysis.page import best as best_section
from analysis.page import knobs
from analysis.results import Analysis
from analysis.sources import censoring
from analysis.verdicts.advice import CALM, advice
from analysis.verdicts.margins import Margins
from analysis.words import between, pp

MARGINS = Margins()
TREND_RATIO = 1.5  # of the second- to the third-difference variance: above, trend is in it

# Whose noise it is: of some configurations, and of one.
WHOSE = {
    "optimizer": ("by the network itself in {}", "the network itself moves"),
    "validation set": (
        "for the small validation set in {}",
        "it is the small validation set that moves",
    ),
    "both": ("for both in {}", "the network itself and the small validation set both move"),
    "undetermined": ("why is not settled in {}", "whose noise it is, is not settled"),
}

Row = dict[str, Any]


def jitters() -> pl.Expr:
    """Configurations whose accuracy moves from epoch to epoch for sure by more than the margin."""
    return (pl.col("hf_sd_low") > MARGINS.noise).fill_null(value=False)


def answer(analysis: Analysis) -> str:
    """Noise or overfitting, in one sentence or two that count configurations by their labels."""
    table = analysis.configurations
    if not table["num_completed"].sum():
        return "No trial completed: all that finished diverged."
    if not table["hf_sd"].drop_nulls().len():
        return "Too few epochs to tell noise from overfitting: 11 are needed, 40 are better."
    num_jumpy, num_fallen = table.filter(jitters()).height, _labelled(table, "overfit", "yes")
    heading = "Neither noise nor overfitting is clear."
    if num_jumpy and num_fallen:
        heading = "Both."
    elif num_jumpy or num_fallen:
        first = ("Noise", "overfitting") if num_jumpy else ("Overfitting", "noise")
        heading = f"{first[0]} more than {first[1]}."
    elif set(table["noise"]) == {"no"} and set(table["overfit"]) <= {"no", "over-confident"}:
        heading = "Neither noise nor overfitting."
    return f"{heading} {_noise_counts(table)}. {_harm_counts(table)}."


def _labelled(table: pl.DataFrame, label: str, value: str) -> int:
    return table.filter((pl.col(label) == value).fill_null(value=False)).height


def _noise_counts(table: pl.DataFrame) -> str:
    how = f"jitters by more than {pp(MARGINS.noise, 1)} pp from epoch to epoch"
    jumpy = table.filter(jitters())
    if table.height == 1:
        if not jumpy.height:
            return f"That validation accuracy {how} is not clear"
        whose = WHOSE.get(str(jumpy["noise"][0]), WHOSE["undetermined"])[1]
        return f"Validation accuracy clearly {how}: {whose}"
    if not jumpy.height:
        return f"In none of {table.height} configurations validation accuracy clearly {how}"
    counts = [
        words.format(number)
        for label, (words, _) in WHOSE.items()
        if (number := _labelled(jumpy, "noise", label))
    ]
    return (
        f"In {jumpy.height} of {table.height} configurations validation accuracy clearly {how}: "
        f"{', '.join(counts)}"
    )


def _harm_counts(table: pl.DataFrame) -> str:
    fallen, sure, excluded = (
        _labelled(table, "overfit", value) for value in ("yes", "over-confident", "no")
    )
    if table.height == 1:
        if fallen:
            return "It overfits"
        if sure:
            return "It grows over-confident, but loses no accuracy"
        return "It does not overfit" if excluded else "Whether it overfits is not settled"
    said = [f"{fallen or 'None'} {'overfits' if fallen < 2 else 'overfit'} for sure"]
    said += [f"{sure} grow{'s' * (sure == 1)} over-confident without losing accuracy"] * bool(sure)
    said += [f"{excluded} for sure {'does' if excluded == 1 else 'do'} not"] * bool(excluded)
    rest = _labelled(table, "overfit", "undetermined")
    return "; ".join([*said, *[f"{rest} {'is' if rest == 1 else 'are'} not settled"] * bool(rest)])


def summary(analysis: Analysis) -> list[tuple[str, str]]:
    """What the sweep shows: (what it is about, sentences)."""
    table = analysis.configurations
    found = [("Noise", noise(table, num_val(analysis))), ("Overfitting", overfitting(table))]
    if len(analysis.axes) in (1, 2):
        found.append(("The knob", knobs.sentences(analysis, analysis.axes[0])))
    found += [("Unstable", unstable(table)), ("Still learning", unfinished(table))]
    found.append(("Stopped by the scheduler", censoring.sentences(table)))
    if table.height > 1:
        known = analysis.causes.winner is not None
        about = "Best configuration" if known else "Highest final accuracy"
        found.append((about, best_section.sentences(analysis)))
    return [(about, " ".join(sentences)) for about, sentences in found if sentences]


def num_val(analysis: Analysis) -> int:
    """Examples in the validation set."""
    return int(analysis.trials["n_val"].max() or 0)  # pyright: ignore[reportArgumentType]


def noise(table: pl.DataFrame, num_val: int) -> list[str]:
    """How large the jitter is, and how much of it the validation set makes."""
    known = table.drop_nulls("hf_sd").sort("hf_sd", maintain_order=True)
    if not known.height:
        return []
    if known.height == 1:
        return [configuration(known.row(0, named=True), num_val)]
    said = [
        f"From epoch to epoch, validation accuracy jitters by {pp(_median(known, 'hf_sd'))} pp (SD "
        f"around its trend; median of {known.height} configurations), from "
        f"{pp(known['hf_sd'][0])} pp ({known['point'][0]}) to {pp(known['hf_sd'][-1])} pp "
        f"({known['point'][-1]})."
    ]
    shared = known.drop_nulls("finite_share")
    if shared.height:
        share = min(max(_median(shared, "finite_share"), 0), 1)
        said.append(
            f"In the median configuration {100 * share:.0f} % of the jitter's variance is there "
            f"only because the validation set has {num_val:,} examples: a larger one would take it "
            "out of the curve, though predictions keep flipping "
            f"({pp(_median(shared, 'churn'), 1)} % of them between two epochs). The rest is the "
            "network itself getting better and worse."
        )
    return said


def overfitting(table: pl.DataFrame) -> list[str]:
    """Gap, fall from the peak and rise of the loss over all configurations."""
    known = table.drop_nulls("gap").sort("gap", maintain_order=True)
    said: list[str] = []
    if known.height == 1:
        return said  # its own sentence says it
    if known.height:
        median = _median(known, "gap")
        said.append(
            f"Training accuracy ends {_gap(median)} validation accuracy in the median, "
            f"{_gap(known['gap'][-1])} at most ({known['point'][-1]}); a gap alone is no harm."
        )
    fallen = table.filter((pl.col("overfit") == "yes").fill_null(value=False))
    if fallen.height:
        worst = fallen.sort("drop", maintain_order=True).row(-1, named=True)
        said.append(f"The harm is largest at {worst['point']}: {_lower(worst['overfit_reason'])}")
    elif table["drop_high"].drop_nulls().len():
        spared = table.filter(pl.col("drop_high") < MARGINS.drop).height
        said.append(
            f"No overfitting is clear; a fall of accuracy by more than {pp(MARGINS.drop, 1)} pp "
            f"from its peak is excluded in {spared or 'none'} of {table.height} configurations."
        )
    risen = table.filter(pl.col("loss_rise_low") > MARGINS.loss_rise).height
    if risen:
        said.append(
            f"In {risen} the validation loss ends more than {pp(MARGINS.loss_rise, 0)} % above its "
            "minimum, by more than noise makes: there the network grows over-confident, or loses "
            "what tells the classes apart."
        )
    return said


def unstable(table: pl.DataFrame) -> list[str]:
    """Which configurations diverged, failed, or lost what they had learned."""
    said: list[str] = []
    for status in ("diverged", "failed"):
        rows = table.filter(pl.col(f"num_{status}") > 0)
        if rows.height:
            number_of = int(rows[f"num_{status}"].sum())
            said.append(f"{number_of} trial{'s' if number_of > 1 else ''} {status}: {_some(rows)}.")
    collapsed = table.filter(pl.col("train_drop") > MARGINS.collapse)
    if collapsed.height:
        said.append(
            f"Training accuracy itself falls by more than {pp(MARGINS.collapse, 0)} pp, which is "
            f"no overfitting: {_some(collapsed)}."
        )
    return said


def unfinished(table: pl.DataFrame) -> list[str]:
    """Which configurations were still learning when training ended."""
    rising = table.filter((pl.col("status") == "still learning").fill_null(value=False))
    if not rising.height:
        return []
    return [
        f"In {rising.height} of {table.height} configurations accuracy still rises, by enough for "
        f"{pp(MARGINS.gain, 0)} pp and more in as many epochs again: {_some(rising)}. More epochs "
        "or a higher learning rate come first there."
    ]


def _some(rows: pl.DataFrame, most: int = 2) -> str:
    more = f" and {rows.height - most} more" if rows.height > most else ""
    return ", ".join(rows["point"][:most]) + more


def configuration(row: Row, num_val: int) -> str:
    """The verdict on one configuration: what moves, whose noise it is, does it overfit, what to
    turn."""
    if not row["num_completed"]:
        words = [
            f"{row[f'num_{status}']} {status}"
            for status in ("diverged", "failed", "stopped")
            if row[f"num_{status}"]
        ]
        return f"No completed trial ({', '.join(words) or 'not finished'})."
    said = [row["status_reason"]] if row["status"] in ("at chance", "still learning") else []
    said += _movement(row, num_val)
    if row["gap"] is not None:
        said.append(
            f"Training minus validation accuracy is {pp(row['gap'], 1)} pp"
            f"{between(row['gap_low'], row['gap_high'], 1)}."
        )
    if row["overfit_reason"]:
        said.append(row["overfit_reason"])
    if row["num_stopped_early"]:
        said.append(
            f"{row['num_stopped_early']} of {row['num_completed']} seeds stopped early, after "
            f"{row['mean_epochs']:.0f} epochs on average; the restored weights reach "
            f"{pp(row['kept_accuracy'])} %"
            f"{between(row['kept_accuracy_low'], row['kept_accuracy_high'])}."
        )
    turn = advice(row, num_val)
    if turn:
        said.append(f"To turn: {'; '.join(turn)}.")
    return " ".join(said)


def _movement(row: Row, num_val: int) -> list[str]:
    """The jitter, the validation set's share of it, and whose noise it is called."""
    if row["hf_sd"] is None:
        return ["Too few epochs after burn-in to measure the jitter."]
    text = f"Accuracy jitters by {pp(row['hf_sd'])} pp" + between(
        row["hf_sd_low"], row["hf_sd_high"]
    )
    if row["finite_share"] is not None:
        share, low, high = (
            100 * min(max(row[name], 0), 1)
            for name in ("finite_share", "finite_share_low", "finite_share_high")
        )
        part = f"{share:.0f} % of that variance ({low:.0f} to {high:.0f})"
        text += (
            f", {'all of that variance' if low == 100 else part} only for having {num_val:,} "
            "validation examples"
        )
    said = [f"{text}.", row["noise_reason"]] if row["noise_reason"] else [f"{text}."]
    late = row["late_hf_sd"]
    if late is not None and late < CALM * row["hf_sd"]:
        said.append(
            f"Most of that is early: in the second half of training it is {pp(late)} pp, so it "
            "calms down by itself."
        )
    if row["trend_ratio"] is not None and row["trend_ratio"] > TREND_RATIO:
        said.append("Part of that is trend: the curve bends too fast to tell.")
    return said


def _gap(gap: float) -> str:
    return f"{pp(abs(gap), 1)} pp {'below' if gap < 0 else 'above'}"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _median(table: pl.DataFrame, name: str) -> float:
    return float(table[name].median())  # pyright: ignore[reportArgumentType]
