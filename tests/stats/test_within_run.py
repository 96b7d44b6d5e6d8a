"""The fall within a run, of these weights: size, power and coverage where the truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from analysis.calibration.simulate import Scenario, simulate
from analysis.curves import Curves
from analysis.measures.within_run import measure_within_run
from analysis.stats.windows import window_length, window_means
from analysis.stats.within_run import end_fall

STILL = Scenario(jitter=0.0)


def true_fall(made):
    means = window_means(made.accuracy, window_length(made.accuracy.shape[1]))
    return means.max(axis=1) - means[:, -1]


def at_most(hits, level):
    """Whether so many hits are no evidence for a rate above the level: one-sided, at 1 in 1,000."""
    return stats.binomtest(int(hits.sum()), len(hits), level, "greater").pvalue > 0.001


@pytest.mark.parametrize("num_val", [200, 1000])
@pytest.mark.parametrize("num_epochs", [25, 60])
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"memory": 0.9},
        {"accuracy": 0.6, "churn": 1.0},
        {"accuracy": 0.98},
        {"num_blocks": 5},
        {"slope": 0.0003},
        {"jitter": 0.004},
        {"jitter": 0.008, "correlation": 0.8},
        {"wander": 0.005},
        {"fall": 0.02, "jitter": 0.004},
    ],
    ids=str,
)
def test_both_limits_hold_whether_the_population_moves_or_not(
    num_val, num_epochs, changed, simulation
):
    scenario = replace(STILL, num_val=num_val, num_epochs=num_epochs, **changed)
    made = simulate(scenario, 400, simulation([1, num_val, num_epochs]), losses=False)
    found, truth = measure_within_run(made.curves), true_fall(made)
    assert at_most(found["within_drop_low"].to_numpy() > truth + 1e-9, 0.05)
    assert at_most(found["within_drop_high"].to_numpy() < truth - 1e-9, 0.05)
    if not truth.any():
        assert at_most(found["within_drop_p"].to_numpy() <= 0.05, 0.05)
        assert at_most(found["within_drop_p"].to_numpy() <= 0.01, 0.015)


@pytest.mark.parametrize(("num_epochs", "fall", "told"), [(60, 0.014, 0.75), (25, 0.03, 0.8)])
def test_a_fall_is_told_of_one_run(num_epochs, fall, told, simulation):
    scenario = replace(STILL, num_epochs=num_epochs, fall=fall, jitter=0.004)
    made = simulate(scenario, 400, simulation(2), losses=False)
    found = measure_within_run(made.curves)
    assert (found["within_drop_p"] <= 0.05).mean() >= told
    # Of the window that one half of the blocks takes for the best: a little below the best one.
    assert found["within_drop"].mean() == pytest.approx(true_fall(made).mean(), abs=0.003)


def test_a_large_set_puts_the_fall_of_a_still_network_below_half_a_point(simulation):
    made = simulate(replace(STILL, num_val=10_000), 100, simulation(3), losses=False)
    high = measure_within_run(made.curves)["within_drop_high"].to_numpy()
    assert np.median(high) < 0.005


def test_growing_over_confidence_is_a_rise_of_the_loss_and_none_of_the_refined_loss(simulation):
    made = simulate(replace(STILL, over_confidence=1.0), 300, simulation(4))
    found = measure_within_run(made.curves)
    loss = found["within_loss_rise_low"].to_numpy()
    assert at_most(loss > made.loss_rise, 0.05)
    assert (loss > 0).mean() > 0.8
    assert at_most(found["within_refined_loss_rise_p"].to_numpy() <= 0.05, 0.05)


def test_the_window_is_chosen_on_other_blocks_than_it_is_read_on():
    """Half of the blocks love the first window and the other half hate it just as much: whichever
    half chooses it, the other one reads a loss."""
    means = np.full((1, 12, 20), 0.5)
    means[0, :4] += np.where(np.arange(20) < 10, 0.1, -0.1)
    weight = np.full((1, 20), 0.05)
    found = end_fall(means, weight, 4)
    assert found.fall[0] <= 0
    assert found.p[0] > 0.05
    assert found.low[0] == 0
    assert found.high[0] > 0.03


def test_a_fall_that_all_blocks_share_is_sure_and_a_curve_that_only_rises_has_none():
    weight = np.full((1, 20), 0.05)
    falls = np.linspace(0.9, 0.8, 12)[None, :, None] + np.zeros((1, 12, 20))
    found = end_fall(falls, weight, 3)
    assert found.fall[0] == pytest.approx(9 * 0.1 / 11)
    assert found.low[0] == pytest.approx(found.fall[0])
    assert found.high[0] == pytest.approx(found.fall[0])
    assert found.p[0] < 1e-12
    rises = end_fall(-falls, weight, 3)
    assert (rises.fall[0], rises.low[0], rises.high[0], rises.p[0]) == (0, 0, 0, 1)


def test_blocks_may_differ_in_size_and_an_empty_one_changes_nothing():
    rng = np.random.default_rng(5)
    means, sizes = rng.random((4, 30, 9)), rng.integers(20, 80, (4, 9)).astype(float)
    weight = sizes / sizes.sum(axis=1, keepdims=True)
    found = end_fall(means, weight, 3)
    with_empty = np.concatenate([weight, np.zeros((4, 1))], axis=1)
    again = end_fall(np.concatenate([means, np.zeros((4, 30, 1))], axis=2), with_empty, 3)
    assert again.high == pytest.approx(found.high)
    assert np.isfinite(again.p).all()


def test_where_nothing_can_be_told_there_is_null_and_no_number():
    rng = np.random.default_rng(6)
    weight = np.full((3, 20), 0.05)
    known = {"val_n": np.array([1000.0, 1000.0, 60.0]), "block_weight": weight}
    blocks = rng.binomial(50, 0.9, (3, 20, 20)) / 50
    blocks[1, -1] = np.nan  # the last epoch is missing
    trials = Curves.of_accuracy(blocks.mean(axis=2), block_accuracy=blocks, **known)
    found = measure_within_run(trials)
    assert found["within_drop_p"].is_not_null().to_list() == [True, False, False]
    assert found["within_loss_rise"].null_count() == 3
    bare = measure_within_run(Curves.of_accuracy(np.full((2, 9), 0.9)))
    assert bare.drop("trial_id").null_count().row(0) == (2,) * (bare.width - 1)
    short = Curves.of_accuracy(blocks.mean(axis=2)[:1, :5], block_accuracy=blocks[:1, :5])
    assert measure_within_run(short)["within_drop"].null_count() == 1
    few = Curves.of_accuracy(blocks[:1, :, :4].mean(axis=2), block_accuracy=blocks[:1, :, :4])
    assert measure_within_run(few)["within_drop"].null_count() == 1


def test_an_epoch_that_is_missing_before_the_end_is_in_no_window():
    blocks = np.random.default_rng(7).binomial(50, 0.9, (1, 30, 20)) / 50
    gap = blocks.copy()
    gap[0, 3] = np.nan
    weight = np.full((1, 20), 0.05)
    assert np.isfinite(end_fall(gap, weight, 3).p).all()
    assert end_fall(gap, weight, 3).high <= end_fall(blocks, weight, 3).high


def test_the_same_run_gives_the_same_numbers_whatever_others_there_are():
    blocks = np.random.default_rng(8).binomial(50, 0.9, (20, 25, 20)) / 50
    weight = np.full((20, 20), 0.05)
    all_, some = end_fall(blocks, weight, 3), end_fall(blocks[:2], weight[:2], 3)
    assert np.allclose(all_.p[:2], some.p, rtol=1e-12)
