"""One pass over the training set: its order of examples, its steps, what they sum to."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import nn

from raysweep.spec import Hyperparameters
from raysweep.tasks.batches import call, changed, length
from raysweep.training.group import Group
from raysweep.training.learning import Learning, autocast
from raysweep.training.objective import Judged, Objective, comparable
from raysweep.training.probes import Average, GradientNoise
from raysweep.training.reading import Batch, StreamSplit
from raysweep.training.seeds import derive_seed, seed_generators
from raysweep.training.splits import TrainSplit

# Above this many numbers, logits kept for the train-mode accuracy are counted and let go.
MAX_KEPT_LOGITS = 4_000_000

Augment = Callable[[Any, Any, Any], tuple[Any, Any]]


class Pass(NamedTuple):
    """One pass over the training set by one worker."""

    sums: torch.Tensor  # [scores, losses, examples] in train mode, of this worker's shard
    grad_norm: torch.Tensor  # of the last step, before clipping
    num_steps: int
    last_lr: float


def train_epoch(
    model: nn.Module,
    learning: Learning,
    objective: Objective,
    fields: Hyperparameters,
    train_set: TrainSplit,
    seed: int,
    epoch: int,
    group: Group,
    *,
    augment: Augment | None = None,
    average: Average | None = None,
    noise: GradientNoise | None = None,
) -> Pass:
    """Pass over the training set once. The order of examples comes from (seed, epoch) alone, so
    that every number of workers sees the same global batches. The probes look on."""
    model.train()
    seed_generators(derive_seed(seed, epoch, group.rank))  # dropout, augmentation
    sizes, loader = _batches(train_set, fields.batch_size, seed, epoch, group)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # DDP averages gradients over workers. Scaled like this, the average is the gradient of the
    # mean over the global batch, however uneven (or empty) the shards are.
    scales = {
        size: torch.tensor(group.world_size / size, device=group.device) for size in set(sizes)
    }
    precision, tally = autocast(fields, group.device), _Tally(group.device)
    norm = torch.zeros((), device=group.device)
    for step, (x, y) in enumerate(loader):
        global_step = (epoch - 1) * len(sizes) + step
        learning.begin(global_step, len(sizes))
        for parameter in parameters:
            parameter.grad = None
        inputs, targets = (x, y) if augment is None else augment(fields, x, y)
        parts = _parts(length(targets), fields.micro_batch_size)
        whole = len(parts) == 1 and (fields.micro_batch_size or sizes[step]) >= sizes[step]
        measured = noise if noise and whole and noise.wants(global_step, sizes[step]) else None
        for number, part in enumerate(parts):
            x_part, y_part, known = (
                (inputs, targets, y) if part is None else _taken(part, inputs, targets, y)
            )
            with nullcontext() if number == len(parts) - 1 else _unsynchronised(model):
                with precision:
                    outputs = call(model, x_part)
                loss = objective.training(outputs, y_part, known)
                if measured:
                    scale = learning.loss_scale
                    measured.before_backward(loss.part(measured.part), parameters, scale)
                learning.backward(loss.total, scales[sizes[step]])
            tally.add(outputs, comparable(y_part, known), loss.total.detach(), loss.judged)
        learning.unscale()
        if measured:
            measured.after_backward(parameters)
        if fields.grad_clip is not None:
            norm = nn.utils.clip_grad_norm_(parameters, fields.grad_clip)
        elif step == len(sizes) - 1:
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        learning.step()
        if average:
            average.update()
    return Pass(tally.sums(), norm, len(sizes), learning.lr)


def _batches(
    train_set: TrainSplit, batch_size: int, seed: int, epoch: int, group: Group
) -> tuple[list[int], Iterator[Batch]]:
    """The sizes of the global batches of a pass, and this worker's shard of each."""
    if isinstance(train_set, StreamSplit):
        sizes = [batch_size] * train_set.steps_per_epoch
        return sizes, train_set.batches(batch_size, seed, epoch, group)
    own = derive_seed(seed, epoch)
    order = torch.randperm(train_set.n, generator=torch.Generator().manual_seed(own))
    batches = order.split(batch_size)
    mine = [batch[group.shard(len(batch))] for batch in batches]
    loader = train_set.shuffled(torch.cat(mine), [len(shard) for shard in mine], own)
    return [len(batch) for batch in batches], loader


def _parts(size: int, most: int | None) -> Sequence[slice | None]:
    """Which examples of a shard go through the model together; None: all of them."""
    if most is None or size <= most:
        return [None]
    return [slice(start, min(start + most, size)) for start in range(0, size, most)]


def _taken(part: slice, *values: Any) -> list[Any]:
    return [changed(value, lambda tensor: tensor[part]) for value in values]


def _unsynchronised(model: nn.Module) -> AbstractContextManager[Any]:
    """Let gradients add up in this worker; the last part of a batch sends the sums."""
    no_sync = getattr(model, "no_sync", None)
    return nullcontext() if no_sync is None else no_sync()


class _Tally:
    """Scores and losses of a pass. They stay on the device, so no step waits for them."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._scores = torch.zeros((), dtype=torch.float64, device=device)
        self._counted = torch.zeros((), dtype=torch.float64, device=device)
        self._num_examples = 0  # of those that all count
        self._losses: list[torch.Tensor] = []
        self._uncounted: list[tuple[torch.Tensor, torch.Tensor]] = []  # logits and classes

    def add(self, outputs: Any, targets: Any, loss: torch.Tensor, judged: Judged | None) -> None:
        """Add a part of a batch. Args: judged: None for a classification."""
        self._losses.append(loss)
        if judged is None:
            self._num_examples += len(targets)
            self._uncounted.append((outputs.detach(), targets))
            if len(self._uncounted) * outputs.numel() > MAX_KEPT_LOGITS:
                self._count()
            return
        if judged.counts is None:
            self._scores += judged.score.sum()
            self._num_examples += len(judged.score)
        else:
            self._scores += (judged.score * judged.counts).sum()
            self._counted += judged.counts.sum()

    def _count(self) -> None:
        if self._uncounted:
            logits, classes = zip(*self._uncounted, strict=True)
            self._scores += (torch.cat(logits).argmax(1) == torch.cat(classes)).sum()
            self._uncounted.clear()

    def sums(self) -> torch.Tensor:
        """Give [scores, losses, examples]."""
        self._count()
        losses = torch.stack(self._losses).double().sum()
        return torch.stack([self._scores, losses, self._counted + self._num_examples])
