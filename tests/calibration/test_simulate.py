"""The simulator's curves have the truth that it states."""

import numpy as np
import pytest

from analysis.calibration.simulate import Scenario, population_losses, simulate
from analysis.stats.trend import contrast_variance


def test_the_same_generator_gives_the_same_bits_and_curves():
    first, again = (
        simulate(Scenario(num_seeds=2), 3, np.random.default_rng(1), bits=True) for _ in range(2)
    )
    assert np.array_equal(first.correct, again.correct)
    assert np.array_equal(first.curves.refined_loss, again.curves.refined_loss)


def test_accuracy_blocks_and_flips_are_counts_of_the_same_bits():
    made = simulate(Scenario(num_val=105, num_seeds=2), 2, np.random.default_rng(2), bits=True)
    curves, right = made.curves, made.correct
    assert np.allclose(curves.val_accuracy, right.mean(axis=2))
    by_blocks = (curves.block_accuracy * curves.block_weight[:, None]).sum(axis=2)
    assert np.allclose(by_blocks, curves.val_accuracy)
    assert np.array_equal(curves.flips[:, 1:], (right[:, 1:] != right[:, :-1]).sum(axis=2))
    refined = (curves.block_refined * curves.block_weight[:, None]).sum(axis=2)
    np.testing.assert_allclose(refined, curves.refined_loss, rtol=1e-5)
    by_blocks = (curves.block_loss * curves.block_weight[:, None]).sum(axis=2)
    assert np.allclose(by_blocks, curves.val_loss)


def test_validation_sets_agree_with_the_population_on_average():
    scenario = Scenario(fall=0.04, over_confidence=1.0, jitter=0.0, num_val=500, num_epochs=30)
    made = simulate(scenario, 300, np.random.default_rng(3))
    assert made.curves.val_accuracy.mean(axis=0) == pytest.approx(made.trend, abs=0.005)
    assert made.loss_rise > made.refined_rise > 0
    for values, rise in (
        (made.curves.val_loss, made.loss_rise),
        (made.curves.refined_loss, made.refined_rise),
    ):
        means = np.lib.stride_tricks.sliding_window_view(values.mean(axis=0), 3).mean(axis=-1)
        assert (means[-1] - means.min()) / means.min() == pytest.approx(rise, abs=0.03)


def test_over_confidence_alone_raises_neither_the_refined_loss_nor_a_fall():
    made = simulate(Scenario(over_confidence=1.0), 1, np.random.default_rng(4))
    assert made.loss_rise > 0.1
    assert made.refined_rise == pytest.approx(0, abs=1e-9)
    assert made.fall == pytest.approx(0, abs=1e-9)


def test_the_refined_loss_is_the_least_over_all_temperatures():
    """Against a numerical search; the scores of 400 examples are those of the last epoch."""
    scenario = Scenario(churn=0.0, jitter=0.0, learning_epochs=0, num_val=400, num_epochs=2)
    made = simulate(scenario, 1, np.random.default_rng(5))
    margin = np.random.default_rng(5)
    margin.standard_normal((1, 1, 2), dtype=np.float32)  # the jitter's draws come first
    z = margin.standard_normal(400, dtype=np.float32).astype(float) + 1.2815516
    k = np.linspace(0.1, 20, 2000)[:, None]
    least = np.logaddexp(0, -k * z).mean(axis=1).min()
    assert made.curves.refined_loss[0, 1] == pytest.approx(least, rel=1e-4)
    assert population_losses(np.array([0.9]), 0.0, np.array([2 * 1.2815516]))[0] == pytest.approx(
        0.2395, abs=0.02
    )


def test_jitter_and_wander_have_the_sd_that_was_asked_for():
    scenario = Scenario(jitter=0.006, correlation=0.5, num_epochs=120, num_val=20, num_train_eval=1)
    made = simulate(scenario, 400, np.random.default_rng(6), losses=False)
    moves = made.accuracy - made.trend
    assert moves.std() == pytest.approx(0.006, rel=0.02)
    assert (moves[:, 1:] * moves[:, :-1]).mean() / moves.var() == pytest.approx(0.5, abs=0.02)
    wave = Scenario(jitter=0.0, wander=0.01, wander_period=12, num_epochs=120, num_val=20)
    made = simulate(wave, 50, np.random.default_rng(7), losses=False)
    assert (made.accuracy - made.trend).std() == pytest.approx(0.01, rel=0.02)
    labels = np.zeros(made.accuracy.shape, int)
    jitter, _ = contrast_variance(made.accuracy - made.trend, labels)
    assert np.sqrt(jitter.mean()) < 0.002  # the high-frequency estimate does not see it


def test_a_validation_set_smaller_than_its_blocks_is_refused():
    with pytest.raises(ValueError, match="with 20 blocks"):
        simulate(Scenario(num_val=10), 1, np.random.default_rng(0))
