"""What a task is: splits of data, a model for one trial, and what else a user may say of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from raysweep.spec import Hyperparameters


class Arrays(NamedTuple):
    """Examples in memory, indexed on the device that trains. Torch tensors do as well.

    x: shape (num_examples, ...), any numeric type. y: one target an example, of any shape: integer
    classes of shape (num_examples,), numbers, a label for each token or pixel.
    """

    x: np.ndarray
    y: np.ndarray


Examples = Arrays | Dataset[Any]


class Loader(NamedTuple):
    """How datasets are read; arrays need none of it.

    collate_fn: makes one batch of a list of examples, as in torch.utils.data.DataLoader.
    num_workers: processes that read ahead, for each process that trains; 0 reads in that process.
    steps_per_epoch: batches that make an epoch of an IterableDataset, which has no length.
    """

    collate_fn: Callable[[list[Any]], Any] | None = None
    num_workers: int = 0
    steps_per_epoch: int | None = None


class Data(NamedTuple):
    """The splits of a task.

    Arrays, or a dataset that a DataLoader reads. An example is a pair (inputs, target), or a
    mapping that holds its target as `labels`; inputs are a tensor, a tuple or a mapping. Training
    examples may come from an IterableDataset; the others have a length and an order.

    num_classes: of a classification with one class an example; 0 for any other task.
    train_eval: the training set without augmentation, where `train` has some.
    val_clusters: shape (num_validation,); validation examples that belong together (frames of one
        video, say) share a number, so that they fall into one block.
    digest: needed where the splits are datasets; whatever changes when the data change.
    """

    train: Examples
    validation: Examples
    num_classes: int = 0
    train_eval: Examples | None = None
    val_clusters: np.ndarray | None = None
    digest: str | None = None
    loader: Loader = Loader()

    def steps_per_epoch(self, batch_size: int) -> int:
        """Count the batches of an epoch."""
        if isinstance(self.train, IterableDataset):
            return self.loader.steps_per_epoch or 0
        return -(-num_examples(self.train) // batch_size)


class Task(NamedTuple):
    """Load data from a folder (None where the user named none); build a model for one trial.

    All else is optional. `trial` is the trial's hyperparameters everywhere.

    loss, score: (outputs, targets) -> a tensor whose first axis is the examples, as with
        reduction="none"; further axes hold tokens, pixels or labels, of which the mean counts. By
        default cross-entropy, and whether the largest output is at the target. A score of truth
        values is a share of right answers; of any other score the mean counts, and more is better.
        A whole-number target of -100 does not count where targets have the shape of the losses.
    optimizer: (trial, model) -> a torch optimizer, whose groups' learning rates the trial's
        schedule scales; or a pair of it and a scheduler of its own, which steps after each batch.
    augment: (trial, inputs, targets) -> both, changed: a training batch, on the device.
    hyperparameters: a subclass of Hyperparameters, whose further fields a sweep may set and vary.
    prepare: (trial, data) -> data with other training examples and the same validation set.
    varies_validation: whether prepare may give another validation set, too, because its size or
        the split is what a sweep varies. Trials are then compared across sets.
    baseline: score of a model that has learnt nothing.
    score_name: what a report calls the score.
    margin: the smallest difference of scores that matters.
    """

    load: Callable[[Path | None], Data]
    build: Callable[[Any, Data], nn.Module]
    loss: Callable[[Any, Any], torch.Tensor] | None = None
    score: Callable[[Any, Any], torch.Tensor] | None = None
    optimizer: Callable[[Any, nn.Module], Any] | None = None
    augment: Callable[[Any, Any, Any], tuple[Any, Any]] | None = None
    hyperparameters: type[Hyperparameters] = Hyperparameters
    prepare: Callable[[Any, Data], Data] | None = None
    baseline: float | None = None
    score_name: str | None = None
    margin: float | None = None
    varies_validation: bool = False

    def of_classes(self, data: Data) -> bool:
        """Tell whether this is a classification with one class an example, judged as usual."""
        return self.loss is None and self.score is None and data.num_classes > 0


def num_examples(examples: Examples) -> int:
    """Count the examples of a split; 0 for an IterableDataset, which has no length."""
    if isinstance(examples, IterableDataset):
        return 0
    return len(examples.y) if isinstance(examples, Arrays) else len(examples)  # pyright: ignore[reportArgumentType]
