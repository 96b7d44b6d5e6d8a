"""What the finite validation set makes of a curve and of seeds, where the truth is known."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from analysis.calibration.simulate import Scenario, simulate
from analysis.measures.decomposition import (
    along_movement,
    block_gram,
    examples_needed,
    flip_bounds,
    population_interval,
    split_of_blocks,
)
from analysis.measures.jitter import jitter_components, measure_jitter, pool_jitter
from analysis.stats.intervals import upper_tail
from analysis.stats.trend import contrast_variance, segments


def quick(num_val, num_curves, seed, *, bits=False, **known):
    """40 usable epochs, without the rise of learning."""
    scenario = Scenario(num_epochs=48, num_val=num_val, learning_epochs=0, **known)
    return simulate(scenario, num_curves, np.random.default_rng(seed), losses=False, bits=bits)


def own_variance(made):
    return contrast_variance(made.accuracy, segments(np.ones(made.accuracy.shape)))[0].mean()


def mean(values):
    return values.to_numpy().mean()


def covered(told, name, truth):
    return told.filter(pl.col(f"{name}_low") < truth, pl.col(f"{name}_high") > truth).height / (
        told.height
    )


@pytest.mark.parametrize(
    ("num_val", "jitter", "repeats"), [(200, 0.01, 600), (1000, 0.004, 600), (5000, 0.004, 200)]
)
@pytest.mark.usefixtures("simulation")
def test_blocks_tell_population_movement_from_the_finite_set(num_val, jitter, repeats):
    made = quick(num_val, repeats, 1, jitter=jitter)
    parts = jitter_components(made.curves)
    told = measure_jitter(parts).drop_nulls("pop_var")
    own, v = own_variance(made), mean(parts["finite_var"])
    excess = (parts["hf_var"] - parts["finite_var"]).to_numpy() / own - 1
    error = excess.std() / np.sqrt(len(excess))
    assert abs(excess.mean()) < 0.15
    assert abs(excess.mean()) < 3 * error
    assert mean(told["finite_share"]) == pytest.approx(v / (v + own), abs=0.1)
    assert 0.91 < covered(told, "pop_var", own) < 0.99  # 0.95 or a little more; SE 0.01 to 0.015
    # The binomial error p(1-p)/n would have been wrong by far: only flips move accuracy.
    assert 0.9 * 0.1 / num_val > 3 * v


@pytest.mark.usefixtures("simulation")
@pytest.mark.parametrize("num_val", [200, 1000])
def test_a_still_population_is_found_moving_in_one_of_twenty(num_val):
    made = quick(num_val, 600, 4, jitter=0.0)
    told = measure_jitter(jitter_components(made.curves))
    p = told["p_no_population_movement"].drop_nulls()
    assert len(p) > 500
    assert 0.02 < mean(p < 0.05) < 0.08  # 0.02 to 0.07 is promised; a binomial SE is 0.01


@pytest.mark.usefixtures("simulation")
def test_a_process_share_of_0_4_is_seen_with_40_usable_epochs():
    """The share of the variance of accuracy around its level, jitter and slower movement."""
    still = quick(1000, 200, 5, jitter=0.0, memory=0.9).curves.val_accuracy[:, 8:]
    finite = still.var(axis=1, ddof=1).mean()
    made = quick(1000, 400, 6, jitter=float(np.sqrt(finite * 0.4 / 0.6)), memory=0.9)
    told = measure_jitter(jitter_components(made.curves))
    assert told["num_usable_epochs"][0] == 40
    assert mean(told["p_no_population_movement"] < 0.05) > 0.8


@pytest.mark.usefixtures("simulation")
def test_seeds_that_share_a_validation_set_are_pooled_with_an_honest_interval():
    """Their common sensitivity does not average out; limits of s^2 alone cover 0.88 here."""
    made = quick(200, 400, 7, num_seeds=3, jitter=0.01)
    parts = jitter_components(made.curves).with_columns(
        (pl.int_range(pl.len()) // 3).alias("config")
    )
    pooled = pool_jitter(parts, "config")
    told = measure_jitter(pooled)
    own = own_variance(made)
    assert mean(told["pop_var"]) == pytest.approx(own, rel=0.08)
    assert 0.91 < covered(told, "pop_var", own) < 0.98
    v = mean(parts["finite_var"])
    assert covered(told, "fin_sd", np.sqrt(v)) > 0.9
    seeds, df = (parts[name].to_numpy().reshape(-1, 3) for name in ("finite_var", "hf_df"))
    assert pooled["finite_var"].to_numpy() == pytest.approx(np.average(seeds, axis=1, weights=df))
    plain = told.with_columns(
        (pl.col(f"hf_sd_{end}") ** 2 - pl.col("fin_sd") ** 2).alias(f"pop_var_{end}")
        for end in ("low", "high")
    )
    assert covered(plain, "pop_var", own) < 0.91


def test_limits_beside_zero_hold_as_often_as_they_say():
    """pop_var can't be below 0 in truth: there all of the 5 % is on one side. Normal s^2 and v."""
    rng = np.random.default_rng(14)
    df = np.full(20_000, 400.0)
    for own in (0.0, 0.05, 0.1, 0.2, 1.0):
        total = (1 + own) * rng.chisquare(df) / df
        low, high = population_interval(total, np.ones_like(df), df)
        assert 0.94 < np.mean((low <= own) & (own <= high)) < 0.96


@pytest.mark.parametrize(("df", "least"), [(8.0, 0.92), (25.0, 0.93)])
def test_limits_hold_where_s2_has_few_degrees_of_freedom(df, least):
    rng = np.random.default_rng(15)
    nu = np.full(20_000, df)
    for own in (0.0, 0.1, 0.3, 1.0, 3.0, 30.0):
        total = (1 + own) * rng.chisquare(nu) / nu
        low, high = population_interval(total, np.ones_like(nu), nu)
        assert np.isfinite(high).all()
        # A little below 0.95, as how the 5 % are parted is that of a normal estimate.
        assert least < np.mean((low <= own) & (own <= high)) < 0.96


def test_the_upper_limit_is_the_largest_part_that_s2_is_not_too_small_for():
    """Also where s^2 is far below v by chance: the limits were infinite or null there."""
    df = 25.0
    parts = np.linspace(0, 5, 50_001)
    for total in (0.1, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.5):
        error = max(total, 1) * np.sqrt(2 / df)
        below = stats.chi2.cdf(total * df / (1 + parts), df)
        accepted = parts[below >= 0.05 - upper_tail(parts / error)]
        one = np.ones(1)
        _, high = population_interval(total * one, one, df * one)
        assert high[0] == pytest.approx(accepted.max(), abs=1.1e-4)
        assert total >= 1 or high[0] < 1


@pytest.mark.parametrize("num_blocks", [5, 20])
def test_the_sensitivity_along_the_movement_is_unbiased(num_blocks):
    """Normal contrasts of blocks of one size: Sigma is that of the mean over blocks."""
    rng = np.random.default_rng(16)
    num = 20_000
    spread = np.linspace(0.2, 1, 12)  # variances of the mean's contrasts
    movement = np.full(12, 1.5)
    own = np.sqrt(num_blocks * spread) * rng.standard_normal((num, num_blocks, 12))
    y = (movement + own) / num_blocks
    rest = y.sum(axis=1, keepdims=True) - y
    others = (y * rest).sum(axis=2) / (1 - 1 / num_blocks)
    weight = np.full((num, num_blocks), 1 / num_blocks)
    found = along_movement(others, weight, np.full(num, (spread**2).sum()))
    truth = (movement**2 * spread).sum()
    error = found.std() / np.sqrt(num)
    assert error < 0.01 * truth
    assert found.mean() == pytest.approx(truth, abs=3 * error)


def test_unequal_and_empty_blocks_are_weighted():
    rng = np.random.default_rng(8)
    counts = np.array([20, 20, 20, 20, 10, 10, 0])
    weight = (counts / 100)[None]
    labels = np.zeros((1, 12), np.int64)
    found = []
    for _ in range(1500):
        right = rng.random((12, 100)) < 0.7
        edges = np.split(right, np.cumsum(counts)[:-1], axis=1)
        accuracy = np.stack([b.mean(axis=1) if b.shape[1] else np.zeros(12) for b in edges], axis=1)
        df = np.array([5.4])
        found.append(split_of_blocks(block_gram(accuracy[None], weight, labels), weight, df))
    assert np.mean([one.finite_var for one in found]) == pytest.approx(0.7 * 0.3 / 100, rel=0.05)
    assert np.mean([one.movement_p[0] < 0.05 for one in found]) < 0.09  # blocks of 10 and 20


@pytest.mark.parametrize(
    ("num_val", "known"),
    [(90, {}), (1000, {"churn": 0.003, "jitter": 0.0}), (1000, {"num_blocks": 4})],
)
def test_few_examples_few_flips_or_few_blocks_give_no_share(num_val, known):
    told = measure_jitter(jitter_components(quick(num_val, 2, 9, **known).curves))
    for name in ("p_no_population_movement", "finite_df", "pop_var_low"):
        assert told[name].null_count() == 2
    assert told["hf_sd"].null_count() == 0


def test_blocks_without_flips_still_give_a_share():
    curves = quick(1000, 2, 10).curves
    missing = np.full(curves.to_wrong.shape, np.nan)
    known = {"block_accuracy": curves.block_accuracy, "block_weight": curves.block_weight}
    blind = type(curves).of_accuracy(
        curves.val_accuracy, val_n=curves.val_n, to_wrong=missing, to_right=missing, **known
    )
    told, seen = measure_jitter(jitter_components(blind)), measure_jitter(jitter_components(curves))
    assert told["pop_var"].equals(seen["pop_var"])
    assert (told["num_flips"] < seen["num_flips"]).all()
    assert told["churn"].null_count() == told["fin_sd_most"].null_count() == 2


@pytest.mark.parametrize("memory", [0.0, 0.95])
def test_flips_alone_bound_the_finite_part(memory):
    made = quick(500, 300, 11, jitter=0.004, memory=memory)
    parts = jitter_components(made.curves)
    v = mean(parts["finite_var"])
    assert mean(parts["finite_var_least"]) < v < mean(parts["finite_var_most"])
    assert mean(parts["finite_var_most"]) < 2.3 * mean(parts["finite_var_least"])


def test_the_bounds_follow_their_formula():
    flips = np.array([[np.nan, 10.0, 20.0, 30.0, 40.0]])
    labels = np.zeros((1, 5), np.int64)
    least, most = flip_bounds(flips, np.array([100.0]), np.array([1e-4]), labels)
    # Contrasts with both steps known: (10, 20), (20, 30), (30, 40).
    assert most[0] == pytest.approx((2 / 3) * np.mean([15, 25, 35]) / 100**2)
    assert least[0] == pytest.approx(most[0] / 2 - 1e-6)


def test_four_times_the_churn_shows_a_difference_of_two_errors():
    assert examples_needed(0.05, 0.01) == 2000
    assert examples_needed(0.05, 0.01, num_errors=2.8) == 3920
