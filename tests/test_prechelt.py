"""Prechelt's measures: the numbers that a hand would get."""

import numpy as np
import pytest

from analysis.curves import Curves
from analysis.prechelt import measures


def of(loss, train_loss=None):
    loss = np.atleast_2d(np.asarray(loss, float))
    train = np.ones_like(loss) if train_loss is None else np.atleast_2d(train_loss)
    found = measures(Curves.of_accuracy(loss * 0, val_loss=loss, train_loss=train))
    return found.row(0, named=True)


def test_a_hand_made_curve_gives_the_numbers_of_the_formulas():
    loss = [2.0, 1.5, 1.0, 1.1, 1.2, 1.1, 1.2, 1.3, 1.2, 1.4]
    train = [1.0] * 5 + [0.5, 0.45, 0.4, 0.45, 0.5]
    row = of(loss, np.array(train))
    assert row["prechelt_gl"] == pytest.approx(40)
    assert row["prechelt_progress"] == pytest.approx(1000 * (0.46 / 0.4 - 1))
    assert row["prechelt_pq"] == pytest.approx(40 / 150)
    assert row["prechelt_up"] == 1  # 1.4 > 1.2, and 1.2 stands in the first strip
    assert row["prechelt_gl_smooth"] == pytest.approx(100 * (1.24 / 1.12 - 1))


def test_strips_are_counted_back_from_the_end():
    falls, rises = np.linspace(2, 1, 11), np.linspace(1, 2, 15)
    assert of(rises)["prechelt_up"] == 2
    assert of(np.concatenate([falls, rises]))["prechelt_up"] == 3
    assert of(falls)["prechelt_up"] == 0


def test_losses_near_zero_and_training_that_stands_still_divide_by_nothing():
    row = of([1.0] * 6 + [0.0] * 4 + [1e-5])
    assert row["prechelt_gl"] == 0
    assert row["prechelt_pq"] == 0
    assert np.isfinite(of([0.0] * 10 + [1.0])["prechelt_pq"])


def test_too_few_epochs_or_a_missing_one_give_null():
    short = of([1.0, 2.0, 3.0])
    assert all(value is None for name, value in short.items() if name != "trial_id")
    missing = of([np.nan] + [1.0] * 11)
    assert missing["prechelt_gl"] is None
    assert missing["prechelt_up"] is None


def test_noise_alone_drives_the_raw_measure_more_than_the_smoothed_one():
    loss = 1 + 0.05 * np.random.default_rng(0).standard_normal((500, 60))
    found = measures(Curves.of_accuracy(loss * 0, val_loss=loss, train_loss=loss))
    raw, smooth = found["prechelt_gl"].mean(), found["prechelt_gl_smooth"].mean()
    assert isinstance(raw, float)
    assert isinstance(smooth, float)
    assert raw > 10
    assert smooth < 0.5 * raw
