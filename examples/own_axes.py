"""Hyperparameters of one's own: of the model, the optimizer and the training data."""

import numpy as np
import torch
from pydantic import Field
from torch import nn

from raysweep import Arrays, Hyperparameters, Task
from raysweep.tasks import digits


class Trial(Hyperparameters):  # `base:`, `axes:` and `--set` know these fields
    activation: str = Field("relu", pattern="^(relu|tanh|gelu)$")
    head_rate: float = Field(1.0, gt=0)  # learning rate of the last layer, as a multiple
    train_share: float = Field(1.0, gt=0, le=1)


def build(trial, data):
    kind = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}[trial.activation]
    body = nn.Sequential(nn.Linear(64, trial.width), kind())
    return nn.Sequential(body, nn.Linear(trial.width, data.num_classes))


def optimizer(trial, model):  # the trial's schedule scales the rate of each group
    body, head = model
    head_group = {"params": head.parameters(), "lr": trial.learning_rate * trial.head_rate}
    groups = [{"params": body.parameters()}, head_group]
    return torch.optim.NAdam(groups, trial.learning_rate, weight_decay=trial.weight_decay)


def prepare(trial, data):  # training examples alone: the validation set stays what it is
    order = np.random.default_rng(0).permutation(len(data.train.y))
    kept = order[: round(trial.train_share * len(order))]
    return data._replace(train=Arrays(data.train.x[kept], data.train.y[kept]))


task = Task(digits.load, build, optimizer=optimizer, hyperparameters=Trial, prepare=prepare)
