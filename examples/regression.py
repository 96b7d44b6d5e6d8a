"""Linear regression with squared errors; the score is the share of the variance explained."""

import numpy as np
from torch import nn
from torch.nn import functional

from raysweep import Arrays, Data, Task

NUM_FEATURES = 16


def load(folder):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1200, NUM_FEATURES)).astype("float32")
    y = x @ rng.standard_normal(NUM_FEATURES) / 4 + 0.5 * rng.standard_t(5, len(x))
    y = ((y - y.mean()) / y.std()).astype("float32")
    return Data(Arrays(x[:800], y[:800]), Arrays(x[800:], y[800:]))


def build(trial, data):
    return nn.Sequential(nn.Linear(NUM_FEATURES, 1), nn.Flatten(0))


def loss(outputs, targets):  # one number for each example
    return functional.mse_loss(outputs, targets, reduction="none")


def score(outputs, targets):  # the targets have a variance of 1, so the mean is R²
    return 1 - (outputs - targets) ** 2


task = Task(load, build, loss=loss, score=score, score_name="R²", baseline=0.0, margin=0.01)
