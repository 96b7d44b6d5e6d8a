"""An analysis -> one HTML page that needs nothing but itself. The only writer of pages."""

import base64
import functools
import gzip
import hashlib
import json
import os
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
import vl_convert

from analysis.answer.settings import Setting
from analysis.claims.answers import answer_claims
from analysis.page import charts
from analysis.page.best import best_figure
from analysis.page.causes import causes_figure
from analysis.page.commands import without_folders
from analysis.page.curves import curves_figure
from analysis.page.effects import effects_figure
from analysis.page.figures import Figure, with_caution
from analysis.page.first import first_screen
from analysis.page.floor import floor_figure
from analysis.page.log.page import has_log_page, render_log
from analysis.page.stopping import stopping_figure
from analysis.page.table import GridMap, grid_map, kinds_said, settings_table
from analysis.page.thresholds import thresholds
from analysis.page.verdict import said, settings_rows
from analysis.results import Analysis, analyze
from analysis.sources.axes import label, title
from analysis.words import plural
from raysweep.errors import InputError
from raysweep.store.files import Store

_VEGA_LITE = "6.4"
_MAX_TABLE_ROWS = 500
_APPENDIX = ("causes",)
_CONTENTS = {  # in the list of contents, where titles would be too long
    "curves": "Curves",
    "effects": "Knobs",
    "best": "Best settings",
    "floor": "Validation set",
    "stopping": "Early stopping",
}
_PAGE_COLOURS = {
    charts.VALIDATION: "--blue",
    charts.TRAINING: "--orange",
    charts.FINITE: "--amber",
    charts.BEST: "--green",
}


def write_report(source: Analysis | Store | Path | str, path: Path | str) -> Path:
    """Write the report of a store's latest sweep, or of a log; the same source, the same bytes.

    Args:
        source: what `analyze` found, or a store or its folder, which is then analyzed.
        path: of the HTML page, which replaces one that is there.

    Returns: the page's path.
    Raises: InputError when there is no store, no finished trial, or no folder for the page.
    """
    analysis = source if isinstance(source, Analysis) else analyze(source)
    path = Path(path)
    is_log = has_log_page(analysis)
    page = (render_log(analysis.answer) if is_log else render(analysis)).encode()
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(page)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise InputError(f"the report can't be written to {path}: {error.strerror}") from error
    return path


def render(analysis: Analysis) -> str:
    """Render the whole page as HTML."""
    first = first_screen(analysis)
    figures = _figures(analysis, first.names)
    frames = {name: frame for figure in figures for name, frame in figure.data.items()}
    data, num_unfinite = columns_of(frames)
    specs = [
        {
            "name": figure.name,
            "charts": [_spec(chart.to_dict(validate=False), figure) for chart in figure.charts],
            "choosable": len(figure.choices) > len(figure.panels) > 0,
        }
        for figure in figures
    ]
    package = files("analysis.page")
    scripts = [bundle(), package.joinpath("report.js").read_text("utf-8")]
    rows = settings_rows(analysis, first.names)
    shown = {config_id for figure in figures for config_id, _ in figure.choices}
    words = {
        row["config_id"]: said(row, analysis.overall.num_val)
        for row in rows
        if row["config_id"] in shown
    }
    grid = grid_map(analysis, rows)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(package.joinpath("report.html.j2").read_text("utf-8"))
    # A script is what its hash says, so it enters last.
    marks = [f"(script {number})" for number in range(len(scripts))]
    unit = functools.partial(_in_its_unit, analysis)
    page = template.render(
        record=analysis.record,
        analysis=analysis,
        first=first,
        figures=[figure for figure in figures if figure.name not in _APPENDIX],
        appendix=[figure for figure in figures if figure.name in _APPENDIX],
        claims=answer_claims(analysis),
        contents=_CONTENTS,
        grid=grid,
        kinds=kinds_said(rows),
        settings=settings_table(analysis, rows),
        words=words,
        tables={figure.name: _rows(figure.table) for figure in figures},
        quality=analysis.quality.rows(),
        num_unfinite=num_unfinite,
        provenance=_provenance(analysis),
        max_rows=_MAX_TABLE_ROWS,
        thresholds=thresholds(int(analysis.epochs["epoch"].max() or 1)),  # pyright: ignore[reportArgumentType]
        style=package.joinpath("report.css").read_text("utf-8"),
        scripts=marks,
        policy=_policy(scripts),
        data="(data)",
        specs=_themed(_json({"figures": specs, "words": words, "cells": _cells(grid)})),
    )
    packed = base64.b64encode(gzip.compress(unit(_json(data)).encode(), mtime=0)).decode()
    page = unit(page)
    for mark, body in zip([*marks, "(data)"], [*scripts, packed], strict=True):
        page = page.replace(f">{mark}</script>", f">{body}</script>")
    return page


def _in_its_unit(analysis: Analysis, text: str) -> str:
    """Write hundredths of the score in place of percentage points where the score is no share."""
    if "number" not in analysis.trials["score_kind"].to_list():
        return text
    return re.sub(r"\bpp\b", "hundredths", text)


def _figures(analysis: Analysis, names: Mapping[str, Setting]) -> list[Figure]:
    """In the order of the page, the appendix last."""
    drawn = (
        curves_figure(analysis, names),
        effects_figure(analysis, names),
        best_figure(analysis, names),
        floor_figure(analysis),
        stopping_figure(analysis),
        causes_figure(analysis),
    )
    return [with_caution(figure, analysis) for figure in drawn if figure]


def _cells(grid: GridMap | None) -> dict[str, Any]:
    """What each cell of the map shows of each measure, by config_id."""
    if grid is None:
        return {}
    cells = [cell for part in grid.slices for _, line in part.rows for cell in line if cell]
    return {cell.config_id: cell.shown | {"verdict": (cell.kind, None)} for cell in cells}


@functools.cache
def bundle() -> str:
    """Bundle Vega, Vega-Lite and vega-embed into one script that defines `vegaEmbed`."""
    return vl_convert.javascript_bundle(vl_version=_VEGA_LITE)  # pyright: ignore[reportCallIssue]


def columns_of(frames: Mapping[str, pl.DataFrame]) -> tuple[dict[str, Any], int]:
    """Turn frames into lists by column, with None for what is not finite.

    Returns: the lists by frame and column, and how many numbers are not finite.
    """
    num_unfinite = 0
    data: dict[str, Any] = {}
    for name, frame in frames.items():
        floats = [column for column, kind in frame.schema.items() if kind.is_float()]
        finite = frame.with_columns(
            pl.when(pl.col(column).is_finite()).then(column).alias(column) for column in floats
        )
        num_unfinite += sum(finite.null_count().row(0)) - sum(frame.null_count().row(0))
        data[name] = finite.to_dict(as_series=False)
    return data, num_unfinite


def _spec(spec: dict[str, Any], figure: Figure) -> dict[str, Any]:
    spec.pop("config", None)  # the page has its own theme
    spec["description"] = figure.description
    return spec


def _json(value: Any) -> str:
    """JSON that can stand in a script element: nothing in it ends the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _themed(specs: str) -> str:
    """Chart colours as the page's variables, which are lighter in the dark."""
    for colour, variable in _PAGE_COLOURS.items():
        specs = specs.replace(f'"{colour}"', f'"var({variable})"')
    return specs


def _policy(scripts: list[str]) -> str:
    """Nothing is loaded, and only these scripts run."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _rows(table: pl.DataFrame) -> dict[str, Any]:
    """A table for the template; columns without any value are left out."""
    columns = [column.name for column in table if column.count()]
    shown = table.select(columns).head(_MAX_TABLE_ROWS)
    return {"columns": columns, "rows": shown.rows(), "num_rows": table.height}


def _score(analysis: Analysis) -> str:
    """What is called accuracy here, where that is no count of right answers."""
    kinds = analysis.trials.select("score_kind", "score_name").drop_nulls("score_kind").rows()
    others = [(kind, name) for kind, name in kinds if kind != "right"]
    if not others:
        return ""
    kind, name = others[0]
    what = "each example's share of right answers" if kind == "share" else "the score"
    named = f" ({name})" if name else ""
    return f"accuracy means {what}{named}; the error rates of labels are uncalibrated for it"


def _sizes(analysis: Analysis) -> str:
    largest = {"training": analysis.trials["n_train"], "validation": analysis.trials["n_val"]}
    sizes = {words: column.max() for words, column in largest.items()}
    text = " and ".join(f"{size:,} {words}" for words, size in sizes.items() if size)
    return f"{text} examples" if text else ""


def _provenance(analysis: Analysis) -> list[tuple[str, str]]:
    """What made these numbers."""
    record, trials = analysis.record, analysis.trials
    spec = record["spec"]
    nodes = record["hardware"]["nodes"]
    cpus, gpus = (sum(node[name] for node in nodes) for name in ("cpus", "gpus"))
    machines = f"{plural(len(nodes), 'machine')}, {cpus:g} CPUs, {gpus:g} GPUs"
    memory = sum(node["memory_bytes"] for node in nodes) / 2**30
    base = {name: value for name, value in spec["base"].items() if name not in spec["axes"]}
    entries = [
        ("command", " ".join(without_folders(str(word)) for word in record.get("command", []))),
        ("task", str(spec["task"])),
        ("examples", _sizes(analysis)),
        ("score", _score(analysis)),
        ("validation set", ", ".join(sorted(set(trials["val_digest"].drop_nulls())))),
        ("held fixed", ", ".join(f"{title(name)} {label(value)}" for name, value in base.items())),
        ("seeds", ", ".join(str(seed) for seed in spec["seeds"])),
        ("versions", ", ".join(f"{k} {v}" for k, v in sorted(record["versions"].items()))),
        ("git commit", record.get("git_commit") or "not a git checkout"),
        ("machines", f"{machines}, {memory:.0f} GiB for Ray" if nodes else ""),
        ("started", str(record.get("started_at", ""))),
        ("training time", f"{trials['seconds'].sum():.0f} s in all runs"),
    ]
    if not record["versions"]:
        # Curves that others logged tell what they vary, and nothing of where they come from.
        entries = [entry for entry in entries if entry[0] in ("examples", "held fixed")]
    return [entry for entry in entries if entry[1]]
