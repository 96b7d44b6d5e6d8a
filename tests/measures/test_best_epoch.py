"""Which epochs are as good as the best, and how good the best is: against known truth."""

import numpy as np
import pytest

from analysis.calibration.simulate import Scenario, simulate
from analysis.curves import Curves
from analysis.measures.best_epoch import (
    NUM_PARTITIONS,
    at_best,
    folds,
    held_out,
    held_out_twice,
    measure_best_epoch,
)
from analysis.stats.best_set import block_deviations, tied_with_best


def curves_of(blocks, weight=None):
    """(N, T, K) -> curves with blocks of 50 examples."""
    num, _, num_blocks = blocks.shape
    weight = np.full((num, num_blocks), 1 / num_blocks) if weight is None else weight
    return Curves.of_accuracy(
        (blocks * weight[:, None]).sum(axis=2),
        val_n=np.full(num, 50.0 * num_blocks),
        block_accuracy=blocks,
        block_weight=weight,
    )


def truth_at_best(made):
    best = made.curves.val_accuracy.argmax(axis=1)
    return made.accuracy[np.arange(len(best)), best]


def test_the_epoch_is_chosen_without_the_fold_on_which_it_is_read():
    """One block loves epoch 1, the other nine love epoch 2 a little."""
    blocks = np.full((1, 2, 10), 0.5)
    blocks[0, 1] += 0.01
    blocks[0, :, 0] = (1.0, 0.0)
    assert at_best(blocks, np.full((1, 10), 0.1))[0, 0] == 1.0
    reads = held_out(blocks, np.full((1, 10), 0.1))
    assert reads.shape == (1, NUM_PARTITIONS, 10)
    assert (reads[0, :, 0] == 0.0).all()
    assert (reads[0, :, 1:] <= 0.51).all()


def test_what_two_folds_leave_out_is_what_a_set_without_one_fold_would_say():
    rng = np.random.default_rng(0)
    blocks, weight = rng.random((3, 7, 10)), np.full((3, 10), 0.1)
    twice = held_out_twice(blocks, weight)
    fold = folds(10)[0]
    for f in range(5):
        expected = np.zeros(3)
        for other in set(range(5)) - {f}:
            rest = ~np.isin(fold, (f, other))
            epoch = blocks[:, :, rest].mean(axis=2).argmax(axis=1)
            expected += blocks[np.arange(3), epoch][:, fold == other].sum(axis=1)
        assert twice[:, 0, f] == pytest.approx(expected / 8)


def test_the_naive_score_is_never_below_the_nested_one():
    rng = np.random.default_rng(1)
    found = measure_best_epoch(curves_of(rng.binomial(50, 0.8, (200, 15, 20)) / 50))
    assert found["optimism"].to_numpy().min() >= 0
    assert found["optimism"].to_numpy().mean() > 0.01


def test_the_same_call_gives_the_same_bits_whatever_other_trials_there_are():
    blocks = np.random.default_rng(2).binomial(50, 0.8, (30, 12, 20)) / 50
    all_, some = measure_best_epoch(curves_of(blocks)), measure_best_epoch(curves_of(blocks[:3]))
    assert all_.head(3).drop("trial_id").equals(some.drop("trial_id"))


def test_without_blocks_all_is_null_and_a_missing_epoch_is_never_best():
    bare = measure_best_epoch(Curves.of_accuracy(np.full((2, 9), 0.9)))
    assert bare.drop("trial_id").null_count().row(0) == (2,) * (bare.width - 1)
    blocks = np.random.default_rng(3).binomial(50, 0.8, (4, 9, 20)) / 50
    blocks[:, 5] = np.nan
    found = measure_best_epoch(curves_of(blocks))
    assert found["best_nested"].null_count() == 0
    deviations = block_deviations(blocks, np.full((4, 20), 1 / 20))
    assert not tied_with_best(blocks.mean(axis=2), deviations)[:, 5].any()


def test_two_blocks_of_unequal_size_are_enough_for_a_score():
    blocks = np.random.default_rng(4).random((5, 9, 2))
    found = measure_best_epoch(curves_of(blocks, np.tile([0.7, 0.3], (5, 1))))
    assert found["best_nested"].null_count() == 0


def test_epochs_that_never_differ_are_all_tied_and_a_clear_winner_stands_alone():
    same = np.broadcast_to(np.random.default_rng(5).random((1, 1, 20)), (1, 8, 20))
    row = measure_best_epoch(curves_of(same)).row(0, named=True)
    assert (row["tied_from_epoch"], row["tied_to_epoch"]) == (1, 8)
    better = same * 0.5
    better = np.concatenate([better, same[:, :1]], axis=1)
    row = measure_best_epoch(curves_of(better)).row(0, named=True)
    assert (row["tied_from_epoch"], row["tied_to_epoch"]) == (9, 9)


def test_a_set_below_100_examples_has_no_tied_epochs():
    made = simulate(Scenario(num_epochs=12, num_val=80), 2, np.random.default_rng(6), losses=False)
    found = measure_best_epoch(made.curves)
    assert found["tied_from_epoch"].null_count() == 2
    assert found["best_nested"].null_count() == 0


@pytest.mark.parametrize("num_val", [200, 1000])
def test_the_nested_score_of_the_best_epoch_is_unbiased_and_the_naive_one_is_not(num_val):
    """Over 300 validation sets: |bias| < 0.4 pp at n = 1000."""
    scenario = Scenario(num_epochs=30, num_val=num_val, num_train_eval=20)
    made = simulate(scenario, 300, np.random.default_rng(num_val), losses=False)
    found, truth = measure_best_epoch(made.curves), truth_at_best(made)
    error = found["best_nested"].to_numpy() - truth
    margin = 0.004 if num_val == 1000 else 0.008
    assert abs(error.mean()) < margin
    assert (error + found["optimism"].to_numpy()).mean() > (0.005 if num_val == 1000 else 0.015)
    low, high = found["best_nested_low"].to_numpy(), found["best_nested_high"].to_numpy()
    covered = np.mean((low <= truth) & (truth <= high))
    assert covered > 0.89 - 2.6 * np.sqrt(0.89 * 0.11 / 300)


@pytest.mark.parametrize("fall", [0.0, 0.06])
@pytest.mark.parametrize("num_epochs", [5, 20, 60])
def test_a_truly_best_epoch_is_in_the_tied_set_with_probability_095(num_epochs, fall, simulation):
    """Equal epochs, and a true peak. Pairwise tests against the winner leave out many more."""
    scenario = Scenario(
        num_epochs=num_epochs, jitter=0.0, learning_epochs=0.0, fall=fall, peak=0.5, num_val=500
    )
    made = simulate(scenario, 400, simulation(num_epochs), losses=False)
    curves = made.curves
    deviations = block_deviations(curves.block_accuracy, curves.block_weight)
    tied = tied_with_best(curves.val_accuracy, deviations)
    best = made.trend == made.trend.max()
    # Epochs of one curve share their luck, so the number of curves counts.
    assert tied[:, best].mean() > 0.95 - 2.6 * np.sqrt(0.95 * 0.05 / 400)
    found = measure_best_epoch(curves)
    assert (found["tied_from_epoch"] <= best.argmax() + 1).mean() > 0.92
    if not fall:
        winner = curves.val_accuracy.argmax(axis=1)[:, None, None]
        apart = deviations - np.take_along_axis(deviations, winner, axis=1)
        behind = curves.val_accuracy.max(axis=1, keepdims=True) - curves.val_accuracy
        pairwise = behind <= 1.729 * np.sqrt((apart**2).sum(axis=2))
        assert pairwise.mean() < 0.90
    elif num_epochs > 5:
        assert tied.sum(axis=1).mean() < 0.7 * num_epochs
