"""Panels -> SVG pictures that need no script, in the colours of the page around them."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

import altair as alt
import numpy as np
import polars as pl
import vl_convert

from analysis.page.log.curves import TRAINING, VALIDATION, Panel

_VEGA_LITE = "6.4"
_SVG = "http://www.w3.org/2000/svg"
_FONT_SIZE = 12
_FLATTEST = 2.5  # a curve takes at least so large a part, 1 / this, of a scale that it shares
_DOTTED = 0.1  # each evaluation has a dot where there are so few of them in a column
# What a browser does not need of the pictures that vl-convert writes.
_NEEDLESS = (
    *("aria-hidden", "aria-label", "aria-roledescription", "role", "pointer-events", "class"),
    *("font-family", "font-size", "font-weight", "stroke-miterlimit", "version"),
)
_DEFAULTS = {"opacity": "1", "stroke-width": "1", "transform": "translate(0,0)"}


class Limits(NamedTuple):
    """Where the axes of a picture begin and end."""

    x: tuple[float, float]
    y: tuple[float, float]


class Size(NamedTuple):
    """How large a plot is without its axes, and in how many columns a long line is drawn."""

    width: int
    height: int
    columns: int


def picture(panel: Panel, size: Size, limits: Limits | None = None) -> str:
    """Draw one panel. Args: limits: of the axes, by default those of the panel itself."""
    limits = limits or limits_of(panel)
    scale = alt.Scale(zero=False, nice=False, domain=list(limits.y))
    y = alt.Y("value:Q", title=None, scale=scale, axis=alt.Axis(tickCount=5, minExtent=34))
    x_scale = alt.Scale(zero=False, nice=False, padding=6, domain=list(limits.x))
    axis = alt.Axis(tickCount=6, tickMinStep=1, grid=False)
    x = alt.X("x:Q", title=panel.clock, scale=x_scale, axis=axis)
    layers: list[Any] = []
    if panel.band is not None:
        band = alt.Chart(_rows(_thinned_band(panel.band, size.columns)))
        low = alt.Y("low:Q", title=None, scale=scale)
        layers.append(band.mark_area(color="var(--band)").encode(x=x, y=low, y2="high:Q"))
    training = _in_sight(panel, limits)
    if training["value"].is_not_null().any():
        line = alt.Chart(_rows(thinned(training, size.columns)))
        dashed = line.mark_line(color="var(--orange)", strokeDash=[5, 3])
        layers.append(dashed.encode(x=x, y=y))
    rows = alt.Chart(_rows(thinned(panel.lines.filter(pl.col("line") == VALIDATION), size.columns)))
    layers.append(rows.mark_line(color="var(--blue)").encode(x=x, y=y))
    if panel.validation.height <= size.columns * _DOTTED:
        dots = rows.mark_point(color="var(--blue)", fill="var(--blue)", size=9, opacity=1)
        layers.append(dots.encode(x=x, y=y))
    if panel.best is not None:
        best = pl.DataFrame([panel.best], schema=["x", "value"], orient="row")
        ring = alt.Chart(_rows(best)).mark_point(size=90, strokeWidth=2, color="var(--green)")
        layers.append(ring.encode(x=x, y=y))
    return static_svg(alt.layer(*layers).properties(width=size.width, height=size.height))


def shows_training(panel: Panel) -> bool:
    """Tell whether a point of the training curve lies in the picture."""
    return bool(_in_sight(panel, limits_of(panel))["value"].is_not_null().any())


def _in_sight(panel: Panel, limits: Limits) -> pl.DataFrame:
    """The training curve, null where it lies outside of the picture."""
    inside = pl.col("value").is_between(*limits.y)
    return panel.lines.filter(pl.col("line") == TRAINING).with_columns(
        pl.when(inside).then("value")
    )


def static_svg(chart: alt.TopLevelMixin) -> str:
    """Draw a chart as SVG that can stand in a page: no script, no font, colours as given.

    Colours may be the page's variables, `var(--blue)`; text takes the page's font, and is as large
    as the page's style says.
    """
    spec: dict[str, Any] = chart.to_dict(validate=False)  # pyright: ignore[reportAttributeAccessIssue]
    spec["config"] = _THEME
    return _slim(vl_convert.vegalite_to_svg(spec, vl_version=_VEGA_LITE))


_THEME = {
    "background": None,
    "padding": 2,
    "view": {"stroke": None},
    "line": {"strokeWidth": 1.6},
    "axis": {
        "labelColor": "var(--soft)",
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelFontSize": _FONT_SIZE,
        "titleFontSize": _FONT_SIZE,
        "titleColor": "var(--soft)",
        "titleFontWeight": "normal",
    },
}


def thinned(line: pl.DataFrame, columns: int) -> pl.DataFrame:
    """A line with no more than two points in each column of its picture.

    Of the evaluations in a column the lowest and the highest are kept, so that no jump is lost.
    """
    if line.height <= 2 * columns:
        return line
    column = (pl.int_range(pl.len()) * columns // pl.len()).alias("column")
    ends = [pl.col("value").arg_min(), pl.col("value").arg_max()]
    return (
        line.group_by(column, maintain_order=True)
        .agg(pl.col("x", "line", "value").gather(pl.concat_list(*ends).explode().unique().sort()))
        .drop("column")
        .explode("x", "line", "value")
    )


def _thinned_band(band: pl.DataFrame, columns: int) -> pl.DataFrame:
    """A band with a point in every fourth column: it is smooth."""
    return band.gather_every(max(1, 4 * band.height // columns))


def _rows(frame: pl.DataFrame) -> alt.InlineData:
    floats = pl.col(pl.Float64).round_sig_figs(6)
    rows = frame.select(name for name in frame.columns if name != "line").with_columns(floats)
    return alt.InlineData(values=rows.to_dicts())


def limits_of(panel: Panel) -> Limits:
    """Find what the axes hold: every value and the band; of a closer look, no training curve.

    Returns: limits that never leave 0 to 100 for a share, and never fall below 0 without a
        value that does.
    """
    lines = panel.lines if panel.start is None else panel.validation
    values = lines["value"].drop_nulls().to_numpy()
    if panel.band is not None:
        values = np.concatenate([values, panel.band["low"], panel.band["high"]])
    low, high = float(values.min()), float(values.max())
    pad = 0.04 * (high - low) or 0.02 * abs(high) or 1.0
    low, high = (max(low - pad, 0.0) if low >= 0 else low - pad), high + pad
    if panel.series.is_share:
        high = min(high, 100.0)
    x = panel.lines["x"].to_numpy()
    return Limits((float(x.min()), float(x.max())), (low, high))


def shared(panels: Sequence[Panel]) -> Limits | None:
    """Find limits that all panels can share; None where some curve would be a flat line in them."""
    every = [limits_of(panel) for panel in panels]
    x, y = (
        (min(pair[0] for pair in pairs), max(pair[1] for pair in pairs))
        for pairs in ([one.x for one in every], [one.y for one in every])
    )
    lengths = [one.y[1] - one.y[0] for one in every if one.x[0] < one.x[1]]
    is_flat = min(lengths, default=0.0) * _FLATTEST < y[1] - y[0]
    return None if is_flat else Limits(x, y)


def _slim(svg: str) -> str:
    """The same picture in few bytes, as wide as its place."""
    ElementTree.register_namespace("", _SVG)
    root = ElementTree.fromstring(svg)  # noqa: S314 - what vl-convert wrote a line ago
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    _trim(root)
    root.set("aria-hidden", "true")  # the caption beside it tells what it shows
    text = ElementTree.tostring(root, encoding="unicode")
    text = _with_own_ids(text)
    # Coordinates to a tenth of a pixel; the numbers that a person reads stay as they are.
    return re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d+\.\d)\d+", r"\1", tag[0]), text)


def _with_own_ids(svg: str) -> str:
    """Ids that follow from the picture: the same in every run, and of no other on the page."""
    ids = list(dict.fromkeys(re.findall(r' id="([^"]+)"', svg)))
    for place, name in enumerate(ids):
        svg = re.sub(rf"(?<=[#\"]){re.escape(name)}(?=[\")])", f"place-{place}", svg)
    digest = hashlib.sha256(svg.encode()).hexdigest()[:8]
    return re.sub(r"(?<=[#\"])place-(\d+)(?=[\")])", rf"p{digest}-\1", svg)


def _trim(node: ElementTree.Element) -> None:
    for name in _NEEDLESS:
        node.attrib.pop(name, None)
    for name, value in _DEFAULTS.items():
        if node.get(name) == value:
            node.attrib.pop(name)
    for child in list(node):
        _trim(child)
        tag = child.tag.rpartition("}")[2]
        shape = child.get("d", "")
        is_nothing = child.get("display") == "none" or shape in ("M0,0h0v0h0Z", "")
        unseen = not (child.get("fill") or child.get("stroke"))
        if (tag == "path" and (is_nothing or unseen)) or (tag == "g" and not len(child)):
            node.remove(child)
