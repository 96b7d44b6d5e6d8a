"""The verdict, first on the page: labels over the grid, what they mean and what to turn."""

from typing import Any

import polars as pl

from analysis.page import charts
from analysis.page.commands import more_seeds
from analysis.page.figures import PLACE, Figure, grid
from analysis.page.findings import num_val
from analysis.results import Analysis
from analysis.verdicts.advice import advice, collapses
from analysis.words import pp

OPEN = "nothing yet: each one's reason, below, says what would settle it"
MAX_NAMED = 3  # configurations of a group that are named; the table has them all
Row = dict[str, Any]

# label: (in a sentence, in a cell of the map)
NOISE = {
    "optimizer": ("the network itself moves", "network"),
    "validation set": ("the small validation set makes it move", "val. set"),
    "both": ("network and validation set both move", "both"),
    "slow wander": ("it wanders slowly", "wander"),
    "no": ("it stands still", "quiet"),
    "undetermined": ("whose noise it is, is not settled", "open"),
}
OVERFIT = {
    "yes": ("it overfits", "overfits"),
    "over-confident": ("over-confident, but no worse", "confident"),
    "no": ("it does not overfit", "no harm"),
    "undetermined": ("overfitting not settled", "open"),
}


def figure(analysis: Analysis) -> Figure | None:
    """Every configuration's labels; None where no trial has finished."""
    table = analysis.configurations
    rows = [row for row in table.iter_rows(named=True) if row["status"] is not None]
    if not rows:
        return None
    size = num_val(analysis)
    drawn, data = _maps(analysis) if len(analysis.axes) > 1 else ([], {})
    open_noise, open_harm = (
        sum(row[label] == "undetermined" for row in rows) for label in ("noise", "overfit")
    )
    notes: list[str] = []
    if open_noise or open_harm:
        notes.append(
            f"Not settled: the noise of {open_noise or 'none'} and the overfitting of "
            f"{open_harm or 'none'} of {len(rows)}. A claim is only made beyond its margin; each "
            "one's reason, below, says what stands in the way and what would settle it. For all of "
            f"them, more seeds narrow the limits: {more_seeds(analysis)}."
        )
    return Figure(
        name="verdict",
        title="The verdict",
        finding=_finding(rows),
        how="Each configuration by what its curve shows for sure: whose noise moves it, whether it "
        "overfits, and what to turn first. Hover for the reason with its numbers"
        + (", click to see the curves." if drawn else "."),
        description="Maps of the labels for noise and for overfitting over the grid.",
        charts=drawn,
        data=data,
        shown=groups(rows, size),
        table=pl.DataFrame(
            [
                {
                    "configuration": row["point"],
                    "noise": row["noise"],
                    "overfits": row["overfit"],
                    "status": row["status"],
                    "why, and what would settle it": row["reason"],
                }
                for row in rows
            ],
            infer_schema_length=None,
        ),
        notes=notes,
    )


def groups(rows: list[Row], num_val: int) -> pl.DataFrame:
    """Configurations with the same labels in one row: verdict, which, their jitter, what to turn.

    Args: rows: of `Analysis.configurations`. Advice that holds a number takes it of the one that
        jitters most.
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(in_words(row), []).append(row)
    table = [
        {
            "verdict": words,
            "configurations": _named(same),
            "jitter, pp": _range([_scaled(row["hf_sd"]) for row in same], 2),
            "of it the validation set, %": _range(
                [_scaled(row["finite_share"], 0, 1) for row in same], 0
            ),
            "what to turn": "; ".join(advice(max(same, key=_jitter), num_val)) or OPEN,
        }
        for words, same in sorted(found.items(), key=lambda item: -len(item[1]))
    ]
    return pl.DataFrame(table, infer_schema_length=None)


def in_words(row: Row) -> str:
    """`Still learning: it stands still; it does not overfit`, without what is not known."""
    untold = {
        "diverged": "Diverged",
        "failed": "Failed",
        "stopped": "Stopped by the scheduler",
        "at chance": "Learns nothing",
    }
    if row["status"] in untold:
        return untold[row["status"]]
    if collapses(row):
        return "Comes apart: training accuracy itself falls"
    said = "; ".join((NOISE[row["noise"]][0], OVERFIT[row["overfit"]][0]))
    if row["status"] == "still learning":
        return f"Still learning; {said}"
    return said[:1].upper() + said[1:]


def _finding(rows: list[Row]) -> str:
    """The labels that were given, most frequent first."""
    kinds = [_kind(row) for row in rows]
    counts = sorted(((kinds.count(kind), kind) for kind in dict.fromkeys(kinds)), reverse=True)
    if len(rows) == 1:
        return f"{in_words(rows[0])}."
    return f"Of {len(rows)} configurations: {', '.join(f'{n} {kind}' for n, kind in counts)}."


def _kind(row: Row) -> str:
    if row["status"] in ("diverged", "failed"):
        return row["status"]
    if row["status"] == "stopped":
        return "stopped by the scheduler"
    if row["status"] == "at chance":
        return "learning nothing"
    if collapses(row):
        return "coming apart"
    if row["overfit"] == "yes":
        return "overfitting"
    if row["status"] == "still learning":
        return "still learning"
    return {
        "optimizer": "moved by the network itself",
        "validation set": "moved by the small validation set",
        "both": "moved by both network and validation set",
        "slow wander": "wandering slowly",
        "no": "standing still",
        "undetermined": "trained, but with noise too small or too briefly seen to tell whose it is",
    }[row["noise"]]


def _maps(analysis: Analysis) -> tuple[list[charts.Chart], dict[str, pl.DataFrame]]:
    table, x, y = grid(analysis)
    data = table.select(
        *PLACE,
        pl.Series("noise", [_cell(row, NOISE, "noise") for row in table.iter_rows(named=True)]),
        pl.Series("harm", [_cell(row, OVERFIT, "overfit") for row in table.iter_rows(named=True)]),
        pl.coalesce("noise_reason", "status_reason", "reason").alias("noise_tip"),
        pl.coalesce("overfit_reason", "status_reason", "reason").alias("harm_tip"),
    )
    titles = {"noise": "Whose noise it is", "harm": "Does it overfit"}
    drawn = [
        charts.label_map(
            data,
            value=value,
            title=title,
            x_title=x.title,
            y_title=y.title,
            facet_title=None if len(analysis.axes) == 2 else "",
        )
        for value, title in titles.items()
    ]
    return drawn, {"labels": data}


def _cell(row: Row, words: dict[str, tuple[str, str]], label: str) -> str:
    if row["status"] in ("diverged", "failed", "at chance"):
        return row["status"]
    if collapses(row):
        return "unlearns"
    if row["status"] == "still learning" and row[label] == "undetermined":
        return "rising"
    return words[row[label]][1] if row[label] in words else "open"


def _named(rows: list[Row]) -> str:
    points = [row["point"] for row in rows]
    more = f" and {len(points) - MAX_NAMED} more" if len(points) > MAX_NAMED else ""
    return (f"{len(points)}: " if len(points) > 1 else "") + ", ".join(points[:MAX_NAMED]) + more


def _jitter(row: Row) -> float:
    return row["hf_sd"] or 0.0


def _scaled(value: float | None, low: float = 0.0, high: float = 10.0) -> float | None:
    return None if value is None else min(max(value, low), high)


def _range(values: list[float | None], digits: int) -> str | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    low, high = pp(min(known), digits), pp(max(known), digits)
    return low if low == high else f"{low} to {high}"
