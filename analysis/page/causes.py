"""What explains the differences: variance shares of the knobs, laws of the jitter, probes."""

import math
from collections.abc import Sequence

import polars as pl

from analysis.causes.attribution import REGRESSION, SUB_GRID
from analysis.page import section_charts
from analysis.page.commands import more_seeds, num_seeds, run_again
from analysis.page.figures import Figure
from analysis.results import Analysis
from analysis.sources.axes import title
from analysis.stats.ratios import Ratio
from analysis.words import fixed, number, pp, with_limits

SHOWN = {
    "pop_var": "the network's own jitter",
    "gap": "gap",
    "drop": "fall from the peak",
    "best_nested": "best score",
    "final_accuracy": "final accuracy",
}
_MIN_SHARE = 0.05  # of the variance: a knob below is not named in a sentence
_MAX_NAMED = 3
_PROBES = {
    "averaged weights (what is left of the jitter when the last epochs are averaged)": (
        "probes.ema_half_life=2"
    ),
    "the gradient noise scale (up to which batch size more examples calm the step)": (
        "probes.gradient_noise_every=128"
    ),
    "a second evaluation of the same weights (whether evaluation itself is random)": (
        "probes.repeat_evaluation=true"
    ),
}


def shares(attribution: pl.DataFrame) -> pl.DataFrame:
    """The rows to show: of each response one method, the whole grid before a part of it."""
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
    return ranked.join(best, on=["response", "rank"], how="semi", maintain_order="left").drop(
        "rank"
    )


def figure(analysis: Analysis) -> Figure | None:
    """Shares of the knobs; None when nothing varies."""
    if not analysis.axes:
        return None
    shown = shares(analysis.causes.attribution)
    bars = shown.filter(pl.col("kind") == "shapley")
    panels = [(name, words) for name, words in SHOWN.items() if name in set(bars["response"])]
    if ("best_nested", SHOWN["best_nested"]) in panels:
        panels = [panel for panel in panels if panel[0] != "final_accuracy"]
    notes = [
        *interactions(shown, [name for name, _ in panels]),
        *laws(analysis.causes.jitter_model),
        *levels(analysis.causes.components),
        *probes(analysis),
    ]
    if analysis.record["spec"]["seeds"] and len(analysis.record["spec"]["seeds"]) < 2:
        notes.append(
            "With one seed per configuration the highest interaction has to stand for the noise, "
            f"so these limits are too narrow if it is real: {more_seeds(analysis)} measures it."
        )
    if not panels:
        reasons = analysis.causes.attribution["reason"].drop_nulls().unique(maintain_order=True)
        return Figure(
            name="causes",
            title="What explains the differences",
            finding="No knob can be shown to explain anything.",
            how=f"{_sentence('; '.join(reasons[:2]) or 'too few trials')}. More seeds tell more: "
            f"{more_seeds(analysis)}.",
            description="",
            charts=[],
            data={},
            table=pl.DataFrame(),
            notes=notes,
        )
    order = [axis.name for axis in analysis.axes]
    data = bars.filter(pl.col("response").is_in([name for name, _ in panels])).select(
        pl.col("subset").str.replace_all("_", " ").alias("knob"),
        "response",
        *[(pl.col(name) * 100).round(2) for name in ("share", "share_low", "share_high")],
    )
    said = [words for name, _ in panels if (words := _shared(bars, name))]
    return Figure(
        name="causes",
        title="What explains the differences",
        finding=_sentence(said[0]) + "." if said else "No knob clearly explains a difference.",
        how="Share of the variance between configurations that each knob explains, its part of "
        "all interactions included, so that they add up to 100 % (Shapley), with 95 % limits. An "
        "estimate can fall below zero by chance. A share says how much a knob mattered over the "
        f"levels that were tried, not in which direction. {_method(shown)}",
        description="Bars of the share of the variance that each knob explains, one panel each "
        f"for {', '.join(words for _, words in panels)}.",
        charts=[section_charts.shares(data, panels, [title(name) for name in order])],
        data={"shares": data},
        table=_table(analysis.causes.attribution),
        notes=[*[_sentence(words) + "." for words in said[1:]], *notes],
    )


def _shared(bars: pl.DataFrame, response: str) -> str:
    """`batch size explains 40 % (32 to 48) and ... of how the gap differs`."""
    clear = bars.filter(
        (pl.col("response") == response)
        & (pl.col("share_low") > 0)
        & (pl.col("share") >= _MIN_SHARE)
    ).sort("share", descending=True, maintain_order=True)
    if not clear.height:
        return ""
    parts = [
        f"{title(row['subset'])}{' explains' * (place == 0)} {pp(row['share'], 0)} % "
        f"({pp(row['share_low'], 0)} to {pp(row['share_high'], 0)})"
        for place, row in enumerate(clear.head(_MAX_NAMED).iter_rows(named=True))
    ]
    return f"{_listed(parts)} of how {_what(response)} differs between configurations"


def _what(response: str) -> str:
    return SHOWN[response] if response == "pop_var" else f"the {SHOWN[response]}"


def interactions(shown: pl.DataFrame, responses: Sequence[str]) -> list[str]:
    """Which knobs work on each other, for the responses where that is clear."""
    clear = shown.filter(
        (pl.col("kind") == "effect") & (pl.col("order") > 1) & (pl.col("variance_low") > 0)
    ).sort("variance", descending=True, maintain_order=True)
    said: list[str] = []
    for response in responses:
        found = clear.filter(response=response)
        if not found.height:
            continue
        row = found.row(0, named=True)
        names = _listed([title(name) for name in row["subset"].split(" x ")])
        share = f", {pp(row['share'], 0)} % of the variance" if row["share"] is not None else ""
        said.append(f"{_what(response)} ({names}{share})")
    if not said:
        return ["No interaction is clear: each knob seems to do the same whatever the others are."]
    return [
        f"What one knob does depends on another in {_listed(said)}: read the maps there, not "
        "one knob alone."
    ]


def laws(model: pl.DataFrame) -> list[str]:
    """Doubling the learning rate or the batch, and whether only their ratio counts."""
    known = model.drop_nulls(["estimate", "low"])
    if not known.height:
        why = (
            "; ".join(model["reason"].drop_nulls().unique(maintain_order=True)) or "too few trials"
        )
        return [
            f"How the network's own jitter goes with learning rate and batch size is open: {why}."
        ]
    rows = {row["term"]: row for row in known.iter_rows(named=True)}
    said: list[str] = []
    for term, other in (("batch_size", "learning_rate"), ("learning_rate", "batch_size")):
        if term in rows:
            value, low, high = (
                100 * (2 ** rows[term][end] - 1) for end in ("estimate", "low", "high")
            )
            at = f" at equal {title(other)}" if other in rows else ""
            said.append(
                f"doubling the {title(term)}{at} changes the network's own jitter (SD) by "
                f"{number(value, 0)} % ({number(low, 0)} to {number(high, 0)})"
            )
    num = known["num_trials"][0]
    out = [_sentence(" and ".join(said)) + f" on average over {num} trials."] if said else []
    verdict = rows.get("law", {}).get("verdict")
    both = "does it depend only on learning rate over batch size, so that scaling both alike "
    if verdict:
        answer = {
            "holds": "Yes, within 11 % per doubling of both.",
            "does not hold": "No: doubling both alike changes it.",
            "cannot tell": "These trials can't tell.",
        }[verdict]
        value, low, high = (
            100 * (2 ** rows["law"][end] - 1) for end in ("estimate", "low", "high")
        )
        out.append(
            f"{_sentence(both)}leaves it alone? {answer} Doubling both: {number(value, 0)} % "
            f"({number(low, 0)} to {number(high, 0)})."
        )
    return out


def levels(components: pl.DataFrame) -> list[str]:
    """How large the differences between configurations, seeds and epochs are, as SDs."""
    rows = {
        row["component"]: row for row in components.drop_nulls("variance").iter_rows(named=True)
    }
    words = {
        "configuration": "with the configuration",
        "seed": "with the seed",
        "epoch": "from epoch to epoch",
        "validation set": "for having this validation set and no larger one",
    }
    parts = [
        f"{pp(max(rows[name]['variance'], 0) ** 0.5)} pp {said}"
        for name, said in words.items()
        if name in rows
    ]
    if len(parts) < 2:
        return []
    return [f"One reading near the end of one trial varies (SD) by {_listed(parts)}."]


def probes(analysis: Analysis) -> list[str]:
    """What the probes of the cause found, and which of them were not taken."""
    said: list[str] = []
    missing: list[str] = []
    averaged, gradient, repeated = _PROBES
    ratios = analysis.causes.averaging.drop_nulls("hf_ratio")
    for row in ratios.iter_rows(named=True):
        limits = ""
        if row["hf_ratio_low"] is not None:
            limits = f" ({pp(row['hf_ratio_low'], 0)} to {pp(row['hf_ratio_high'], 0)})"
        gain = (
            ""
            if row["accuracy_gain"] is None
            else (
                f", and their accuracy is {pp(abs(row['accuracy_gain']))} pp "
                f"{'below' if row['accuracy_gain'] < 0 else 'above'} that of the raw ones"
            )
        )
        said.append(
            f"Weights of kind “{row['weights_kind']}” jitter with "
            f"{pp(row['hf_ratio'], 0)} %{limits} of the variance of the raw ones{gain} "
            f"({row['num_trials']} trials)."
        )
    if not ratios.height:
        missing.append(averaged)
    scales = analysis.causes.noise_scale["noise_scale"].drop_nulls()
    if len(scales):
        said.append(
            f"Gradient noise scale: {scales.median():,.0f} examples in the median of {len(scales)} "
            "trials; batches far below it step mostly on noise."
        )
    else:
        missing.append(gradient)
    again = analysis.causes.repeats
    num_repeats = int(again["num_repeats"].sum() or 0)
    if num_repeats:
        changed = int(again["num_changed"].sum() or 0)
        said.append(
            f"Of {num_repeats} evaluations that were repeated, {changed or 'none'} gave another "
            "result" + (": part of the jitter is the evaluation itself." if changed else ".")
        )
    else:
        missing.append(repeated)
    said += see_saw(analysis.causes.see_saw)
    if missing:
        options = [word for words in missing for word in ("--set", _PROBES[words])]
        seeds = str(max(3, 2 * num_seeds(analysis)))
        said.append(
            f"Not recorded, and would tell more of the cause: {'; '.join(missing)}. New trials "
            f"record them: {run_again(analysis, *options, '--seeds', seeds)}."
        )
    return said


def see_saw(share: Ratio | None) -> list[str]:
    """Whether classes trade places, which accuracy alone does not show."""
    if share is None or not math.isfinite(share.value):
        return []
    limits = f"{pp(share.low, 0)} to {pp(share.high, 0)}"
    if share.low > 0:
        return [
            f"Classes trade places: {pp(share.value, 0)} % ({limits}) of what they move by "
            "themselves cancels in accuracy, so the data pull the network to and fro."
        ]
    if share.high < 0:
        times, low, high = (number(1 - x, 1) for x in (share.value, share.high, share.low))
        return [
            f"Classes rise and fall together: accuracy moves with {times} times ({low} to {high}) "
            "the variance that classes moving by themselves would give it, so it is the whole "
            "network that moves."
        ]
    return [
        f"Whether classes trade places is open: {pp(share.value, 0)} % ({limits}) of what they "
        "move by themselves cancels in accuracy."
    ]


def _method(shown: pl.DataFrame) -> str:
    """How the shares were computed, and why in this way."""
    rows = shown.filter(pl.col("kind") == "shapley").unique(
        ["method", "reason"], maintain_order=True
    )
    said: list[str] = []
    for method, reason in rows.select("method", "reason").iter_rows():
        about = shown.filter(
            (pl.col("method") == method) & pl.col("reason").eq_missing(pl.lit(reason))
        )
        counts = about.select(pl.col("num_cells").max(), pl.col("num_trials").max()).row(0)
        said.append(
            f"{_sentence(method)} of {counts[1]} trials in {counts[0]} configurations"
            + (f" ({reason})" if reason else "")
        )
    return "Method: " + "; ".join(dict.fromkeys(said)) + "."


def _table(attribution: pl.DataFrame) -> pl.DataFrame:
    kept = attribution.filter(pl.col("kind").is_in(["shapley", "effect", "seed", "noise"]))
    percent = [fixed(100 * pl.col("share" + end), 1) for end in ("", "_low", "_high")]
    kinds = {
        "shapley": "with its interactions",
        "effect": "by itself",
        "seed": "seeds",
        "noise": "rest",
    }
    return kept.select(
        pl.col("response").replace(SHOWN),
        pl.col("subset").str.replace_all("_", " ").alias("knob"),
        pl.when(pl.col("order") > 1)
        .then(pl.lit("interaction"))
        .otherwise(pl.col("kind").replace(kinds))
        .alias("part"),
        with_limits(*percent).alias("share, %"),
        fixed(1e4 * pl.col("variance"), 4).alias("variance, pp²"),
        pl.col("method"),
    )


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
