"""An analysis in a practitioner's words: numbers with their intervals, and never more than they
show."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from analysis.axes import Axis
from analysis.results import Analysis

# Margins that matter to a person: jitter (SD) and fall of accuracy as fractions, and the rise of
# the loss relative to its minimum.
JITTER_MARGIN, FALL_MARGIN, RISE_MARGIN = 0.004, 0.005, 0.03

RESPONSES = {
    "jitter": "jitter",
    "gap": "the gap",
    "drop": "the fall from the peak",
    "loss_rise": "the rise of the loss from its minimum",
    "final_accuracy": "final accuracy",
    "kept_accuracy": "accuracy of the weights that are kept",
    "chosen_accuracy": "their accuracy against the best epoch's",
    "num_epochs": "the number of epochs",
}
# What is said of an axis, and in which order.
ASKED = ("jitter", "gap", "drop", "loss_rise", "final_accuracy")
ASKED_OF_STOPPING = ("num_epochs", "kept_accuracy", "chosen_accuracy", "drop", "loss_rise")

Row = dict[str, Any]


def number(value: float, digits: int) -> str:
    """A number with a real minus sign and no negative zero."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def pp(value: float, digits: int = 2) -> str:
    """A fraction in percent or percentage points, without the unit."""
    return number(100 * value, digits)


def between(low: float | None, high: float | None, digits: int = 2) -> str:
    """Limits in percent or percentage points, in brackets; nothing without them."""
    if low is None or high is None:
        return ""
    return f" ({pp(low, digits)} to {pp(high, digits)})"


def summary(analysis: Analysis) -> list[tuple[str, str]]:
    """What the sweep shows: (what it is about, sentences)."""
    table = analysis.configurations
    found = [("Noise", noise(table, _num_val(analysis))), ("Overfitting", overfitting(table))]
    found += [(axis.title.capitalize(), knob(analysis, axis)) for axis in analysis.axes]
    if table.height > 1:
        found.append(("Highest final accuracy", highest(table)))
    return [(about, " ".join(sentences)) for about, sentences in found if sentences]


def _num_val(analysis: Analysis) -> int:
    return int(analysis.trials["n_val"].max() or 0)  # pyright: ignore[reportArgumentType]


def noise(table: pl.DataFrame, num_val: int) -> list[str]:
    """How large the jitter is, and how much of it the validation set makes."""
    known = table.drop_nulls("hf_sd").sort("hf_sd", maintain_order=True)
    if not known.height:
        return ["Too few epochs: the jitter needs at least 8 after burn-in."]
    if known.height == 1:
        return [configuration(known.row(0, named=True), num_val)]
    jumpy = known.filter(pl.col("hf_sd_low") > JITTER_MARGIN).height
    steady = known.filter(
        (pl.col("hf_sd_high") < JITTER_MARGIN) & (pl.col("plateau_sd") < JITTER_MARGIN)
    ).height
    said = [
        f"Validation accuracy jitters from epoch to epoch by {pp(_median(known, 'hf_sd'))} pp "
        f"(SD around its trend; median of {known.height} configurations), from "
        f"{pp(known['hf_sd'][0])} pp ({known['point'][0]}) to {pp(known['hf_sd'][-1])} pp "
        f"({known['point'][-1]}).",
        f"It is above {pp(JITTER_MARGIN, 1)} pp beyond doubt in {jumpy}, below it in {steady}.",
    ]
    shared = known.drop_nulls("finite_share")
    if shared.height:
        share = min(max(_median(shared, "finite_share"), 0), 1)
        said.append(
            f"In the median configuration {100 * share:.0f} % of the jitter's variance is there "
            f"only because the validation set has {num_val:,} examples; the rest is the network "
            f"itself getting better and worse."
        )
        said.append(
            "A larger validation set removes the first part from the curve, though predictions "
            f"keep flipping ({pp(_median(shared, 'churn'), 1)} % of them between two epochs); a "
            "lower learning rate, a larger batch or averaging weights reduces both."
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
            f"pp (median gap), from {pp(known['gap'][0], 1)} pp ({known['point'][0]}) to "
            f"{pp(known['gap'][-1], 1)} pp ({known['point'][-1]}); a gap alone is no harm."
        )
    fallen = table.filter(pl.col("drop_low") > FALL_MARGIN).sort("drop", maintain_order=True)
    margin = f"{pp(FALL_MARGIN, 1)} pp"
    if fallen.height:
        worst = fallen.row(-1, named=True)
        said.append(
            f"Harm: in {fallen.height} of {table.height} configurations accuracy ends more than "
            f"{margin} below its earlier peak, beyond doubt; the worst is {worst['point']} with "
            f"{pp(worst['drop'], 1)} pp"
            f"{between(worst['drop_low'], worst['drop_high'], 1)}."
        )
    else:
        spared = table.filter(pl.col("drop_high") < FALL_MARGIN).height
        said.append(
            f"No configuration's accuracy falls beyond doubt by more than {margin} from its peak; "
            f"in {spared} of {table.height} such a fall is excluded."
        )
    risen = table.filter(pl.col("loss_rise_low") > RISE_MARGIN).height
    if risen:
        said.append(
            f"In {risen} the validation loss ends more than {pp(RISE_MARGIN, 0)} % above its "
            "minimum, beyond doubt: there the network grows over-confident, whatever its accuracy."
        )
    return said


def knob(analysis: Analysis, axis: Axis) -> list[str]:
    """What going from the first level of an axis to its last did, given what must be held."""
    rows = analysis.effects.filter(
        (pl.col("axis") == axis.name)
        & (pl.col("scope") == "pooled")
        & (pl.col("level") == axis.labels[-1])
    )
    asked = ASKED_OF_STOPPING if axis.name == "early_stopping" else ASKED
    said: list[str] = []
    for given in rows["given"].unique(maintain_order=True):
        by_response = {
            row["response"]: row
            for row in rows.filter(pl.col("given") == given).iter_rows(named=True)
        }
        held = f" at {given}" if given else ""
        text = contrast(by_response, asked)
        if text:
            said.append(f"From {axis.labels[0]} to {axis.labels[-1]}{held}: {text}.")
    return said


def contrast(by_response: dict[str, Row], asked: Sequence[str]) -> str:
    """One contrast: first what changed beyond doubt, then what did not."""
    changed: list[str] = []
    unclear: list[str] = []
    for name in asked:
        row = by_response.get(name)
        if row is None or (name == "num_epochs" and row["estimate"] == 0):
            continue
        if is_clear_row(row):
            verb = "raises" if row["estimate"] > (1 if name == "jitter" else 0) else "lowers"
            changed.append(f"{verb} {RESPONSES[name]} by {_amount(row)}")
        else:
            unclear.append(f"{RESPONSES[name]}{_limits(row)}")
    if unclear:
        changed.append(f"no clear change in {_list(unclear)}")
    return "; ".join(changed)


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
    return (100.0, 1, " % of the minimum") if response == "loss_rise" else (100.0, 2, " pp")


def highest(table: pl.DataFrame) -> list[str]:
    """The configuration whose mean final accuracy over seeds is highest."""
    known = table.drop_nulls("final_accuracy").sort(
        "final_accuracy", descending=True, maintain_order=True
    )
    if not known.height:
        return []
    best = known.row(0, named=True)
    said = [
        f"{best['point']}, {pp(best['final_accuracy'])} % over the last epochs"
        f"{between(best['final_accuracy_low'], best['final_accuracy_high'])}, mean of "
        f"{best['num_completed']} seeds."
    ]
    if best["final_accuracy_low"] is not None:
        close = known.filter(pl.col("final_accuracy") >= best["final_accuracy_low"]).height - 1
        if close:
            said.append(f"The means of {close} others lie within these limits.")
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
