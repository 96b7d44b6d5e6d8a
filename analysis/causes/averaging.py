"""Probes of the cause: what averaged weights do to the jitter, whether an evaluation repeats
itself, and whether classes trade places."""

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.curves import Curves, Floats, curves, padded
from analysis.measures.decomposition import MIN_EXAMPLES, block_gram, split_of_blocks
from analysis.stats.ratios import MIN_PAIRS, Ratio, ratio_of_means
from analysis.stats.trend import (
    MIN_POINTS,
    SECOND,
    contrast_variance,
    contrasts,
    over_trace,
    usable_segments,
    valid_contrasts,
)

Labels = NDArray[np.int64]
RAW = "raw"
CURVE_FILTER = "raw, curve averaged"  # R_0: the same average, of the raw curve's points

RATIOS = {
    "weights_kind": pl.String,  # as recorded, or CURVE_FILTER
    # Variance of this kind's jitter over that of the raw weights, same trials and epochs.
    "hf_ratio": pl.Float64,
    "hf_ratio_low": pl.Float64,
    "hf_ratio_high": pl.Float64,
    "pop_ratio": pl.Float64,  # of the population parts
    "pop_ratio_low": pl.Float64,
    "pop_ratio_high": pl.Float64,
    "finite_ratio": pl.Float64,  # of the finite-set parts
    "finite_ratio_low": pl.Float64,
    "finite_ratio_high": pl.Float64,
    "accuracy_gain": pl.Float64,  # mean accuracy minus that of raw weights, a fraction
    "num_trials": pl.Int64,
    "reason": pl.String,
}


def averaging_ratios(
    raw: pl.DataFrame, averaged: pl.DataFrame, half_life: float | None = None
) -> pl.DataFrame:
    """What each kind of weights does to the jitter, over all trials; columns as RATIOS.

    Beside them stands what the same average of the raw curve would do: a low ratio shows what
    averaging buys, and is no proof of a cause.

    Args: raw: epochs of raw weights, as read_store gives them; averaged: of all other kinds;
        half_life: of the averaged weights, in epochs; None leaves CURVE_FILTER out.
    """
    per_trial = _per_trial(raw, averaged, half_life)
    rows = [
        _ratios(kind, per_trial.filter(weights_kind=kind))
        for kind in per_trial["weights_kind"].unique(maintain_order=True)
    ]
    return pl.DataFrame(rows, schema=RATIOS)


_PER_TRIAL = {
    "trial_id": pl.String,
    "weights_kind": pl.String,
    "df": pl.Float64,
    "hf": pl.Float64,
    "finite": pl.Float64,
    "raw_hf": pl.Float64,
    "raw_finite": pl.Float64,
    "gain": pl.Float64,
}


def _per_trial(raw: pl.DataFrame, averaged: pl.DataFrame, half_life: float | None) -> pl.DataFrame:
    """Variances of each kind beside those of the raw weights on the same epochs."""
    others = averaged.partition_by("weights_kind", as_dict=True, maintain_order=True)
    found: dict[str, list[pl.DataFrame]] = {str(kind): [] for (kind,) in sorted(others)}
    if half_life is not None:
        found[CURVE_FILTER] = []
    for group in curves(raw):
        labels = usable_segments(group)
        ids = pl.Series(group.trial_ids, dtype=pl.String)
        for (kind,), rows in sorted(others.items()):
            there = rows.filter(pl.col("trial_id").is_in(ids.implode()))
            kept = there.filter(pl.col("epoch") <= group.num_epochs)
            if kept.height:
                other = padded(kept, ids, group.num_epochs)
                found[str(kind)].append(_beside(str(kind), other, group, labels))
        if half_life is not None:
            smooth = _smoothed(group, half_life)
            found[CURVE_FILTER].append(_beside(CURVE_FILTER, smooth, group, labels))
    parts = [part for kind in found.values() for part in kind]
    return pl.concat([pl.DataFrame(schema=_PER_TRIAL), *parts])


def _beside(kind: str, other: Curves, raw: Curves, labels: Labels) -> pl.DataFrame:
    labels = np.where(np.isfinite(other.val_accuracy), labels, -1)
    used = labels >= 0
    enough = used.sum(axis=1) >= MIN_POINTS
    (hf, finite), (raw_hf, raw_finite) = _variances(other, labels), _variances(raw, labels)
    df = contrast_variance(np.zeros_like(raw.val_accuracy), labels)[1]
    gain = np.where(used, other.val_accuracy - raw.val_accuracy, 0.0).sum(axis=1)
    columns = {
        "df": df,
        "hf": hf,
        "finite": finite,
        "raw_hf": raw_hf,
        "raw_finite": raw_finite,
        "gain": gain / np.maximum(used.sum(axis=1), 1),
    }
    frame = pl.DataFrame({"trial_id": raw.trial_ids, "weights_kind": kind, **columns})
    return frame.filter(pl.Series(enough)).cast(_PER_TRIAL)  # pyright: ignore[reportArgumentType]


def _variances(trials: Curves, labels: Labels) -> tuple[Floats, Floats]:
    """Jitter and its finite-set part, (N,) each."""
    variance, df = contrast_variance(np.nan_to_num(trials.val_accuracy), labels)
    if not trials.block_accuracy.shape[2]:
        return variance, np.full(len(variance), np.nan)
    gram = block_gram(np.nan_to_num(trials.block_accuracy), trials.block_weight, labels)
    finite = split_of_blocks(gram, trials.block_weight, df).finite_var
    return variance, np.where(trials.val_n >= MIN_EXAMPLES, finite, np.nan)


def _smoothed(trials: Curves, half_life: float) -> Curves:
    """Each epoch the exponentially weighted mean of itself and all before, of curve and blocks."""
    T = trials.num_epochs
    age = np.arange(T)[:, None] - np.arange(T)
    weight = np.where(age >= 0, 0.5 ** (np.maximum(age, 0) / half_life), 0.0)
    there = np.isfinite(trials.val_accuracy).astype(float)
    below = np.where(there > 0, there @ weight.T, np.nan)  # nothing where the epoch is missing
    blocks = weight @ np.nan_to_num(trials.block_accuracy)
    return Curves.of_accuracy(
        np.nan_to_num(trials.val_accuracy) @ weight.T / below,
        trial_ids=trials.trial_ids,
        val_n=trials.val_n,
        block_accuracy=blocks / below[:, :, None],
        block_weight=trials.block_weight,
    )


def _ratios(kind: str, rows: pl.DataFrame) -> dict[str, object]:
    df, hf, finite, raw_hf, raw_finite, gain = (
        rows[name].to_numpy() for name in list(_PER_TRIAL)[2:]
    )
    row: dict[str, object] = {"weights_kind": kind, "num_trials": rows.height}
    row["accuracy_gain"] = float(np.average(gain, weights=df)) if rows.height else None
    pairs = {
        "hf": (hf, raw_hf),
        "pop": (hf - finite, raw_hf - raw_finite),
        "finite": (finite, raw_finite),
    }
    for name, (above, below) in pairs.items():
        told = ratio_of_means(above, below, df)
        row |= _finite(name, told)
        if name != "pop" and told.num < MIN_PAIRS and np.nansum(df * below) > 0:
            # A variance cannot be 0 by chance, so one trial has a ratio; only limits need several.
            row[f"{name}_ratio"] = float(np.nansum(df * above) / np.nansum(df * below))
    reasons: list[str] = []
    if rows.height < MIN_PAIRS:
        reasons.append(f"{rows.height} trials: limits need {MIN_PAIRS}")
    elif not np.isfinite(finite).any():
        reasons.append("the finite-set part is unknown")
    elif row["pop_ratio"] is None:
        reasons.append("the raw weights' own part is not clearly above 0")
    row["reason"] = "; ".join(reasons) or None
    return row


def _finite(name: str, told: Ratio) -> dict[str, object]:
    values = {"": told.value, "_low": told.low, "_high": told.high}
    return {f"{name}_ratio{end}": x if np.isfinite(x) else None for end, x in values.items()}


# --- the same weights evaluated twice


def repeats(epochs: pl.DataFrame) -> pl.DataFrame:
    """Whether a second evaluation of the same weights agreed with the first.

    Any change is a bug: dropout or batch norm in train mode, or random augmentation.

    Returns: trial_id, weights_kind, num_repeats, num_changed, largest_change (examples), reason.
    """
    change = (pl.col("repeat_correct") - pl.col("val_correct")).abs()
    table = epochs.group_by("trial_id", "weights_kind").agg(
        change.count().cast(pl.Int64).alias("num_repeats"),
        (change > 0).sum().cast(pl.Int64).alias("num_changed"),
        change.max().cast(pl.Int64).alias("largest_change"),
    )
    words = (
        pl.when(pl.col("num_repeats") == 0)
        .then(pl.lit("no evaluation was repeated"))
        .when(pl.col("num_changed") > 0)
        .then(pl.lit("the same weights were evaluated twice and differed: evaluation is random"))
    )
    return table.sort("trial_id", "weights_kind").with_columns(words.alias("reason"))


# --- classes

SEE_SAW = {
    "trial_id": pl.String,
    "num_classes": pl.Int64,
    "hf_var": pl.Float64,  # of accuracy: the classes' weighted movements together
    "class_var": pl.Float64,  # the sum of the classes' own variances, each times its squared weight
    "class_covariance": pl.Float64,  # hf_var - class_var: below 0 where classes trade places
    "finite_var": pl.Float64,
    "hf_df": pl.Float64,
}


def class_see_saw(epochs: pl.DataFrame) -> pl.DataFrame:
    """Movement of accuracy against that of its classes, per trial; columns as SEE_SAW.

    Different examples make up different classes, so the finite set adds to the classes' variances
    and nothing to their covariance.

    Args: epochs: of raw weights, with val_class_n and val_class_correct; trials without them are
        left out.
    """
    parts = [pl.DataFrame(schema=SEE_SAW)]
    for group, moved in _class_movements(epochs):
        labels = usable_segments(group)
        enough = (labels >= 0).sum(axis=1) >= MIN_POINTS
        valid = valid_contrasts(labels, len(SECOND))
        Y = np.where(valid[:, :, None], contrasts(np.nan_to_num(moved), SECOND), 0.0)
        own = over_trace((Y**2).sum(axis=(1, 2)), valid, SECOND)
        together = over_trace((Y.sum(axis=2) ** 2).sum(axis=1), valid, SECOND)
        df = contrast_variance(np.nan_to_num(group.val_accuracy), labels)[1]
        columns = {
            "hf_var": together,
            "class_var": own,
            "class_covariance": together - own,
            "finite_var": _variances(group, labels)[1],
            "hf_df": df,
        }
        frame = pl.DataFrame(
            {"trial_id": group.trial_ids, "num_classes": moved.shape[2], **columns}
        )
        parts.append(frame.filter(pl.Series(enough)).cast(SEE_SAW))  # pyright: ignore[reportArgumentType]
    return pl.concat(parts).with_columns(pl.col(pl.Float64).fill_nan(None))


def see_saw_share(trials: pl.DataFrame) -> Ratio:
    """How much of the classes' own movement cancels in accuracy: 1 all, 0 none; below 0, classes
    move together and add up.

    Args: trials: as class_see_saw, of trials to be pooled.
    """
    own = trials["class_var"] - trials["finite_var"]
    return ratio_of_means(
        -trials["class_covariance"].to_numpy(),
        own.cast(pl.Float64).to_numpy(),
        trials["hf_df"].to_numpy(),
    )


def _class_movements(epochs: pl.DataFrame) -> Iterator[tuple[Curves, Floats]]:
    """Curves and, per epoch and class, its part of accuracy: correct of the class over all n."""
    told = epochs.drop_nulls("val_class_correct")
    told = told.with_columns(pl.col("val_class_correct").list.len().alias("num_classes"))
    for _, same in told.group_by("num_classes", maintain_order=True):
        for group in curves(same):
            ids = pl.DataFrame({"trial_id": group.trial_ids}).with_row_index("row")
            rows = same.join(ids, on="trial_id", how="inner", maintain_order="left")
            C = int(rows["num_classes"][0])
            correct = rows["val_class_correct"].explode().to_numpy().reshape(-1, C)
            total = rows["val_class_n"].explode().to_numpy().reshape(-1, C).sum(axis=1)
            moved = np.full((len(group.trial_ids), group.num_epochs, C), np.nan)
            place = rows["row"].to_numpy(), rows["epoch"].to_numpy() - 1
            moved[place] = correct / total[:, None]
            yield group, moved
