"""Temperature, Brier score and calibration error, against plain float64 arithmetic."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, special

from raysweep.training.confidence import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    LogitMargins,
    as_they_are,
    block_losses,
    calibration_error,
    confidence_columns,
    fit_temperature,
)
from raysweep.training.group import ALONE, Group

CPU = torch.device("cpu")


def example(n=500, classes=10, sharpness=3.0, seed=0):
    """(logits, classes) of a model that is right more often than not and too sure of it."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    logits = rng.standard_normal((n, classes))
    logits[np.arange(n), y] += 1.5
    return sharpness * logits, y


def kept(logits, y, num_batches=3):
    """As the evaluation keeps them, a batch at a time."""
    batches = []
    for part in np.array_split(np.arange(len(y)), num_batches):
        z = torch.from_numpy(logits[part]).float().T.contiguous()
        z = z - z.max(0)[0]
        batches.append(LogitMargins(z, z.gather(0, torch.from_numpy(y[part])[None])[0]))
    return batches


def mean_loss(logits, y, temperature):
    return -special.log_softmax(logits / temperature, axis=1)[np.arange(len(y)), y].mean()


@pytest.mark.parametrize("sharpness", [0.05, 0.5, 1.0, 3.0, 20.0])
def test_the_temperature_is_the_one_at_which_the_loss_is_smallest(sharpness):
    logits, y = example(sharpness=sharpness)
    best: Any = optimize.minimize_scalar(
        lambda log: mean_loss(logits, y, np.exp(log)), bounds=(-5, 5), options={"xatol": 1e-9}
    )
    temperature, loss = fit_temperature(kept(logits, y), len(y), ALONE)
    assert temperature == pytest.approx(np.exp(best.x), rel=2e-4)
    assert loss == pytest.approx(best.fun, rel=1e-5)


def test_a_model_that_is_always_right_or_worse_than_chance_gets_the_end_of_the_range():
    logits, y = example()
    logits[np.arange(len(y)), y] += 100
    temperature, loss = fit_temperature(kept(logits, y), len(y), ALONE)
    assert temperature == pytest.approx(MIN_TEMPERATURE, rel=0.02)
    assert 0 <= loss < 1e-6
    logits[np.arange(len(y)), y] -= 200
    temperature, loss = fit_temperature(kept(logits, y), len(y), ALONE)
    assert temperature == pytest.approx(MAX_TEMPERATURE, rel=0.02)
    assert loss > np.log(10)


def test_equal_logits_and_none_at_all_have_an_answer():
    flat = np.zeros((30, 10))
    _, loss = fit_temperature(kept(flat, np.arange(30) % 10), 30, ALONE)
    assert loss == pytest.approx(np.log(10))
    # A worker may have no example of a small validation set.
    brier, sure = as_they_are([], CPU)
    assert (brier.tolist(), sure.tolist()) == ([0.0], [])


def test_a_logit_that_is_not_finite_leaves_null():
    logits, y = example()
    logits[3, 2] = np.nan
    batches = kept(logits, y)
    fitted = fit_temperature(batches, len(y), Group())
    brier, sure = as_they_are(batches, CPU)
    columns = confidence_columns(fitted, [], brier.item(), sure.numpy(), sure.numpy() > 0)
    assert columns == {}


def test_the_loss_at_the_temperature_adds_up_over_blocks():
    logits, y = example()
    batches = kept(logits, y)
    blocks = torch.arange(len(y)) % 7
    found = block_losses(batches, 2.5, blocks, 7)
    each = -special.log_softmax(logits / 2.5, axis=1)[np.arange(len(y)), y]
    expected = np.bincount(blocks.numpy(), weights=each, minlength=7)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


def test_the_brier_score_and_the_confidence_are_those_of_the_softmax():
    logits, y = example()
    p = special.softmax(logits, axis=1)
    brier, sure = as_they_are(kept(logits, y), CPU)
    assert brier.item() == pytest.approx(np.square(p - np.eye(10)[y]).sum(), rel=1e-5)
    np.testing.assert_allclose(sure, p.max(1), rtol=1e-5)


def test_the_calibration_error_is_that_of_fifteen_bins_of_equal_mass():
    rng = np.random.default_rng(2)
    confidence, n = rng.uniform(0.1, 1.0, 700), 700
    correct = rng.uniform(size=n) < confidence**2
    bins = np.array_split(np.argsort(confidence), 15)
    by_hand = sum(len(b) / n * abs(confidence[b].mean() - correct[b].mean()) for b in bins)
    assert calibration_error(confidence, correct) == pytest.approx(by_hand, abs=2e-3)
    assert calibration_error(confidence[:690], correct[:690]) == pytest.approx(
        sum(
            abs((confidence[b] - correct[b]).sum()) / 690
            for b in np.split(np.argsort(confidence[:690]), 15)
        )
    )
    assert calibration_error(confidence[:14], correct[:14]) is None
