"""Several labels for each example, each of them there or not."""

import numpy as np
from torch import nn
from torch.nn import functional

from raysweep import Arrays, Data, Task

NUM_FEATURES, NUM_LABELS = 20, 5


def load(folder):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((900, NUM_FEATURES)).astype("float32")
    weights = rng.standard_normal((NUM_FEATURES, NUM_LABELS))
    y = (x @ weights + rng.standard_normal((len(x), NUM_LABELS)) > 0).astype("float32")
    return Data(Arrays(x[:600], y[:600]), Arrays(x[600:], y[600:]))


def build(trial, data):
    hidden = nn.Linear(NUM_FEATURES, trial.width)
    return nn.Sequential(hidden, nn.ReLU(), nn.Linear(trial.width, NUM_LABELS))


def loss(outputs, targets):  # shape (examples, labels): the mean of an example's labels counts
    return functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none")


def score(outputs, targets):  # the share of an example's labels that are right
    return (outputs > 0) == (targets > 0)


task = Task(load, build, loss=loss, score=score, score_name="label accuracy", baseline=0.5)
