"""Warnings beside the figures of a sweep whose scheduler stopped trials."""

import dataclasses

import polars as pl

from analysis.labels import Outcome
from analysis.page.commands import run_again
from analysis.page.figures import Figure
from analysis.results import Analysis

# What the scheduler's selection does to a figure, by the figure's name.
_BIASES = {
    "floor": "It chose by noisy accuracies, so what went on was lucky too: its jitter up to there "
    "is not that of a new seed, and the late epochs of the others, where jitter is measured, are "
    "missing.",
    "measures": "It chose by noisy accuracies, so what went on was lucky too: its jitter and its "
    "peak are not those of a new seed, and the late epochs of the others are missing.",
    "best": "A configuration that lost some of its seeds is judged by the better ones, and looks "
    "too good.",
    "effects": "What the knobs do is measured on the trials that went on, which makes bad levels "
    "look less bad.",
    "causes": "The shares are those of the trials that went on, between which differences are "
    "smaller.",
    "stopping": "The rules are replayed on the trials that went on; those that a rule should have "
    "stopped are missing.",
}


def with_caution(figure: Figure, analysis: Analysis) -> Figure:
    """Add a warning to a figure where censored curves bias it."""
    num_stopped = analysis.trials.filter(pl.col("outcome") == Outcome.STOPPED).height
    if not num_stopped or figure.name not in _BIASES:
        return figure
    warning = (
        f"Caution: the scheduler stopped {num_stopped} of {analysis.trials.height} trials for "
        f"doing worse, and they are left out. {_BIASES[figure.name]} Full curves: "
        f"{run_again(analysis, '--set', 'scheduler=null')}."
    )
    return dataclasses.replace(figure, notes=[*figure.notes, warning])
