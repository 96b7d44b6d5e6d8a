"""What a task is: splits of data, and a function that builds a model for one trial."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from raysweep.spec import Hyperparameters


class Arrays(NamedTuple):
    """Examples in memory, indexed on the device that trains. Torch tensors do as well.

    x: shape (num_examples, ...), any numeric type. y: integer classes, shape (num_examples,).
    """

    x: np.ndarray
    y: np.ndarray


Examples = Arrays | Dataset[tuple[torch.Tensor, int]]


class Data(NamedTuple):
    """The splits of a task.

    Arrays, or a map-style dataset of (x, class) pairs, which is then read through a DataLoader.
    train_eval: the training set without augmentation, where `train` has some.
    val_clusters: shape (num_validation,); validation examples that belong together (frames of one
        video, say) share a number, so that they fall into one block.
    digest: needed where the splits are datasets; whatever changes when the data change.
    """

    train: Examples
    validation: Examples
    num_classes: int
    train_eval: Examples | None = None
    val_clusters: np.ndarray | None = None
    digest: str | None = None


class Task(NamedTuple):
    """Load data from a folder (None where the user named none); build a model for one trial."""

    load: Callable[[Path | None], Data]
    build: Callable[[Hyperparameters, Data], nn.Module]


def num_examples(examples: Examples) -> int:
    """Count the examples of a split."""
    return len(examples.y) if isinstance(examples, Arrays) else len(examples)  # pyright: ignore[reportArgumentType]
