"""Exact evaluation: every example once, split between workers without padding or dropping."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from raysweep.store.schema import NUM_BLOCKS
from raysweep.tasks.batches import call, tensors
from raysweep.training.confidence import LogitMargins
from raysweep.training.group import Group
from raysweep.training.objective import Objective
from raysweep.training.seeds import kept_generators
from raysweep.training.splits import MAX_CLASSES, Placed, Split, at_once

# Numbers that a model gives for the examples that go through it together, beyond classifications.
_MAX_OUTPUTS = 2**25


class PerExample(NamedTuple):
    """What a model does with this worker's shard of a split, in order.

    score: bool, right or wrong, or a number. loss: without label smoothing. counts: whether an
    example has a target at all; None: all have. classes: the targets of a classification. Shape
    (shard,) each.
    """

    score: torch.Tensor
    loss: torch.Tensor
    counts: torch.Tensor | None = None
    classes: torch.Tensor | None = None

    @property
    def correct(self) -> torch.Tensor:
        """Which examples are right, where that is what scores say."""
        return self.score

    def sums(self) -> torch.Tensor:
        """Give [sum of scores, sum of losses, examples that count], to be summed over workers."""
        one = torch.ones_like(self.loss) if self.counts is None else self.counts.double()
        return torch.stack([self.score.double().sum(), self.loss.sum(), one.sum()])


def evaluate(
    model: nn.Module,
    split: Split,
    group: Group,
    precision: AbstractContextManager[Any],
    keep: list[LogitMargins] | None = None,
    objective: Objective | None = None,
) -> PerExample:
    """Evaluate this worker's shard of a split in eval mode.

    Args: precision: entered around the model; see `learning.autocast`. keep: gets what
        `confidence` needs of each batch. objective: None for a classification judged as usual.
    """
    model.eval()
    with torch.inference_mode():
        if objective is None or objective.of_classes:
            return _of_classes(model, split, group, precision, keep)
        return _of_any(model, split, group, precision, objective)


def _of_classes(
    model: nn.Module,
    split: Split,
    group: Group,
    precision: AbstractContextManager[Any],
    keep: list[LogitMargins] | None,
) -> PerExample:
    correct = [torch.zeros(0, dtype=torch.bool, device=group.device)]
    losses = [torch.zeros(0, dtype=torch.float64, device=group.device)]
    classes = [torch.zeros(0, dtype=torch.int64, device=group.device)]
    for x, y in split.in_order(group.shard(split.n), at_once(split)):
        with precision:
            logits = call(model, x)
        # Classes first: with few classes, all that follows is several times as fast.
        logits = logits.float().T.contiguous()
        largest, predicted = logits.max(0)
        correct.append(predicted == y)
        losses.append(-functional.log_softmax(logits, 0).gather(0, y[None])[0].double())
        classes.append(y)
        if keep is not None:
            margins = logits - largest
            keep.append(LogitMargins(margins, margins.gather(0, y[None])[0]))
    return PerExample(torch.cat(correct), torch.cat(losses), None, torch.cat(classes))


def _of_any(
    model: nn.Module,
    split: Split,
    group: Group,
    precision: AbstractContextManager[Any],
    objective: Objective,
) -> PerExample:
    if not objective.outputs_of_one:
        with kept_generators(), precision:
            ((x, _),) = split.in_order(slice(0, 1), 1)
            objective.outputs_of_one = sum(part.numel() for part in tensors(call(model, x)))
    size = min(at_once(split), max(1, _MAX_OUTPUTS // max(1, objective.outputs_of_one)))
    parts: list[PerExample] = []
    for x, y in split.in_order(group.shard(split.n), size):
        with precision:
            outputs = call(model, x)
        loss, score, counts = objective.judge(outputs, y)
        if counts is None:
            counts = torch.ones_like(loss, dtype=torch.bool)
        elif score.dtype != torch.bool:
            score = score * counts
        parts.append(PerExample(score, loss.double() * counts, counts))
    if not parts:  # fewer examples than workers
        none = torch.zeros(0, dtype=torch.float64, device=group.device)
        return PerExample(none, none, none.bool())
    scores, losses, counts, _ = zip(*parts, strict=True)
    return PerExample(torch.cat(scores), torch.cat(losses), torch.cat(counts))


def validation_sums(
    now: PerExample, before: torch.Tensor | None, placed: Placed, group: Group, objective: Objective
) -> dict[str, torch.Tensor]:
    """Collect all that is recorded of a validation set, to be summed over workers.

    Args: before: the scores of this shard an epoch ago; objective: of a kind that is known.
    """
    shard = group.shard(placed.validation.n)
    score, blocks = now.score.double(), placed.val_blocks[shard]
    found = {
        "totals": now.sums(),
        "loss_sq": now.loss.square().sum().reshape(1),
        "block_score": _sum_by(blocks, score, NUM_BLOCKS),
        "block_loss": _sum_by(blocks, now.loss, NUM_BLOCKS),
    }
    if now.counts is not None:
        found["block_n"] = _sum_by(blocks, now.counts.double(), NUM_BLOCKS)
    changes = torch.zeros(2, dtype=torch.float64, device=score.device)
    if objective.kind == "right":
        if before is not None:
            was, right = before.bool(), now.score.bool()
            changes = torch.stack([(was & ~right).sum(), (~was & right).sum()]).double()
    else:
        found["score_sq"] = score.square().sum().reshape(1)
        if before is not None:
            squared = (score - before).square()
            changes = torch.stack([squared.sum(), squared.square().sum()])
    found["changes"] = changes
    if now.classes is not None and objective.num_classes <= MAX_CLASSES:
        found["class_n"] = torch.bincount(now.classes, minlength=objective.num_classes).double()
        found["class_score"] = _sum_by(now.classes, score, objective.num_classes)
    return found


def validation_columns(
    sums: Mapping[str, np.ndarray], placed: Placed, kind: str, *, first: bool
) -> dict[str, Any]:
    """Name the columns of the summed parts; changes are null in the first epoch.

    Args: kind: of scores.
    """
    score, loss, n = sums["totals"].tolist()
    one, two = (None, None) if first else sums["changes"].tolist()
    columns = {
        "val_n": round(n),
        "val_loss_sum": loss,
        "val_loss_sumsq": sums["loss_sq"].item(),
        "val_block_n": whole(sums["block_n"]) if "block_n" in sums else placed.val_block_n,
        "val_block_loss_sum": sums["block_loss"].tolist(),
        "val_class_n": whole(sums["class_n"]) if "class_n" in sums else None,
        "val_class_correct": whole(sums["class_score"]) if "class_score" in sums else None,
    }
    if kind == "right":
        return columns | {
            "val_correct": round(score),
            "val_block_correct": whole(sums["block_score"]),
            "flip_to_wrong": None if one is None else round(one),
            "flip_to_right": None if two is None else round(two),
        }
    return columns | {
        "val_score_sum": score,
        "val_score_sumsq": sums["score_sq"].item(),
        "val_block_score_sum": sums["block_score"].tolist(),
        "val_change_sumsq": one,
        "val_change_sum4": two,
    }


def whole(numbers: np.ndarray) -> list[int]:
    """Write sums of counts as whole numbers."""
    return [round(number) for number in numbers.tolist()]


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
