"""Warnings beside the figures of a sweep whose scheduler stopped trials."""

import dataclasses

import polars as pl

from analysis.page.commands import run_again
from analysis.page.figures import Figure
from analysis.results import Analysis
from analysis.sources.censoring import STOPPED

# What the selection does to a figure, by its name.
EFFECTS = {
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


def warned(figure: Figure, analysis: Analysis) -> Figure:
    """The figure, with a warning where censored curves bias it."""
    number = analysis.trials.filter(pl.col("outcome") == STOPPED).height
    if not number or figure.name not in EFFECTS:
        return figure
    warning = (
        f"Caution: the scheduler stopped {number} of {analysis.trials.height} trials for doing "
        f"worse, and they are left out. {EFFECTS[figure.name]} Full curves: "
        f"{run_again(analysis, '--set', 'scheduler=null')}."
    )
    return dataclasses.replace(figure, notes=[*figure.notes, warning])
