"""Whether training draws or mixes examples, seen by trying: a model's forward in train mode."""

import copy
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from raysweep.spec import Hyperparameters
from raysweep.tasks.batches import call, few, first, length, tensors
from raysweep.tasks.definition import Data, Task
from raysweep.tasks.models.looking import Traits, look

_EXAMPLES = 8
_TOLERANCE = 1e-3  # of the largest output; float32 on batches of other sizes differs by 1e-6


def traits_by_trying(task: Task, data: Data, fields: Hyperparameters) -> Traits:
    """Run a trial's model in train mode on a few examples, on the CPU, and see what it does.

    It draws random numbers where a generator has moved, or where the same call gives another
    result. It mixes examples where an example's output is another in another batch, or where a
    buffer has changed.

    Raises: whatever the task raises.
    """
    found = look(task, data, fields).traits
    _seed()
    model = task.build(fields, data).train()
    inputs = few(data.train, _EXAMPLES, data.loader)[0]
    buffers = copy.deepcopy(dict(model.named_buffers()))
    _seed()
    before = _generators()
    whole = _outputs(model, inputs)
    moved = not _alike(before, _generators())
    changed = [
        name for name, value in model.named_buffers() if not torch.equal(value, buffers[name])
    ]
    again = _repeated(model, inputs)
    n = length(inputs)
    half = _repeated(model, first(inputs, max(2, n // 2)))
    draws = moved or not _close(whole, again, n, n)
    norms = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
    ]
    own = [name for name in changed if name.rpartition(".")[0] not in norms]
    mixes = bool(own) or not _close(whole, half, n, max(2, n // 2))
    return found._replace(random=found.random or draws, mixes=mixes)


def _seed() -> None:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - for user code that draws from it


def _generators() -> Sequence[Any]:
    return torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return all(map(_alike, one, other))
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def _outputs(model: nn.Module, inputs: Any) -> list[torch.Tensor]:
    with torch.no_grad():
        given = call(model, copy.deepcopy(inputs))  # a model may change what it is given
    return [output.float() for output in tensors(given)]


def _repeated(model: nn.Module, inputs: Any) -> list[torch.Tensor]:
    _seed()
    return _outputs(model, inputs)


def _close(one: list[torch.Tensor], other: list[torch.Tensor], n: int, count: int) -> bool:
    """Whether two calls gave the same of their first `count` examples.

    Args: one: of n examples. What has no axis of n examples, a scalar say, can't be the same.
    """
    if len(one) != len(other) or not one:
        return False
    for whole, part in zip(one, other, strict=True):
        if whole.ndim < 1 or len(whole) != n or len(part) != count:
            return False
        mine = whole[:count]
        scale = float(mine.abs().max()) if mine.numel() else 0.0
        if mine.shape != part.shape or not torch.allclose(mine, part, 0, _TOLERANCE * scale + 1e-9):
            return False
    return True
