"""The measures that claims are decided by: each an estimate with its interval, over seeds."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.claims.over_seeds import (
    Estimate,
    leave_one_out,
    log_sd_ratio,
    mean_difference,
    unknown,
)
from analysis.curves import Curves, Floats, curves
from analysis.labels import Outcome
from analysis.measures.jitter import jitter_components, measure_jitter, pool_jitter
from analysis.results import Analysis
from analysis.sources.axes import Axis, label
from analysis.stats.intervals import variance_factors
from analysis.stats.trend import MIN_POINTS, contrast_variance, usable_segments
from raysweep.claims import Claim

_NOT_ENOUGH = "too few epochs of training that has settled"


class Kind(NamedTuple):
    """How a measure is read: words, what no change is, and how much of it is a change."""

    words: str
    is_ratio: bool  # of SDs; else a difference, or a level
    margin: float
    scale: float = 100  # from the frames' unit to the one that is shown
    unit: str = "pp"


KINDS = {
    "jitter": Kind("jitter", True, 0.1),
    "late_jitter": Kind("jitter in the second half of training", True, 0.1),
    "early_jitter": Kind("jitter in the first half of training over that in the second", True, 0.1),
    "averaged_jitter": Kind("jitter of averaged weights over that of raw ones", True, 0.1),
    "set_share": Kind("the validation set's share of the jitter's variance", False, 0.0, 100, "%"),
    "final_accuracy": Kind("accuracy of the last epochs", False, 0.005),
    "kept_accuracy": Kind("accuracy of the weights that are kept", False, 0.005),
    "gap": Kind("training minus validation accuracy", False, 0.005),
    "drop": Kind("fall of the accuracy from its peak", False, 0.005),
    "loss_rise": Kind("rise of the validation loss above its minimum", False, 0.05, 100, "%"),
    "seed_sd": Kind("SD of the final accuracy between seeds", False, 0.0),
    "order_agreement": Kind("pairs of settings that two levels order alike", False, 0.0, 100, "%"),
}


def estimate(claim: Claim, analysis: Analysis) -> Estimate:
    """Estimate what decides a claim; ratios are of SDs, everything else is in the frames' unit."""
    whole = {
        "early_jitter": _early_jitter,
        "averaged_jitter": _averaged_jitter,
        "set_share": _set_share,
        "seed_sd": _seed_sd,
    }
    rows = _rows(claim, analysis)
    if not rows.height:
        return unknown("no trial that it speaks of has completed")
    if claim.measure in whole:
        return whole[claim.measure](rows, analysis)
    if claim.axis is not None and claim.axis not in {axis.name for axis in analysis.axes}:
        return unknown(f"{claim.axis} has one level in this sweep")
    if claim.measure == "order_agreement":
        (axis,) = (axis for axis in analysis.axes if axis.name == claim.axis)
        return _order_agreement(axis, rows, analysis)
    if claim.axis is None and claim.levels is None:
        return _level(claim.measure, rows, analysis)
    return _compared(claim, rows, analysis)


def sides(claim: Claim, analysis: Analysis) -> tuple[dict[str, str], dict[str, str]] | None:
    """Give what a claim compares, labels by axis: the first side, which is what the second is
    compared with. None where it compares no two."""
    axes = {axis.name: axis for axis in analysis.axes}
    if claim.measure == "order_agreement" or (claim.axis is None and claim.levels is None):
        return None
    if claim.axis is None:
        points = [dict(point) for point in claim.levels or ()]
    elif claim.levels is not None:
        points = [{claim.axis: level} for level in claim.levels]
    else:
        ends = axes[claim.axis].levels
        points = [{claim.axis: ends[0]}, {claim.axis: ends[-1]}]
    first, second = (
        {
            name: axes[name].labels[axes[name].levels.index(level)]
            for name, level in point.items()
            if name in axes  # an axis of one level tells nothing apart
        }
        for point in points
    )
    return first, second


def _rows(claim: Claim, analysis: Analysis) -> pl.DataFrame:
    """Completed trials of the levels that a claim holds: the trials' columns, axes as labels."""
    axes = [axis.name for axis in analysis.axes]
    completed = analysis.trials.filter(pl.col("outcome") == Outcome.COMPLETED)
    rows = completed.drop(axes, strict=False).join(
        analysis.points.select("config_id", pl.col(axes).cast(pl.String)),
        on="config_id",
        maintain_order="left",
    )
    given = {name: label(level) for name, level in claim.given.items() if name in axes}
    return rows.filter(**given)


def _compared(claim: Claim, rows: pl.DataFrame, analysis: Analysis) -> Estimate:
    """The second side against the first, paired by seed and by all other axes."""
    compared = sides(claim, analysis)
    assert compared is not None
    named = compared[0].keys() | compared[1].keys()
    others = [axis.name for axis in analysis.axes if axis.name not in named]
    kind = KINDS[claim.measure]
    table = rows.with_columns(_values(claim.measure, rows).alias("value")).drop_nulls("value")
    below, above = (table.filter(**side).select("seed", *others, "value") for side in compared)
    pairs = above.join(below, on=[*others, "seed"], suffix="_below").sort(*others, "seed")
    if not pairs.height:
        return unknown("no seed has both to their end, or the measure is not known there")
    statistic = (log_sd_ratio if kind.is_ratio else mean_difference)(
        pairs["value"].to_numpy(), pairs["value_below"].to_numpy(), _numbers(pairs, others)
    )
    found = leave_one_out(statistic, pairs["seed"].to_numpy())
    return _from_logs(found) if kind.is_ratio else found


def measured_differences(pairs: pl.DataFrame, measures: Sequence[str]) -> pl.DataFrame:
    """Compare pairs of trials by several measures, over seeds.

    Args: pairs: the columns of trials, those of the other side with `_first` at the end, `seed`
        and `key`, which tells the settings apart.
    Returns: measure, words, unit, first, second (means), change, low, high, reason.
    """
    schema = {"measure": pl.String, "words": pl.String, "unit": pl.String}
    schema |= dict.fromkeys(("first", "second", "change", "low", "high"), pl.Float64)
    rows: list[dict[str, Any]] = []
    firsts = pairs.select("seed", pl.col("^.*_first$").name.map(lambda name: name[:-6]))
    for measure in measures:
        kind = KINDS[measure]
        sides = {"second": _values(measure, pairs), "first": _values(measure, firsts)}
        table = pairs.select("seed", "key").with_columns(**sides).drop_nulls()
        second, first = (table[name].to_numpy() for name in sides)
        statistic = (log_sd_ratio if kind.is_ratio else mean_difference)(
            second, first, _numbers(table, ["key"])
        )
        found = leave_one_out(statistic, table["seed"].to_numpy())
        found = _from_logs(found) if kind.is_ratio else found
        means = [float(side.mean()) if len(side) else np.nan for side in (first, second)]
        rows.append(
            {"measure": measure, "words": kind.words, "unit": kind.unit, "reason": found.reason}
            | dict(zip(("change", "low", "high"), found[:3], strict=True))
            | dict(
                zip(("first", "second"), np.sqrt(means) if kind.is_ratio else means, strict=True)
            )
        )
    return pl.DataFrame(rows, schema=schema | {"reason": pl.String}).with_columns(
        pl.col(pl.Float64).fill_nan(None)
    )


def _numbers(rows: pl.DataFrame, columns: list[str]) -> NDArray[np.int64]:
    """Number the rows by their values in some columns, from 0. Returns: (rows,)."""
    if not columns:
        return np.zeros(rows.height, np.int64)
    return (rows.select(pl.struct(columns).rank("dense")).to_series() - 1).to_numpy().astype(int)


def _values(measure: str, rows: pl.DataFrame) -> pl.Series:
    """A measure of each trial; of a jitter the variance."""
    if measure == "jitter":
        return rows["hf_sd"] ** 2
    if measure == "late_jitter":
        return rows["late_hf_sd"] ** 2
    if measure == "drop" and rows["drop_crossfit"].count():
        return rows["drop_crossfit"]  # never beside a naive one, which grows with the jitter
    return rows[measure]


def _from_logs(found: Estimate) -> Estimate:
    value, low, high = (float(np.exp(end)) for end in found[:3])
    return found._replace(value=value, low=low, high=high)


def _level(measure: str, rows: pl.DataFrame, analysis: Analysis) -> Estimate:
    """The measure itself, a mean over configurations of the mean over seeds."""
    values = _values(measure, rows)
    table = rows.select("config_id", "seed", values.alias("value")).drop_nulls("value")
    if not table.height:
        return unknown("it is not known of any trial")
    slices = _numbers(table, ["config_id"])
    numbers = table["value"].to_numpy()
    statistic = mean_difference(numbers, np.zeros(len(numbers)), slices)
    found = leave_one_out(statistic, table["seed"].to_numpy())
    if not KINDS[measure].is_ratio:
        return found
    value, low, high = (float(np.sqrt(max(end, 0.0))) for end in found[:3])
    return found._replace(value=value, low=low, high=high)


def _early_jitter(rows: pl.DataFrame, analysis: Analysis) -> Estimate:
    halves = [_halves(group) for group in _raw(rows, analysis)]
    table = pl.concat(halves).join(rows.select("trial_id", "config_id", "seed"), on="trial_id")
    table = table.drop_nulls().sort("config_id", "seed")
    if not table.height:
        return unknown(_NOT_ENOUGH)
    slices = _numbers(table, ["config_id"])
    statistic = log_sd_ratio(table["early"].to_numpy(), table["late"].to_numpy(), slices)
    return _from_logs(leave_one_out(statistic, table["seed"].to_numpy()))


def _halves(trials: Curves) -> pl.DataFrame:
    """The jitter's variance in each half of the epochs in which training has settled."""
    labels = usable_segments(trials)
    accuracy = np.nan_to_num(trials.val_accuracy)
    place = np.cumsum(labels >= 0, axis=1)
    is_late = place > place[:, -1:] / 2
    columns: dict[str, Any] = {"trial_id": pl.Series(trials.trial_ids, dtype=pl.String)}
    for name, outside in (("early", is_late), ("late", ~is_late)):
        part = np.where(outside, -1, labels)
        variance, _ = contrast_variance(accuracy, part)
        columns[name] = np.where((part >= 0).sum(axis=1) >= MIN_POINTS, variance, np.nan)
    return pl.DataFrame(columns).with_columns(pl.col("early", "late").fill_nan(None))


def _raw(rows: pl.DataFrame, analysis: Analysis) -> Any:
    return curves(analysis.epochs.filter(pl.col("weights_kind") == "raw"), rows.select("trial_id"))


def _averaged_jitter(rows: pl.DataFrame, analysis: Analysis) -> Estimate:
    kinds = analysis.causes.averaging.filter(pl.col("weights_kind") == "ema")
    if not kinds.height or kinds["hf_ratio"][0] is None:
        return unknown("no averaged weights were evaluated")
    row = kinds.row(0, named=True)
    ends = [row["hf_ratio"], row["hf_ratio_low"], row["hf_ratio_high"]]
    ratio, low, high = (np.nan if end is None else float(np.sqrt(max(end, 0.0))) for end in ends)
    return Estimate(ratio, low, high, row["num_trials"], row["reason"])


def _set_share(rows: pl.DataFrame, analysis: Analysis) -> Estimate:
    """All trials pooled; a validation set has one error, which no further seed makes smaller."""
    parts = pl.concat(jitter_components(group) for group in _raw(rows, analysis))
    pooled = measure_jitter(pool_jitter(parts.with_columns(pl.lit("all").alias("by")), "by"))
    row = pooled.row(0, named=True)
    if row["finite_share"] is None:
        return unknown("too few examples changed from right to wrong to tell")
    low, high = row["finite_share_low"], row["finite_share_high"]
    return Estimate(row["finite_share"], low, min(high, 1.0), rows["seed"].n_unique())


def _seed_sd(rows: pl.DataFrame, analysis: Analysis) -> Estimate:
    table = rows.group_by("config_id").agg(
        pl.col("final_accuracy").var(), (pl.col("final_accuracy").count() - 1.0).alias("df")
    )
    table = table.filter(pl.col("df") >= 1)
    if not table.height:
        return unknown("one seed tells nothing of another one", 1)
    df = float(table["df"].sum())
    variance = float(np.average(table["final_accuracy"].to_numpy(), weights=table["df"].to_numpy()))
    low, high = (float(np.sqrt(variance * factor)) for factor in variance_factors(df))
    return Estimate(float(np.sqrt(variance)), low, high, rows["seed"].n_unique())


def _order_agreement(axis: Axis, rows: pl.DataFrame, analysis: Analysis) -> Estimate:
    """How often two levels of the axis put two settings of all other axes in the same order."""
    others = [other.name for other in analysis.axes if other.name != axis.name]
    if not others:
        return unknown(f"only {axis.title} varies, so there are no settings to order")
    means = rows.group_by(axis.name, *others, maintain_order=True).agg(
        pl.col("final_accuracy").mean()
    )
    table = means.pivot(axis.name, index=others, values="final_accuracy").drop(others).drop_nulls()
    scores = table.to_numpy().T  # (levels, settings)
    if scores.shape[0] < 3 or scores.shape[1] < 2:
        return unknown("three levels and two settings that completed in each are needed")
    numbers = np.arange(scores.shape[0])
    found = leave_one_out(lambda kept: _concordance(scores[kept]), numbers, "level")
    return found._replace(low=max(found.low, 0.0), high=min(found.high, 1.0))


def _concordance(scores: Floats) -> float:
    """The share of pairs of settings that a pair of levels orders alike; ties count half."""
    first, second = np.triu_indices(scores.shape[1], 1)
    order: NDArray[Any] = np.sign(scores[:, first] - scores[:, second])
    one, other = np.triu_indices(scores.shape[0], 1)
    return float(np.mean((order[one] * order[other] + 1) / 2))
