"""Charts of what pools all trials: best scores, shares of the knobs, stopping rules, set sizes.

As in analysis.page.charts: data come by name, a frame passed in is read for its levels only.
"""

from collections.abc import Sequence

import altair as alt
import polars as pl

from analysis.page.charts import (
    BEST,
    FINITE,
    OBSERVED,
    UNCLEAR,
    Chart,
    Layers,
    interval_tooltips,
    names_axis,
    tooltips,
)

RULES = ("patience 10 on the loss", "best at what it saves", "other rules")
_RULE_LOOKS = ((FINITE, "diamond"), (OBSERVED, "circle"), (UNCLEAR, "circle"))
_WIDTH = 560


def scores_chart(data: pl.DataFrame, best: float) -> Chart:
    """Draw the score of each configuration with limits, the naive one beside it, and the winner's.

    Args: data (named scores): point in the order to show, score_nested, score_nested_low,
        score_nested_high, score_naive (percent), tied. best: the winner's own score, percent.
    """
    fields = ("score_nested", "score_nested_low", "score_nested_high")
    base = alt.Chart(alt.NamedData("scores")).encode(
        y=alt.Y("point:N", sort=data["point"].to_list(), axis=names_axis()),
        tooltip=[
            *tooltips(("point:N", "configuration")),
            *interval_tooltips("accuracy at the best epoch, %", fields),
            *tooltips(("score_naive:Q", "naive, %", ".2f"), ("tied:N", "tied with the best")),
        ],
    )
    scale = alt.Scale(zero=False, padding=8)
    words = "accuracy, %"
    colour = alt.when("datum.tied").then(alt.value(OBSERVED)).otherwise(alt.value(UNCLEAR))
    nested, low, naive = (
        alt.X(f"{name}:Q", title=words, scale=scale) for name in (*fields[:2], "score_naive")
    )
    return (
        alt.layer(
            alt.Chart(alt.NamedData("scores"))
            .mark_rule(strokeDash=[4, 3], color=BEST)
            .encode(x=alt.XDatum(round(best, 3), scale=scale)),
            base.mark_rule(strokeWidth=1.6).encode(x=low, x2="score_nested_high:Q", color=colour),
            base.mark_point(filled=True, size=46, opacity=1).encode(x=nested, color=colour),
            base.mark_point(shape="diamond", filled=False, size=40, color=FINITE).encode(x=naive),
        )
        .properties(width=_WIDTH, height=alt.Step(20))
        .resolve_scale(x="shared")
    )


def larger_sets_chart(data: pl.DataFrame, floor: float) -> Chart:
    """Draw the expected jitter by the size of the validation set, down to the network's own.

    Args: data (named larger): num_val, jitter, jitter_low, jitter_high (pp). floor: the network's
        own jitter, pp.
    """
    sizes = data["num_val"].to_list()
    base = alt.Chart(alt.NamedData("larger"))
    x = alt.X(
        "num_val:Q",
        title="validation examples (the first: as measured)",
        scale=alt.Scale(type="log", domain=[sizes[0], sizes[-1]], nice=False, padding=8),
        axis=alt.Axis(values=sizes, format=",d"),
    )
    words = "jitter (SD), pp"
    line = base.encode(
        x=x,
        y=alt.Y("jitter:Q", title=words, scale=alt.Scale(zero=True)),
        tooltip=[
            *tooltips(("num_val:Q", "validation examples", ",d")),
            *interval_tooltips(words, ("jitter", "jitter_low", "jitter_high")),
        ],
    )
    return alt.layer(
        base.mark_area(opacity=0.15, color=OBSERVED).encode(
            x=x, y=alt.Y("jitter_low:Q", title=words), y2="jitter_high:Q"
        ),
        base.mark_rule(strokeDash=[4, 3], color=FINITE).encode(y=alt.YDatum(round(floor, 4))),
        line.mark_line(strokeWidth=2, color=OBSERVED),
        line.mark_point(filled=True, size=52, opacity=1, color=OBSERVED),
    ).properties(width=_WIDTH, height=200)


def shares_chart(
    data: pl.DataFrame, panels: Sequence[tuple[str, str]], order: Sequence[str]
) -> Chart:
    """Draw the share of each knob with limits, one panel a response.

    Args: data (named shares): knob, response, share, share_low, share_high (percent). panels:
        (response, title); order: the knobs from top to bottom.
    """
    highest = [float(value) for value in data["share_high"].drop_nulls()]
    lowest = [float(value) for value in data["share_low"].drop_nulls()]
    scale = alt.Scale(
        domain=[max(min([0.0, *lowest]), -20.0), min(max([50.0, *highest]), 120.0)], nice=True
    )
    fields = ("share", "share_low", "share_high")
    drawn: list[Layers] = []
    for name, words in panels:
        base = (
            alt.Chart(alt.NamedData("shares"))
            .transform_filter(alt.FieldEqualPredicate(field="response", equal=name))
            .encode(
                y=alt.Y("knob:N", sort=list(order), axis=names_axis(not drawn)),
                tooltip=[
                    *tooltips(("knob:N",)),
                    *interval_tooltips(f"{words}: share, %", fields, ".1f"),
                ],
            )
        )
        heading = alt.Title(words, anchor="start", fontSize=12)
        x = alt.X("share:Q", title="share, %", scale=scale, axis=alt.Axis(tickCount=4))
        drawn.append(
            alt.layer(
                base.mark_bar(color=OBSERVED, opacity=0.55, height=11, clip=True).encode(x=x),
                base.mark_rule(strokeWidth=1.8, clip=True).encode(
                    x=alt.X("share_low:Q", title="share, %", scale=scale), x2="share_high:Q"
                ),
            ).properties(width=190, height=alt.Step(26), title=heading)
        )
    return alt.hconcat(*drawn, spacing=16).resolve_scale(y="shared")


def rules_chart(data: pl.DataFrame) -> Chart:
    """Draw epochs saved against accuracy lost, a dot per rule, limits where no rule beats it.

    Args: data (named rules): rule, saved_share, regret, regret_low, regret_high (percent and pp),
        mean_stop_epoch, kind (one of RULES).
    """
    present = set(data["kind"])
    looks = {kind: look for kind, look in zip(RULES, _RULE_LOOKS, strict=True) if kind in present}
    colours, shapes = (
        alt.Scale(domain=list(looks), range=[look[part] for look in looks.values()])
        for part in (0, 1)
    )
    legend = alt.Legend(orient="top", title=None, symbolOpacity=1)
    colour = alt.Color("kind:N", scale=colours, legend=legend)
    base = alt.Chart(alt.NamedData("rules"))
    words = "accuracy lost, pp"
    x = alt.X("saved_share:Q", title="epochs saved, %", scale=alt.Scale(padding=8))
    return alt.layer(
        base.mark_rule(strokeDash=[3, 3], opacity=0.7).encode(y=alt.YDatum(0)),
        base.transform_filter(f"datum.kind !== '{RULES[2]}'")
        .mark_rule(strokeWidth=1.2, opacity=0.6)
        .encode(x=x, y=alt.Y("regret_low:Q", title=words), y2="regret_high:Q", color=colour),
        base.mark_point(filled=True, size=44, opacity=0.9).encode(
            x=x,
            y=alt.Y("regret:Q", title=words),
            color=colour,
            shape=alt.Shape("kind:N", scale=shapes, legend=legend),
            tooltip=[
                *tooltips(("rule:N",), ("saved_share:Q", "epochs saved, %", ".1f")),
                *interval_tooltips(words, ("regret", "regret_low", "regret_high")),
                *tooltips(("mean_stop_epoch:Q", "mean last epoch", ".1f")),
            ],
        ),
    ).properties(width=_WIDTH, height=260)
