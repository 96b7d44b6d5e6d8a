"""Charts of configurations and their curves, in Altair; one function per chart.

Accuracy comes in percent, differences in percentage points. Data come by name (the page holds them
once); a frame that is passed in is read for its levels and domains, and is never embedded.
"""

from collections.abc import Sequence
from typing import NamedTuple

import altair as alt
import polars as pl

from analysis.causes.effects import JITTERS

VALIDATION, TRAINING = "#0072B2", "#D55E00"  # Okabe-Ito: apart in every colour blindness
OBSERVED, FINITE = "#0072B2", "#E69F00"
BEST = "#009E73"
UNCLEAR = "#8C8C8C"
MARKS = ("best epoch", "restored weights", "stopped early")
# Of the cells of a label map, all light enough for black words.
LABEL_COLOURS = {
    "network": "#E8833A",
    "both": "#CC79A7",
    "val. set": "#E69F00",
    "net. too": "#F2B78C",
    "set can": "#F3D38A",
    "spikes": "#B7A4D8",
    "wander": "#56B4E9",
    "little": "#A8DEC4",
    "no jitter": "#6CCBA6",
    "quiet": "#2CB68B",
    "overfits": "#E8833A",
    "worse": "#F2B78C",
    "run fell": "#F2B78C",
    "loss up": "#F3D38A",
    "confident": "#E69F00",
    "loss holds": "#A8DEC4",
    "no harm": "#2CB68B",
    "rising": "#9CC9EC",
    "at chance": "#A9A9A9",
    "unlearns": "#CC79A7",
    "diverged": "#A9A9A9",
    "failed": "#A9A9A9",
    "open": "#DADADA",
}
_SERIES = ("validation", "training (eval mode)")
_TEXT_STEP = 34  # cells narrower than this hold no word
_MAX_FACET_COLUMNS = 4
_MAX_EFFECT_COLUMNS = 5
_FINE_RATIOS = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.7, 2.0]

Chart = alt.TopLevelMixin
Layers = alt.LayerChart | alt.FacetChart


class MapAxes(NamedTuple):
    """The titles of a map of the grid, and whether there is a map for each of several slices."""

    x: str
    y: str
    sliced: bool


def tooltips(*fields: tuple[str, ...]) -> list[alt.Tooltip]:
    """Make tooltips. Args: fields: of each its field and type, title, and a number's format."""
    return [
        alt.Tooltip(name, **dict(zip(("title", "format"), rest, strict=False)))
        for name, *rest in fields
    ]


def interval_tooltips(
    title: str, fields: Sequence[str], number_format: str = ".2f"
) -> list[alt.Tooltip]:
    """Make tooltips of an estimate and its limits. Args: fields: of the estimate, low, high."""
    titles = (title, "from", "to")
    return tooltips(
        *((f"{name}:Q", words, number_format) for name, words in zip(fields, titles, strict=True))
    )


def names_axis(shown: bool = True) -> alt.Axis | None:
    """Make the axis of a chart with a row per name; None where the panel beside it has them."""
    return alt.Axis(labelLimit=420, title=None) if shown else None


def grid_map(data: pl.DataFrame, *, value: str, title: str, axes: MapAxes) -> Chart:
    """Draw a measure over two axes of the grid, a small map for each level of the other axes.

    Args: data (named maps): x, y, slice in their order, point, <value> in pp, <value>_text,
        <value>_tip.
    """
    low, high = _colour_domain(data[value].drop_nulls())
    filled, bright = f"isValid(datum.{value})", f"datum.{value} > {(low + high) / 2}"
    base, wide = _on_the_grid(data, "maps", value, title, axes)
    colour = alt.Color(
        f"{value}:Q",
        title="pp",
        scale=alt.Scale(scheme="viridis", domain=[low, high], clamp=True),
        legend=alt.Legend(gradientLength=80, gradientThickness=10),
    )
    cells = base.mark_rect(cursor="pointer").encode(
        color=alt.when(filled).then(colour).otherwise(alt.value("#80808033"))
    )
    numbers = base.mark_text(fontSize=11, cursor="pointer").encode(
        text=f"{value}_text:N",
        color=alt.when(f"!{filled}")
        .then(alt.value("#808080"))
        .when(bright)
        .then(alt.value("black"))
        .otherwise(alt.value("white")),
    )
    return _by_slice(alt.layer(cells, numbers) if wide else alt.layer(cells), data, title, axes)


def label_map(data: pl.DataFrame, *, value: str, title: str, axes: MapAxes) -> Chart:
    """Draw a label over two axes of the grid, as grid_map does.

    Args: data (named labels): x, y, slice, point, <value> (a key of LABEL_COLOURS), <value>_tip.
    """
    base, wide = _on_the_grid(data, "labels", value, title, axes)
    words = [word for word in LABEL_COLOURS if word in set(data[value])]
    scale = alt.Scale(domain=words, range=[LABEL_COLOURS[word] for word in words])
    cells = base.mark_rect(cursor="pointer").encode(
        color=alt.Color(f"{value}:N", scale=scale, legend=None if wide else alt.Legend(title=None))
    )
    text = base.mark_text(fontSize=11, cursor="pointer", color="black").encode(text=f"{value}:N")
    return _by_slice(alt.layer(cells, text) if wide else cells, data, title, axes)


def _on_the_grid(
    data: pl.DataFrame, name: str, value: str, title: str, axes: MapAxes
) -> tuple[alt.Chart, bool]:
    """A mark per cell, without its colour, and whether a cell is wide enough for a word."""
    xs, ys = (data[axis].unique(maintain_order=True).to_list() for axis in ("x", "y"))
    step = min(60, 900 // max(len(xs), 1))
    base = alt.Chart(alt.NamedData(name), width=alt.Step(step), height=alt.Step(34)).encode(
        x=alt.X("x:O", title=axes.x, sort=xs, axis=alt.Axis(labelAngle=0)),
        y=alt.Y("y:O", title=axes.y, sort=ys[::-1], axis=alt.Axis()),
        tooltip=tooltips(("point:N", "configuration"), (f"{value}_tip:N", title)),
    )
    return base, step >= _TEXT_STEP


def _by_slice(cells: alt.Chart | Layers, data: pl.DataFrame, title: str, axes: MapAxes) -> Chart:
    heading = alt.Title(title, anchor="start")
    if not axes.sliced:
        return cells.properties(title=heading)
    assert not isinstance(cells, alt.FacetChart)
    slices = data["slice"].unique(maintain_order=True).to_list()
    facet = alt.Facet("slice:N", title="", sort=slices)
    return cells.facet(facet=facet, columns=min(len(slices), _MAX_FACET_COLUMNS)).properties(
        title=heading
    )


def _colour_domain(values: pl.Series) -> tuple[float, float]:
    """From the smallest to the largest, or to where nine of ten lie if few are far beyond."""
    ordered = sorted(float(value) for value in values) or [0.0, 1.0]
    low, high, most = ordered[0], ordered[-1], ordered[int(0.9 * (len(ordered) - 1))]
    if high - low > 3 * (most - low) > 0:
        high = most
    return low, max(high, low + 1e-6)


def curves_chart(
    panels: Sequence[tuple[str, str]], *, first_epoch: int, last_epoch: int, columns: int
) -> Chart:
    """Draw every seed's curves of some configurations, accuracy above, loss beneath.

    Data (named seeds): config_id, seed, epoch, accuracy, loss; (named means): config_id, epoch,
    accuracy, accuracy_low, accuracy_high, train_accuracy, loss, train_loss; (named marks):
    config_id, seed, epoch, accuracy, mark.

    Args: panels: (config_id, title) of what is shown first: the page may set the parameters
        `config_<i>` and `title_<i>`; first_epoch: where the curves start, to leave the steep
        beginning out of the scale; columns: of panels.
    """
    params = [
        alt.param(
            name="from_epoch",
            value=first_epoch,
            bind=alt.binding_range(min=1, max=max(last_epoch // 2, 2), step=1, name="from epoch "),
        )
    ]
    above: list[Layers] = []
    beneath: list[Layers] = []
    width = {1: 640, 2: 465}.get(columns, 300)
    for number, (config_id, title) in enumerate(panels):
        params.append(alt.param(name=f"config_{number}", value=config_id))
        params.append(alt.param(name=f"title_{number}", value=title))
        heading = alt.Title(text=alt.expr(f"title_{number}"), anchor="start", limit=width)  # pyright: ignore[reportArgumentType]
        shown = f"datum.config_id === config_{number} && datum.epoch >= from_epoch"
        above.append(_accuracy(shown).properties(width=width, height=210, title=heading))
        loss = _loss(shown).properties(width=width, height=110)
        beneath.append(loss.properties(title=heading) if len(panels) > columns else loss)
    upper = alt.concat(*above, columns=columns).resolve_scale(y="shared", x="shared")
    lower = alt.concat(*beneath, columns=columns).resolve_scale(y="shared", x="shared")
    return alt.vconcat(upper, lower).add_params(*params)


def _filtered(name: str, shown: str) -> alt.Chart:
    return alt.Chart(alt.NamedData(name)).transform_filter(shown)


def _epochs(title: str | None) -> alt.X:
    scale = alt.Scale(zero=False, nice=False)
    return alt.X("epoch:Q", title=title, scale=scale, axis=alt.Axis(tickMinStep=1))


def _accuracy(shown: str) -> Layers:
    seeds, means, marks = (_filtered(name, shown) for name in ("seeds", "means", "marks"))
    x = _epochs(None)
    scale = alt.Scale(zero=False, nice=False, padding=6)
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=scale)
    legend = alt.Legend(
        orient="top", title=None, symbolType="stroke", symbolStrokeWidth=3, symbolOpacity=1
    )
    colours = alt.Scale(domain=list(_SERIES), range=[VALIDATION, TRAINING])
    series = alt.Color("series:N", scale=colours, legend=legend)
    training = means.transform_calculate(series=f"'{_SERIES[1]}'")
    seeds, means = (rows.transform_calculate(series=f"'{_SERIES[0]}'") for rows in (seeds, means))
    kinds = alt.Shape(
        "mark:N",
        scale=alt.Scale(domain=list(MARKS), range=["triangle-up", "diamond", "square"]),
        legend=alt.Legend(orient="top", title=None),
    )
    return alt.layer(
        means.mark_area(opacity=0.15).encode(
            x=x, y=alt.Y("accuracy_low:Q", scale=scale), y2="accuracy_high:Q", color=series
        ),
        seeds.mark_line(strokeWidth=0.8, opacity=0.5).encode(
            x=x, y=y, detail="seed:N", color=series
        ),
        training.mark_line(strokeWidth=1.6, strokeDash=[5, 3]).encode(
            x=x, y=alt.Y("train_accuracy:Q", title="accuracy, %", scale=scale), color=series
        ),
        means.mark_line(strokeWidth=2.2).encode(x=x, y=y, color=series),
        marks.mark_point(size=48, filled=False, strokeWidth=1.4, color=BEST).encode(
            x=x,
            y=y,
            shape=kinds,
            tooltip=[
                *tooltips(("mark:N", "what"), ("seed:N",), ("epoch:Q",)),
                alt.Tooltip("accuracy:Q", format=".2f"),
            ],
        ),
    )


def _loss(shown: str) -> Layers:
    seeds, means = (_filtered(name, shown) for name in ("seeds", "means"))
    x = _epochs("epoch")
    y = alt.Y("loss:Q", title="loss", scale=alt.Scale(zero=False, padding=4))
    return alt.layer(
        seeds.mark_line(strokeWidth=0.8, opacity=0.5, color=VALIDATION).encode(
            x=x, y=y, detail="seed:N"
        ),
        means.mark_line(strokeWidth=1.6, strokeDash=[5, 3], color=TRAINING).encode(
            x=x, y=alt.Y("train_loss:Q", title="loss")
        ),
        means.mark_line(strokeWidth=2.2, color=VALIDATION).encode(x=x, y=y),
    )


def measures_chart(data: pl.DataFrame, panels: Sequence[tuple[str, str]]) -> Chart:
    """Draw intervals per configuration, one panel a measure, the jitter with its finite-set part.

    Args: data (named measures): one row per configuration in the order to show: point, and per
        measure <name>, <name>_low, <name>_high; fin_sd. panels: (name, title), hf_sd first.
    """
    order = data["point"].to_list()
    height = alt.Step(16 if len(order) > 12 else 22)
    drawn: list[Layers] = []
    for name, title in panels:
        low, high = f"{name}_low", f"{name}_high"
        base = alt.Chart(alt.NamedData("measures")).encode(
            y=alt.Y("point:N", sort=order, axis=names_axis(not drawn)),
            tooltip=[
                *tooltips(("point:N", "configuration")),
                *interval_tooltips(title, (name, low, high)),
            ],
        )
        scale = alt.Scale(domain=_interval_domain(data, name), nice=True)
        x = alt.X(f"{name}:Q", title=title, scale=scale, axis=alt.Axis(tickCount=4))
        layers = [
            base.mark_rule(strokeWidth=1.6, color=OBSERVED, clip=True).encode(
                x=alt.X(f"{low}:Q", title=title, scale=scale), x2=f"{high}:Q"
            ),
            base.mark_point(filled=True, size=42, color=OBSERVED, opacity=1).encode(x=x),
        ]
        if name == "hf_sd":
            finite = alt.X("fin_sd:Q", title=title, scale=scale)
            layers.insert(0, base.mark_bar(color=FINITE, opacity=0.55, height=7).encode(x=finite))
        drawn.append(alt.layer(*layers).properties(width=185, height=height))
    return alt.hconcat(*drawn, spacing=14).resolve_scale(y="shared")


def _interval_domain(data: pl.DataFrame, name: str) -> list[float]:
    """Holds every estimate and the limits of all but the widest tenth, which are cut."""
    estimates = [float(value) for value in data[name].drop_nulls()]
    lows = sorted(float(value) for value in data[f"{name}_low"].drop_nulls()) or estimates
    highs = sorted(float(value) for value in data[f"{name}_high"].drop_nulls()) or estimates
    cut = len(lows) // 10
    low, high = min([*estimates, lows[cut]]), max([*estimates, highs[-1 - cut]])
    pad = 0.03 * (high - low) or 0.5
    return [0.0 if name == "hf_sd" else low - pad, high + pad]


def effects_chart(data: pl.DataFrame, panels: Sequence[tuple[str, str]]) -> Chart:
    """Draw the interval of every effect, one panel a response.

    Args: data (named effects): comparison in the order to show, response, estimate, low, high,
        clear (the interval leaves out no change). panels: (response, title); JITTERS are ratios.
    """
    order = data["comparison"].unique(maintain_order=True).to_list()
    drawn: list[Layers] = []
    for number, (name, title) in enumerate(panels):
        axis = names_axis(number % _MAX_EFFECT_COLUMNS == 0)
        clear = alt.when("datum.clear").then(alt.value(VALIDATION)).otherwise(alt.value(UNCLEAR))
        base = (
            alt.Chart(alt.NamedData("effects"))
            .transform_filter(alt.FieldEqualPredicate(field="response", equal=name))
            .encode(
                y=alt.Y("comparison:N", sort=order, axis=axis),
                color=clear,
                tooltip=[
                    *tooltips(("comparison:N",)),
                    *interval_tooltips(title, ("estimate", "low", "high")),
                ],
            )
        )
        ratio = name in JITTERS
        scale = alt.Scale(type="log", nice=False, padding=8) if ratio else alt.Scale(padding=8)
        ticks = _ratio_axis(data) if ratio else alt.Axis(tickCount=4)
        nothing = alt.Chart(alt.NamedData("effects")).mark_rule(strokeDash=[3, 3], opacity=0.7)
        nothing = nothing.encode(x=alt.XDatum(1 if ratio else 0, scale=scale))
        rules = base.mark_rule(strokeWidth=2).encode(
            x=alt.X("low:Q", title=title, scale=scale, axis=ticks), x2="high:Q"
        )
        dots = base.mark_point(filled=True, size=46, opacity=1).encode(
            x=alt.X("estimate:Q", title=title, scale=scale, axis=ticks)
        )
        drawn.append(alt.layer(nothing, rules, dots).properties(width=150, height=alt.Step(24)))
    return alt.concat(*drawn, columns=_MAX_EFFECT_COLUMNS, spacing=14).resolve_scale(y="shared")


def _ratio_axis(data: pl.DataFrame) -> alt.Axis:
    """Ticks at powers of two, or finer where that leaves fewer than three."""
    jitter = data.filter(pl.col("response").is_in(list(JITTERS)))
    ends = [1.0, *jitter["low"].drop_nulls(), *jitter["high"].drop_nulls()]
    inside: list[float] = []
    for ticks in ([2.0**power for power in range(-6, 7)], _FINE_RATIOS):
        inside = [tick for tick in ticks if min(ends) <= tick <= max(ends)]
        if len(inside) >= 3:
            break
    return alt.Axis(values=inside, format="~g")
