"""A figure of the page, and the warning beside one whose trials a scheduler chose."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from analysis.labels import Outcome
from analysis.page.charts import Chart
from analysis.page.commands import run_again
from analysis.results import Analysis


@dataclass(frozen=True)
class Figure:
    """One figure of the page: what it shows, its charts, and the same in numbers.

    name: its id on the page
    finding: what it shows, said first
    how: how to read it
    description: of its charts, for a reader who can't see them
    data: the frames that its charts name
    table: the numbers, behind a click
    shown: a small table that needs no click
    choices: (config_id, point) that its panels can be set to
    panels: the config_id that each panel shows at first
    notes: further findings, and what is missing, with commands in backticks
    """

    name: str
    title: str
    finding: str
    how: str
    description: str = ""
    charts: Sequence[Chart] = ()
    data: dict[str, pl.DataFrame] = field(default_factory=dict)
    table: pl.DataFrame = field(default_factory=pl.DataFrame)
    choices: list[tuple[str, str]] = field(default_factory=list)
    panels: list[str] = field(default_factory=list)
    notes: Sequence[str] = ()
    shown: pl.DataFrame | None = None


# What the scheduler's selection does to a figure, by the figure's name.
_BIASES = {
    "floor": "It chose by noisy accuracies, so what went on was lucky too: its jitter up to there "
    "is not that of a new seed, and the late epochs of the others, where jitter is measured, are "
    "missing.",
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
    return replace(figure, notes=[*figure.notes, warning])
