"""The first screen of a sweep: its answer, what to do, and the picture that shows it.

The picture is static, so that a mail, a printed page and a browser without scripts show it.
"""

from typing import Any, NamedTuple

import altair as alt
import polars as pl

from analysis.answer.settings import Setting
from analysis.answer.sweep import SweepWords, count, names_of, words_of
from analysis.causes.overall import Jitter
from analysis.labels import Outcome
from analysis.page.charts import Layers
from analysis.page.log.drawing import static_svg
from analysis.results import Analysis
from analysis.words import pp

_SET, _NETWORK, _NEUTRAL = "var(--amber)", "var(--blue)", "var(--soft)"
_WIDE, _NARROW = 430, 270  # of the curves, in pixels of the picture
_SEEDS_OPACITY = 0.35
_LEAST_SPAN = 1.0  # pp that the y axis of the curves holds at least
_ROOM = 0.28  # of the longest bar that a part needs for its words
_BOTTOM = 0.02  # share of the epochs that may lie below the y axis: the first ones, above all


class First(NamedTuple):
    """What the template needs. pictures: by width, with a caption; names: of all settings."""

    words: SweepWords
    size: str
    state: str
    wide: str
    narrow: str
    caption: str
    names: dict[str, Setting]


def first_screen(analysis: Analysis) -> First:
    """Write the first screen."""
    names, words = names_of(analysis), words_of(analysis)
    drawn = _drawn(analysis)
    wide, narrow = (_picture(analysis, drawn, names, width) for width in (_WIDE, _NARROW))
    return First(
        words,
        _size(analysis),
        _state(analysis),
        wide,
        narrow,
        _caption(analysis, drawn, names),
        names,
    )


def _size(analysis: Analysis) -> str:
    """`36 settings × 3 seeds · 1,000 training and 797 validation examples`."""
    spec, num = analysis.record["spec"], analysis.points.height
    num_trials = len(analysis.record["trials"])
    grid = "one setting" if num == 1 else f"{num} settings"
    num_seeds = num_trials // num
    if num_trials == num * num_seeds:
        grid += f" × {num_seeds} seed{'s' * (num_seeds != 1)}"
    else:
        grid += f", {num_trials} runs"
    largest = {"training": "n_train", "validation": "n_val"}
    sizes = {word: analysis.trials[name].max() for word, name in largest.items()}
    known = " and ".join(f"{size:,} {word}" for word, size in sizes.items() if size)
    parts = [spec["task"] if spec["task"] != spec["name"] else "", grid]
    return " · ".join(filter(None, [*parts, f"{known} examples" if known else ""]))


def _state(analysis: Analysis) -> str:
    """How many of the planned runs there are, and what became of the others."""
    planned = len(analysis.record["trials"])
    counts = dict(analysis.trials["outcome"].value_counts().iter_rows())
    done = counts.get(Outcome.COMPLETED, 0)
    others = [
        f"{counts[outcome]} {word}"
        for outcome, word in (
            (Outcome.DIVERGED, "diverged"),
            (Outcome.STOPPED, "stopped by the scheduler"),
            (Outcome.FAILED, "failed"),
        )
        if counts.get(outcome)
    ]
    missing = planned - sum(counts.values())
    if missing > 0:
        others.append(f"{missing} not yet trained, so this page is of a part of the sweep")
    if done == planned:
        return f"all {planned} runs completed" if planned > 1 else "the run completed"
    return ", ".join([f"{done} of {planned} runs completed", *others])


def _drawn(analysis: Analysis) -> list[str]:
    """The settings whose curves are drawn: the best, and the calmest or the worst that overfits."""
    found = analysis.overall
    in_order = [*found.matters, *analysis.points["config_id"]]
    seen = set(analysis.trials.drop_nulls("num_epochs")["config_id"])
    best = [name for name in in_order if name in seen][:1]
    second: list[str] = []
    if found.overfits:
        drops = dict(analysis.configurations.select("config_id", "drop").iter_rows())
        second = [max(found.overfits, key=lambda name: drops[name] or 0.0)]
    elif found.calmer:
        second = [found.calmer.config_id]
    return list(dict.fromkeys([*best, *second, *in_order[1:]]))[: min(2, analysis.points.height)]


def _picture(analysis: Analysis, drawn: list[str], names: dict[str, Setting], width: int) -> str:
    parts: list[Any] = []
    bars = _bars(analysis, width)
    if bars is not None:
        parts.append(bars)
    parts += _curves(analysis, drawn, names, width)
    if not parts:
        return ""
    return static_svg(alt.vconcat(*parts, spacing=14))


def _bars(analysis: Analysis, width: int) -> Layers | None:
    """One bar for all epochs and one for the second half: its length is the jitter, its parts are
    the shares of the variance."""
    found = analysis.overall
    rows: list[dict[str, Any]] = []
    longest = 100 * max(one.sd for one in (found.jitter, found.late) if one) if found.jitter else 0
    for words, jitter in (("all epochs", found.jitter), ("second half", found.late)):
        if jitter is not None:
            rows += _parts(words, jitter, longest)
    if not rows:
        return None
    order = list(dict.fromkeys(row["when"] for row in rows))
    y = alt.Y(
        "when:N", sort=order, title=None, axis=alt.Axis(ticks=False, domain=False, minExtent=72)
    )
    base = alt.Chart(alt.InlineData(values=rows))
    scale = alt.Scale(domainMin=0, nice=True)
    x = alt.X(
        "from:Q", title="jitter from epoch to epoch, pp", scale=scale, axis=alt.Axis(tickCount=4)
    )
    return alt.layer(
        base.mark_bar(height=20).encode(
            y=y, x=x, x2="to:Q", color=alt.Color("colour:N", scale=None, legend=None)
        ),
        base.mark_text(align="left", dx=5).encode(
            y=y,
            x=alt.X("from:Q", scale=scale),
            text="text:N",
            color=alt.Color("ink:N", scale=None, legend=None),
        ),
    ).properties(width=width, height=alt.Step(30))


def _parts(when: str, jitter: Jitter, most: float) -> list[dict[str, Any]]:
    length = 100 * jitter.sd
    if jitter.share is None:
        return [{"when": when, "from": 0, "to": length, "colour": _NEUTRAL, "ink": "", "text": ""}]
    cut = length * jitter.share
    parts = [
        (0.0, cut, _SET, "validation set", jitter.share),
        (cut, length, _NETWORK, "optimizer", 1 - jitter.share),
    ]
    return [
        {
            "when": when,
            "from": round(start, 4),
            "to": round(end, 4),
            "colour": colour,
            "ink": "var(--on-amber)" if colour == _SET else "var(--paper)",
            "text": f"{words} {pp(share, 0)} %" if end - start > _ROOM * most else "",
        }
        for start, end, colour, words, share in parts
    ]


def _curves(
    analysis: Analysis, drawn: list[str], names: dict[str, Setting], width: int
) -> list[Any]:
    rows = (
        analysis.epochs.filter(pl.col("config_id").is_in(drawn) & (pl.col("weights_kind") == "raw"))
        .select("config_id", "seed", "epoch", (100 * pl.col("val_accuracy")).alias("accuracy"))
        .drop_nulls("accuracy")
    )
    if not rows.height:
        return []
    num_epochs = int(rows["epoch"].max())  # pyright: ignore[reportArgumentType]
    first = max(1, round(0.15 * num_epochs))
    seen = rows.filter(pl.col("epoch") >= first)
    low, high = (float(seen["accuracy"].quantile(q)) for q in (_BOTTOM, 1.0))  # pyright: ignore[reportArgumentType]
    spare = max((_LEAST_SPAN - (high - low)) / 2, 0.05 * (high - low))
    domain = [max(low - spare, 0.0), min(high + spare, 100.0)]
    halves = [tick / 2 for tick in range(round(2 * domain[0]) + 1, round(2 * domain[1] + 0.5))]
    whole = "datum.value % 1 ? '' : datum.label"
    axis = alt.Axis(tickCount=5, minExtent=72)
    if len(halves) < 9:
        axis = alt.Axis(values=halves, format=".0f", labelExpr=whole, minExtent=72)
    if len(halves) < 4:
        axis = alt.Axis(values=halves, format=".1f", minExtent=72)
    y = alt.Y(
        "accuracy:Q",
        title=None,
        axis=axis,
        scale=alt.Scale(domain=domain, clamp=False, zero=False, nice=False),
    )
    x = alt.X(
        "epoch:Q",
        title=None,
        scale=alt.Scale(domain=[first, num_epochs], nice=False),
        axis=alt.Axis(tickMinStep=1, tickCount=6, grid=False),
    )
    panels: list[Any] = []
    for place, name in enumerate(drawn):
        values = seen.filter(config_id=name).with_columns(pl.col("accuracy").round(2))
        if not values.height:
            continue
        one = values.filter(seed=values["seed"].min()).select("epoch", "accuracy")
        others = values.select("seed", "epoch", "accuracy")
        heading = f"{names[name].letter} · accuracy, %" + (", best score" if place == 0 else "")
        if place and analysis.overall.calmer and name == analysis.overall.calmer.config_id:
            heading += ", calmest that ties with it"
        if place and name in analysis.overall.overfits:
            heading += ", overfits"
        last = place == len(drawn) - 1
        panels.append(
            alt.layer(
                alt.Chart(alt.InlineData(values=others.to_dicts()))
                .mark_line(strokeWidth=1, opacity=_SEEDS_OPACITY, color=_NETWORK, clip=True)
                .encode(x=x.copy().title("epoch") if last else x, y=y, detail="seed:N"),
                alt.Chart(alt.InlineData(values=one.to_dicts()))
                .mark_line(strokeWidth=1.6, color=_NETWORK, clip=True)
                .encode(x=x.copy().title("epoch") if last else x, y=y),
            ).properties(
                width=width,
                height=105,
                title=alt.Title(heading, anchor="start", fontSize=12, color="var(--ink)"),
            )
        )
    return panels


def _caption(analysis: Analysis, drawn: list[str], names: dict[str, Setting]) -> str:
    found = analysis.overall
    where = "of all settings that trained"
    if found.tied:
        where = f"of the {count(len(found.matters))} that tie for best"
    if len(found.matters) == 1:
        where = f"of {names[found.matters[0]].letter}"
    told = [names[name] for name in drawn if names[name].words]
    legend = "; ".join(f"{one.letter}: {one.words}" for one in told)
    curves = "Curves: one seed thick, the others thin; the first epochs are left out."
    split = ", and whose variance it is" if found.jitter and found.jitter.share is not None else ""
    return f"Bars: jitter {where}{split}. {curves}" + (f" {legend}." if legend else "")
