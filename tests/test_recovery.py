"""Whether a curve that fell rises again."""

import numpy as np
import pytest

from analysis.curves import Curves
from analysis.recovery import measures
from analysis.simulate import ar1


def recovering(trend, *, correlation=0.0, noise=0.01, num=1000):
    jitter = noise * ar1(np.random.default_rng(0), (num, len(trend)), correlation).astype(float)
    return measures(Curves.of_accuracy(0.9 + trend + jitter))


def dip(num_epochs, depth):
    time = np.arange(num_epochs) / num_epochs
    return -depth * np.exp(-(((time - 0.5) / 0.15) ** 2))


@pytest.mark.parametrize("num_epochs", [20, 60, 120])
@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_a_curve_that_only_rises_or_only_falls_is_not_recovering(num_epochs, correlation):
    time = np.arange(num_epochs) / num_epochs
    for trend in (-0.3 * np.exp(-8 * time), -0.06 * time, 0 * time):
        share = recovering(trend, correlation=correlation)["recovering"].mean()
        assert share < 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / 1000)


def test_a_dip_is_found_with_its_place():
    found = recovering(dip(60, 0.06), correlation=0.3)
    assert found["recovering"].to_numpy().mean() > 0.9
    lowest = found["lowest_epoch"].mean()
    assert isinstance(lowest, float)
    assert 30 < lowest < 38  # the last epoch of the lowest window of 7


def test_too_few_epochs_or_a_missing_one_give_null():
    assert recovering(np.zeros(17), num=3)["recovering"].null_count() == 3
    accuracy = np.full((1, 40), 0.9)
    accuracy[0, 30] = np.nan
    assert measures(Curves.of_accuracy(accuracy))["recovering"][0] is None
