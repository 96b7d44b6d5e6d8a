"""Two classes of unlike sizes with one output, where the rare class weighs more."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from raysweep import Arrays, Data, Task

NUM_FEATURES, RARE = 12, 0.15


def load(folder):
    rng = np.random.default_rng(0)
    y = (rng.random(1200) < RARE).astype("float32")
    x = rng.standard_normal((len(y), NUM_FEATURES)) + y[:, None] * 0.8
    x = x.astype("float32")
    return Data(Arrays(x[:800], y[:800]), Arrays(x[800:], y[800:]))


def build(trial, data):
    layers = [nn.Linear(NUM_FEATURES, trial.width), nn.ReLU(), nn.Linear(trial.width, 1)]
    return nn.Sequential(*layers, nn.Flatten(0))


def loss(outputs, targets):
    weight = torch.tensor((1 - RARE) / RARE, device=outputs.device)
    return functional.binary_cross_entropy_with_logits(
        outputs, targets, reduction="none", pos_weight=weight
    )


def score(outputs, targets):  # one truth value an example: right answers are counted
    return (outputs > 0) == (targets > 0)


task = Task(load, build, loss=loss, score=score, baseline=1 - RARE)
