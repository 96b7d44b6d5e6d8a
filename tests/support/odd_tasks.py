"""Tasks that misbehave, that look on, or that are built unlike the shipped ones."""

import os
import random
import signal
import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from raysweep.tasks import Arrays, Data, Task
from raysweep.tasks.digits import build, load


class Unlucky(nn.Module):
    """A linear layer that raises while training at width 13."""

    def __init__(self, width):
        super().__init__()
        self.layer, self.width = nn.Linear(64, 10), width

    def forward(self, x):
        if self.width == 13 and self.training:
            raise ValueError("thirteen is unlucky")
        return self.layer(x)


class Faulty(Unlucky):
    """Raises at width 13, breaks its process's GPU at 14 as a failed assert does, so that nothing
    trains there again, and kills its process at 15."""

    broken = False

    def forward(self, x):
        if self.width == 15 and self.training:
            os.kill(os.getpid(), signal.SIGKILL)
        Faulty.broken |= self.width == 14 and self.training
        if Faulty.broken:
            raise RuntimeError("CUDA error: device-side assert triggered")
        return super().forward(x)


class Leave(BaseException):
    """No `Exception`, and one that can't be unpickled."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


class Quitting(Unlucky):
    """Leaves as a script does: by its words at width 11, with 0 at 12, as at Ctrl-C at 14, and by
    an error of its own at 15."""

    def forward(self, x):
        ways = {
            11: SystemExit("no such configuration"),
            12: SystemExit(0),
            14: KeyboardInterrupt("stop"),
            15: Leave("this", "that"),
        }
        if self.training and self.width in ways:
            raise ways[self.width]
        return self.layer(x)


class Asserting(Unlucky):
    """Fails an assert on its GPU at width 13, in earnest."""

    def forward(self, x):
        if self.width == 13 and self.training:
            x = x[torch.full((len(x),), 2**30, device=x.device)]
        return self.layer(x)


class Slow(Unlucky):
    """Sleeps at every training step, so that there is time to interrupt it."""

    def forward(self, x):
        if self.training:
            time.sleep(0.02)
        return self.layer(x)


class Pause(nn.Module):
    """Changes nothing, and takes its time over it."""

    def forward(self, x):
        if self.training:
            time.sleep(0.01)
        return x


class Held(Unlucky):
    """Waits at every training step while the file that HOLD names exists."""

    def forward(self, x):
        while self.training and os.path.exists(os.environ["HOLD"]):
            time.sleep(0.02)
        return self.layer(x)


class Narrow(nn.Module):
    """At width 4 it waits at every training step while the file that HOLD names exists. Wider ones
    cost more, so they train before it."""

    def __init__(self, width):
        super().__init__()
        self.layers, self.width = nn.Sequential(nn.Linear(64, width), nn.Linear(width, 10)), width

    def forward(self, x):
        narrow = self.training and self.width == 4
        while narrow and os.path.exists(os.environ.get("HOLD", "")):
            time.sleep(0.02)
        return self.layers(x)


class Late(nn.Module):
    """Dropout and batch norm; from its training step 21 on, which is in epoch 5 at a batch size of
    20, it waits while the file that HOLD names exists."""

    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, width), nn.BatchNorm1d(width), nn.Dropout(0.2), nn.Linear(width, 10)
        )
        self.steps = 0

    def forward(self, x):
        self.steps += self.training
        while self.training and self.steps > 20 and os.path.exists(os.environ.get("HOLD", "")):
            time.sleep(0.02)
        return self.layers(x)


class Pairs(Dataset):
    """The digits as a map-style dataset."""

    def __init__(self, arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays.y)

    def __getitem__(self, index):
        return torch.from_numpy(self.arrays.x[index]), int(self.arrays.y[index])


def load_pairs(folder):
    data = load(folder)
    return data._replace(
        train=Pairs(data.train), validation=Pairs(data.validation), digest="digits as pairs"
    )


def load_odd(folder):
    """97 training and 61 validation examples: nothing divides them."""
    data = load(folder)
    assert isinstance(data.train, Arrays)
    assert isinstance(data.validation, Arrays)
    return data._replace(
        train=Arrays(data.train.x[:97], data.train.y[:97]),
        validation=Arrays(data.validation.x[:61], data.validation.y[:61]),
    )


class Jittered(Pairs):
    """Augmentation that draws from NumPy's and Python's own generators, as users write it."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x + random.random() * torch.from_numpy(np.random.rand(*x.shape)).float(), y  # noqa: NPY002


def load_jittered(folder):
    data = load_odd(folder)
    return data._replace(
        train=Jittered(data.train), validation=Jittered(data.validation), digest="jittered"
    )


class Restless(nn.Linear):
    """Dropout that is never switched off."""

    def forward(self, input):  # noqa: A002
        return super().forward(nn.functional.dropout(input, 0.5))


def build_batch_norm(trial, data):
    return nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))


def build_and_tell(trial, data):
    raise ValueError(f"RAY_ADDRESS is {os.environ.get('RAY_ADDRESS')}")


def load_broken(folder):
    return Data(Arrays(np.zeros((4, 2)), np.array([0, 1, 2, 9])), Arrays(*[np.zeros(1)] * 2), 3)


unlucky = Task(load, lambda trial, data: Unlucky(trial.width))
faulty = Task(load_odd, lambda trial, data: Faulty(trial.width))
quitting = Task(load, lambda trial, data: Quitting(trial.width))
asserting = Task(load, lambda trial, data: Asserting(trial.width))
slow = Task(load, lambda trial, data: Slow(trial.width))
patient = Task(load, lambda trial, data: nn.Sequential(Pause(), build(trial, data)))
narrow = Task(load, lambda trial, data: Narrow(trial.width))
late = Task(load_odd, lambda trial, data: Late(trial.width))
held = Task(load, lambda trial, data: Held(trial.width))
pairs = Task(load_pairs, build)
odd = Task(load_odd, build)
batch_norm = Task(load_odd, build_batch_norm)
jittered = Task(load_jittered, build_batch_norm)
restless = Task(load_odd, lambda trial, data: Restless(64, 10))
telling = Task(load, build_and_tell)
broken = Task(load_broken, build)
