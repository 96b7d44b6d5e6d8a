"""The verdict, first on the page: labels over the grid, what they mean and what to turn."""

from collections import Counter
from typing import Any, NamedTuple

import polars as pl

from analysis.labels import Noise, Overfit, Status
from analysis.page.charts import Chart, label_map
from analysis.page.commands import more_seeds
from analysis.page.figures import PLACE, Figure, grid
from analysis.page.findings import num_val
from analysis.results import Analysis
from analysis.verdicts.advice import advice, collapses
from analysis.words import capitalized, first_few, pp

Row = dict[str, Any]

_OPEN = "nothing yet: each one's reason, below, says what would settle it"
_MAX_NAMED = 3  # configurations of a group that are named; the table has them all
_OVERFITTING, _WORSE = "overfitting", "ending worse than they were"
_RISING = "rising"  # in the map: still learning, and no other label yet


class Words(NamedTuple):
    """A label in words."""

    sentence: str
    cell: str  # of the map
    kind: str = ""  # `3 standing still`, where configurations are counted


NOISE = {
    Noise.OPTIMIZER: Words("the network itself moves", "network", "moved by the network itself"),
    Noise.VALIDATION_SET: Words(
        "the small validation set makes it move", "val. set", "moved by the small validation set"
    ),
    Noise.BOTH: Words(
        "network and validation set both move", "both", "moved by both network and validation set"
    ),
    Noise.SLOW_WANDER: Words("it wanders slowly", "wander", "wandering slowly"),
    Noise.NONE: Words("it stands still", "quiet", "standing still"),
    Noise.NO_JITTER: Words("it does not jitter", "no jitter", "not jittering"),
    Noise.SPIKES: Words("a few spikes", "spikes", "with a few spikes"),
    Noise.SMALL: Words("it moves little", "little", "moving little"),
    Noise.SOME_OPTIMIZER: Words("the network moves too", "net. too", "moved by the network too"),
    Noise.SET_SUFFICES: Words(
        "it moves no more than the validation set can make it",
        "set can",
        "moving no more than the validation set can make them",
    ),
    Noise.UNDETERMINED: Words(
        "whose noise it is, is not settled",
        "open",
        "trained, but with noise too small or too briefly seen to tell whose it is",
    ),
}
OVERFIT = {
    Overfit.YES: Words("it overfits", "overfits"),
    Overfit.OVER_CONFIDENT: Words("over-confident, but no worse", "confident"),
    Overfit.ENDS_WORSE: Words("it ends worse than it was", "worse"),
    Overfit.COMES_APART: Words("training comes apart", "unlearns"),
    Overfit.NOTHING_LEARNT: Words("nothing was learnt", "at chance"),
    Overfit.RUN_FELL: Words("this run fell", "run fell"),
    Overfit.LOSS_RISES: Words("the loss rises", "loss up"),
    Overfit.LOSS_ALONE: Words("the loss rises, accuracy holds", "loss up"),
    Overfit.NO: Words("it does not overfit", "no harm"),
    Overfit.NO_ACCURACY: Words("no accuracy is lost", "no harm"),
    Overfit.LITTLE: Words("little is lost, if anything", "little"),
    Overfit.LOSS_HOLDS: Words("the loss holds", "loss holds"),
    Overfit.UNDETERMINED: Words("overfitting not settled", "open"),
}
# Where nothing more is told of a configuration than that.
_ALONE = {
    Status.DIVERGED: Words("Diverged", "diverged", "diverged"),
    Status.FAILED: Words("Failed", "failed", "failed"),
    Status.STOPPED: Words("Stopped by the scheduler", "open", "stopped by the scheduler"),
    Status.AT_CHANCE: Words("Learns nothing", "at chance", "learning nothing"),
}
_COLLAPSED = Words("Comes apart: training accuracy itself falls", "unlearns", "coming apart")


def verdict_figure(analysis: Analysis) -> Figure | None:
    """Draw every configuration's labels. Returns: None where no trial has finished."""
    table = analysis.configurations
    rows = [row for row in table.iter_rows(named=True) if row["status"] is not None]
    if not rows:
        return None
    maps, data = _maps(analysis) if len(analysis.axes) > 1 else ([], {})
    columns = {
        "point": "configuration",
        "noise_said": "noise",
        "overfit_said": "overfitting",
        "noise": "its label",
        "overfit": "and its label",
        "status": "status",
        "reason": "why, and what would settle it",
    }
    return Figure(
        name="verdict",
        title="The verdict",
        finding=_finding(rows),
        how="Each configuration by what its curve shows for sure: whose noise moves it, whether it "
        "overfits, and what to turn first. Hover for the reason with its numbers"
        + (", click to see the curves." if maps else "."),
        description="Maps of the labels for noise and for overfitting over the grid.",
        charts=maps,
        data=data,
        shown=groups(rows, num_val(analysis)),
        table=table.drop_nulls("status").select(columns.keys()).rename(columns),
        notes=_not_settled(analysis, rows),
    )


def _not_settled(analysis: Analysis, rows: list[Row]) -> list[str]:
    noise = sum(row["noise"] == Noise.UNDETERMINED for row in rows)
    overfit = sum(row["overfit"] == Overfit.UNDETERMINED for row in rows)
    if not noise and not overfit:
        return []
    return [
        f"Not settled: the noise of {noise or 'none'} and the overfitting of "
        f"{overfit or 'none'} of {len(rows)}: each one's reason, below, says what would settle "
        f"it. More seeds narrow all limits but those of the validation set: {more_seeds(analysis)}."
    ]


def groups(rows: list[Row], num_val: int) -> pl.DataFrame:
    """Put configurations with the same labels into one row, with their jitter and what to turn.

    Args: rows: of `Analysis.configurations`; num_val: examples in the validation set. Advice that
        holds a number takes that of the configuration that jitters most.
    """
    by_verdict: dict[str, list[Row]] = {}
    for row in rows:
        by_verdict.setdefault(in_words(row), []).append(row)
    table = [
        {
            "verdict": words,
            "configurations": _named(same),
            "jitter, pp": _range([_clipped(row["hf_sd"], 10) for row in same], 2),
            "of it the validation set, %": _range(
                [_clipped(row["finite_share"], 1) for row in same], 0
            ),
            "what to turn": "; ".join(advice(max(same, key=_jitter), num_val)) or _OPEN,
        }
        for words, same in sorted(by_verdict.items(), key=lambda item: -len(item[1]))
    ]
    return pl.DataFrame(table, infer_schema_length=None)


def in_words(row: Row) -> str:
    """Say a verdict: `Still learning; it stands still; it does not overfit`."""
    if alone := _alone(row):
        return alone.sentence
    words = f"{_told(row, 'noise', NOISE)}; {_told(row, 'overfit', OVERFIT)}"
    is_rising = row["status"] == Status.STILL_LEARNING
    return f"Still learning; {words}" if is_rising else capitalized(words)


def _told(row: Row, label: str, words: dict[Any, Words]) -> str:
    """A label's sentence; where chance alone can make one such row among so many, that is said."""
    sentence = words[row[label]].sentence
    doubted = row.get(f"{label}_among", row[label]) != row[label]
    return f"{sentence} (judged by itself)" if doubted else sentence


def _alone(row: Row) -> Words | None:
    """The words of a configuration of which nothing else is told."""
    if row["status"] in _ALONE:
        return _ALONE[row["status"]]
    return _COLLAPSED if row["overfit"] == Overfit.COMES_APART or collapses(row) else None


def _finding(rows: list[Row]) -> str:
    """The labels that were given, most frequent first."""
    if len(rows) == 1:
        return f"{in_words(rows[0])}."
    counts = Counter(_kind(row) for row in rows)
    ordered = sorted(((num, kind) for kind, num in counts.items()), reverse=True)
    return f"Of {len(rows)} configurations: {', '.join(f'{num} {kind}' for num, kind in ordered)}."


def _kind(row: Row) -> str:
    if alone := _alone(row):
        return alone.kind
    if row["overfit"] in (Overfit.YES, Overfit.ENDS_WORSE):
        return _OVERFITTING if row["overfit"] == Overfit.YES else _WORSE
    if row["status"] == Status.STILL_LEARNING:
        return Status.STILL_LEARNING
    return NOISE[row["noise"]].kind


def _maps(analysis: Analysis) -> tuple[list[Chart], dict[str, pl.DataFrame]]:
    table, axes = grid(analysis)
    rows = table.rows(named=True)
    data = table.select(
        *PLACE,
        pl.Series("noise", [_cell(row, row["noise"], NOISE) for row in rows]),
        pl.Series("harm", [_cell(row, row["overfit"], OVERFIT) for row in rows]),
        pl.coalesce("noise_reason", "status_reason", "reason").alias("noise_tip"),
        pl.coalesce("overfit_reason", "status_reason", "reason").alias("harm_tip"),
    )
    titles = {"noise": "Whose noise it is", "harm": "Does it overfit"}
    maps = [label_map(data, value=value, title=title, axes=axes) for value, title in titles.items()]
    return maps, {"labels": data}


def _cell(row: Row, label: str | None, words: dict[Any, Words]) -> str:
    if alone := _alone(row):
        return alone.cell
    if row["status"] == Status.STILL_LEARNING and label == "undetermined":
        return _RISING
    return words[label].cell if label in words else "open"


def _named(rows: list[Row]) -> str:
    points = [row["point"] for row in rows]
    number = f"{len(points)}: " if len(points) > 1 else ""
    return number + first_few(points, _MAX_NAMED)


def _jitter(row: Row) -> float:
    return row["hf_sd"] or 0.0


def _clipped(value: float | None, most: float) -> float | None:
    return None if value is None else min(max(value, 0), most)


def _range(values: list[float | None], digits: int) -> str | None:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return None
    low, high = pp(min(numbers), digits), pp(max(numbers), digits)
    return low if low == high else f"{low} to {high}"
