"""What a label rests on: margins, cut-offs, and how often it is wrong on simulated trials."""

import json
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from analysis.measures.cutoffs import shipped
from analysis.verdicts.margins import Margins
from analysis.words import between, pp

Row = dict[str, Any]


class Thresholds(NamedTuple):
    """The report's footer.

    sentences: margins, cut-offs, rates of false claims
    heads, rows: a table with a row per class of simulated trials: how often they were given their
        label, by number of seeds
    """

    sentences: list[str]
    heads: tuple[str, ...]
    rows: list[tuple[str, ...]]


def thresholds(num_epochs: int) -> Thresholds:
    """Write the footer. Args: num_epochs: of the trials that are reported."""
    margins = Margins()
    classes = _error_rates()["told"]
    return Thresholds(
        [margins.in_words(), _cutoffs(num_epochs, margins.level), _false_claims()],
        ("label", "true class", "made of", *(f"{num} seed(s), %" for num in classes[0]["seeds"])),
        [
            (row["label"], row["truth"], row["made_of"], *(pp(x, 1) for x in row["seeds"].values()))
            for row in classes
        ],
    )


def _cutoffs(num_epochs: int, level: float) -> str:
    table = shipped()
    ends = table.correlations[[0, -1]]
    least, most = table.critical(level, num_epochs, ends)
    made = table.made_by
    return (
        f"A curve of {num_epochs} epochs by itself has fallen for sure from {least:.1f} standard "
        f"errors on where its epochs are independent, up to {most:.1f} where they hang together "
        f"(autocorrelation {ends[-1]:g}); from {made['num_curves']:,} simulated flat curves for "
        f"each length and kind of noise (seed {made['seed']}, version {made['version']}). Three "
        "seeds and more need no such table: the peak is chosen on other seeds and examples."
    )


def _false_claims() -> str:
    num = max(row["num"] for row in _error_rates()["claims"])
    parts = [
        f"“{row['claim']}” although {row['truth']}: {pp(row['rate'], 1)}"
        f"{between(row['low'], row['high'], 1)} %"
        for row in _error_rates()["claims"]
    ]
    return (
        f"False claims on simulated trials, the worst of all settings tried ({num:,} each; 95 % "
        f"limits): {'; '.join(parts)}."
    )


@cache
def _error_rates() -> dict[str, list[Row]]:
    """What `python -m analysis.calibration` wrote."""
    text = resources.files("analysis.page").joinpath("error_rates.json").read_text("utf-8")
    return json.loads(text)
