"""Why accuracy moves and what limits it, over a whole sweep: every question that pools trials."""

from typing import Any, NamedTuple

import polars as pl

from analysis.causes.attribution import attribute
from analysis.causes.averaging import RAW, averaging_ratios, class_see_saw, repeats, see_saw_share
from analysis.causes.components import variance_components
from analysis.causes.gradient_noise import noise_scales
from analysis.causes.jitter_model import phase_variances, regress
from analysis.causes.ranking import Winner, ranking
from analysis.causes.replay import replay, replayable
from analysis.curves import curves
from analysis.labels import Outcome
from analysis.stats.ratios import Ratio

# What the axes are asked to explain; a column of the trials each.
_RESPONSES = ("pop_var", "gap", "drop", "best_nested", "final_accuracy")


class Causes(NamedTuple):
    """One frame per question; their columns are the SCHEMA of the module that answers.

    attribution: variance shares of the axes, for each of _RESPONSES (attribution)
    jitter_model: exponents of learning rate and batch size, ratios of levels (jitter_model)
    components: variance between configurations, seeds, epochs (components)
    noise_scale: gradient noise scale per trial (gradient_noise)
    averaging: jitter of averaged weights over that of raw ones (averaging)
    repeats: second evaluations of the same weights (averaging)
    see_saw: how much of the classes' own movement cancels in accuracy (averaging); None
        where the classes were not counted
    stopping: early-stopping rules replayed (replay)
    ranking: configurations from the best (ranking), and the winner
    matters: config_ids of those that trained and tie with the best, which comes first; components,
        averaging and see_saw are of these alone
    tied: whether it is known which tie; otherwise all that trained matter
    """

    attribution: pl.DataFrame
    jitter_model: pl.DataFrame
    components: pl.DataFrame
    noise_scale: pl.DataFrame
    averaging: pl.DataFrame
    repeats: pl.DataFrame
    see_saw: Ratio | None
    stopping: pl.DataFrame
    ranking: pl.DataFrame
    winner: Winner | None
    matters: tuple[str, ...]
    tied: bool


def causes(
    record: dict[str, Any],
    trials: pl.DataFrame,
    epochs: pl.DataFrame,
    raw: pl.DataFrame,
    points: pl.DataFrame,
    axes: list[str],
    trained: pl.Series,
    classes: pl.DataFrame | None = None,
) -> Causes:
    """Ask every question that pools trials.

    Args: record: the sweep's own; trials: finished ones with their estimates; epochs: of all kinds
        of weights; raw: those of raw weights of completed trials; points: config_id and a label per
        axis; axes: their names; trained: config_ids of those in which every seed trained; classes:
        trial_id, epoch, val_class_n, val_class_correct where they are known.
    """
    completed = trials.filter(pl.col("outcome") == Outcome.COMPLETED)
    pairs = completed.select("trial_id", "config_id")
    ranked, winner = ranking(curves(raw), dict(pairs.iter_rows()))
    matters, tied = _matters(ranked, trained)
    good = pairs.filter(pl.col("config_id").is_in(matters))
    raw_good = raw.join(good, on="trial_id", how="semi", maintain_order="left")
    whole, censored = replayable(completed.filter(pl.col("config_id").is_in(trained.implode())))
    averaged = epochs.filter(pl.col("weights_kind") != RAW).join(
        good, on="trial_id", how="semi", maintain_order="left"
    )
    probes = record["spec"].get("probes") or {}
    return Causes(
        attribution=_attribution(record, trials, points, axes),
        jitter_model=_jitter_model(raw, completed, points, axes),
        components=variance_components(raw_good, good),
        noise_scale=noise_scales(raw),
        averaging=averaging_ratios(raw_good, averaged, probes.get("ema_half_life")),
        repeats=repeats(epochs),
        see_saw=_see_saw(raw_good, classes),
        stopping=replay(curves(raw, whole), censored=censored),
        ranking=ranked,
        winner=winner,
        matters=matters,
        tied=tied,
    )


def _matters(ranked: pl.DataFrame, trained: pl.Series) -> tuple[tuple[str, ...], bool]:
    """Those that trained and tie with the best, and whether that is known; else all that trained,
    or all there are."""
    in_order = ranked["config_id"].to_list()
    kept = set(trained) or set(in_order)
    tied = ranked.filter(pl.col("tied_with_best").fill_null(value=False))["config_id"].to_list()
    known = [name for name in tied if name in kept]
    return tuple(known or [name for name in in_order if name in kept]), bool(known)


def _see_saw(raw: pl.DataFrame, classes: pl.DataFrame | None) -> Ratio | None:
    if classes is None or not classes["val_class_correct"].count():
        return None
    on = ["trial_id", "epoch"]
    return see_saw_share(
        class_see_saw(raw.join(classes, on=on, how="inner", maintain_order="left"))
    )


def _attribution(
    record: dict[str, Any], trials: pl.DataFrame, points: pl.DataFrame, axes: list[str]
) -> pl.DataFrame:
    planned = pl.DataFrame(
        record["trials"],
        schema={"trial_id": pl.String, "config_id": pl.String, "seed": pl.Int64},
        orient="row",
    ).unique(["config_id", "seed"], keep="first", maintain_order=True)
    table = planned.join(
        points.select("config_id", *axes), on="config_id", how="left", maintain_order="left"
    ).join(trials.select("trial_id", *_RESPONSES), on="trial_id", how="left", maintain_order="left")
    return pl.concat([attribute(table, axes, response) for response in _RESPONSES])


def _jitter_model(
    raw: pl.DataFrame, completed: pl.DataFrame, points: pl.DataFrame, axes: list[str]
) -> pl.DataFrame:
    factors = [name for name in axes if name not in ("learning_rate", "batch_size")]
    batch_size = [name for name in completed.columns if name == "batch_size"]
    table = completed.select("trial_id", "config_id", *batch_size).join(
        points.select("config_id", *factors), on="config_id", how="left", maintain_order="left"
    )
    phases = pl.concat([phase_variances(group) for group in curves(raw)])
    return regress(phases, table.drop("config_id"), factors)
