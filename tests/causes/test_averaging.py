"""Averaged weights, repeated evaluations and classes, on curves whose truth is known."""

import numpy as np
import polars as pl
import pytest

from analysis.causes.averaging import (
    CURVE_FILTER,
    RATIOS,
    SEE_SAW,
    averaging_ratios,
    class_see_saw,
    repeats,
    see_saw_share,
)

T, N, K, C = 60, 2000, 20, 10
CLASS = np.arange(N) // K % C  # every class in every block


def rows(right, kind="raw", trial="a"):
    """Epochs as read_store gives them, from correctness (T, n)."""
    n = right.shape[1]
    block, kinds = np.arange(n) % K, CLASS[:n]
    count = {
        name: (np.bincount(of, minlength=size), [np.bincount(of, r, minlength=size) for r in right])
        for name, of, size in (("block", block, K), ("class", kinds, C))
    }
    lists = {
        f"val_{name}_{what}": pl.Series(values, dtype=pl.List(pl.Int64))
        for name, (sizes, hits) in count.items()
        for what, values in (
            ("n", [sizes.tolist()] * T),
            ("correct", [h.astype(int).tolist() for h in hits]),
        )
    }
    flips = np.r_[0, np.abs(np.diff(right.astype(int), axis=0)).sum(axis=1)]
    return pl.DataFrame(
        {
            "trial_id": trial,
            "weights_kind": kind,
            "epoch": np.arange(1, T + 1),
            "lr": 0.1,
            "val_n": n,
            "val_correct": right.sum(axis=1),
            "val_accuracy": right.mean(axis=1),
            "val_loss": 1.0,
            "val_nll_at_temperature": 1.0,
            "train_eval_n": 10,
            "train_eval_accuracy": 1.0,
            "train_eval_loss": 1.0,
            "flip_to_wrong": flips,
            "flip_to_right": 0,
            **lists,
        }
    ).with_columns(pl.lit(None, pl.List(pl.Float64)).alias("val_block_loss_sum"))


def right_of(rng, jitter, churn, n=N):
    """Correctness (T, n): a level that all share moves by `jitter`, each example's own by `churn`;
    both independent from epoch to epoch."""
    level = 1.0 + jitter * rng.normal(size=(T, 1))
    return rng.normal(size=n) + level + churn * rng.normal(size=(T, n)) > 0


def ratios(epochs, **known):
    raw = pl.col("weights_kind") == "raw"
    return averaging_ratios(epochs.filter(raw), epochs.filter(~raw), **known)


def test_halved_movement_reads_as_a_quarter_of_the_variance():
    rng = np.random.default_rng(1)
    parts = []
    for trial in range(12):
        parts.append(rows(right_of(rng, 0.08, 0.0), "raw", f"{trial}"))
        parts.append(rows(right_of(rng, 0.04, 0.0), "ema", f"{trial}"))
    (found,) = ratios(pl.concat(parts)).iter_rows(named=True)
    assert found["weights_kind"] == "ema"
    assert found["hf_ratio"] == pytest.approx(0.25, abs=0.08)
    assert found["hf_ratio_low"] < 0.25 < found["hf_ratio_high"]
    assert found["num_trials"] == 12
    assert found["reason"] is None


def test_the_curve_filter_does_to_white_noise_what_its_weights_say():
    """Second differences of an exponential mean of white noise, half-life one epoch."""
    rng = np.random.default_rng(2)
    parts = [rows(right_of(rng, 0.08, 0.3), trial=f"{trial}") for trial in range(12)]
    found = ratios(pl.concat(parts), half_life=1.0)
    w = 0.5 ** np.arange(1, 60)  # (1 - 1/2) (1/2)^age
    e = np.convolve([0.5, -1, 0.5], w)
    truth = (e**2).sum() / 1.5
    (row,) = found.iter_rows(named=True)
    assert row["weights_kind"] == CURVE_FILTER
    assert row["hf_ratio"] == pytest.approx(truth, rel=0.1)


def test_each_kind_of_averaged_weights_has_its_row_and_few_trials_no_limits():
    rng = np.random.default_rng(3)
    kinds = ("raw", "ema", "ema_live", "ema_averaged")
    parts = [rows(right_of(rng, 0.05, 0.3), kind) for kind in kinds]
    found = ratios(pl.concat(parts), half_life=1.0)
    assert found.schema == RATIOS
    assert found["weights_kind"].to_list() == ["ema", "ema_averaged", "ema_live", CURVE_FILTER]
    assert found["hf_ratio"].null_count() == 0
    assert found["hf_ratio_low"].null_count() == 4
    assert found["reason"].unique().to_list() == ["1 trials: limits need 3"]


def test_without_averaged_weights_there_are_no_ratios():
    raw = rows(right_of(np.random.default_rng(5), 0.05, 0.3, n=200))
    assert ratios(raw).is_empty()


def test_any_change_between_two_evaluations_is_flagged():
    epochs = pl.DataFrame(
        {
            "trial_id": ["a", "a", "b", "b", "c"],
            "weights_kind": "raw",
            "val_correct": [90, 95, 80, 85, 70],
            "repeat_correct": [90, 95, 80, 83, None],
        }
    )
    found = repeats(epochs)
    assert found["num_repeats"].to_list() == [2, 2, 0]
    assert found["num_changed"].to_list() == [0, 1, 0]


@pytest.mark.parametrize(("shared", "own", "expected"), [(0.0, 0.1, 0.0), (0.1, 0.0, -9.0)])
def test_classes_that_move_by_themselves_or_together(shared, own, expected):
    rng = np.random.default_rng(6)
    parts = []
    for trial in range(6):
        level = 1.0 + shared * rng.normal(size=(T, 1)) + own * rng.normal(size=(T, C))[:, CLASS]
        right = rng.normal(size=N) + level + 0.2 * rng.normal(size=(T, N)) > 0
        parts.append(rows(right, trial=f"{trial}"))
    trials = class_see_saw(pl.concat(parts))
    assert trials.schema == SEE_SAW
    assert see_saw_share(trials).value == pytest.approx(expected, abs=0.2 if not shared else 1.5)


def test_classes_that_trade_places_cancel_in_accuracy():
    rng = np.random.default_rng(7)
    parts = []
    for trial in range(6):
        swing = 0.15 * rng.normal(size=(T, C // 2))
        level = 1.0 + np.repeat(swing, 2, axis=1) * np.tile([1, -1], C // 2)
        right = rng.normal(size=N) + level[:, CLASS] > 0
        parts.append(rows(right, trial=f"{trial}"))
    trials = class_see_saw(pl.concat(parts))
    share = see_saw_share(trials)
    assert share.value == pytest.approx(1, abs=0.15)
    assert share.low > 0.5
    assert (trials["class_covariance"] < 0).all()
    assert trials["num_classes"].unique().to_list() == [C]


def test_trials_without_class_counts_are_left_out():
    raw = rows(right_of(np.random.default_rng(8), 0.05, 0.3, n=200))
    none = raw.with_columns(pl.lit(None, pl.List(pl.Int64)).alias("val_class_correct"))
    assert class_see_saw(none).is_empty()
