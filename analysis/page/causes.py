"""What explains the differences: variance shares of the knobs, laws of the jitter, probes."""

import math
from collections.abc import Sequence
from typing import Any

import polars as pl

from analysis.causes.attribution import REGRESSION, SUB_GRID
from analysis.causes.averaging import CURVE_FILTER
from analysis.labels import Law
from analysis.page.commands import enough_seeds, more_seeds, run_again
from analysis.page.figures import Figure
from analysis.page.section_charts import shares_chart
from analysis.results import Analysis
from analysis.sources.axes import title
from analysis.stats.ratios import Ratio
from analysis.words import between, capitalized, fixed, interval_text, listed, number, plural, pp

_SHOWN = {
    "pop_var": "the network's own jitter",
    "gap": "gap",
    "drop": "fall from the peak",
    "best_nested": "best score",
    "final_accuracy": "final accuracy",
}
_MIN_SHARE = 0.05  # of the variance: a knob below is not named in a sentence
_MAX_NAMED = 3
_TITLE = "What explains the differences"
_PARTS = {
    "shapley": "with its interactions",
    "effect": "by itself",
    "seed": "seeds",
    "noise": "rest",
}
_LAW = {
    Law.HOLDS: "Yes, within 11 % per doubling of both.",
    Law.DOES_NOT_HOLD: "No: doubling both alike changes it.",
    Law.CANNOT_TELL: "These trials can't tell.",
}
_COMPONENTS = {
    "configuration": "with the configuration",
    "seed": "with the seed",
    "epoch": "from epoch to epoch",
    "validation set": "for having this validation set and no larger one",
}
# What a probe would tell, and the setting that takes it.
_AVERAGED = (
    "averaged weights (what is left of the jitter when the last epochs are averaged)",
    "probes.ema_half_life=2",
)
_GRADIENT = (
    "the gradient noise scale (up to which batch size more examples calm the step)",
    "probes.gradient_noise_every=128",
)
_REPEATED = (
    "a second evaluation of the same weights (whether evaluation itself is random)",
    "probes.repeat_evaluation=true",
)


def causes_figure(analysis: Analysis) -> Figure | None:
    """Draw the shares of the knobs. Returns: None where nothing varies."""
    if not analysis.axes:
        return None
    if len(analysis.axes) == 1:
        return _of_one_knob(analysis)
    attribution = analysis.causes.attribution
    shown = _shown_rows(attribution)
    bars = shown.filter(pl.col("kind") == "shapley")
    panels = _panels(set(bars["response"]))
    responses = [name for name, _ in panels]
    notes = [
        _interaction_sentence(shown, responses),
        *_law_sentences(analysis.causes.jitter_model),
        *_component_sentences(analysis.causes.components),
        *_probe_sentences(analysis),
    ]
    if len(analysis.record["spec"]["seeds"]) == 1:
        notes.append(
            "With one seed per configuration the highest interaction has to stand for the noise, "
            f"so these limits are too narrow if it is real: {more_seeds(analysis)} measures it."
        )
    if not panels:
        reasons = attribution["reason"].drop_nulls().unique(maintain_order=True)
        return Figure(
            name="causes",
            title=_TITLE,
            finding="No share of a knob can be shown.",
            how=f"{capitalized('; '.join(reasons[:2]) or 'too few trials')}. More seeds tell more: "
            f"{more_seeds(analysis)}.",
            notes=notes,
        )
    data = bars.filter(pl.col("response").is_in(responses)).select(
        pl.col("subset").str.replace_all("_", " ").alias("knob"),
        "response",
        *[(pl.col(name) * 100).round(2) for name in ("share", "share_low", "share_high")],
    )
    clear = [f"{capitalized(words)}." for name in responses if (words := _clear_shares(bars, name))]
    return Figure(
        name="causes",
        title=_TITLE,
        finding=clear[0] if clear else "No knob clearly explains a difference.",
        how="Share of the variance between configurations that each knob explains, its part of "
        "all interactions included, so that they add up to 100 % (Shapley), with 95 % limits. An "
        "estimate can fall below zero by chance. A share says how much a knob mattered over the "
        f"levels that were tried, not in which direction. {_method(shown)}",
        description="Bars of the share of the variance that each knob explains, one panel each "
        f"for {', '.join(words for _, words in panels)}.",
        charts=[shares_chart(data, panels, [axis.title for axis in analysis.axes])],
        data={"shares": data},
        table=_table(attribution),
        notes=[*clear[1:], *notes],
    )


def _of_one_knob(analysis: Analysis) -> Figure | None:
    """What the probes found: that the only knob explains all that differs goes without saying."""
    notes = [
        *_law_sentences(analysis.causes.jitter_model),
        *_component_sentences(analysis.causes.components),
        *_probe_sentences(analysis),
    ]
    if not notes:
        return None
    return Figure(
        name="causes",
        title="Why it moves",
        finding=notes[0],
        how="Of the settings that tie for best, or of all that trained.",
        notes=notes[1:],
    )


def _shown_rows(attribution: pl.DataFrame) -> pl.DataFrame:
    """Of each response the rows of one method, the whole grid before a part of it."""
    rank = (
        pl.when(pl.col("method").str.contains(SUB_GRID, literal=True))
        .then(2)
        .when(pl.col("method").str.contains(REGRESSION, literal=True))
        .then(1)
        .otherwise(0)
    )
    ranked = attribution.with_columns(rank.alias("rank"))
    best = (
        ranked.filter((pl.col("kind") == "shapley") & pl.col("share").is_not_null())
        .group_by("response", maintain_order=True)
        .agg(pl.col("rank").min())
    )
    rows = ranked.join(best, on=["response", "rank"], how="semi", maintain_order="left")
    return rows.drop("rank")


def _panels(responses: set[str]) -> list[tuple[str, str]]:
    """(response, title) of what has shares; final accuracy only where no best score has any."""
    left_out = "final_accuracy" if "best_nested" in responses else None
    return [(name, words) for name, words in _SHOWN.items() if name in responses - {left_out}]


def _what(response: str) -> str:
    return _SHOWN[response] if response == "pop_var" else f"the {_SHOWN[response]}"


def _clear_shares(bars: pl.DataFrame, response: str) -> str:
    """`batch size explains 40 % (32 to 48) and ... of how the gap differs`; empty for none."""
    clear = bars.filter(
        (pl.col("response") == response)
        & (pl.col("share_low") > 0)
        & (pl.col("share") >= _MIN_SHARE)
    ).sort("share", descending=True, maintain_order=True)
    if not clear.height:
        return ""
    names = [title(name) for name in clear["subset"].head(_MAX_NAMED)]
    names[0] += " explains"
    shares = clear.select("share", "share_low", "share_high").head(_MAX_NAMED).iter_rows()
    parts = [
        f"{name} {pp(share, 0)} %{between(low, high, 0)}"
        for name, (share, low, high) in zip(names, shares, strict=True)
    ]
    return f"{listed(parts)} of how {_what(response)} differs between configurations"


def _interaction_sentence(shown: pl.DataFrame, responses: Sequence[str]) -> str:
    """Which knobs work on each other, for the responses where that is clear."""
    clear = shown.filter(
        (pl.col("kind") == "effect") & (pl.col("order") > 1) & (pl.col("variance_low") > 0)
    ).sort("variance", descending=True, maintain_order=True)
    largest = clear.unique("response", keep="first", maintain_order=True)
    by_response = {row["response"]: row for row in largest.iter_rows(named=True)}
    parts: list[str] = []
    for response in responses:
        if row := by_response.get(response):
            names = listed([title(name) for name in row["subset"].split(" x ")])
            share = row["share"]
            of_variance = "" if share is None else f", {pp(share, 0)} % of the variance"
            parts.append(f"{_what(response)} ({names}{of_variance})")
    if not parts:
        return "No interaction is clear."
    return (
        f"What one knob does depends on another in {listed(parts)}: read the maps there, not "
        "one knob alone."
    )


def _law_sentences(model: pl.DataFrame) -> list[str]:
    """Doubling the learning rate or the batch, and whether only their ratio counts."""
    estimated = model.drop_nulls(["estimate", "low"])
    if not estimated.height:
        reasons = "; ".join(model["reason"].drop_nulls().unique(maintain_order=True))
        return [
            "How the network's own jitter goes with learning rate and batch size is open: "
            f"{reasons or 'too few trials'}."
        ]
    rows = {row["term"]: row for row in estimated.iter_rows(named=True)}
    doublings: list[str] = []
    for term, other in (("batch_size", "learning_rate"), ("learning_rate", "batch_size")):
        if term in rows:
            at = f" at equal {title(other)}" if other in rows else ""
            doublings.append(
                f"doubling the {title(term)}{at} changes the network's own jitter (SD) by "
                f"{_doubled(rows[term])}"
            )
    sentences: list[str] = []
    if doublings:
        num_trials = estimated["num_trials"][0]
        sentences.append(
            f"{capitalized(' and '.join(doublings))} on average over {num_trials} trials."
        )
    law = rows.get("law")
    if law and law["verdict"]:
        sentences.append(
            "Does it depend only on learning rate over batch size, so that scaling both alike "
            f"leaves it alone? {_LAW[law['verdict']]} Doubling both: {_doubled(law)}."
        )
    return sentences


def _doubled(row: dict[str, Any]) -> str:
    """The change by a power law when its base doubles: `−29 % (−40 to −16)`."""
    change, low, high = (2 ** row[name] - 1 for name in ("estimate", "low", "high"))
    return f"{pp(change, 0)} %{between(low, high, 0)}"


def _component_sentences(components: pl.DataFrame) -> list[str]:
    """How large the differences between configurations, seeds and epochs are, as SDs."""
    variances = dict(components.drop_nulls("variance").select("component", "variance").iter_rows())
    parts = [
        f"{pp(max(variances[name], 0) ** 0.5)} pp {words}"
        for name, words in _COMPONENTS.items()
        if name in variances
    ]
    if len(parts) < 2:
        return []
    return [
        "Among the settings that tie for best, one reading near the end of a run varies (SD) by "
        f"{listed(parts)}."
    ]


def _probe_sentences(analysis: Analysis) -> list[str]:
    """What the probes of the cause found, and which of them were not taken."""
    causes = analysis.causes
    by_probe = {
        _AVERAGED: _averaging_sentences(causes.averaging),
        _GRADIENT: _gradient_sentences(causes.noise_scale),
        _REPEATED: _repeat_sentences(causes.repeats),
    }
    sentences = [sentence for taken in by_probe.values() for sentence in taken]
    sentences += _see_saw_sentences(causes.see_saw)
    missing = [probe for probe, taken in by_probe.items() if not taken]
    if missing:
        options = [word for _, setting in missing for word in ("--set", setting)]
        command = run_again(analysis, *options, "--seeds", str(enough_seeds(analysis)))
        sentences.append(
            "Not recorded, and would tell more of the cause: "
            f"{'; '.join(words for words, _ in missing)}. New trials record them: {command}."
        )
    return sentences


def _averaging_sentences(ratios: pl.DataFrame) -> list[str]:
    sentences: list[str] = []
    for row in ratios.drop_nulls("hf_ratio").iter_rows(named=True):
        names = ("hf_ratio", "hf_ratio_low", "hf_ratio_high")
        ratio, low, high = (None if row[n] is None else max(row[n], 0.0) ** 0.5 for n in names)
        limits = "" if low is None or high is None else f" ({number(low, 2)} to {number(high, 2)})"
        calmer = f"jitter falls to {number(ratio or 0.0, 2)} of what it was{limits}"
        if row["weights_kind"] == CURVE_FILTER:
            sentences.append(f"Judge by the mean of the last epochs: {calmer}.")
            continue
        gain = row["accuracy_gain"]
        accuracy = (
            ""
            if gain is None
            else f", accuracy changes by {pp(gain)} pp"
            + between(row["accuracy_gain_low"], row["accuracy_gain_high"])
        )
        sentences.append(
            f"Averaged weights ({row['weights_kind']}): {calmer}{accuracy} "
            f"(second half of {plural(row['num_trials'], 'run')})."
        )
    return sentences


def _gradient_sentences(noise_scale: pl.DataFrame) -> list[str]:
    scales = noise_scale["noise_scale"].drop_nulls()
    if not len(scales):
        return []
    return [
        f"Batches below about {scales.median():,.0f} examples step mostly on noise (median of "
        f"{plural(len(scales), 'run')})."
    ]


def _repeat_sentences(repeats: pl.DataFrame) -> list[str]:
    num_repeats, num_changed = (
        int(repeats[name].sum() or 0) for name in ("num_repeats", "num_changed")
    )
    if not num_repeats:
        return []
    consequence = ": part of the jitter is the evaluation itself" if num_changed else ""
    return [
        f"Of {num_repeats} evaluations that were repeated, {num_changed or 'none'} gave another "
        f"result{consequence}."
    ]


def _see_saw_sentences(share: Ratio | None) -> list[str]:
    """Whether classes trade places, which accuracy alone does not show."""
    if share is None or not math.isfinite(share.value):
        return []
    value, low, high = (min(x, 1.0) for x in (share.value, share.low, share.high))
    percent = f"{pp(value, 0)} %{between(low, high, 0)}"
    if share.low > 0:
        return [
            "When some classes get better, others get worse: "
            f"{percent} of their movement cancels in accuracy."
        ]
    if share.high < 0:
        times, low, high = (number(1 - x, 1) for x in (share.value, share.high, share.low))
        return [
            f"Classes rise and fall together: accuracy moves with {times} times ({low} to {high}) "
            "the variance that they would give it alone."
        ]
    return [
        f"Whether classes trade places is open: {percent} of what they move by themselves cancels "
        "in accuracy."
    ]


def _method(shown: pl.DataFrame) -> str:
    """How the shares were computed, and why in this way."""
    computed = (
        shown.group_by("method", "reason", maintain_order=True)
        .agg(
            pl.col("num_trials", "num_cells").max(),
            (pl.col("kind") == "shapley").any().alias("is_shown"),
        )
        .filter("is_shown")
    )
    parts = [
        f"{capitalized(method)} of {num_trials} trials in {num_cells} configurations"
        + (f" ({reason})" if reason else "")
        for method, reason, num_trials, num_cells, _ in computed.iter_rows()
    ]
    return f"Method: {'; '.join(dict.fromkeys(parts))}."


def _table(attribution: pl.DataFrame) -> pl.DataFrame:
    return attribution.filter(pl.col("kind").is_in(list(_PARTS))).select(
        pl.col("response").replace(_SHOWN),
        pl.col("subset").str.replace_all("_", " ").alias("knob"),
        pl.when(pl.col("order") > 1)
        .then(pl.lit("interaction"))
        .otherwise(pl.col("kind").replace(_PARTS))
        .alias("part"),
        interval_text("share", "share, %", digits=1),
        fixed(1e4 * pl.col("variance"), 4).alias("variance, pp²"),
        pl.col("method"),
    )
