"""Evidence taken while training goes on: averaged weights, the gradient noise scale.

Nothing here changes what is trained, to the last bit.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from raysweep.tasks.batches import call
from raysweep.training.group import ALONE, Group
from raysweep.training.splits import Split, at_once


class Average:
    """An exponential moving average of the weights, updated at every step.

    Weights of `half_life` epochs ago count half. Where training began counts nothing: the weights
    of the average sum to one from the first step on.
    """

    def __init__(self, model: nn.Module, half_life: float, steps_per_epoch: int) -> None:
        self.model = copy.deepcopy(model)
        self._decay = 0.5 ** (1 / (half_life * steps_per_epoch))
        self._remaining = 1.0  # what is left of the weights before the first step
        self._norms = batch_norms(self.model)
        self._statistics = [s.clone() for layer in self._norms for s in _statistics(layer)]
        self._averaged = [p.detach() for p in self.model.parameters()] + self._statistics
        live = [s for layer in batch_norms(model) for s in _statistics(layer)]
        self._live = [p.detach() for p in model.parameters()] + live

    def update(self) -> None:
        """Take in the weights after one more step, and the batch-norm statistics with them."""
        self._remaining *= self._decay
        weight = (1 - self._decay) / (1 - self._remaining)
        torch._foreach_lerp_(self._averaged, self._live, weight)  # pyright: ignore[reportPrivateImportUsage]

    def state(self) -> dict[str, Any]:
        """Collect all of it, at the end of an epoch."""
        return {"remaining": self._remaining, "averaged": list(self._averaged)}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self._remaining = state["remaining"]
        for mine, saved in zip(self._averaged, state["averaged"], strict=True):
            mine.copy_(saved)

    def kinds(
        self,
        model: nn.Module,
        train_eval: Split,
        group: Group,
        precision: AbstractContextManager[Any],
    ) -> Iterator[tuple[str, nn.Module]]:
        """Yield (weights_kind, averaged model), each to be evaluated before the next is asked for.

        `ema` alone without batch norm. With it, the averaged weights have three kinds of
        statistics: `ema_live`, those of the live model; `ema_averaged`, averaged like weights;
        `ema`, estimated anew on the training subset.
        """
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)
        if self._norms:
            yield "ema_live", self.model
            own = (s for layer in self._norms for s in _statistics(layer))
            for statistic, averaged in zip(own, self._statistics, strict=True):
                statistic.copy_(averaged)
            group.broadcast_buffers(self.model)
            yield "ema_averaged", self.model
            estimate_statistics(self.model, train_eval, precision)
        yield "ema", self.model


def estimate_statistics(
    model: nn.Module, examples: Split, precision: AbstractContextManager[Any]
) -> None:
    """Estimate batch-norm statistics on these examples, with everything else in eval mode.

    Every worker sees all examples, so all get the same statistics.
    Source: Izmailov et al. 2018, arXiv 1803.05407.
    """
    layers = batch_norms(model)
    momenta = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean of what it sees
        layer.train()
    # In batches of like size, as each counts as much as the others.
    size = math.ceil(examples.n / math.ceil(examples.n / at_once(examples)))
    with torch.inference_mode(), precision:
        for x, _ in examples.in_order(slice(0, examples.n), size):
            call(model, x)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def batch_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """List the batch-norm layers that keep statistics."""
    kind = nn.modules.batchnorm._BatchNorm
    layers = [layer for layer in model.modules() if isinstance(layer, kind)]
    return [layer for layer in layers if layer.running_mean is not None]


def _statistics(layer: nn.modules.batchnorm._BatchNorm) -> list[torch.Tensor]:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return [layer.running_mean, layer.running_var]


class GradientNoise:
    """Squared norms of the gradients of a whole batch and of its parts, on every `every`-th step.

    The parts of a batch are the workers' shards; of one worker, its two halves. A part's gradient
    takes one more backward pass through the same graph: the same dropout masks and batch-norm
    statistics, and the gradient that training uses stays what it was. A last batch that is smaller
    than the others is left out.
    Source: McCandlish et al. 2018, arXiv 1812.06162.
    """

    def __init__(self, every: int, batch_size: int, group: Group = ALONE) -> None:
        self._every, self._size, self._group = every, batch_size, group
        self._num_parts = max(2, group.world_size)
        shards = [Group(rank, self._num_parts).shard(batch_size) for rank in range(self._num_parts)]
        self._sizes = [shard.stop - shard.start for shard in shards]
        self._part, self._skips = torch.zeros(0), False
        self._part_size = self._sizes[group.rank]
        self._sums = torch.zeros(3, dtype=torch.float64, device=group.device)

    def wants(self, step: int, batch_size: int) -> bool:
        """Tell whether to measure at this step of the trial, counted from 0."""
        return step % self._every == 0 and batch_size == self._size and min(self._sizes) > 0

    @property
    def part(self) -> slice:
        """Which of this worker's examples make its part."""
        return slice(0, self._part_size)

    def before_backward(
        self, part_loss: torch.Tensor, parameters: Sequence[nn.Parameter], loss_scale: float = 1.0
    ) -> None:
        """Measure the part.

        Args: part_loss: summed over it, with a graph for backward to use; loss_scale: what keeps
            its gradients from vanishing at half precision.
        """
        if loss_scale != 1.0:
            part_loss = part_loss * loss_scale
        gradients = torch.autograd.grad(
            part_loss, parameters, retain_graph=True, materialize_grads=True
        )
        whole = torch.cat([g.reshape(-1) for g in gradients])
        self._part = whole / (self._part_size * loss_scale)
        self._skips = loss_scale != 1.0

    def after_backward(self, parameters: Sequence[nn.Parameter]) -> None:
        """Measure the batch. Args: parameters: with the gradient of its mean, not yet clipped."""
        gradients = (torch.zeros_like(p) if p.grad is None else p.grad for p in parameters)
        whole = torch.cat([g.reshape(-1) for g in gradients])
        big, small = _squared_norm(whole), _squared_norm(self._part)
        if self._group.world_size == 1:
            first, second = self._sizes
            rest = (self._size * whole - first * self._part) / second
            small = (small + _squared_norm(rest)) / 2
        measured = torch.stack([small, big, torch.ones_like(big)])
        if self._skips:  # a loss scale that is too large is tried out, and its step left out
            measured = torch.where((small + big).isfinite(), measured, 0.0)
        # Divided here, summed over workers later: means over the parts.
        self._sums += measured / self._group.world_size
        self._part = torch.zeros(0)

    def take(self) -> torch.Tensor:
        """Take what was measured since the last call, to be summed over workers; shape (3,)."""
        taken, self._sums = self._sums, torch.zeros_like(self._sums)
        return taken

    def columns(self, sums: Sequence[float]) -> dict[str, Any]:
        """Name the columns of an epoch's row; none where no step was measured or finite.

        gns_b_small is the harmonic mean of the parts' sizes: for parts of unlike sizes too, the
        mean of their squared norms is |G|² + S / gns_b_small.
        """
        small, big, steps = sums[0], sums[1], round(sums[2])
        if not steps or not math.isfinite(small + big):
            return {}
        return {
            "gns_small_sq": small / steps,
            "gns_big_sq": big / steps,
            "gns_b_small": self._num_parts / sum(1 / size for size in self._sizes),
            "gns_b_big": float(self._size),
            "gns_steps": steps,
        }


def _squared_norm(vector: torch.Tensor) -> torch.Tensor:
    return torch.dot(vector, vector).double()
