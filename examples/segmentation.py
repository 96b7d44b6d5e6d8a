"""Which pixels belong to the disc? The loss is of each pixel, the score an image's overlap."""

import numpy as np
from torch import nn

from raysweep import Arrays, Data, Task

SIDE = 24


def load(folder):
    rng = np.random.default_rng(0)
    centres, radii = rng.uniform(6, SIDE - 6, (300, 2)), rng.uniform(3, 6, 300)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(rows - centres[:, 0, None, None], columns - centres[:, 1, None, None])
    masks = (distance < radii[:, None, None]).astype("int64")
    images = (masks + 0.7 * rng.standard_normal(masks.shape)).astype("float32")[:, None]
    return Data(Arrays(images[:200], masks[:200]), Arrays(images[200:], masks[200:]))


def build(trial, data):  # outputs have the shape (images, 2, rows, columns)
    return nn.Sequential(
        nn.Conv2d(1, trial.width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(trial.width, trial.width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(trial.width, 2, 1),
    )


def score(outputs, targets):  # intersection over union, one number an image
    found, there = outputs.argmax(1) == 1, targets == 1
    shared, either = (found & there).sum((1, 2)), (found | there).sum((1, 2))
    return shared / either.clamp_min(1)


# The default loss is cross-entropy, here one for each pixel; an image's mean counts.
task = Task(load, build, score=score, score_name="IoU", baseline=0.0, margin=0.01)
