"""What the benchmarks of steps train: our MLP on digits and on synthetic data; how they time it."""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import measure
import numpy as np
import torch
from torch import nn

from raysweep.spec import Hyperparameters
from raysweep.tasks import Arrays, Data, Task, find_task, load_data
from raysweep.training.group import Group
from raysweep.training.learning import Learning, build_optimizer
from raysweep.training.objective import Objective
from raysweep.training.seeds import derive_seed, reset_global_state
from raysweep.training.splits import Placed, TensorSplit, place

SEED = 0


class Problem(NamedTuple):
    """One model, data set and batch size, and how many epochs make a measurement."""

    name: str
    task: Task
    data: Data
    placed: Placed
    fields: Hyperparameters
    group: Group  # alone, on the device that trains

    @property
    def device(self) -> torch.device:
        """The device that trains."""
        return self.group.device

    @property
    def epochs(self) -> range:
        """Its epochs."""
        return range(1, self.fields.epochs + 1)

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


def problem(
    name: str, data: Data, batch_size: int, epochs: int, device: torch.device, **more: Any
) -> Problem:
    """Our shipped MLP on these data. Args: more: other fields of `Hyperparameters`."""
    fields = Hyperparameters(
        epochs=epochs, batch_size=batch_size, learning_rate=0.03, momentum=0.9, **more
    )
    task = find_task("digits").task
    return Problem(name, task, data, place(data, device), fields, Group(device=device))


def synthetic(n_train: int) -> Data:
    """Ten Gaussian classes in 64 dimensions; a fifth as many examples to validate on."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 10, n_train + n_train // 5)
    x = (rng.standard_normal((10, 64))[y] + 2 * rng.standard_normal((len(y), 64))).astype("float32")
    return Data(Arrays(x[:n_train], y[:n_train]), Arrays(x[n_train:], y[n_train:]), 10)


def problems(device: torch.device, *, short: bool) -> list[Problem]:
    """Digits at three batch sizes, and two sizes of synthetic data."""
    digits = load_data(find_task("digits"), None)
    sizes = {} if short else {5_000: 10, 50_000: 3}
    return [
        *(
            problem(f"digits, batch {size}", digits, size, 3 if short else 20, device)
            for size in (32, 128, 512)
        ),
        *(
            problem(f"{n:,} examples, batch 128", synthetic(n), 128, epochs, device)
            for n, epochs in sizes.items()
        ),
    ]


def begun(description: str | None) -> argparse.Namespace:
    """The command line of a benchmark of steps, on one torch thread. Prints what it runs on."""
    parser = measure.options(description)
    parser.set_defaults(repeats=9)
    parser.add_argument("--device", default="cpu", type=torch.device, help="cpu or cuda")
    asked = parser.parse_args()
    if asked.short:
        asked.repeats = 1
    torch.set_num_threads(1)
    print(measure.machine(), "1 torch thread", f"on {asked.device}", sep="; ")
    return asked


def fresh(chosen: Problem) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The model and optimizer that a trial starts with."""
    reset_global_state(derive_seed(SEED, "model"))
    model = chosen.task.build(chosen.fields, chosen.data).to(chosen.device)
    return model, build_optimizer(chosen.fields, model)


def learner(chosen: Problem) -> tuple[nn.Module, Learning, Objective]:
    """The same, with the objective, as `train_epoch` takes them."""
    model, optimizer = fresh(chosen)
    learning = Learning(chosen.fields, optimizer, device=chosen.device)
    return model, learning, Objective(chosen.task, chosen.data, chosen.fields.label_smoothing)


def seconds(run: Callable[[], object]) -> float:
    """How long something takes, until a GPU is done with it, too."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def epochs_in_turn(
    epochs: Iterable[int], contenders: Mapping[str, Callable[[int], object]], repeats: int
) -> dict[str, list[float]]:
    """Milliseconds per epoch; contenders take turns epoch by epoch. One figure per repeat."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        taken: dict[str, list[float]] = {name: [] for name in contenders}
        for epoch in epochs:
            for name, run in contenders.items():
                taken[name].append(seconds(lambda run=run, epoch=epoch: run(epoch)))
        for name, values in taken.items():
            figures[name].append(1e3 * statistics.median(values))
    return figures
