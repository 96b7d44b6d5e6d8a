"""scikit-learn's 1,797 real handwritten digits (8 x 8 pixels) and a multilayer perceptron."""

from pathlib import Path

import numpy as np
from torch import nn

from raysweep.spec import Hyperparameters
from raysweep.tasks import Arrays, Data, Task


def load(folder: Path | None) -> Data:
    """1,000 images to train on and 797 to validate on, pixels in [0, 1], classes balanced."""
    # scikit-learn takes a second to import, and only the driver loads data.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x, y = np.asarray(images, np.float32) / 16, np.asarray(labels, np.int64)
    parts = train_test_split(np.arange(len(y)), train_size=1000, stratify=y, random_state=0)
    train, validation = (Arrays(x[index], y[index]) for index in map(np.asarray, parts))
    return Data(train, validation, num_classes=10)


def build(trial: Hyperparameters, data: Data) -> nn.Module:
    """`depth` hidden layers of `width` units, each followed by dropout."""
    layers: list[nn.Module] = []
    features = 64
    for _ in range(trial.depth):
        layers += [nn.Linear(features, trial.width), nn.ReLU()]
        if trial.dropout:
            layers.append(nn.Dropout(trial.dropout))
        features = trial.width
    return nn.Sequential(*layers, nn.Linear(features, data.num_classes))


task = Task(load, build)
