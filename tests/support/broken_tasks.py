"""Tasks with one fault each, as people write them: what `raysweep check` must name."""

import os
import pathlib
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from raysweep.tasks import Arrays, Data, Loader, Task

ANYTHING: Any = np
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(200, 6)).astype(np.float32), np.arange(200) % 3
TRAIN, VALIDATION = Arrays(X[:120], Y[:120]), Arrays(X[120:], Y[120:])


def load(folder):
    return Data(TRAIN, VALIDATION, num_classes=3)


def build(trial, data):
    return nn.Sequential(nn.Linear(6, trial.width), nn.ReLU(), nn.Linear(trial.width, 3))


class Rows(Dataset):
    """A map-style dataset over arrays."""

    def __init__(self, arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays.y)

    def __getitem__(self, index) -> Any:
        return torch.from_numpy(self.arrays.x[index]), int(self.arrays.y[index])


class Shaken(Rows):
    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x + 0.1 * torch.randn(6), y


class FromOne(Rows):
    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x, y + (0 < index < len(self) - 1)


class HoldsNan(Rows):
    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return (x / 0 if index == 7 else x), y


class Dicts(Rows):
    def __getitem__(self, index):
        return {"pixel_values": torch.zeros(6), "label": 1}


class Late(Rows):
    def __getitem__(self, index):
        if index == 5:
            raise OSError("picture 5 is cut short")
        return super().__getitem__(index)


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(6), 0


class Net(nn.Module):
    """A linear layer that a test does something to."""

    def __init__(self, change):
        super().__init__()
        self.layer, self.change = nn.Linear(6, 3), change

    def forward(self, x):
        return self.change(self, self.layer(x))


def net(change):
    return Task(load, lambda trial, data: Net(change))


def of(**changes):
    return Task(lambda folder: load(folder)._replace(**changes), build)


def rows(kind, *, both=False):
    train = kind(TRAIN)
    validation = kind(VALIDATION) if both else Rows(VALIDATION)
    return of(train=train, validation=validation, digest="d")


def misspelt(trial, data):
    return nn.Linear(6, 3 * trial.num_heads)


def raising(trial, data):
    raise ValueError("head_dim must divide width")


def raising_at_8(trial, data):
    if trial.width == 8:
        raise ValueError("eight is too narrow")
    return build(trial, data)


def frozen(trial, data):
    model = build(trial, data)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


def without_data(folder):
    return Data(*[Arrays(*np.load(folder / "x.npy"))] * 2, num_classes=3)


def at_random(folder):
    order = np.random.permutation(200)  # noqa: NPY002 - as people write it
    return Data(
        Arrays(X[order[:120]], Y[order[:120]]),
        Arrays(X[order[120:]], Y[order[120:]]),
        num_classes=3,
    )


def of_torch(folder):
    """A fresh process draws the same: torch begins with the same seed."""
    order = torch.randperm(200).numpy()
    return Data(
        Arrays(X[order[:120]], Y[order[:120]]),
        Arrays(X[order[120:]], Y[order[120:]]),
        num_classes=3,
    )


class Twin(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x):
        return self.used(x)


sound = Task(load, build)
sound_rows = rows(Rows, both=True)
sound_torch = Task(of_torch, build)
misspelt_field = Task(load, misspelt)
raises = Task(load, raising)
raises_at_8 = Task(load, raising_at_8)
no_module = Task(load, lambda trial, data: ANYTHING)
wrong_inputs = Task(load, lambda trial, data: nn.Linear(7, 3))
seven_outputs = Task(load, lambda trial, data: nn.Sequential(nn.Linear(6, 7)))
three_axes = net(lambda module, x: x[:, None])
gives_tuple = net(lambda module, x: (x, x))
softmax = net(lambda module, x: x.softmax(1))
sigmoid = net(lambda module, x: x.sigmoid())
relu = net(lambda module, x: x.relu())
nan_outputs = net(lambda module, x: x / 0 - x / 0)
huge_outputs = net(lambda module, x: 1e4 * x)
detached = net(lambda module, x: x.detach())
restless = net(lambda module, x: nn.functional.dropout(x, 0.5))
exits = net(lambda module, x: os._exit(3))
quits = net(lambda module, x: exit(1))
killed = net(lambda module, x: os.kill(os.getpid(), 9))
no_gradient = Task(load, frozen)
unused = Task(load, lambda trial, data: Twin())
leak = of(validation=TRAIN)
half_leak = of(validation=Arrays(X[40:160], Y[40:160]))
small_leak = of(validation=Arrays(X[110:200], Y[110:200]))
one_class = of(train=Arrays(TRAIN.x, 0 * TRAIN.y))
from_one = of(train=Arrays(TRAIN.x, TRAIN.y + 1), validation=Arrays(VALIDATION.x, VALIDATION.y + 1))
nan_inputs = of(train=Arrays(np.where(X[:120] > 2, np.nan, X[:120]), TRAIN.y))
all_same = of(train=Arrays(np.ones_like(TRAIN.x), TRAIN.y))
float_targets = of(train=Arrays(TRAIN.x, TRAIN.y + 0.5))
unscaled = of(train=Arrays(1e4 * TRAIN.x, TRAIN.y))
missing_class = of(train=Arrays(TRAIN.x, np.minimum(TRAIN.y, 1)))
shaken_rows = rows(Shaken, both=True)
rows_from_one = rows(FromOne)
nan_rows = rows(HoldsNan)
dict_rows = rows(Dicts)
late_rows = rows(Late)
endless = of(train=Stream(), digest="d")
endless_validation = of(
    validation=Stream(), digest="d", loader=Loader(steps_per_epoch=2), train=Stream()
)
no_digest = of(train=Rows(TRAIN))
no_data = Task(without_data, build)
random_load = Task(at_random, build)
no_collate = of(train=Rows(Arrays(TRAIN.x, TRAIN.y)), digest="d", loader=Loader(collate_fn=len))
missing_file = Task(lambda folder: ANYTHING.fromfile(pathlib.Path("no/such")), build)
