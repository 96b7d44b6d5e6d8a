"""Probes of the cause: what averaged weights do to the jitter, whether an evaluation repeats
itself, and whether classes trade places."""

import itertools
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
    "accuracy_gain": pl.Float64,  # mean accuracy minus that of raw weights, a fraction
    "num_trials": pl.Int64,
    "reason": pl.String,  # why there are no limits
}
_PER_TRIAL = {
    "trial_id": pl.String,
    "weights_kind": pl.String,
    "df": pl.Float64,
    "hf": pl.Float64,
    "raw_hf": pl.Float64,
    "gain": pl.Float64,
}


def averaging_ratios(
    raw: pl.DataFrame, averaged: pl.DataFrame, half_life: float | None = None
) -> pl.DataFrame:
    """Compare the jitter of each kind of weights with that of the raw ones, over all trials.

    Beside them stands what the same average of the raw curve would do: a low ratio shows what
    averaging buys, and is no proof of a cause.

    Args: raw: epochs of raw weights, as read_store gives them; averaged: of all other kinds;
        half_life: of the averaged weights, in epochs; None leaves CURVE_FILTER out.
    Returns: columns as RATIOS, a row per kind.
    """
    per_trial = _per_trial(raw, averaged, half_life)
    rows = [
        _ratios(kind, per_trial.filter(weights_kind=kind))
        for kind in per_trial["weights_kind"].unique(maintain_order=True)
    ]
    return pl.DataFrame(rows, schema=RATIOS)


def _per_trial(raw: pl.DataFrame, averaged: pl.DataFrame, half_life: float | None) -> pl.DataFrame:
    """Variances of each kind beside those of the raw weights on the same epochs."""
    others = averaged.partition_by("weights_kind", as_dict=True, maintain_order=True)
    kinds = sorted(str(kind) for (kind,) in others)
    parts: dict[str, list[pl.DataFrame]] = {kind: [] for kind in [*kinds, CURVE_FILTER]}
    for group in curves(raw):
        labels = usable_segments(group)
        ids = pl.Series(group.trial_ids, dtype=pl.String)
        for kind in kinds:
            rows = others[kind,].filter(
                pl.col("trial_id").is_in(ids.implode()) & (pl.col("epoch") <= group.num_epochs)
            )
            if rows.height:
                accuracy = padded(rows, ids, group.num_epochs).val_accuracy
                parts[kind].append(_beside(kind, accuracy, group, labels))
        if half_life is not None:
            smooth = _smoothed(group.val_accuracy, half_life)
            parts[CURVE_FILTER].append(_beside(CURVE_FILTER, smooth, group, labels))
    return pl.concat([pl.DataFrame(schema=_PER_TRIAL), *itertools.chain(*parts.values())])


def _beside(kind: str, accuracy: Floats, raw: Curves, labels: Labels) -> pl.DataFrame:
    """Args: accuracy: of these weights, (N, T), NaN where missing."""
    labels = np.where(np.isfinite(accuracy), labels, -1)
    used = labels >= 0
    hf, df = contrast_variance(np.nan_to_num(accuracy), labels)
    raw_hf, _ = contrast_variance(np.nan_to_num(raw.val_accuracy), labels)
    gain = np.where(used, accuracy - raw.val_accuracy, 0.0).sum(axis=1)
    columns = {"df": df, "hf": hf, "raw_hf": raw_hf, "gain": gain / np.maximum(used.sum(axis=1), 1)}
    frame = pl.DataFrame({"trial_id": raw.trial_ids, "weights_kind": kind, **columns})
    enough = used.sum(axis=1) >= MIN_POINTS
    return frame.filter(pl.Series(enough)).cast(_PER_TRIAL)  # pyright: ignore[reportArgumentType]


def _smoothed(accuracy: Floats, half_life: float) -> Floats:
    """Each epoch the exponentially weighted mean of itself and all before. (N, T) -> (N, T)."""
    T = accuracy.shape[1]
    age = np.arange(T)[:, None] - np.arange(T)
    weight = np.where(age >= 0, 0.5 ** (np.maximum(age, 0) / half_life), 0.0)
    there = np.isfinite(accuracy).astype(float)
    below = np.where(there > 0, there @ weight.T, np.nan)  # nothing where the epoch is missing
    return np.nan_to_num(accuracy) @ weight.T / below


def _ratios(kind: str, rows: pl.DataFrame) -> dict[str, object]:
    df, hf, raw_hf, gain = (rows[name].to_numpy() for name in ("df", "hf", "raw_hf", "gain"))
    row: dict[str, object] = {
        "weights_kind": kind,
        "num_trials": rows.height,
        "accuracy_gain": float(np.average(gain, weights=df)) if rows.height else None,
    }
    ratio = ratio_of_means(hf, raw_hf, df)
    if np.isfinite(ratio.value):
        row |= {"hf_ratio": ratio.value, "hf_ratio_low": ratio.low, "hf_ratio_high": ratio.high}
    if ratio.num < MIN_PAIRS:
        row["reason"] = f"{rows.height} trials: limits need {MIN_PAIRS}"
        if np.nansum(df * raw_hf) > 0:
            # A variance cannot be 0 by chance, so one trial has a ratio; only limits need several.
            row["hf_ratio"] = float(np.nansum(df * hf) / np.nansum(df * raw_hf))
    return row


# --- the same weights evaluated twice


def repeats(epochs: pl.DataFrame) -> pl.DataFrame:
    """Count how often a second evaluation of the same weights disagreed with the first.

    Any change is a bug: dropout or batch norm in train mode, or random augmentation.

    Args: epochs: with val_correct and repeat_correct, which is null where none was repeated.
    Returns: trial_id, weights_kind, num_repeats, num_changed.
    """
    change = (pl.col("repeat_correct") - pl.col("val_correct")).abs().cast(pl.Float64)
    if "repeat_score_sum" in epochs.columns:  # of scores that are no counts
        of_scores = (pl.col("repeat_score_sum") - pl.col("val_score_sum")).abs()
        change = pl.coalesce(change, of_scores)
    counts = epochs.group_by("trial_id", "weights_kind").agg(
        change.count().cast(pl.Int64).alias("num_repeats"),
        (change > 0).sum().cast(pl.Int64).alias("num_changed"),
    )
    return counts.sort("trial_id", "weights_kind")


# --- classes

SEE_SAW = {
    "trial_id": pl.String,
    "num_classes": pl.Int64,
    "class_var": pl.Float64,  # the sum of the classes' own variances, each times its squared weight
    # Variance of accuracy, which is the classes together, minus class_var: below 0 where classes
    # trade places.
    "class_covariance": pl.Float64,
    "finite_var": pl.Float64,
    "hf_df": pl.Float64,
}


def class_see_saw(epochs: pl.DataFrame) -> pl.DataFrame:
    """Measure the movement of accuracy against that of its classes, per trial.

    Different examples make up different classes, so the finite set adds to the classes' variances
    and nothing to their covariance.

    Args: epochs: of raw weights, with val_class_n and val_class_correct; trials without them are
        left out.
    Returns: columns as SEE_SAW.
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
            "num_classes": moved.shape[2],
            "class_var": own,
            "class_covariance": together - own,
            "finite_var": _finite_variance(group, labels, df),
            "hf_df": df,
        }
        frame = pl.DataFrame({"trial_id": group.trial_ids, **columns}).filter(pl.Series(enough))
        parts.append(frame.cast(SEE_SAW))  # pyright: ignore[reportArgumentType]
    return pl.concat(parts).with_columns(pl.col(pl.Float64).fill_nan(None))


def _finite_variance(trials: Curves, labels: Labels, df: Floats) -> Floats:
    """The part of the jitter that the finite validation set makes, (N,); NaN without blocks."""
    if not trials.block_accuracy.shape[2]:
        return np.full(len(df), np.nan)
    gram = block_gram(np.nan_to_num(trials.block_accuracy), trials.block_weight, labels)
    finite = split_of_blocks(gram, trials.block_weight, df).finite_var
    return np.where(trials.val_n >= MIN_EXAMPLES, finite, np.nan)


def see_saw_share(trials: pl.DataFrame) -> Ratio:
    """Estimate how much of the classes' own movement cancels in accuracy.

    Args: trials: as class_see_saw, of trials to be pooled.
    Returns: 1 for all, 0 for none; below 0, classes move together and add up.
    """
    own = trials["class_var"] - trials["finite_var"]
    return ratio_of_means(
        -trials["class_covariance"].to_numpy(),
        own.cast(pl.Float64).to_numpy(),
        trials["hf_df"].to_numpy(),
    )


def _class_movements(epochs: pl.DataFrame) -> Iterator[tuple[Curves, Floats]]:
    """Curves and, per epoch and class, its part of accuracy: correct of the class over all n."""
    counted = epochs.drop_nulls("val_class_correct")
    num_classes = pl.col("val_class_correct").list.len()
    for _, same in counted.group_by(num_classes.alias("num_classes"), maintain_order=True):
        for group in curves(same):
            ids = pl.DataFrame({"trial_id": group.trial_ids}).with_row_index("row")
            rows = same.join(ids, on="trial_id", how="inner", maintain_order="left")
            C = len(rows["val_class_correct"][0])
            correct = rows["val_class_correct"].explode().to_numpy().reshape(-1, C)
            total = rows["val_class_n"].explode().to_numpy().reshape(-1, C).sum(axis=1)
            moved = np.full((len(group.trial_ids), group.num_epochs, C), np.nan)
            place = rows["row"].to_numpy(), rows["epoch"].to_numpy() - 1
            moved[place] = correct / total[:, None]
            yield group, moved
