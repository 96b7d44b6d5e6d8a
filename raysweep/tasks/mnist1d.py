"""MNIST-1D: signals of 40 points in ten classes, made here after its recipe, and a multilayer
perceptron, which learns the training set by heart.

Source: Greydanus and Kobak 2020, arXiv 2011.14439, for the recipe and the ten templates.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from raysweep.spec import Hyperparameters
from raysweep.tasks import Arrays, Data, Task

_SEED = 42
_NUM_TRAIN, _NUM_VALIDATION = 2_000, 1_000
_LENGTH = 72  # of a signal before it is sampled at 40 points

# The ten signals of the data set, at 12 points each.
_TEMPLATES = np.array(
    [
        [5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5],
        [5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5],
        [5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5],
        [5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5],
        [5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5],
        [5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5],
        [5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5],
        [5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5],
    ]
)


def examples(num: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Make signals (num, 40), not standardised, and their classes, all equally likely."""
    label = rng.integers(10, size=num)
    x = _TEMPLATES - _TEMPLATES.mean(axis=1, keepdims=True)
    x = x / x.std(axis=1, keepdims=True)
    x = (x - x[:, :1])[label] / 6
    out = np.empty((num, 40))
    for i in range(num):
        padded = np.append(x[i] + 1e-8, np.zeros(36 + rng.integers(25)))
        signal = np.interp(np.linspace(0, 1, _LENGTH), np.linspace(0, 1, len(padded)), padded)
        signal = np.roll(signal * (1 + 0.4 * (rng.random() - 0.5)), rng.integers(48))
        noise = ndimage.gaussian_filter(0.25 * rng.standard_normal(_LENGTH), 2)
        signal = np.where(signal != 0, signal, noise) + 0.02 * rng.standard_normal(_LENGTH)
        signal -= 0.75 * (rng.random() - 0.5) * np.linspace(-0.5, 0.5, _LENGTH)
        out[i] = np.interp(np.linspace(0, 1, 40), np.linspace(0, 1, _LENGTH), signal)
    return out, label


def load(folder: Path | None) -> Data:
    """Make 2,000 signals to train on and 1,000 to validate on, the same ones every time."""
    x, y = examples(_NUM_TRAIN + _NUM_VALIDATION, np.random.default_rng(_SEED))
    x = ((x - x[:_NUM_TRAIN].mean()) / x[:_NUM_TRAIN].std()).astype(np.float32)
    train, validation = slice(_NUM_TRAIN), slice(_NUM_TRAIN, None)
    return Data(Arrays(x[train], y[train]), Arrays(x[validation], y[validation]), num_classes=10)


def build(trial: Hyperparameters, data: Data) -> nn.Module:
    """Build `depth` hidden layers of `width` units, each followed by dropout."""
    layers: list[nn.Module] = []
    features = 40
    for _ in range(trial.depth):
        layers += [nn.Linear(features, trial.width), nn.ReLU(), nn.Dropout(trial.dropout)]
        features = trial.width
    return nn.Sequential(*layers, nn.Linear(features, data.num_classes))


task = Task(load, build)
