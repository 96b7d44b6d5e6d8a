"""scikit-learn's 1,797 real handwritten digits (8 x 8 pixels) and a multilayer perceptron."""

import importlib.util
from pathlib import Path

import numpy as np
from torch import nn

from raysweep.errors import InputError
from raysweep.spec import Hyperparameters
from raysweep.tasks import Arrays, Data, Task


def load(folder: Path | None) -> Data:
    """Load 1,000 images to train on and 797 to validate on; pixels in [0, 1], classes balanced."""
    # The file is read where scikit-learn keeps it: importing the package takes a second.
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise InputError("digits are scikit-learn's images: pip install 'raysweep[run]'")
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    x, y = table[:, :-1] / 16, table[:, -1].astype(np.int64)

    # Each class in a shuffled order, dealt out evenly: the first 1,000 are as balanced as the rest.
    order = np.random.default_rng(0).permutation(len(y))
    rank_in_class = np.empty(len(y))
    for label in range(10):
        members = order[y[order] == label]
        rank_in_class[members] = np.arange(len(members)) / len(members)
    dealt = order[np.argsort(rank_in_class[order], kind="stable")]
    train, validation = np.sort(dealt[:1000]), np.sort(dealt[1000:])
    return Data(Arrays(x[train], y[train]), Arrays(x[validation], y[validation]), num_classes=10)


def build(trial: Hyperparameters, data: Data) -> nn.Module:
    """Build `depth` hidden layers of `width` units, each followed by dropout."""
    layers: list[nn.Module] = []
    features = 64
    for _ in range(trial.depth):
        layers += [nn.Linear(features, trial.width), nn.ReLU()]
        if trial.dropout:
            layers.append(nn.Dropout(trial.dropout))
        features = trial.width
    return nn.Sequential(*layers, nn.Linear(features, data.num_classes))


task = Task(load, build)
