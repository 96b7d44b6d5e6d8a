"""One pass over the training set: its order of examples, its steps, what they sum to."""

import contextlib
import hashlib
import math
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from raysweep.schedule import learning_rate
from raysweep.spec import Hyperparameters
from raysweep.training.group import Group
from raysweep.training.probes import Average, GradientNoise
from raysweep.training.splits import Batch, Split

# Above this many numbers, logits kept for the train-mode accuracy are counted and let go.
MAX_KEPT_LOGITS = 4_000_000


def derive_seed(*parts: int | str) -> int:
    """Make a generator's seed of (seed, epoch, rank) or the like: each gives another stream."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def reset_global_state(seed: int) -> None:
    """Start every trial from the same global state, whatever trained in this process before."""
    seed_generators(seed)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False  # by default convolutions have 10 bits, unlike on a CPU
    torch.backends.cudnn.benchmark = False


def seed_generators(seed: int) -> None:
    """Begin every epoch with the same generators, wherever the one before it was trained: nothing
    of them has to be kept."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - for user code that draws from it
    _seed_torch(seed)


def _seed_torch(seed: int) -> None:
    """Do what torch.manual_seed does, without its look at the call stack, which costs most."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def autocast(fields: Hyperparameters, device: torch.device) -> AbstractContextManager[Any]:
    """Make the context in which the model runs at the trial's precision."""
    if fields.precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def build_optimizer(fields: Hyperparameters, model: nn.Module) -> torch.optim.Optimizer:
    """Build the trial's optimizer; its learning rate is set at every step."""
    parameters, decay = list(model.parameters()), fields.weight_decay
    match fields.optimizer:
        case "sgd":
            return torch.optim.SGD(
                parameters, 0.0, momentum=fields.momentum, weight_decay=decay, fused=True
            )
        case "adam":
            return torch.optim.Adam(parameters, 0.0, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(parameters, 0.0, weight_decay=decay, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop(
                parameters, 0.0, momentum=fields.momentum, weight_decay=decay
            )


class Pass(NamedTuple):
    """One pass over the training set by one worker."""

    sums: torch.Tensor  # [number correct, sum of losses] in train mode, of this worker's shard
    grad_norm: torch.Tensor  # of the last step, before clipping
    num_steps: int
    last_lr: float


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    fields: Hyperparameters,
    train_set: Split,
    seed: int,
    epoch: int,
    group: Group,
    *,
    average: Average | None = None,
    noise: GradientNoise | None = None,
) -> Pass:
    """Pass over the training set once. The order of examples comes from (seed, epoch) alone, so
    that every number of workers sees the same global batches. The probes look on."""
    model.train()
    seed_generators(derive_seed(seed, epoch, group.rank))  # dropout, augmentation
    sizes, loader = _batches(train_set, fields.batch_size, derive_seed(seed, epoch), group)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # DDP averages gradients over workers. Scaled like this, the average is the gradient of the
    # mean over the global batch, however uneven (or empty) the shards are.
    scales = {
        size: torch.tensor(group.world_size / size, device=group.device) for size in set(sizes)
    }
    precision, tally = autocast(fields, group.device), _Tally(group.device)
    norm, lr = torch.zeros((), device=group.device), math.nan

    def summed_loss(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(
            logits.float(), y, reduction="sum", label_smoothing=fields.label_smoothing
        )

    for step, (x, y) in enumerate(loader):
        global_step = (epoch - 1) * len(sizes) + step
        lr = learning_rate(fields, global_step, len(sizes))
        for settings in optimizer.param_groups:
            settings["lr"] = lr
        for parameter in parameters:
            parameter.grad = None
        with precision:
            logits = model(x)
        loss = summed_loss(logits, y)
        measured = noise if noise and noise.wants(global_step, sizes[step]) else None
        if measured:
            part = measured.part
            measured.before_backward(summed_loss(logits[part], y[part]), parameters)
        loss.backward(scales[sizes[step]])
        if measured:
            measured.after_backward(parameters)
        if fields.grad_clip is not None:
            norm = nn.utils.clip_grad_norm_(parameters, fields.grad_clip)
        elif step == len(sizes) - 1:
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        optimizer.step()
        if average:
            average.update()
        tally.add(logits.detach(), y, loss.detach())
    return Pass(tally.sums(), norm, len(sizes), lr)


def _batches(
    train_set: Split, batch_size: int, seed: int, group: Group
) -> tuple[list[int], Iterator[Batch]]:
    """The sizes of the global batches of a pass, and this worker's shard of each."""
    order = torch.randperm(train_set.n, generator=torch.Generator().manual_seed(seed))
    batches = order.split(batch_size)
    mine = [batch[group.shard(len(batch))] for batch in batches]
    loader = train_set.shuffled(torch.cat(mine), [len(shard) for shard in mine])
    return [len(batch) for batch in batches], loader


class _Tally:
    """Right answers and losses of a pass. They stay on the device, so no step waits for them."""

    def __init__(self, device: torch.device) -> None:
        self._correct = torch.zeros((), dtype=torch.float64, device=device)
        self._losses: list[torch.Tensor] = []
        self._uncounted: list[tuple[torch.Tensor, torch.Tensor]] = []  # logits and classes

    def add(self, logits: torch.Tensor, y: torch.Tensor, loss: torch.Tensor) -> None:
        self._losses.append(loss)
        self._uncounted.append((logits, y))
        if len(self._uncounted) * logits.numel() > MAX_KEPT_LOGITS:
            self._count()

    def _count(self) -> None:
        if self._uncounted:
            logits, classes = zip(*self._uncounted, strict=True)
            self._correct += (torch.cat(logits).argmax(1) == torch.cat(classes)).sum()
            self._uncounted.clear()

    def sums(self) -> torch.Tensor:
        """Give [number correct, sum of losses]."""
        self._count()
        return torch.stack([self._correct, torch.stack(self._losses).double().sum()])
