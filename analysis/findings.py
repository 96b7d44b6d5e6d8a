"""An analysis in a practitioner's words: numbers with their intervals, and never more than they
show."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from analysis.axes import Axis
from analysis.results import Analysis
from analysis.words import between, number, pp

# Margins that matter to a person: jitter (SD) and fall of accuracy as fractions, and the rise of
# the loss relative to its minimum.
JITTER_MARGIN, FALL_MARGIN, RISE_MARGIN = 0.004, 0.005, 0.03

# response: (in a sentence, over a column)
RESPONSES = {
    "jitter": ("jitter", "jitter"),
    "gap": ("the gap", "gap"),
    "drop": ("the fall from the peak", "fall from the peak"),
    "loss_rise": ("the rise of the loss from its minimum", "rise of the loss"),
    "final_accuracy": ("final accuracy", "final accuracy"),
    "num_epochs": ("the number of epochs", "epochs"),
    "kept_accuracy": ("accuracy of the weights that are kept", "kept weights"),
    "chosen_accuracy": (
        "accuracy of the restored weights against the best epoch of a full run",
        "restored against best epoch",
    ),
}
# What is said of an axis, and in which order.
ASKED = ("jitter", "gap", "drop", "loss_rise", "final_accuracy")
ASKED_OF_STOPPING = ("num_epochs", "kept_accuracy", "chosen_accuracy", "drop", "loss_rise")

TREND_RATIO = 1.5  # of the second- to the third-difference variance: above, trend is in it

Row = dict[str, Any]


def answer(analysis: Analysis) -> str:
    """Noise or overfitting, in one sentence that counts configurations."""
    table = analysis.configurations
    if not table["num_completed"].sum():
        return "No trial completed: all that finished diverged."
    if not table["hf_sd"].drop_nulls().len():
        return "Too few epochs to tell noise from overfitting: 11 are needed, 40 are better."
    jumpy, fallen = pl.col("hf_sd_low") > JITTER_MARGIN, pl.col("drop_low") > FALL_MARGIN
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
        found.append(("The knob", knob(analysis, analysis.axes[0])))
    found.append(("Not completed", lost(table)))
    if table.height > 1:
        found.append(("Highest final accuracy", highest(table)))
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
    fallen = table.filter(pl.col("drop_low") > FALL_MARGIN).sort("drop", maintain_order=True)
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
            f"In {risen} the validation loss clearly ends more than {pp(RISE_MARGIN, 0)} % above "
            "its minimum: there the network grows over-confident, whatever its accuracy."
        )
    return said


def knob(analysis: Analysis, axis: Axis) -> list[str]:
    """What going from the first level of an axis to its last did, given what must be held."""
    said: list[str] = []
    for given, by_response in _contrasts(analysis, axis):
        text = contrast(by_response, asked_of(axis))
        held = f" at {given}" if given else ""
        name = axis.title.capitalize()
        said.append(f"{name} {axis.labels[-1]} instead of {axis.labels[0]}{held} {text}.")
    return said


def knobs(analysis: Analysis) -> list[Row]:
    """The same for every axis as cells: axis, step, given, and a cell per response asked.

    A cell: change (text), limits (text), direction (1, -1, 0 for no clear change).
    """
    rows: list[Row] = []
    for axis in analysis.axes:
        for given, by_response in _contrasts(analysis, axis):
            cells = [_cell(by_response.get(name)) for name in asked_of(axis)]
            step = f"{axis.labels[0]} → {axis.labels[-1]}"
            rows.append({"axis": axis.title, "step": step, "given": given, "cells": cells,
                         "heads": [RESPONSES[name][1] for name in asked_of(axis)]})  # fmt: skip
    return rows


def asked_of(axis: Axis) -> tuple[str, ...]:
    """The responses that answer what an axis is varied for."""
    return ASKED_OF_STOPPING if axis.name == "early_stopping" else ASKED


def _contrasts(analysis: Analysis, axis: Axis) -> list[tuple[str, dict[str, Row]]]:
    """(what is held, response -> row of effects) for the last level against the first."""
    rows = analysis.effects.filter(
        (pl.col("axis") == axis.name)
        & (pl.col("scope") == "pooled")
        & (pl.col("level") == axis.labels[-1])
    )
    found: dict[str, dict[str, Row]] = {}
    for row in rows.iter_rows(named=True):
        found.setdefault(row["given"], {})[row["response"]] = row
    return list(found.items())


def _cell(row: Row | None) -> Row:
    if row is None:
        return {"change": "–", "limits": "", "direction": 0}
    ratio = row["response"] == "jitter"
    scale, digits, unit = (100.0, 0, " %") if ratio else _units(row["response"])
    values = [
        None if row[name] is None else scale * (row[name] - ratio)
        for name in ("estimate", "low", "high")
    ]
    estimate, low, high = ("" if v is None else number(v, digits) for v in values)
    direction = (1 if values[0] > 0 else -1) if is_clear_row(row) and values[0] else 0
    limits = f"{low} to {high}" if low else ""
    sign = "+" if values[0] and values[0] > 0 and not estimate.startswith("0.00") else ""
    return {"change": f"{sign}{estimate}{unit}", "limits": limits, "direction": direction}


def contrast(by_response: dict[str, Row], asked: Sequence[str]) -> str:
    """One contrast: first what clearly changed, then what did not."""
    changed: list[str] = []
    unclear: list[str] = []
    unknown: list[str] = []
    for name in asked:
        row = by_response.get(name)
        if row is None or (name == "num_epochs" and row["estimate"] == 0):
            continue
        words = RESPONSES[name][0]
        if is_clear_row(row):
            verb = "raises" if row["estimate"] > (1 if name == "jitter" else 0) else "lowers"
            changed.append(f"{verb} {words} by {_amount(row)}")
        elif row["low"] is None and row["estimate"] != 0:
            unknown.append(words)
        else:
            unclear.append(f"{words}{_limits(row)}")
    if unclear:
        changed.append(f"shows no clear change in {_list(unclear)}")
    if unknown:
        changed.append(f"has too few seeds for an interval of {_list(unknown)}")
    return _list(changed)


def is_clear_row(row: Row) -> bool:
    """Whether a row of `effects` leaves out "no change"."""
    nothing = 1.0 if row["response"] == "jitter" else 0.0
    return row["low"] is not None and (row["low"] > nothing or row["high"] < nothing)


def _amount(row: Row) -> str:
    """How much a response changed, without its sign."""
    if row["response"] == "jitter":
        change, low, high = (100 * (row[name] - 1) for name in ("estimate", "low", "high"))
        if change < 0:
            change, low, high = -change, -high, -low
        return f"{change:.0f} % ({low:.0f} to {high:.0f})"
    scale, digits, unit = _units(row["response"])
    values = [scale * row[name] for name in ("estimate", "low", "high")]
    if values[0] < 0:
        values = [-values[0], -values[2], -values[1]]
    change, low, high = (number(value, digits) for value in values)
    return f"{change}{unit} ({low} to {high})"


def _limits(row: Row) -> str:
    if row["low"] is None:
        return ""
    if row["response"] == "jitter":
        low, high = (number(100 * (row[name] - 1), 0) for name in ("low", "high"))
        return f" ({low} to {high} %)"
    scale, digits, unit = _units(row["response"])
    return f" ({number(scale * row['low'], digits)} to {number(scale * row['high'], digits)}{unit})"


def _units(response: str) -> tuple[float, int, str]:
    if response == "num_epochs":
        return 1.0, 1, ""
    return (100.0, 1, " %") if response == "loss_rise" else (100.0, 2, " pp")


def lost(table: pl.DataFrame) -> list[str]:
    """Which configurations diverged or failed."""
    said: list[str] = []
    for status in ("diverged", "failed"):
        rows = table.filter(pl.col(f"num_{status}") > 0)
        if rows.height:
            named = ", ".join(rows["point"][:4]) + (", …" if rows.height > 4 else "")
            number_of = int(rows[f"num_{status}"].sum())
            said.append(f"{number_of} trial{'s' if number_of > 1 else ''} {status}: {named}.")
    return said


def highest(table: pl.DataFrame) -> list[str]:
    """The configuration whose kept weights have the highest mean accuracy over seeds."""
    known = table.drop_nulls("kept_accuracy").sort(
        "kept_accuracy", descending=True, maintain_order=True
    )
    if not known.height:
        return []
    best = known.row(0, named=True)
    where = "with the restored weights" if best["num_stopped_early"] else "over the last epochs"
    seeds = f"mean of {best['num_completed']} seeds" if best["num_completed"] > 1 else "one seed"
    said = [
        f"{best['point']}: {pp(best['kept_accuracy'])} % {where}"
        f"{between(best['kept_accuracy_low'], best['kept_accuracy_high'])}, {seeds}."
    ]
    if best["kept_accuracy_low"] is not None:
        close = known.filter(pl.col("kept_accuracy") >= best["kept_accuracy_low"]).height - 1
        if close:
            means = "mean of 1 other lies" if close == 1 else f"means of {close} others lie"
            said.append(f"The {means} within these limits.")
    return said


def configuration(row: Row, num_val: int) -> str:
    """One configuration: how large is the jitter, what makes it, does it overfit."""
    if not row["num_completed"]:
        words = [
            f"{row[f'num_{status}']} {status}"
            for status in ("diverged", "failed")
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
        if row["drop_low"] is not None and row["drop_low"] > FALL_MARGIN:
            said.append(f"It overfits: accuracy ends {fall} below its peak.")
        elif row["drop_high"] is not None and row["drop_high"] < FALL_MARGIN:
            said.append(f"It does not fall from its peak: {fall}.")
        else:
            said.append(f"Whether it falls from its peak is open: {fall}.")
    if row["loss_rise"] is not None and row["loss_rise"] > RISE_MARGIN:
        said.append(f"Validation loss ends {pp(row['loss_rise'], 0)} % above its minimum.")
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


def _list(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
