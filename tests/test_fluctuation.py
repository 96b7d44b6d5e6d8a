"""Jitter and its finite-set part, against simulations whose truth is known."""

import numpy as np
import polars as pl
import pytest
from simulated import Curve, ar1, correctness, levels, population_accuracy

from analysis.fluctuation import (
    THIRD,
    contrast_variance,
    finite_variance,
    planned_df,
    plateau_variance,
    pool,
    segments,
    summarise,
    usable_epochs,
)
from analysis.stats import detectable_ratio, sd_ratio, variance_factors

NUM_BLOCKS = 20


def flat(num_epochs):
    return np.ones((1, num_epochs))


def everything(values):
    return np.zeros(values.shape, np.int64)


def blocks_of(right):
    """(T, n) correctness -> block accuracy (1, T, K) and weight (1, K)."""
    block = np.arange(right.shape[1]) % NUM_BLOCKS
    accuracy = np.stack([right[:, block == k].mean(axis=1) for k in range(NUM_BLOCKS)], axis=1)
    weight = np.bincount(block, minlength=NUM_BLOCKS) / right.shape[1]
    return accuracy[None], weight[None]


# --- which epochs count


def test_a_constant_rate_gives_up_15_percent_of_its_epochs():
    assert (segments(flat(60))[0] == [-1] * 9 + [0] * 51).all()
    assert usable_epochs(60) == 51
    assert usable_epochs(12) == 9
    assert usable_epochs(3) == 0
    assert segments(np.ones((1, 1))).tolist() == [[-1]]


def test_a_drop_of_the_rate_starts_a_segment_and_costs_three_epochs():
    lr = np.where(np.arange(40) < 20, 0.1, 0.01)[None]
    assert segments(lr)[0].tolist() == [-1] * 3 + [0] * 17 + [-1] * 3 + [1] * 17


def test_warm_up_is_left_out():
    lr = np.minimum(np.arange(1, 31) / 5, 1.0)[None]
    labels = segments(lr)[0]
    assert (labels[:8] == -1).all()
    assert (labels[8:] == 0).all()
    assert usable_epochs(30, warmup_epochs=5) == (labels >= 0).sum()


def test_a_smooth_schedule_is_cut_into_thirds():
    epoch = np.arange(60)
    lr = 0.5 * (1 + np.cos(np.pi * epoch / 60))[None]
    labels = segments(lr)[0]
    assert set(labels[9:20]) == {0}
    assert set(labels[20:40]) == {1}
    assert set(labels[40:]) == {2}


def test_no_contrast_reaches_over_a_jump():
    accuracy = np.where(np.arange(40) < 20, 0.5, 0.9)[None]
    lr = np.where(np.arange(40) < 20, 0.1, 0.01)[None]
    assert contrast_variance(accuracy, segments(lr))[0][0] == pytest.approx(0, abs=1e-20)


# --- the jitter


def test_degrees_of_freedom_are_those_of_the_whole_contrast_matrix():
    labels = np.array([[-1, 0, 0, 0, 0, 0, 1, 1, 1, 1, -1, 1]])
    rows = [w for w in range(10) if len({*labels[0, w : w + 3]}) == 1 and labels[0, w] >= 0]
    D = np.zeros((len(rows), 12))
    for i, w in enumerate(rows):
        D[i, w : w + 3] = (0.5, -1, 0.5)
    gram = D @ D.T
    values = np.random.default_rng(1).standard_normal((1, 12))
    variance, df = contrast_variance(values, labels)
    assert df[0] == pytest.approx(np.trace(gram) ** 2 / np.trace(gram @ gram))
    assert variance[0] == pytest.approx(((D @ values[0]) ** 2).sum() / np.trace(gram))
    assert planned_df(60, num_seeds=2) == pytest.approx(2 * 18 / 35 * 49, rel=0.02)


def test_the_jitter_is_not_the_trend():
    """Exponential rise with 1 pp of jitter: GSJS within 10 %, first differences more than twice."""
    rng = np.random.default_rng(2)
    trend = 0.9 - 0.5 * np.exp(-np.arange(50) / 8)
    curves = trend + 0.01 * rng.standard_normal((4000, 50))
    estimate = contrast_variance(curves, everything(curves))[0].mean() / 1e-4
    third = contrast_variance(curves, everything(curves), THIRD)[0].mean() / 1e-4
    first = (np.diff(curves, axis=1) ** 2).mean() / 2 / 1e-4
    assert 0.9 < estimate < 1.1
    assert 0.95 < third < 1.05
    assert first > 2


@pytest.mark.parametrize(("num_epochs", "correlation"), [(20, 0.0), (50, 0.0), (100, 0.0)])
def test_the_interval_covers_the_variance_of_the_contrasts(num_epochs, correlation):
    rng = np.random.default_rng(3)
    curves = ar1(rng, (num_epochs, 4000), correlation).T
    variance, df = contrast_variance(curves, everything(curves))
    low, high = variance_factors(df)
    covered = np.mean((variance * low < 1) & (variance * high > 1))
    assert 0.93 < covered < 0.975  # 0.95 +- 0.007 is two binomial SEs; the chi-square is a fit


def test_seeds_are_pooled_by_degrees_of_freedom():
    parts = pl.DataFrame(
        {"config": ["a", "a", "b"], "num_usable_epochs": [20, 40, 9], "val_n": [500] * 3,
         "hf_var": [1.0, 4.0, None], "hf_df": [10.0, 20.0, None], "finite_var": [0.5, 2.0, None],
         "third_var": [1.0, 4.0, None], "plateau_var": [1.0, 4.0, None], "churn": [0.1, 0.2, None],
         "num_flips": [300.0, 400.0, 0.0]}
    )  # fmt: skip
    a, b = summarise(pool(parts, "config")).iter_rows(named=True)
    assert a["hf_sd"] == pytest.approx(np.sqrt(3.0))
    assert a["pop_var"] == pytest.approx(1.5)
    assert a["hf_sd_low"] < a["hf_sd"] < a["hf_sd_high"]
    assert b["hf_sd"] is None
    assert b["finite_share"] is None


def test_slow_wander_shows_in_the_plateau_and_not_in_the_jitter():
    wave = 0.02 * np.sin(2 * np.pi * np.arange(60) / 12)[None]
    labels = segments(flat(60))
    assert np.sqrt(contrast_variance(wave, labels)[0][0]) < 0.004
    assert np.sqrt(plateau_variance(wave, labels)[0]) == pytest.approx(0.0144, rel=0.1)


# --- what the finite validation set makes of it


@pytest.mark.parametrize("memory", [0.0, 0.8])
@pytest.mark.parametrize("num_val", [200, 1000])
def test_blocks_tell_population_movement_from_the_finite_set(memory, num_val):
    """Over validation sets and seeds: s2_HF - v is unbiased for the population's own variance."""
    curve = Curve(final=1.2, process=0.05, churn=0.3, memory=memory, speed=1.0)
    num_epochs, observed, finite, truth = 40, [], [], []
    for seed in range(150):
        rng = np.random.default_rng([4, seed])
        level = levels(curve, num_epochs, rng)
        right = correctness(curve, level, rng.standard_normal(num_val), rng)
        labels = segments(flat(num_epochs))
        observed.append(contrast_variance(right.mean(axis=1)[None], labels)[0][0])
        finite.append(finite_variance(*blocks_of(right), labels)[0])
        moved = population_accuracy(curve, level)[None]
        truth.append(contrast_variance(moved, labels)[0][0])
    observed, finite, truth = map(np.array, (observed, finite, truth))
    excess = observed - finite - truth
    # Unbiased: within three standard errors of zero, which are a fraction of the effect.
    assert abs(excess.mean()) < 3 * excess.std() / np.sqrt(len(excess))
    assert excess.std() / np.sqrt(len(excess)) < 0.15 * truth.mean()
    # The binomial error p(1-p)/n would have been wrong by far: only flips move accuracy.
    p = population_accuracy(curve, np.array([curve.final]))[0]
    assert p * (1 - p) / num_val > 3 * finite.mean()


def test_unequal_and_empty_blocks_are_weighted():
    rng = np.random.default_rng(5)
    counts = np.array([40, 40, 20, 0])
    weight = (counts / 100)[None]
    estimates = []
    for _ in range(3000):
        right = rng.random((12, 100)) < 0.7
        edges = np.split(right, np.cumsum(counts)[:-1], axis=1)
        accuracy = np.stack([b.mean(axis=1) if b.shape[1] else np.zeros(12) for b in edges], axis=1)
        estimates.append(finite_variance(accuracy[None], weight, np.zeros((1, 12), np.int64))[0])
    assert np.mean(estimates) == pytest.approx(0.7 * 0.3 / 100, rel=0.04)


def test_few_examples_or_few_flips_give_no_share():
    base = {"num_usable_epochs": 50, "hf_var": 2e-4, "hf_df": 25.0, "finite_var": 1e-4,
            "third_var": 2e-4, "plateau_var": 2e-4, "churn": 0.1}  # fmt: skip
    frame = pl.DataFrame(
        [
            {**base, "val_n": 1000, "num_flips": 250.0},
            {**base, "val_n": 99, "num_flips": 250.0},
            {**base, "val_n": 1000, "num_flips": 199.0},
        ]
    )
    told = summarise(frame)
    assert told["fin_sd"].is_null().to_list() == [False, True, True]
    assert told["pop_var"].is_null().to_list() == [False, True, True]
    assert told["hf_sd"].null_count() == 0


def test_the_share_and_the_population_part_have_honest_limits():
    """Normal jitter of known parts: both intervals cover in 93 to 97 % of 3000 curves."""
    rng = np.random.default_rng(6)
    df, finite, population = 25.0, 1.0, 1.5
    total = finite + population
    frame = pl.DataFrame(
        {"hf_var": total * rng.chisquare(df, 3000) / df, "hf_df": df, "finite_var": finite,
         "third_var": 1.0, "plateau_var": 1.0, "churn": 0.1, "val_n": 1000, "num_flips": 1000.0,
         "num_usable_epochs": 50}
    )  # fmt: skip
    told = summarise(frame)
    share = finite / total
    covered = (
        told.filter(pl.col("finite_share_low") < share, pl.col("finite_share_high") > share).height
        / 3000
    )
    assert 0.93 < covered < 0.97
    covered = (
        told.filter(pl.col("pop_var_low") < population, pl.col("pop_var_high") > population).height
        / 3000
    )
    assert 0.93 < covered < 0.97
    assert told["finite_share"].mean() == pytest.approx(share, abs=0.02)


# --- power and ratios


def test_48_degrees_of_freedom_find_a_ratio_of_one_and_a_half():
    assert detectable_ratio(48) == pytest.approx(1.5, abs=0.02)
    assert detectable_ratio(48, finite_share=0.5) == pytest.approx(detectable_ratio(12))
    assert detectable_ratio(0.5) == np.inf


def test_the_detectable_ratio_is_found_with_80_percent_power():
    rng = np.random.default_rng(7)
    found = 0
    for _ in range(1000):
        variance = detectable_ratio(48) ** 2 * rng.chisquare(48) / 48
        _, low, high = sd_ratio(variance, 48, rng.chisquare(48) / 48, 48)
        found += low > 1 or high < 1
    assert 0.76 < found / 1000 < 0.84


@pytest.mark.parametrize("num_slices", [1, 4])
def test_the_interval_of_a_ratio_covers(num_slices):
    rng = np.random.default_rng(8)
    scale = np.geomspace(1, 100, num_slices)  # slices may differ wildly in level
    covered = 0
    for _ in range(2000):
        ours = 4 * scale * rng.chisquare(20, num_slices) / 20
        theirs = scale * rng.chisquare(30, num_slices) / 30
        _, low, high = sd_ratio(ours, np.full(num_slices, 20), theirs, np.full(num_slices, 30))
        covered += low < 2 < high
    assert 0.935 < covered / 2000 < 0.965
