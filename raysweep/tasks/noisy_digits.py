"""The digits with a fifth of the training labels wrong: what a network that learns them by heart
loses on the clean validation set is overfitting beyond doubt."""

from pathlib import Path

import numpy as np

from raysweep.tasks import Arrays, Data, Task, digits

_SHARE = 0.2  # of the training labels, as likely in each class


def load(folder: Path | None) -> Data:
    """Load the splits of `digits`; a wrong label is any of the nine others, equally likely."""
    data = digits.load(folder)
    assert isinstance(data.train, Arrays)
    y = data.train.y.copy()
    rng = np.random.default_rng(0)
    wrong = rng.permutation(len(y))[: int(_SHARE * len(y))]
    y[wrong] = (y[wrong] + rng.integers(1, 10, len(wrong))) % 10
    return data._replace(train=Arrays(data.train.x, y))


task = Task(load, digits.build)
