"""The digits, with what a sweep may vary of their data: label noise, imbalance, augmentation, the
size of the training and the validation set, and the split."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional

from raysweep.errors import InputError
from raysweep.spec import Count, Hyperparameters, Probability, Seed
from raysweep.tasks import Arrays, Data, Task, digits

_SIDE = 8  # pixels of an image


class VariedDigits(Hyperparameters):
    """The fields of a trial, and those of its data."""

    label_noise: Probability = 0.0
    """share of the training labels that are wrong, as likely in each class"""
    imbalance: Annotated[float, Field(ge=1, le=100)] = 1.0
    """how many times more training images the commonest class has than the rarest"""
    num_train: Count | None = None
    """training images; null: as many as there are"""
    num_validation: Count | None = None
    """validation images; null: all"""
    split_seed: Seed | None = None
    """which images are for training and which for validation; null: the split of `digits`"""
    shift: Annotated[int, Field(ge=0, le=3)] = 0
    """augmentation: pixels by which a training image is moved at most, along each side"""


def prepare(trial: VariedDigits, data: Data) -> Data:
    """Split, thin out and mislabel the images. The same fields give the same images.

    Raises: InputError when a class has fewer images than are asked for.
    """
    train, validation = data.train, data.validation
    assert isinstance(train, Arrays)
    assert isinstance(validation, Arrays)
    if trial.split_seed is not None:
        train, validation = _split(train, validation, trial.split_seed)
    if trial.num_validation is not None:
        order = np.random.default_rng(0).permutation(len(validation.y))
        validation = _taken(validation, order[: trial.num_validation])
    if trial.num_train is not None or trial.imbalance > 1:
        train = _thinned(train, trial, data.num_classes)
    if trial.label_noise:
        train = Arrays(train.x, _mislabelled(train.y, trial.label_noise, data.num_classes))
    return data._replace(train=train, validation=validation)


def _split(train: Arrays, validation: Arrays, seed: int) -> tuple[Arrays, Arrays]:
    """Deal all images anew, each class evenly, into sets of the same sizes."""
    every = Arrays(*(np.concatenate(parts) for parts in zip(train, validation, strict=True)))
    order = np.random.default_rng(seed).permutation(len(every.y))
    place = np.empty(len(every.y))
    for label in np.unique(every.y):
        members = order[every.y[order] == label]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    dealt = order[np.argsort(place[order], kind="stable")]
    return _taken(every, dealt[: len(train.y)]), _taken(every, dealt[len(train.y) :])


def _taken(examples: Arrays, index: np.ndarray) -> Arrays:
    index = np.sort(index)
    return Arrays(examples.x[index], examples.y[index])


def _thinned(train: Arrays, trial: VariedDigits, num_classes: int) -> Arrays:
    """As many images as are asked for, of classes whose sizes fall geometrically."""
    share = trial.imbalance ** (-np.arange(num_classes) / (num_classes - 1))
    there = np.bincount(train.y, minlength=num_classes)
    most = int(np.floor((there / share).min() * share.sum()))
    wanted = most if trial.num_train is None else trial.num_train
    ends = np.round(np.cumsum(wanted * share / share.sum())).astype(int)
    sizes = np.diff(ends, prepend=0)
    if (sizes > there).any():
        raise InputError(
            f"num_train = {wanted} at imbalance = {trial.imbalance:g}: a class has too few images; "
            f"at most {most}"
        )
    order = np.random.default_rng(1).permutation(len(train.y))
    kept = [order[train.y[order] == label][:size] for label, size in enumerate(sizes)]
    return _taken(train, np.concatenate(kept))


def _mislabelled(y: np.ndarray, share: float, num_classes: int) -> np.ndarray:
    """A wrong label is any of the others, equally likely."""
    rng = np.random.default_rng(0)
    y, wrong = y.copy(), rng.permutation(len(y))[: round(share * len(y))]
    y[wrong] = (y[wrong] + rng.integers(1, num_classes, len(wrong))) % num_classes
    return y


def augment(
    trial: VariedDigits, inputs: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Move each image of a batch by up to `shift` pixels; what comes in at the edge is empty."""
    if not trial.shift:
        return inputs, targets
    num, edge = len(inputs), trial.shift
    padded = functional.pad(inputs.view(num, _SIDE, _SIDE), (edge,) * 4)
    start = torch.randint(0, 2 * edge + 1, (2, num, 1), device=inputs.device)
    rows, columns = start + torch.arange(_SIDE, device=inputs.device)
    images = torch.arange(num, device=inputs.device)[:, None, None]
    moved = padded[images, rows[:, :, None], columns[:, None, :]]
    return moved.reshape(num, _SIDE * _SIDE), targets


def load(folder: Path | None) -> Data:
    """Load the splits of `digits`."""
    return digits.load(folder)


task = Task(
    load,
    digits.build,
    augment=augment,
    hyperparameters=VariedDigits,
    prepare=prepare,
    varies_validation=True,
)
