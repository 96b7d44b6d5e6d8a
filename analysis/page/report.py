"""An analysis -> one HTML page that needs nothing but itself. The only writer here."""

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

from analysis.page import charts, findings
from analysis.page.best import best_figure
from analysis.page.causes import causes_figure
from analysis.page.cautions import with_caution
from analysis.page.curves import curves_figure
from analysis.page.effects import effect_tables, effects_figure
from analysis.page.figures import Figure, maps_figure, measures_figure
from analysis.page.floor import floor_figure
from analysis.page.stopping import stopping_figure
from analysis.page.thresholds import thresholds
from analysis.page.verdict import verdict_figure
from analysis.results import Analysis, analyze
from analysis.sources.axes import label, title
from analysis.words import fixed, plural
from raysweep.errors import InputError
from raysweep.store.files import Store

_VEGA_LITE = "6.4"
_MAX_TABLE_ROWS = 500
_FIGURES = (  # in the order of the page
    verdict_figure,
    best_figure,
    maps_figure,
    curves_figure,
    measures_figure,
    floor_figure,
    effects_figure,
    causes_figure,
    stopping_figure,
)
_PAGE_COLOURS = {
    charts.VALIDATION: "--blue",
    charts.TRAINING: "--orange",
    charts.FINITE: "--amber",
    charts.BEST: "--green",
}
_ESTIMATES = {
    "jitter, pp": ("hf_sd", 2),
    "of it the validation set, %": ("finite_share", 0),
    "gap, pp": ("gap", 1),
    "fall from the peak, pp": ("drop", 1),
    "rise of the loss, %": ("loss_rise", 1),
    "final accuracy, %": ("final_accuracy", 2),
    "best epoch (naive), %": ("best_naive", 2),
}


def write_report(source: Analysis | Store | Path | str, path: Path | str) -> Path:
    """Write the report of a store's latest sweep; the same store gives the same bytes.

    Args:
        source: what `analyze` found, or a store or its folder, which is then analyzed.
        path: of the HTML page, which replaces one that is there.

    Returns: the page's path.
    Raises: InputError when there is no store, no finished trial, or no folder for the page.
    """
    analysis = source if isinstance(source, Analysis) else analyze(source)
    path = Path(path)
    page = render(analysis).encode()
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
    figures = [with_caution(figure, analysis) for draw in _FIGURES if (figure := draw(analysis))]
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
    shown = {config_id for figure in figures for config_id, _ in figure.choices}
    words = {
        row["config_id"]: findings.configuration(row, findings.num_val(analysis))
        for row in analysis.configurations.iter_rows(named=True)
        if row["config_id"] in shown
    }
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(package.joinpath("report.html.j2").read_text("utf-8"))
    # A script is what its hash says, so it enters last.
    marks = [f"(script {number})" for number in range(len(scripts))]
    unit = functools.partial(_in_its_unit, analysis)
    page = template.render(
        record=analysis.record,
        analysis=analysis,
        subtitle=_subtitle(analysis),
        answer=findings.answer(analysis),
        summary=findings.summary(analysis),
        knobs=effect_tables(analysis),
        figures=figures,
        words=words,
        points=dict(analysis.points.select("config_id", "point").iter_rows()),
        tables={figure.name: _rows(figure.table) for figure in figures},
        shown={figure.name: _rows(figure.shown) for figure in figures if figure.shown is not None},
        configurations=_rows(_configuration_table(analysis)),
        quality=analysis.quality.rows(),
        num_unfinite=num_unfinite,
        provenance=_provenance(analysis),
        max_rows=_MAX_TABLE_ROWS,
        thresholds=thresholds(int(analysis.epochs["epoch"].max() or 1)),  # pyright: ignore[reportArgumentType]
        style=package.joinpath("report.css").read_text("utf-8"),
        scripts=marks,
        policy=_policy(scripts),
        data="(data)",
        specs=_themed(_json({"figures": specs, "words": words})),
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


def _configuration_table(analysis: Analysis) -> pl.DataFrame:
    """One row per configuration: its levels, seeds and estimates, as text."""
    axes = [axis.name for axis in analysis.axes]
    rows = analysis.points.join(
        analysis.configurations.drop(axes, "point", strict=False),
        on="config_id",
        maintain_order="left",
    ).with_columns(pl.col("finite_share").clip(0, 1))
    estimates = [
        fixed(100 * pl.col(name), digits).alias(words)
        for words, (name, digits) in _ESTIMATES.items()
    ]
    levels = [pl.col(axis.name).cast(pl.String).alias(axis.title) for axis in analysis.axes]
    return rows.select(
        *(levels or [pl.col("point").alias("configuration")]),
        pl.format("{} of {}", "num_completed", "num_seeds").alias("seeds"),
        *estimates,
        pl.col("mean_epochs").round(1).alias("epochs"),
    )


def _subtitle(analysis: Analysis) -> str:
    """What was trained, in one line."""
    spec, num_points = analysis.record["spec"], analysis.points.height
    num_seeds = len(spec["seeds"])
    grid = plural(num_points, "configuration")
    num_trials = len(analysis.record["trials"])
    if num_trials == num_points * num_seeds:
        grid += f" × {plural(num_seeds, 'seed')}"
    else:
        grid += f", {num_trials} trials"
    return " · ".join(filter(None, [spec["task"], grid, _sizes(analysis), _score(analysis)]))


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
    nodes = [
        f"{node['host']}: {node['cpus']:g} CPUs, {node['gpus']:g} GPUs, "
        f"{node['memory_bytes'] / 2**30:.0f} GiB"
        for node in record["hardware"]["nodes"]
    ]
    base = {name: value for name, value in spec["base"].items() if name not in spec["axes"]}
    entries = [
        ("command", " ".join(record.get("command", []))),
        ("task", str(spec["task"])),
        ("examples", _sizes(analysis)),
        ("validation set", ", ".join(sorted(set(trials["val_digest"].drop_nulls())))),
        ("held fixed", ", ".join(f"{title(name)} {label(value)}" for name, value in base.items())),
        ("seeds", ", ".join(str(seed) for seed in spec["seeds"])),
        ("versions", ", ".join(f"{k} {v}" for k, v in sorted(record["versions"].items()))),
        ("git commit", record.get("git_commit") or "not a git checkout"),
        ("nodes", "; ".join(nodes)),
        ("started", str(record.get("started_at", ""))),
        ("training time", f"{trials['seconds'].sum():.0f} s in all trials"),
    ]
    if not record["versions"]:
        # Curves that others logged tell what they vary, and nothing of where they come from.
        entries = [entry for entry in entries if entry[0] in ("examples", "held fixed")]
    return [entry for entry in entries if entry[1]]
