"""The end of a curve: does it still rise, and does it promise only what can be kept?"""

import numpy as np
import pytest

from analysis.calibration.measured.late import shapes, told
from analysis.calibration.simulate import ar1
from analysis.curves import Curves
from analysis.measures.late import LEVEL, late_trend

TIME = np.arange(60)


def row_of(accuracy, **known):
    return late_trend(Curves.of_accuracy(np.asarray(accuracy, float)[None], **known)).row(
        0, named=True
    )


def test_a_line_keeps_its_slope_and_promises_as_much_again():
    row = row_of(0.5 + 1e-3 * TIME)
    assert row["late_slope"] == pytest.approx(1e-3)
    assert row["late_slope_low"] == pytest.approx(1e-3)
    assert row["projected_gain"] == pytest.approx(0.06)


def test_nothing_is_promised_beyond_all_examples():
    assert row_of(0.38 + 1e-2 * TIME)["projected_gain"] == pytest.approx(1 - 0.94, abs=1e-6)


def test_a_rise_that_slows_down_promises_what_is_left_of_it():
    row = row_of(0.9 - 0.4 * np.exp(-TIME / 20))
    assert row["projected_gain"] == pytest.approx(0.4 * (np.exp(-3) - np.exp(-6)), rel=0.25)


def test_nothing_is_promised_beyond_the_epochs_of_the_last_segment():
    rate = np.where(TIME < 30, 1, 0.1)[None]
    row = row_of(np.where(TIME < 30, 0.5, 0.6) + 1e-3 * TIME, lr=rate)
    assert row["late_slope"] == pytest.approx(1e-3)
    assert row["projected_gain"] == pytest.approx(0.03, rel=0.01)


@pytest.mark.parametrize(
    "rate",
    [
        0.5 * (1 + np.cos(np.pi * TIME / 60)),
        1 - TIME / 60,
        np.where(TIME < 45, 1, 0.1),
        TIME * np.nan,
    ],
    ids=["cosine", "linear", "a late step", "not known"],
)
def test_nothing_is_promised_where_the_rate_falls_late_or_is_not_known(rate):
    assert row_of(0.5 + 1e-3 * TIME, lr=rate[None])["projected_gain"] is None


def test_few_epochs_or_a_hole_at_the_end_tell_nothing():
    assert row_of(np.linspace(0.5, 0.6, 6))["late_slope"] is None
    assert row_of(np.where(TIME == 55, np.nan, 0.5 + 1e-3 * TIME))["late_slope"] is None
    assert row_of(np.where(TIME == 5, np.nan, 0.5 + 1e-3 * TIME))["late_slope"] is not None


@pytest.mark.parametrize("num_epochs", [20, 60])
@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_the_limit_of_the_slope_holds_for_noise_of_any_memory(num_epochs, correlation, simulation):
    rng = simulation([1, num_epochs])
    noise = 0.01 * ar1(rng, (800, num_epochs), correlation).astype(float)
    found = late_trend(Curves.of_accuracy(0.5 + 1e-3 * np.arange(num_epochs) + noise))
    low = found["late_slope_low"].drop_nulls()
    assert len(low) >= 780
    assert (low.to_numpy() <= 1e-3).mean() >= 0.94 - LEVEL / 2
    assert np.nanmean(found["late_slope"].to_numpy()) == pytest.approx(1e-3, abs=3e-4)


@pytest.mark.parametrize("name", shapes(60))
@pytest.mark.parametrize("num_epochs", [60, 120])
def test_still_learning_is_seldom_false_and_a_rise_of_4_pp_is_told(name, num_epochs, simulation):
    assert simulation
    (trend, rates), gain = shapes(num_epochs)[name]
    for correlation in (0.0, 0.6, 0.9):
        share = told(trend, rates, 0.003, correlation, 300)
        if gain < 0.02:
            assert share <= 0.08, correlation
        elif not correlation or "less and less" in name:
            assert share >= 0.8
