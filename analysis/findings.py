"""An analysis in a practitioner's words: numbers with their intervals, and never more than they
show."""

from typing import Any

import polars as pl

from analysis import best_section, censoring, knobs
from analysis.results import Analysis
from analysis.words import between, pp

# Margins that matter to a person: jitter (SD) and fall of accuracy as fractions, and the rise of
# the loss relative to its minimum.
JITTER_MARGIN, FALL_MARGIN, RISE_MARGIN = 0.004, 0.005, 0.03
COLLAPSE_MARGIN = 0.05  # fall of the training accuracy: more is instability, not overfitting
GAIN_MARGIN = 0.02  # accuracy gained over the last third of training: more is "still learning"

TREND_RATIO = 1.5  # of the second- to the third-difference variance: above, trend is in it

Row = dict[str, Any]


def overfits() -> pl.Expr:
    """Configurations whose validation accuracy clearly falls while training holds."""
    return (pl.col("drop_low") > FALL_MARGIN).fill_null(False) & ~collapses()


def collapses() -> pl.Expr:
    """Configurations that unlearn: the training accuracy itself falls."""
    return (pl.col("train_drop") > COLLAPSE_MARGIN).fill_null(False)


def answer(analysis: Analysis) -> str:
    """Noise or overfitting, in one sentence that counts configurations."""
    table = analysis.configurations
    if not table["num_completed"].sum():
        return "No trial completed: all that finished diverged."
    if not table["hf_sd"].drop_nulls().len():
        return "Too few epochs to tell noise from overfitting: 11 are needed, 40 are better."
    jumpy, fallen = pl.col("hf_sd_low") > JITTER_MARGIN, overfits()
    num_jumpy, num_fallen = table.filter(jumpy).height, table.filter(fallen).height
    num_both = table.filter(jumpy & fallen).height
    noise = f"jitters by more than {pp(JITTER_MARGIN, 1)} pp from epoch to epoch"
    harm = f"ends more than {pp(FALL_MARGIN, 1)} pp below its peak"
    of_all = f"of {table.height} configurations"
    one = table.height == 1
    if num_jumpy and num_fallen:
        if one:
            return f"Both. Validation accuracy clearly {noise} and clearly {harm}."
        same = num_both == num_jumpy == num_fallen == 1
        both = "the same one" if same else f"both together in {num_both or 'none'}"
        return (
            f"Both. In {num_jumpy} {of_all} validation accuracy clearly {noise}, and in "
            f"{num_fallen} it clearly {harm}; {both}."
        )
    if not num_jumpy and not num_fallen:
        where = "here" if one else f"in any {of_all}"
        return f"Neither is clear {where}: that validation accuracy {noise}, or that it {harm}."
    found, other = (noise, harm) if num_jumpy else (harm, noise)
    what = "Noise more than overfitting." if num_jumpy else "Overfitting more than noise."
    if one:
        return f"{what} Validation accuracy clearly {found}; that it {other} is not clear."
    return (
        f"{what} In {num_jumpy or num_fallen} {of_all} validation accuracy clearly {found}; that "
        f"it {other} is clear in none."
    )


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
        said.append(
            f"Training accuracy ends above validation accuracy by {pp(_median(known, 'gap'), 1)} "
            f"pp in the median, by {pp(known['gap'][-1], 1)} pp at most ({known['point'][-1]}); a "
            "gap alone is no harm."
        )
    fallen = table.filter(overfits()).sort("drop", maintain_order=True)
    if fallen.height:
        worst = fallen.row(-1, named=True)
        said.append(
            f"The harm is largest at {worst['point']}: accuracy ends {pp(worst['drop'], 1)} pp"
            f"{between(worst['drop_low'], worst['drop_high'], 1)} below its peak."
        )
    elif table["drop_high"].drop_nulls().len():
        margin = f"{pp(FALL_MARGIN, 1)} pp"
        spared = table.filter(pl.col("drop_high") < FALL_MARGIN).height
        said.append(
            f"No fall of accuracy by more than {margin} from its peak is clear; such a fall is "
            f"excluded in {spared or 'none'} of {table.height} configurations."
        )
    risen = table.filter(pl.col("loss_rise_low") > RISE_MARGIN).height
    if risen:
        said.append(
            f"In {risen} the validation loss ends more than {pp(RISE_MARGIN, 0)} % above its "
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
    collapsed = table.filter(collapses())
    if collapsed.height:
        said.append(
            f"Training accuracy itself falls by more than {pp(COLLAPSE_MARGIN, 0)} pp, which is no "
            f"overfitting: {_some(collapsed)}."
        )
    return said


def unfinished(table: pl.DataFrame) -> list[str]:
    """Which configurations were still learning when training ended."""
    rising = table.filter(pl.col("late_gain") > GAIN_MARGIN)
    if not rising.height:
        return []
    return [
        f"In {rising.height} of {table.height} configurations accuracy still rises by more than "
        f"{pp(GAIN_MARGIN, 0)} pp over the last third of training: {_some(rising)}. More epochs or "
        "a higher learning rate come first there."
    ]


def _some(rows: pl.DataFrame, most: int = 2) -> str:
    more = f" and {rows.height - most} more" if rows.height > most else ""
    return ", ".join(rows["point"][:most]) + more


def configuration(row: Row, num_val: int) -> str:
    """One configuration: how large is the jitter, what makes it, does it overfit."""
    if not row["num_completed"]:
        words = [
            f"{row[f'num_{status}']} {status}"
            for status in ("diverged", "failed", "stopped")
            if row[f"num_{status}"]
        ]
        return f"No completed trial ({', '.join(words) or 'not finished'})."
    said: list[str] = []
    if row["hf_sd"] is None:
        said.append("Too few epochs after burn-in to measure the jitter.")
    else:
        text = f"Accuracy jitters by {pp(row['hf_sd'])} pp" + between(
            row["hf_sd_low"], row["hf_sd_high"]
        )
        if row["finite_share"] is not None:
            share, low, high = (
                100 * min(max(row[name], 0), 1)
                for name in ("finite_share", "finite_share_low", "finite_share_high")
            )
            text += (
                f", {share:.0f} % of that variance ({low:.0f} to {high:.0f}) only for having "
                f"{num_val:,} validation examples"
            )
        said.append(text + ".")
        if row["trend_ratio"] is not None and row["trend_ratio"] > TREND_RATIO:
            said.append("Part of that is trend: the curve bends too fast to tell.")
        if row["plateau_sd"] is not None and row["plateau_sd"] > 1.5 * row["hf_sd"]:
            said.append(
                f"More slowly it moves by {pp(row['plateau_sd'])} pp around a quadratic trend: "
                "slow wander, or still learning."
            )
    if row["gap"] is not None:
        said.append(
            f"Training is {pp(row['gap'], 1)} pp{between(row['gap_low'], row['gap_high'], 1)} "
            "above validation."
        )
    if row["drop"] is not None:
        fall = f"{pp(row['drop'], 1)} pp{between(row['drop_low'], row['drop_high'], 1)}"
        if row["train_drop"] is not None and row["train_drop"] > COLLAPSE_MARGIN:
            said.append(
                f"It unlearns: accuracy ends {fall} below its peak, and that on the training set "
                f"{pp(row['train_drop'], 1)} pp below its own."
            )
        elif row["drop_low"] is not None and row["drop_low"] > FALL_MARGIN:
            said.append(f"It overfits: accuracy ends {fall} below its peak.")
        elif row["drop_high"] is not None and row["drop_high"] < FALL_MARGIN:
            said.append(f"It does not fall from its peak: {fall}.")
        else:
            said.append(f"Whether it falls from its peak is open: {fall}.")
    if row["loss_rise"] is not None and row["loss_rise"] > RISE_MARGIN:
        said.append(f"Validation loss ends {pp(row['loss_rise'], 0)} % above its minimum.")
    if row["late_gain"] is not None and row["late_gain"] > GAIN_MARGIN:
        gained = pp(row["late_gain"], 1)
        said.append(f"It is still learning: {gained} pp over the last third of training.")
    if row["num_stopped_early"]:
        said.append(
            f"{row['num_stopped_early']} of {row['num_completed']} seeds stopped early, after "
            f"{row['mean_epochs']:.0f} epochs on average; the restored weights reach "
            f"{pp(row['kept_accuracy'])} %"
            f"{between(row['kept_accuracy_low'], row['kept_accuracy_high'])}."
        )
    return " ".join(said)


def _median(table: pl.DataFrame, name: str) -> float:
    return float(table[name].median())  # pyright: ignore[reportArgumentType]
