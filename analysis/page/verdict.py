"""What each configuration is called, by one definition for the whole page, and what is said of it.

A configuration moves where the jitter of the second half of its training (of all epochs, where
that is too short) is above the margin for sure. Whose movement it is follows from the validation
set's share and its limits.
"""

from typing import Any, NamedTuple

import polars as pl

from analysis.answer.settings import Setting
from analysis.labels import Noise, Outcome, Overfit, Status
from analysis.results import Analysis
from analysis.verdicts.advice import CALM, advice, collapses
from analysis.verdicts.margins import Margins
from analysis.words import between, pp

MARGINS = Margins()
_HALF = 0.5  # share of the variance
_OWN = (Noise.OPTIMIZER, Noise.SOME_OPTIMIZER)

Row = dict[str, Any]


class Kind(NamedTuple):
    """What a configuration is called. cell: on the map; words: in a count; look: its colour."""

    cell: str
    words: str
    look: str


DIVERGED = Kind("diverged", "diverged", "gone")
UNSTABLE = Kind("some diverged", "with seeds that diverged", "gone")
FAILED = Kind("failed", "failed", "gone")
STOPPED = Kind("stopped", "stopped by the scheduler", "gone")
MISSING = Kind("not yet", "not yet trained", "gone")
NOTHING = Kind("at chance", "learning nothing", "gone")
APART = Kind("comes apart", "losing what they had learnt", "bad")
OVERFITS = Kind("overfits", "overfitting", "bad")
WORSE = Kind("ends worse", "ending worse than they were", "bad")
BY_SET = Kind("val. set", "moved mostly by the validation set", "set")
BY_NETWORK = Kind("optimizer", "moved mostly by the optimizer", "network")
BY_BOTH = Kind("both", "moved by both", "both")
MOVES = Kind("moves", "moving, by what is not known", "both")
RISING = Kind("rising", "still rising", "rising")
CALM_LATE = Kind("calms down", "calm in the second half", "calm")
QUIET = Kind("calm", "calm", "calm")
SHORT = Kind("too short", "too short to tell", "gone")


def settings_rows(analysis: Analysis, names: dict[str, Setting]) -> list[Row]:
    """Give each configuration, in the order of its letters, what the page says of it.

    Returns: rows of `Analysis.configurations`, with `setting`, and `late_sd`, `late_share` and
        their limits from `Analysis.late`.
    """
    late = {row["config_id"]: row for row in analysis.late.iter_rows(named=True)}
    seconds = dict(
        analysis.trials.group_by("config_id").agg(pl.col("seconds").mean()).iter_rows()
        if "seconds" in analysis.trials.columns
        else ()
    )
    scores = {row["config_id"]: row for row in analysis.causes.ranking.iter_rows(named=True)}
    rows = {row["config_id"]: row for row in analysis.configurations.iter_rows(named=True)}
    for name, row in rows.items():
        half = late.get(name, {})
        for end in ("", "_low", "_high"):
            row[f"late_sd{end}"] = half.get(f"hf_sd{end}")
            row[f"late_share{end}"] = half.get(f"finite_share{end}")
            row[f"score_nested{end}"] = scores.get(name, {}).get(f"score_nested{end}")
        row["setting"], row["seconds"] = names[name], seconds.get(name)
        row["is_tied"] = analysis.overall.tied and name in analysis.overall.matters
    return [rows[name] for name in names if name in rows]


def kind(row: Row) -> Kind:
    """Call a configuration what it is. Args: row: of settings_rows()."""
    if not row["num_completed"]:
        if row["num_diverged"]:
            return DIVERGED
        if row["num_failed"]:
            return FAILED
        return STOPPED if row["num_stopped"] else MISSING
    if row["num_diverged"]:
        return UNSTABLE
    if row["status"] == Status.AT_CHANCE:
        return NOTHING
    if row["overfit"] == Overfit.COMES_APART or collapses(row):
        return APART
    if row["overfit_among"] == Overfit.YES:  # corrected for the number of settings
        return OVERFITS
    if row["overfit_among"] == Overfit.ENDS_WORSE:
        return WORSE
    if _moves(row):
        return _whose(row)
    if row["status"] == Status.STILL_LEARNING:
        return RISING
    if row["hf_sd"] is None:
        return SHORT
    return CALM_LATE if (row["hf_sd_low"] or 0) > MARGINS.noise else QUIET


def _moves(row: Row) -> bool:
    low = row["late_sd_low"] if row["late_sd_low"] is not None else row["hf_sd_low"]
    return low is not None and low > MARGINS.noise


def _whose(row: Row) -> Kind:
    which = "late_share" if row["late_share"] is not None else "finite_share"
    low, high = row[f"{which}_low"], row[f"{which}_high"]
    if low is not None and low > _HALF:
        return BY_SET
    if high is not None and high < _HALF:
        return BY_NETWORK
    if row[which] is not None:
        return BY_BOTH
    return BY_NETWORK if row["noise"] in _OWN else MOVES


def said(row: Row, num_val: int) -> str:
    """Say what moves in a configuration, whose noise it is, whether it overfits, what to turn.

    Args: row: of settings_rows(); num_val: examples in the validation set.
    """
    if not row["num_completed"]:
        counts = [
            f"{row[f'num_{outcome}']} {outcome}"
            for outcome in (Outcome.DIVERGED, Outcome.FAILED, Outcome.STOPPED)
            if row[f"num_{outcome}"]
        ]
        return f"No completed run ({', '.join(counts) or 'not finished'})."
    sentences = [_movement(row, num_val)]
    if row["status"] in (Status.AT_CHANCE, Status.STILL_LEARNING):
        sentences.append(row["status_reason"])
    if row["gap"] is not None:
        sentences.append(
            f"Training accuracy ends {pp(abs(row['gap']), 1)} pp{_of_gap(row)} validation accuracy."
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
    if clauses := advice(row, num_val):
        sentences.append(f"To turn: {'; '.join(clauses)}.")
    return " ".join(sentences)


def _of_gap(row: Row) -> str:
    low, high = row["gap_low"], row["gap_high"]
    if row["gap"] >= 0:
        return f"{between(low, high, 1)} above"
    return f"{between(None if high is None else -high, None if low is None else -low, 1)} below"


def _movement(row: Row, num_val: int) -> str:
    """The jitter in a number, the validation set's share of it, and the second half."""
    if row["hf_sd"] is None:
        return "Too few epochs after burn-in to measure the jitter."
    text = f"Moves by {pp(row['hf_sd'])} pp from epoch to epoch"
    text += between(row["hf_sd_low"], row["hf_sd_high"])
    if row["finite_share"] is not None:
        share = min(max(row["finite_share"], 0), 1)
        low, high = row["finite_share_low"], row["finite_share_high"]
        text += (
            f"; {pp(share, 0)} % of that{between(low, high, 0)} is the size of the validation set "
            f"({num_val:,} examples)"
        )
    elif row["noise_reason"]:
        text += f". {row['noise_reason'].rstrip('.')}"
    if row["late_sd"] is not None:
        calms = row["late_sd"] < CALM * row["hf_sd"]
        text += f". In the second half: {pp(row['late_sd'])} pp" + (", so it calms down" * calms)
    return f"{text}."
