"""An answer -> the page of one log: inline SVG, no script, nothing that is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2

from analysis.answer.answer import Answer, RunAnswer, Series
from analysis.page.log.curves import Panel, closer, panels_of
from analysis.page.log.drawing import Limits, Size, picture, shared, shows_training
from analysis.results import Analysis
from analysis.words import capitalized, plural

MOST_RUNS = 8  # that have pictures
_MOST_WITH_ALL = 4  # runs whose every metric stands before the answer
_MOST_BESIDE = 2  # runs whose pictures stand beside the answer
_MOST_ROWS = 150  # of the table of values
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_ONE, _SEVERAL = Size(560, 205, 400), Size(330, 150, 100)


@dataclass(frozen=True)
class _Figure:
    """A picture with what its caption says: a key of what is in it, and nothing else."""

    title: str
    svg: str
    training: str | None
    band: str | None
    best: str | None


@dataclass(frozen=True)
class _DrawnRun:
    answer: RunAnswer
    first: Sequence[_Figure]  # above the answer
    later: Sequence[_Figure]


def render_log(answer: Answer) -> str:
    """Render the page of one log as HTML. The same answer gives the same bytes.

    Args: answer: of a log; of more runs than MOST_RUNS, the first ones have pictures.
    """
    runs = _drawn(answer.runs[:MOST_RUNS])
    package = files("analysis.page.log")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["capitalized"] = capitalized
    template = environment.from_string(package.joinpath("log.html.j2").read_text("utf-8"))
    return template.render(
        answer=answer,
        subtitle=_subtitle(answer),
        runs=runs,
        layout="several" if len(runs) > _MOST_BESIDE else "beside",
        values=_values(answer.runs),
        policy=_POLICY,
        style=package.joinpath("log.css").read_text("utf-8"),
    )


def has_log_page(analysis: Analysis) -> bool:
    """Tell whether a source has the page of one log: a log of few runs, or without accuracy."""
    if analysis.log is None:
        return False
    is_small = analysis.configurations.height <= MOST_RUNS
    return is_small or "val_accuracy" not in analysis.log.curves.columns


def _drawn(runs: Sequence[RunAnswer]) -> list[_DrawnRun]:
    size = _ONE if len(runs) == 1 else _SEVERAL
    panels = [panels_of(run) for run in runs]
    by_role: dict[str, list[Panel]] = {}
    for panel in (panel for of_run in panels for panel in of_run):
        by_role.setdefault(panel.series.role, []).append(panel)
    limits = {role: shared(some) for role, some in by_role.items()}
    drawn = []
    for run, of_run in zip(runs, panels, strict=True):
        figures = [_figure(panel, size, limits[panel.series.role]) for panel in of_run]
        is_small = len(runs) > _MOST_WITH_ALL
        nearer = [] if is_small else [one for panel in of_run if (one := closer(panel))]
        near = [_figure(one, size) for one in nearer]
        num_first = 1 if is_small else len(figures)
        drawn.append(_DrawnRun(run, figures[:num_first], figures[num_first:] + near))
    return drawn


def _figure(panel: Panel, size: Size, limits: Limits | None = None) -> _Figure:
    series, training, best = panel.series, panel.training, panel.best
    said = "lowest" if series.lower_is_better else "highest"
    unit = ", %" if series.is_share else ""
    since = "" if panel.start is None else f", from {panel.clock} {_place(panel.start)} on"
    return _Figure(
        title=capitalized(series.words) + unit + since,
        svg=picture(panel, size, limits),
        training=training.words if training is not None and shows_training(panel) else None,
        band=f"noise of {panel.num_val:,} examples alone, at most"
        if panel.band is not None
        else None,
        best=best and f"{said}: {_shown(series, series.best)}, {panel.clock} {_place(best[0])}",
    )


def _place(at: float) -> str:
    """An epoch or a step as a person reads it: `12`, `29,500`, `0.25`."""
    return f"{at:,.0f}" if at == round(at) else f"{at:.6g}"


def _shown(series: Series, place: int | None) -> str:
    return "" if place is None else series.said(series.values[place])


def _subtitle(answer: Answer) -> str:
    counts = sorted({run.num_evaluations for run in answer.runs})
    many = " to ".join(f"{count:,}" for count in dict.fromkeys((*counts[:1], *counts[-1:])))
    told = f"{plural(len(answer.runs), 'run')} of {many} evaluation{'s' * (counts[-1:] != [1])}"
    sizes = sorted({run.num_val for run in answer.runs if run.num_val is not None})
    examples = f"{' or '.join(f'{size:,}' for size in sizes)} validation examples" if sizes else ""
    return " · ".join(filter(None, [answer.tool, told, examples]))


def _values(runs: Sequence[RunAnswer]) -> list[dict[str, Any]]:
    """Tables of the values, of as many runs as there is place for."""
    tables, left = [], _MOST_ROWS
    for run in runs:
        every = sorted({at for series in run.series for at in series.at})
        left -= len(every)
        if left < 0:
            break
        columns = []
        for series in run.series:
            by_place = dict(zip(series.at, series.values, strict=True))
            cells = [series.said(by_place[at]) if at in by_place else "" for at in every]
            columns.append((series.name, cells))
        rows = list(zip(*(cells for _, cells in columns), strict=True))
        tables.append(
            {
                "run": run,
                "names": [name for name, _ in columns],
                "rows": [(_place(at), cells) for at, cells in zip(every, rows, strict=True)],
            }
        )
    return tables
