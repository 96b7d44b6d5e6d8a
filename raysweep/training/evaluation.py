"""Exact evaluation: every example once, split between workers without padding or dropping."""

from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from raysweep.store.schema import NUM_BLOCKS
from raysweep.training.confidence import LogitMargins
from raysweep.training.group import Group
from raysweep.training.splits import Placed, Split, at_once


class PerExample(NamedTuple):
    """What a model does with this worker's shard of a split, in order.

    correct: bool; loss: cross-entropy without label smoothing. Shape (shard,) each.
    """

    correct: torch.Tensor
    loss: torch.Tensor

    def sums(self) -> torch.Tensor:
        """Give [number correct, sum of losses], to be summed over workers."""
        return torch.stack([self.correct.double().sum(), self.loss.sum()])


def evaluate(
    model: nn.Module,
    split: Split,
    group: Group,
    precision: AbstractContextManager[Any],
    keep: list[LogitMargins] | None = None,
) -> PerExample:
    """Evaluate this worker's shard of a split in eval mode.

    Args: precision: entered around the model; see `passes.autocast`. keep: gets what
        `confidence` needs of each batch.
    """
    model.eval()
    correct = [torch.zeros(0, dtype=torch.bool, device=group.device)]
    losses = [torch.zeros(0, dtype=torch.float64, device=group.device)]
    with torch.inference_mode():
        for x, y in split.in_order(group.shard(split.n), at_once(split)):
            with precision:
                logits = model(x)
            # Classes first: with few classes, all that follows is several times as fast.
            logits = logits.float().T.contiguous()
            largest, predicted = logits.max(0)
            correct.append(predicted == y)
            losses.append(-functional.log_softmax(logits, 0).gather(0, y[None])[0].double())
            if keep is not None:
                margins = logits - largest
                keep.append(LogitMargins(margins, margins.gather(0, y[None])[0]))
    return PerExample(torch.cat(correct), torch.cat(losses))


def validation_sums(
    now: PerExample, before: torch.Tensor | None, placed: Placed, group: Group
) -> torch.Tensor:
    """Put all that is recorded of a validation set into one vector, to be summed over workers.

    Args: before: which examples of this shard were right an epoch ago.
    """
    shard = group.shard(placed.validation.n)
    flips = torch.zeros(2, dtype=torch.float64, device=now.loss.device)
    if before is not None:
        flips = torch.stack([(before & ~now.correct).sum(), (~before & now.correct).sum()]).double()
    correct, blocks = now.correct.double(), placed.val_blocks[shard]
    parts = [
        now.sums(),
        now.loss.square().sum().reshape(1),
        flips,
        _sum_by(blocks, correct, NUM_BLOCKS),
        _sum_by(blocks, now.loss, NUM_BLOCKS),
    ]
    if placed.val_classes is not None and placed.val_class_n is not None:
        parts.append(_sum_by(placed.val_classes[shard], correct, len(placed.val_class_n)))
    return torch.cat(parts)


def validation_columns(sums: list[float], placed: Placed, *, first: bool) -> dict[str, Any]:
    """Name the columns of the summed vector; flips are null in the first epoch."""
    correct, loss_sum, loss_sumsq, to_wrong, to_right, *rest = sums
    per_class = rest[2 * NUM_BLOCKS :]
    return {
        "val_n": placed.validation.n,
        "val_correct": int(correct),
        "val_loss_sum": loss_sum,
        "val_loss_sumsq": loss_sumsq,
        "val_block_n": placed.val_block_n,
        "val_block_correct": [int(number) for number in rest[:NUM_BLOCKS]],
        "val_block_loss_sum": rest[NUM_BLOCKS : 2 * NUM_BLOCKS],
        "flip_to_wrong": None if first else int(to_wrong),
        "flip_to_right": None if first else int(to_right),
        "val_class_n": placed.val_class_n,
        "val_class_correct": [int(number) for number in per_class] if per_class else None,
    }


def spread_out(
    correct: torch.Tensor, confidence: torch.Tensor | None, n: int, group: Group
) -> torch.Tensor:
    """Make one number per validation example, to be summed over workers; see `gathered`.

    The confidence in its prediction, or 1 where that is not known; negative if it was wrong.
    """
    size = torch.ones(len(correct)) if confidence is None else confidence.nan_to_num(1.0)
    size = size.to(dtype=torch.float64, device=correct.device)
    everyone = torch.zeros(n, dtype=torch.float64, device=correct.device)
    everyone[group.shard(n)] = torch.where(correct, size, -size)
    return everyone


def gathered(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Read (confidence, correct) of every validation example, in order; shape (n,) each."""
    return np.abs(numbers), numbers > 0


def _sum_by(group: torch.Tensor, values: torch.Tensor, num_groups: int) -> torch.Tensor:
    zeros = torch.zeros(num_groups, dtype=torch.float64, device=values.device)
    return zeros.index_add_(0, group, values)
