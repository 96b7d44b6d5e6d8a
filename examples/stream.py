"""Training examples without an end, from an IterableDataset; a validation set of fixed ones."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import IterableDataset

from raysweep import Arrays, Data, Loader, Task

NUM_FEATURES, NUM_CLASSES = 10, 3


def draw(rng, count):
    centres = np.random.default_rng(0).standard_normal((NUM_CLASSES, NUM_FEATURES))
    y = rng.integers(0, NUM_CLASSES, count)
    x = centres[y] + rng.standard_normal((count, NUM_FEATURES))
    return x.astype("float32"), y


class Stream(IterableDataset):
    """Its draws come from torch's generator, which is seeded anew in each epoch."""

    def __iter__(self):
        rng = np.random.default_rng(int(torch.randint(2**31, (1,))))
        while True:
            x, y = draw(rng, 64)
            yield from zip(torch.from_numpy(x), torch.from_numpy(y), strict=True)


def load(folder):
    validation = Arrays(*draw(np.random.default_rng(1), 500))
    loader = Loader(steps_per_epoch=20)  # what an epoch is, since the stream has no length
    return Data(Stream(), validation, NUM_CLASSES, digest="stream 1", loader=loader)


def build(trial, data):
    hidden = nn.Linear(NUM_FEATURES, trial.width)
    return nn.Sequential(hidden, nn.ReLU(), nn.Linear(trial.width, NUM_CLASSES))


task = Task(load, build)
