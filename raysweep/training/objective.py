"""What a trial minimises and what it is judged by: losses and scores, one an example."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from raysweep.errors import InputError
from raysweep.tasks import Data, Task
from raysweep.tasks.batches import length

NOT_COUNTED = -100  # a whole-number target of it does not count, as in PyTorch's losses
SCORE_KINDS = ("right", "share", "number")  # see the column score_kind of the store


class Judged(NamedTuple):
    """Losses and scores of a batch, one an example: the mean over its tokens, pixels or labels.

    score: bool where an example is right or wrong. counts: which examples have a target at all;
    None: all of them. Shape (batch,) each.
    """

    loss: torch.Tensor
    score: torch.Tensor
    counts: torch.Tensor | None


class TrainingLoss(NamedTuple):
    """The loss that a batch is trained by, summed over its examples.

    part: gives the same of some of its examples. judged: None for a classification, whose right
    answers are counted later.
    """

    total: torch.Tensor
    part: Callable[[slice], torch.Tensor]
    judged: Judged | None


class Objective:
    """The loss and score of a task: its own, or cross-entropy and whether the largest output is
    at the target. A classification with one class an example has a faster way through."""

    def __init__(self, task: Task, data: Data, label_smoothing: float) -> None:
        self.of_classes, self.num_classes = task.of_classes(data), data.num_classes
        self.kind: str | None = "right" if self.of_classes else None  # once something was judged
        self.outputs_of_one = 0  # numbers that the model gives for an example, once that is known
        self._loss, self._score, self._smoothing = task.loss, task.score, label_smoothing

    def training(self, outputs: Any, targets: Any, known: Any) -> TrainingLoss:
        """Compute what a batch is trained by.

        Args: targets: of the batch as it is trained on; known: as it was before augmentation.
        """
        outputs = full_precision(outputs)
        if self.of_classes:

            def summed(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
                return functional.cross_entropy(
                    logits, y, reduction="sum", label_smoothing=self._smoothing
                )

            total = summed(outputs, targets)
            return TrainingLoss(total, lambda part: summed(outputs[part], targets[part]), None)
        each, counts = self._losses(outputs, targets, self._smoothing)
        with torch.no_grad():
            score = self._scores(outputs, comparable(targets, known))
        judged = Judged(each.detach(), score, counts)
        return TrainingLoss(each.sum(), lambda part: each[part].sum(), judged)

    def judge(self, outputs: Any, targets: Any) -> Judged:
        """Compute losses, without label smoothing, and scores of a batch."""
        outputs = full_precision(outputs)
        each, counts = self._losses(outputs, targets, 0.0)
        return Judged(each, self._scores(outputs, targets), counts)

    def _losses(
        self, outputs: Any, targets: Any, smoothing: float
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self._loss is None:
            each = functional.cross_entropy(
                outputs, targets, reduction="none", label_smoothing=smoothing
            )
        else:
            each = self._loss(outputs, targets)
        return _by_example("loss", each, targets)

    def _scores(self, outputs: Any, targets: Any) -> torch.Tensor:
        each = (
            outputs.argmax(1) == targets if self._score is None else self._score(outputs, targets)
        )
        score, counts = _by_example("score", each, targets)
        if each.dtype != torch.bool:
            self.kind = "number"
        else:
            self.kind = "right" if each.ndim == 1 else "share"
        if self.kind == "right":
            return each if counts is None else each & counts
        return score.double()


def full_precision(outputs: Any) -> Any:
    """Make float32 of what a model gives in another precision."""
    floating = isinstance(outputs, torch.Tensor) and outputs.is_floating_point()
    return outputs.float() if floating else outputs


def comparable(augmented: Any, known: Any) -> Any:
    """Choose the targets that a score of training compares with: those after augmentation, unless
    it has made something else of them, shares of classes for instance."""
    if not isinstance(augmented, torch.Tensor) or not isinstance(known, torch.Tensor):
        return augmented
    alike = augmented.shape == known.shape and augmented.dtype == known.dtype
    return augmented if alike else known


def _by_example(name: str, values: Any, targets: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Means over each example's predictions, and which examples have any; None: all."""
    size = length(targets)
    if not isinstance(values, torch.Tensor):
        raise InputError(f"{name}(outputs, targets) gave {type(values).__name__}, not a tensor")
    if values.ndim == 0:
        raise InputError(
            f"{name}(outputs, targets) gave one number for the whole batch; one for each example "
            'is needed, as reduction="none" gives it'
        )
    if len(values) != size:
        raise InputError(
            f"{name}(outputs, targets) gave {tuple(values.shape)} for a batch of {size} examples; "
            f"the first axis must be the examples: ({size}, ...)"
        )
    whole = isinstance(targets, torch.Tensor) and not (
        targets.is_floating_point() or targets.dtype == torch.bool
    )
    if whole and targets.shape == values.shape:
        counted = (targets != NOT_COUNTED).reshape(size, -1)
        number = counted.sum(1)
        flat = torch.where(counted, values.reshape(size, -1).float(), 0.0)
        return flat.sum(1) / number.clamp_min(1), number > 0
    if values.ndim == 1:
        return values.float() if values.dtype == torch.bool else values, None
    return values.reshape(size, -1).float().mean(1), None
