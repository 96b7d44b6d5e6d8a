"""The digits, validated on 200 images only: the curve jumps, and most of it is the small set."""

from pathlib import Path

import numpy as np

from raysweep.tasks import Arrays, Data, Task, digits

_NUM_VALIDATION = 200


def load(folder: Path | None) -> Data:
    """Load the training split of `digits`, and draw 200 images from its validation split."""
    data = digits.load(folder)
    assert isinstance(data.validation, Arrays)
    kept = np.sort(np.random.default_rng(0).permutation(len(data.validation.y))[:_NUM_VALIDATION])
    return data._replace(validation=Arrays(data.validation.x[kept], data.validation.y[kept]))


task = Task(load, digits.build)
