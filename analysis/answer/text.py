"""An answer -> the lines of a terminal, and what a notebook shows."""

import html
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.answer.answer import Answer, RunAnswer, Series, Unchecked

WIDTH = 40  # of a sparkline
_BARS = "▁▂▃▄▅▆▇█"
_MANY = 3  # runs; of more, each has one line
_MOST_LINES = 20


def as_text(answer: "Answer") -> str:
    """Write the answer for a terminal: curves, sentences, what to do, what is open."""
    lines: list[str] = []
    for run in answer.runs[:_MANY] if len(answer.runs) <= _MANY else ():
        if len(answer.runs) > 1:
            lines.append(run.name)
        lines += [f"  {line}" for line in sparklines(run)]
        if len(answer.runs) > 1:
            lines += [f"  {sentence}" for sentence in run.headline]
            lines += [f"  {run.checkpoint.sentence}"] if run.checkpoint else []
    if len(answer.runs) > _MANY:
        lines += _table(answer.runs)
    lines += ["", *answer.headline]
    if len(answer.runs) == 1 and (kept := answer.runs[0].checkpoint):
        lines.append(kept.sentence)
    if answer.do:
        lines += ["", "What to do"]
        lines += [f"  - {one.text}{f' ({one.effect})' if one.effect else ''}" for one in answer.do]
    if answer.unchecked:
        lines += ["", "What could not be checked"]
        for one in answer.unchecked:
            lines.append(f"  - {_open(one)}")
            lines += [f"      {line}" for line in (one.how or "").splitlines()]
    if answer.notes:
        lines += ["", "Notes"]
        lines += [f"  - {note}" for note in answer.notes]
    return "\n".join(lines).strip("\n")


def _open(one: "Unchecked") -> str:
    return f"{one.what}: {one.why}. To settle it: {one.settle}"


def sparklines(run: "RunAnswer") -> list[str]:
    """One line a metric: what it is, the log's name, the curve, first, best and last value."""
    shown = [one for one in run.series if one.role != "learning_rate"]
    width = max(len(one.words) for one in shown)
    return [f"{one.words:{width}}  {spark(one.values)}  {_ends(one, run.clock)}" for one in shown]


def _ends(series: "Series", clock: str) -> str:
    known = [value for value in series.values if math.isfinite(value)]
    told = f"{series.said(known[0])} .. {series.said(known[-1])}"
    if series.best is None:
        return told
    best = series.said(series.values[series.best])
    return f"{told}, best {best} at {clock} {series.at[series.best]:g}"


def spark(values: Sequence[float], width: int = WIDTH) -> str:
    """Draw a curve in one line of text; a blank where nothing was measured."""
    if len(values) > width:
        edges = [round(place * len(values) / width) for place in range(width + 1)]
        values = [_mean(values[a:b]) for a, b in pairwise(edges)]
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return " " * len(values)
    low, high = min(known), max(known)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(
        _BARS[round((value - low) * scale)] if math.isfinite(value) else " " for value in values
    )


def _mean(some: Sequence[float]) -> float:
    known = [value for value in some if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan


def _table(runs: "Sequence[RunAnswer]") -> list[str]:
    """A line a run: its curve, what it says, what it ends at."""
    width = min(max(len(run.name) for run in runs), 32)
    lines = []
    for run in runs[:_MOST_LINES]:
        main = run.series[0]
        known = [value for value in main.values if math.isfinite(value)]
        said = ", ".join(run.findings) or (
            "overfitting can't be told" if "overfitting" in run.open else "no harm found"
        )
        last = main.said(known[-1]) if known else "nan"
        lines.append(f"{run.name[:width]:{width}}  {spark(main.values, 20)}  {last:>8}  {said}")
    if len(runs) > _MOST_LINES:
        lines.append(f"... and {len(runs) - _MOST_LINES} more")
    return lines


def as_html(answer: "Answer") -> str:
    """Write the answer for a notebook: sentences first; no script, no style sheet."""
    parts = [f"<p><b>{html.escape(' '.join(answer.headline))}</b></p>"]
    curves = [
        (f"<b>{html.escape(run.name)}</b>\n" if len(answer.runs) > 1 else "")
        + html.escape("\n".join(sparklines(run)))
        for run in answer.runs[:_MOST_LINES]
    ]
    drawn = "\n".join(curves)
    parts.append(f"<pre>{drawn}</pre>")
    if len(answer.runs) == 1 and (kept := answer.runs[0].checkpoint):
        parts.append(f"<p>{html.escape(kept.sentence)}</p>")
    if answer.do:
        items = [f"{one.text}{f' ({one.effect})' if one.effect else ''}" for one in answer.do]
        parts.append(_listed("What to do", items))
    if answer.unchecked:
        parts.append(_listed("What could not be checked", [_open(one) for one in answer.unchecked]))
    return "\n".join(parts)


def _listed(title: str, items: Sequence[str]) -> str:
    rows = "".join(f"<li>{html.escape(item)}</li>" for item in items)
    return f"<p>{title}</p><ul>{rows}</ul>"
