"""Charts of configurations and their curves, in Altair; one function per chart.

Accuracy comes in percent, differences in percentage points. Data come by name (the page holds them
once); a frame that is passed in is read for its levels and domains, and is never embedded.
"""

from collections.abc import Sequence

import altair as alt
import polars as pl

VALIDATION, TRAINING = "#0072B2", "#D55E00"  # Okabe-Ito: apart in every colour blindness
OBSERVED, FINITE = "#0072B2", "#E69F00"
BEST = "#009E73"
UNCLEAR = "#8C8C8C"
MARKS = ("best epoch", "restored weights", "stopped early")
_SHAPES = ("triangle-up", "diamond", "square")
_SERIES = ("validation", "training (eval mode)")

Chart = alt.TopLevelMixin
Layers = alt.LayerChart | alt.FacetChart


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


def curves_chart(
    panels: Sequence[tuple[str, str]],
    *,
    first_epoch: int,
    last_epoch: int,
    columns: int,
    marks: Sequence[str] = MARKS,
    training: bool = True,
) -> Chart:
    """Draw every seed's curves of some configurations, accuracy above, loss beneath.

    Data (named seeds): config_id, seed, epoch, accuracy, loss; (named means): config_id, epoch,
    accuracy, accuracy_low, accuracy_high, train_accuracy, loss, train_loss; (named marks):
    config_id, seed, epoch, accuracy, mark.

    Args: panels: (config_id, title) of what is shown first: the page may set the parameters
        `config_<i>` and `title_<i>`; first_epoch: where the curves start, to leave the steep
        beginning out of the scale; columns: of panels; marks: those of MARKS that there are;
        training: whether training curves were recorded.
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
        accuracy = _accuracy(shown, marks, training)
        above.append(accuracy.properties(width=width, height=210, title=heading))
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


def _accuracy(shown: str, present: Sequence[str], has_training: bool) -> Layers:
    seeds, means, marks = (_filtered(name, shown) for name in ("seeds", "means", "marks"))
    x = _epochs(None)
    scale = alt.Scale(zero=False, nice=False, padding=6)
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=scale)
    legend = alt.Legend(
        orient="top", title=None, symbolType="stroke", symbolStrokeWidth=3, symbolOpacity=1
    )
    # The legend holds what is drawn, and nothing else.
    num_series = 1 + has_training
    colours = alt.Scale(
        domain=list(_SERIES[:num_series]), range=[VALIDATION, TRAINING][:num_series]
    )
    series = alt.Color("series:N", scale=colours, legend=legend)
    training = means.transform_calculate(series=f"'{_SERIES[1]}'")
    seeds, means = (rows.transform_calculate(series=f"'{_SERIES[0]}'") for rows in (seeds, means))
    kinds = alt.Shape(
        "mark:N",
        scale=alt.Scale(
            domain=list(present),
            range=[shape for mark, shape in zip(MARKS, _SHAPES, strict=True) if mark in present],
        ),
        legend=alt.Legend(orient="top", title=None),
    )
    layers = [
        means.mark_area(opacity=0.15).encode(
            x=x, y=alt.Y("accuracy_low:Q", scale=scale), y2="accuracy_high:Q", color=series
        ),
        seeds.mark_line(strokeWidth=0.8, opacity=0.5).encode(
            x=x, y=y, detail="seed:N", color=series
        ),
    ]
    if has_training:
        layers.append(
            training.mark_line(strokeWidth=1.6, strokeDash=[5, 3]).encode(
                x=x, y=alt.Y("train_accuracy:Q", title="accuracy, %", scale=scale), color=series
            )
        )
    layers += [
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
    ]
    return alt.layer(*layers)


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


def knobs_chart(data: pl.DataFrame, axes: Sequence[tuple[str, Sequence[str]]]) -> Chart:
    """Draw, at each level of each axis, every setting that trained, and the best of each level.

    Args: data (named knobs): axis, level, setting, accuracy (percent), late (pp), best (of its
        level by accuracy). axes: (title, levels in their order).
    """
    drawn: list[Layers] = []
    for title, levels in axes:
        for name, words in (("accuracy", "accuracy, %"), ("late", "jitter, second half, pp")):
            if not data[name].count():
                continue
            base = (
                alt.Chart(alt.NamedData("knobs"))
                .transform_filter(alt.FieldEqualPredicate(field="axis", equal=title))
                .encode(
                    x=alt.X("level:N", sort=list(levels), title=title, axis=alt.Axis(labelAngle=0)),
                    y=alt.Y(f"{name}:Q", title=words, scale=alt.Scale(zero=False, padding=6)),
                    tooltip=[
                        *tooltips(("setting:N",), ("accuracy:Q", "accuracy, %", ".2f")),
                        *tooltips(("late:Q", "jitter, second half, pp", ".2f")),
                    ],
                )
            )
            best = base.transform_filter("datum.best")
            drawn.append(
                alt.layer(
                    base.mark_point(size=26, color=UNCLEAR, opacity=0.7),
                    best.mark_line(color=OBSERVED, strokeWidth=1.4),
                    best.mark_point(filled=True, size=52, opacity=1, color=OBSERVED),
                ).properties(width=max(120, min(46 * len(levels), 420)), height=150)
            )
    return alt.concat(*drawn, columns=4, spacing=18).resolve_scale(y="independent")
