"""Segments: where conditions jump, told from noise, spikes and slow drift."""

import numpy as np
import pytest

from analysis.calibration.simulate import ar1
from analysis.stats.segments import rate_falls, segments, settled

T = 100
TIME = np.arange(T)


def starts(labels):
    return (np.flatnonzero(np.diff(labels) != 0) + 1).tolist()


def of_rate(rate):
    return segments(np.zeros((1, len(rate))), np.asarray(rate, float)[None])[0]


def cosine(num):
    return 0.5 * (1 + np.cos(np.pi * np.arange(num) / num))


SCHEDULES = {
    "constant": (np.ones(T), []),
    "two steps": (np.where(TIME < 50, 1, np.where(TIME < 75, 0.1, 0.01)), [50, 75]),
    "a step over two epochs": (np.select([TIME < 50, TIME < 51], [1, 0.4], 0.1), [51]),
    "warm-up": (np.minimum((TIME + 1) / 10, 1), [9]),
    "warm-up and a step": (np.minimum((TIME + 1) / 10, 1) * np.where(TIME < 60, 1, 0.1), [9, 60]),
    "cosine": (cosine(T), [33, 66]),
    "linear to nothing": (1 - TIME / T, [33, 66]),
    "exponential": (0.7**TIME, [33, 66]),
    "one-cycle": (np.concatenate([np.linspace(0.04, 1, 30), cosine(70)]), [29, 52, 76]),
    "restart": (np.tile(cosine(50), 2), [16, 33, 50, 66, 83]),
    "a step at the very end": (np.where(TIME < 98, 1, 0.1), []),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_logged_rate_is_cut_where_it_jumps_and_into_thirds_where_it_never_rests(name):
    rate, expected = SCHEDULES[name]
    found = starts(of_rate(rate))
    assert len(found) == len(expected)
    assert np.abs(np.subtract(found, expected)).max(initial=0) <= 1


def test_labels_are_numbers_in_the_order_of_time_and_minus_one_where_nothing_is_known():
    values = ar1(np.random.default_rng(0), (5, T), 0.5).astype(float)
    values[:, 50:] += 30
    values[1, 40:44] = values[2, -1] = np.nan
    values[3] = np.nan
    labels = segments(values)
    assert (labels == -1).tolist() == np.isnan(values).tolist()
    for row in (0, 1, 2, 4):
        kept = labels[row][labels[row] >= 0]
        assert set(np.diff(kept)) <= {0, 1}
        assert kept[0] == 0
        assert labels[row, 45] == 0
        assert labels[row, 55] == 1


@pytest.mark.parametrize("num_epochs", [0, 1, 2, 5, 29])
def test_a_short_curve_without_a_rate_is_one_segment(num_epochs):
    assert (segments(np.zeros((2, num_epochs))) == 0).all()


@pytest.mark.parametrize("num_epochs", [40, 100, 400])
@pytest.mark.parametrize("correlation", [0.0, 0.9, 1.0])
def test_noise_of_any_memory_has_no_jumps(num_epochs, correlation):
    rng = np.random.default_rng([1, num_epochs])
    shape = (400, num_epochs)
    walk = rng.standard_normal(shape).cumsum(axis=1)
    values = walk if correlation == 1 else ar1(rng, shape, correlation).astype(float)
    assert (segments(values).max(axis=1) > 0).mean() <= 0.02


@pytest.mark.parametrize("kind", ["decay", "cosine", "linear", "rise", "spikes"])
def test_slow_drift_and_spikes_are_no_jumps(kind):
    rng = np.random.default_rng(2)
    noise = 0.01 * ar1(rng, (400, T), 0.5).astype(float)
    learning = 2 * np.exp(-TIME / rng.uniform(2, 15, (400, 1)))
    drift = {
        "decay": 0,
        "cosine": cosine(T),
        "linear": -TIME / T,
        "rise": 0.5 * np.clip(TIME / T - 0.3, 0, None),
        "spikes": 0.1 * (rng.random((400, T)) < 0.03),
    }[kind]
    assert (segments(learning + drift + noise).max(axis=1) > 0).mean() <= 0.05


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_steps_of_an_unlogged_rate_are_found_to_within_two_evaluations(correlation):
    """At one step the loss falls by ten SDs of its noise, at the next by ten SDs of what is left,
    and the noise halves each time."""
    rng = np.random.default_rng(3)
    noise = ar1(rng, (300, T), correlation) * np.where(TIME < 50, 1, np.where(TIME < 75, 0.5, 0.25))
    level = 60 * np.exp(-TIME / 4) - np.where(TIME < 50, 0, np.where(TIME < 75, 10, 15))
    found = [starts(labels) for labels in segments((level + noise).astype(float))]
    first = [any(abs(at - 50) <= 2 for at in row) for row in found]
    second = [any(abs(at - 75) <= 2 for at in row) for row in found]
    assert np.mean(first) >= 0.9
    assert np.mean(second) >= 0.85
    assert np.mean([len(row) > 2 for row in found]) <= 0.05


def test_level_scale_and_sign_of_a_curve_do_not_matter():
    values = ar1(np.random.default_rng(4), (50, T), 0.3).astype(float)
    values[:, 60:] -= 8
    expected = segments(values)
    assert (segments(1000 - 1e-3 * values) == expected).all()


def test_a_rate_that_varies_is_believed_and_one_that_never_does_is_not():
    values = ar1(np.random.default_rng(5), (1, T), 0.0).astype(float)
    values[:, 50:] += 20
    step = np.where(TIME < 70, 1.0, 0.1)[None]
    assert starts(segments(values, step)[0]) == [70]
    assert starts(segments(values, np.ones((1, T)))[0]) == starts(segments(values)[0]) != []


def test_settled_leaves_out_warm_up_the_beginning_and_what_follows_a_jump():
    rate = np.where(TIME < 50, 1, 0.1)[None] * np.minimum((TIME + 1) / 5, 1)
    labels = settled(segments(np.zeros((1, T)), rate), rate)[0]
    out = [*range(4 + 7), 50, 51, 52]
    assert np.flatnonzero(labels < 0).tolist() == out
    thirds = cosine(60)[None]
    labels = settled(segments(np.zeros((1, 60)), thirds), thirds)[0]
    assert (labels >= 0).sum() == 51


def test_a_rate_falls_where_it_ends_below_three_quarters_of_what_it_was():
    rates = np.stack([np.ones(T), cosine(T), np.where(TIME < 50, 1, 0.1), np.full(T, np.nan)])
    assert rate_falls(rates, 66).tolist() == [False, True, False, False]
    assert rate_falls(rates, 40).tolist() == [False, True, True, False]
