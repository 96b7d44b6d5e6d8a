"""Which epochs count, the jitter and the wander of curves whose truth is known."""

import numpy as np
import polars as pl
import pytest

from analysis.calibration.simulate import ar1
from analysis.curves import Curves
from analysis.measures.jitter import jitter_components, measure_jitter, pool_jitter
from analysis.measures.wander import plateau, plateau_interval
from analysis.stats.intervals import detectable_ratio, sd_ratio, variance_factors
from analysis.stats.trend import THIRD, contrast_variance, planned_df, segments


def flat(num_epochs):
    return np.ones((1, num_epochs))


def everything(values):
    return np.zeros(values.shape, np.int64)


# --- which epochs count


def test_a_constant_rate_gives_up_15_percent_of_its_epochs():
    assert (segments(flat(60))[0] == [-1] * 9 + [0] * 51).all()
    assert (segments(flat(12)) >= 0).sum() == 9
    assert (segments(flat(3)) >= 0).sum() == 0
    assert segments(np.ones((1, 1))).tolist() == [[-1]]


def test_a_drop_of_the_rate_starts_a_segment_and_costs_three_epochs():
    lr = np.where(np.arange(40) < 20, 0.1, 0.01)[None]
    assert segments(lr)[0].tolist() == [-1] * 3 + [0] * 17 + [-1] * 3 + [1] * 17


def test_warm_up_is_left_out():
    lr = np.minimum(np.arange(1, 31) / 5, 1.0)[None]
    labels = segments(lr)[0]
    assert (labels[:8] == -1).all()
    assert len(set(labels[8:]) - {-1}) == 1


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
    assert planned_df([0.1] * 60, num_seeds=2) == pytest.approx(2 * 18 / 35 * 49, rel=0.02)


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


@pytest.mark.parametrize(
    ("num_epochs", "correlation"),
    [(20, 0.0), (20, 0.6), (50, 0.0), (50, 0.9), (100, 0.0), (100, 0.6)],
)
def test_the_interval_covers_the_variance_of_the_contrasts(num_epochs, correlation):
    rng = np.random.default_rng(3)
    curves = ar1(rng, (4000, num_epochs), correlation).astype(float)
    variance, df = contrast_variance(curves, everything(curves))
    low, high = variance_factors(df)
    seen = 1 - 4 / 3 * correlation + correlation**2 / 3
    covered = np.mean((variance * low < seen) & (variance * high > seen))
    assert 0.93 < covered < 0.985  # two binomial SEs are 0.007; the chi-square is a fit


def test_seeds_are_pooled_by_degrees_of_freedom():
    rng = np.random.default_rng(9)
    short, long = (
        jitter_components(Curves.of_accuracy(0.9 + 0.01 * rng.standard_normal((1, num_epochs))))
        for num_epochs in (30, 60)
    )
    parts = pl.concat([short, long]).with_columns(pl.lit("a").alias("config"))
    few = jitter_components(Curves.of_accuracy(np.full((1, 9), 0.9))).with_columns(
        pl.lit("b").alias("config")
    )
    a, b = measure_jitter(pool_jitter(pl.concat([parts, few]), "config")).iter_rows(named=True)
    variance, df = parts["hf_var"].to_numpy(), parts["hf_df"].to_numpy()
    assert a["hf_sd"] == pytest.approx(np.sqrt((variance * df).sum() / df.sum()))
    assert a["hf_df"] == pytest.approx(df.sum())
    assert a["hf_sd_low"] < a["hf_sd"] < a["hf_sd_high"]
    assert b["num_usable_epochs"] == 6
    assert all(b[name] is None for name in ("hf_sd", "hf_df", "plateau_sd", "pop_var"))


def test_slow_wander_shows_in_the_plateau_and_not_in_the_jitter():
    wave = 0.02 * np.sin(2 * np.pi * np.arange(60) / 12)[None]
    labels = segments(flat(60))
    assert np.sqrt(contrast_variance(wave, labels)[0][0]) < 0.004
    assert np.sqrt(plateau(wave, labels).var[0]) == pytest.approx(0.0144, rel=0.1)


@pytest.mark.parametrize(
    ("num_epochs", "correlation", "mixed"),
    [(20, 0.9, 1), (60, 0.0, 1), (60, 0.9, 1), (120, 0.9, 0.5)],
)
def test_the_limits_of_the_plateau_hold_up_to_a_correlation_of_0_9(num_epochs, correlation, mixed):
    """Nominal 97.5 % each; the upper one must not fall below 95 %, less two binomial SEs."""
    rng = np.random.default_rng(10)
    noise = np.sqrt(mixed) * ar1(rng, (2000, num_epochs), correlation).astype(float)
    noise += np.sqrt(1 - mixed) * rng.standard_normal(noise.shape)
    found = plateau(noise, everything(noise))
    low, high = plateau_interval(*found, np.ones(2000))
    assert np.mean(low > 1) < 0.035
    assert np.mean(high < 1) < 0.06
    if correlation == 0:
        assert np.sqrt(np.median(high)) < 2  # and it still says something


def test_more_seeds_narrow_the_limits_of_the_plateau():
    one, five = (plateau_interval(1.0, 0.9, 51, num)[1][0] for num in (1, 5))
    assert 1 < five < one


def test_a_curve_too_short_for_any_contrast_has_nulls_and_no_warnings():
    for num_epochs in (1, 2, 3, 5):
        told = measure_jitter(jitter_components(Curves.of_accuracy(np.full((2, num_epochs), 0.5))))
        assert told["hf_sd"].null_count() == told["plateau_sd"].null_count() == 2


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
