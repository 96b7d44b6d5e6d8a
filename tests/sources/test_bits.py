"""Which examples were right is all that blocks and flips are made of."""

import numpy as np
import polars as pl
import pytest

from analysis import analyze
from analysis.calibration.simulate import Scenario, simulate
from analysis.measures.decomposition import block_gram, split_of_blocks
from analysis.sources.bits import dealt
from raysweep.errors import InputError


def curves(num_trials=2, num_val=500):
    """A tidy frame with bits, and the bits."""
    scenario = Scenario(num_epochs=40, num_val=num_val, jitter=0.01)
    right = simulate(
        scenario, num_trials, np.random.default_rng(1), losses=False, bits=True
    ).correct
    rows = [
        {
            "trial_id": f"{trial}",
            "seed": trial,
            "epoch": epoch + 1,
            "val_accuracy": seen.mean(),
            "val_correct_bits": seen.tolist(),
        }
        for trial, epochs in enumerate(right)
        for epoch, seen in enumerate(epochs)
    ]
    return pl.DataFrame(rows), right


def test_bits_split_the_jitter_as_every_example_by_itself_does():
    frame, right = curves()
    found = analyze(frame.sample(fraction=1.0, shuffle=True, seed=2)).trials.sort("trial_id")
    labels = np.where(np.arange(40) < 6, -1, 0)[None]
    single = np.full((1, 500), 1 / 500)
    for row, seen in zip(found.iter_rows(named=True), right, strict=True):
        gram = block_gram(seen[None].astype(float), single, labels)
        split = split_of_blocks(gram, single, np.array([row["hf_df"]]))
        assert row["hf_sd"] ** 2 == pytest.approx(split.total_var[0])
        assert row["fin_sd"] == pytest.approx(np.sqrt(split.finite_var[0]), rel=0.25)
        assert row["pop_var_low"] < 1e-4 < row["pop_var_high"]
        flips = (seen[6:] != seen[5:-1]).sum()
        assert row["churn"] == pytest.approx(flips / 34 / 500)
    assert found["best_nested"].null_count() == found["gap"].null_count() - 2 == 0


def test_every_example_is_in_one_block_and_flips_need_the_epoch_before():
    frame, right = curves(num_trials=1, num_val=50)
    made = dealt(frame.filter(pl.col("epoch") != 3))
    assert made["val_block_n"].to_list() == [[3] * 10 + [2] * 10] * 39
    assert made["val_block_correct"].list.sum().to_list() == [
        seen.sum() for epoch, seen in enumerate(right[0]) if epoch != 2
    ]
    assert made["flip_to_wrong"].is_null().to_list() == [True, False, True] + [False] * 36
    assert made["flip_to_right"][1] == (right[0, 1] & ~right[0, 0]).sum()


def test_blocks_that_are_given_are_kept():
    frame, _ = curves(num_trials=1, num_val=50)
    sizes = pl.lit([25, 25])
    given = frame.with_columns(sizes.alias("val_block_n"), sizes.alias("val_block_correct"))
    assert dealt(given).columns == [name for name in given.columns if name != "val_correct_bits"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1, 0], "epoch 7 of trial '0': 50 examples are expected"),
        ([2] * 50, "epoch 7 of trial '0': 0 and 1 are expected"),
        (None, "epoch 7 of trial '0': 50 examples are expected"),
    ],
)
def test_bits_that_are_missing_or_something_else_are_refused(value, words):
    frame, _ = curves(num_trials=1, num_val=50)
    other = pl.Series([value], dtype=pl.List(pl.Int64)).implode()
    bits = pl.col("val_correct_bits").cast(pl.List(pl.Int64))
    there = pl.when(pl.col("epoch") == 7).then(pl.lit(other).explode()).otherwise(bits)
    with pytest.raises(InputError, match=words):
        analyze(frame.with_columns(there.alias("val_correct_bits")))
