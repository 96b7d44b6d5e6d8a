"""What the step's benchmark trains: our MLP on digits and on synthetic data of two sizes."""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from raysweep.spec import Hyperparameters
from raysweep.splits import Placed, TensorSplit, place
from raysweep.tasks import Arrays, Data, Task, find_task, load_data
from raysweep.train import build_optimizer, derive_seed, reset_global_state

SEED = 0
CPU = torch.device("cpu")


class Problem(NamedTuple):
    """One model, data set and batch size, and how many epochs make a measurement."""

    name: str
    task: Task
    data: Data
    placed: Placed
    fields: Hyperparameters

    @property
    def train_set(self) -> TensorSplit:
        """The training set in memory."""
        assert isinstance(self.placed.train, TensorSplit)
        return self.placed.train

    @property
    def validation(self) -> TensorSplit:
        """The validation set in memory."""
        assert isinstance(self.placed.validation, TensorSplit)
        return self.placed.validation


def problem(name: str, data: Data, batch_size: int, epochs: int) -> Problem:
    """Our shipped MLP on these data."""
    fields = Hyperparameters(epochs=epochs, batch_size=batch_size, learning_rate=0.03, momentum=0.9)
    return Problem(name, find_task("digits").task, data, place(data, CPU), fields)


def synthetic(n_train: int) -> Data:
    """Ten Gaussian classes in 64 dimensions; a fifth as many examples to validate on."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 10, n_train + n_train // 5)
    x = (rng.standard_normal((10, 64))[y] + 2 * rng.standard_normal((len(y), 64))).astype("float32")
    return Data(Arrays(x[:n_train], y[:n_train]), Arrays(x[n_train:], y[n_train:]), 10)


def problems(*, short: bool) -> list[Problem]:
    """Digits at three batch sizes, and two sizes of synthetic data."""
    digits = load_data(find_task("digits"), None)
    sizes = {5_000: 3} if short else {5_000: 10, 50_000: 3}
    return [
        *(problem(f"digits, batch {b}", digits, b, 5 if short else 20) for b in (32, 128, 512)),
        *(problem(f"{n:,} examples, batch 128", synthetic(n), 128, e) for n, e in sizes.items()),
    ]


def fresh(chosen: Problem) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The model and optimizer that a trial starts with."""
    reset_global_state(derive_seed(SEED, "model"))
    model = chosen.task.build(chosen.fields, chosen.data)
    return model, build_optimizer(chosen.fields, model)
