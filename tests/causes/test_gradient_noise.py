"""The noise scale on a quadratic problem whose gradient and covariance are known."""

import numpy as np
import polars as pl
import pytest

from analysis.causes.gradient_noise import SCHEMA, gradient_and_noise, noise_scales
from analysis.stats.ratios import ratio_of_means

H = np.linspace(0.2, 2.0, 20)  # curvature of the loss, 1/2 theta' H theta
SIGMA = np.linspace(0.5, 3.0, 20) ** 2  # variances of one example's gradient around H theta
SMALL = 16


def epochs(rng, theta, *, num_epochs=20, steps=10, parts=4, trial="a"):
    """Rows as training records them: means over the sampled steps of an epoch."""
    noise = rng.normal(size=(num_epochs, steps, parts, len(H))) * np.sqrt(SIGMA / SMALL)
    small = H * theta + noise
    big = small.mean(axis=2)
    return pl.DataFrame(
        {
            "trial_id": trial,
            "epoch": np.arange(1, num_epochs + 1),
            "gns_steps": steps,
            "gns_b_small": float(SMALL),
            "gns_b_big": float(SMALL * parts),
            "gns_small_sq": (small**2).sum(axis=3).mean(axis=(1, 2)),
            "gns_big_sq": (big**2).sum(axis=2).mean(axis=1),
        }
    )


def test_the_scale_of_a_quadratic_is_within_15_percent_of_its_analytic_value():
    rng = np.random.default_rng(1)
    theta = np.full(20, 0.5)
    truth = SIGMA.sum() / ((H * theta) ** 2).sum()
    found = noise_scales(epochs(rng, theta)).row(0, named=True)
    assert found["noise_scale"] == pytest.approx(truth, rel=0.15)
    assert found["noise_scale_low"] < truth < found["noise_scale_high"]


def test_near_the_minimum_there_is_no_scale():
    """Nothing but noise: null in all but the 2.5 % of trials whose lower limit errs."""
    rng = np.random.default_rng(2)
    rows = pl.concat([epochs(rng, np.zeros(20), trial=f"{i:03d}") for i in range(200)])
    found = noise_scales(rows)
    assert found["noise_scale"].is_not_null().sum() <= 12  # 5 expected, 3 standard errors
    empty = found.filter(pl.col("noise_scale").is_null())
    assert empty["noise_scale_reason"].str.contains("lost in its noise").all()


def test_the_limits_cover_and_a_mean_of_ratios_would_not_do():
    rng = np.random.default_rng(3)
    theta = np.full(20, 0.25)
    truth = SIGMA.sum() / ((H * theta) ** 2).sum()
    rows = pl.concat([epochs(rng, theta, steps=2, trial=f"{i:03d}") for i in range(300)])
    found = noise_scales(rows)
    inside = (found["noise_scale_low"] < truth) & (found["noise_scale_high"] > truth)
    assert 0.90 < inside.mean() < 0.99
    assert found["noise_scale"].median() == pytest.approx(truth, rel=0.03)
    G, S = gradient_and_noise(
        *(
            rows[name].to_numpy()
            for name in ("gns_small_sq", "gns_big_sq", "gns_b_small", "gns_b_big")
        )
    )
    naive = np.mean((S / G).reshape(300, 20), axis=1)
    assert abs(np.mean(naive) / truth - 1) > 0.15


def test_epochs_count_by_their_steps():
    rng = np.random.default_rng(4)
    few = epochs(rng, np.full(20, 2.0), num_epochs=5, steps=1)
    many = epochs(rng, np.full(20, 0.5), num_epochs=20, steps=200)
    found = noise_scales(pl.concat([few, many])).row(0, named=True)
    truth = SIGMA.sum() / ((H * 0.5) ** 2).sum()
    assert found["noise_scale"] == pytest.approx(truth, rel=0.15)


def test_without_gradients_or_with_one_batch_size_there_is_nothing():
    rng = np.random.default_rng(6)
    rows = epochs(rng, np.ones(20), num_epochs=5)
    same = rows.with_columns(pl.col("gns_b_small").alias("gns_b_big"), trial_id=pl.lit("b"))
    null = rows.with_columns(pl.lit(None, pl.Float64).alias("gns_big_sq"), trial_id=pl.lit("c"))
    found = noise_scales(pl.concat([rows, same, null]))
    assert found["noise_scale"].is_not_null().to_list() == [True, False, False]
    assert found["noise_scale_reason"][1:].to_list() == [
        "0 epochs with gradients; 3 are needed",
        "no gradients recorded",
    ]
    assert found.schema == SCHEMA


def test_a_ratio_whose_denominator_may_be_zero_is_not_told():
    above, below = np.array([1.0, 1.1, 0.9, 1.0]), np.array([1.0, -1.0, 0.5, -0.4])
    assert np.isnan(ratio_of_means(above, below).value)
    assert np.isnan(ratio_of_means(above[:2], np.ones(2)).value)
    clear = ratio_of_means(above, np.array([2.0, 2.1, 1.9, 2.0]))
    assert clear.value == pytest.approx(0.5)
    assert clear.low < 0.5 < clear.high


def test_the_limits_of_a_ratio_cover():
    rng = np.random.default_rng(7)
    inside = 0
    for _ in range(1000):
        below = 1 + 0.5 * rng.normal(size=8)
        above = 0.4 * below + 0.2 * rng.normal(size=8)
        found = ratio_of_means(above, below)
        inside += found.low < 0.4 < found.high
        inside += np.isnan(found.value)
    assert 0.93 < inside / 1000 < 0.97
