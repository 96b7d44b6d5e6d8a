"""What is measured of a trial at the end of each epoch: the columns of its rows."""

import math
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import nn

from raysweep.spec import Hyperparameters, Probes
from raysweep.store.schema import NUM_BLOCKS
from raysweep.training import confidence
from raysweep.training.confidence import LogitMargins
from raysweep.training.evaluation import (
    PerExample,
    evaluate,
    gathered,
    spread_out,
    validation_columns,
    validation_sums,
)
from raysweep.training.group import Group
from raysweep.training.probes import Average, GradientNoise
from raysweep.training.splits import Placed


class Evidence:
    """Looks at a trial's model, epoch by epoch. All workers of the trial call it alike."""

    def __init__(
        self,
        model: nn.Module,
        fields: Hyperparameters,
        probes: Probes,
        placed: Placed,
        num_classes: int,
        group: Group,
        precision: AbstractContextManager[Any],
    ) -> None:
        self._model, self._placed, self._group = model, placed, group
        self._precision = precision
        n, half_life, every = placed.validation.n, probes.ema_half_life, probes.gradient_noise_every
        steps_per_epoch = -(-placed.train.n // fields.batch_size)
        self.average = Average(model, half_life, steps_per_epoch) if half_life else None
        self.noise = GradientNoise(every, fields.batch_size, group) if every else None
        self._fits = probes.confidence and n * num_classes <= confidence.MAX_KEPT_LOGITS
        self._bits = probes.settled(n, fields.epochs).correct_bits
        # Which of its validation examples were right, by kind of weights.
        self._right: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            self._weights = self._parameters()

    def train_eval_loss(self) -> float:
        """Measure the mean loss of the fixed training subset now."""
        sums = evaluate(self._model, self._placed.train_eval, self._group, self._precision).sums()
        return self._group.sum(sums)[1].item() / self._placed.train_eval.n

    def repeat(self) -> int:
        """Count what a second evaluation of the same weights finds right on the validation set."""
        return int(self._group.sum(self._on_validation(self._model).sums())[0].item())

    def state(self) -> dict[str, Any]:
        """Collect what the next epoch's evidence needs. All workers call it and get the same."""
        n, right = self._placed.validation.n, dict[str, torch.Tensor]()
        for kind, mine in self._right.items():
            everyone = torch.zeros(n, dtype=torch.uint8, device=mine.device)
            everyone[self._group.shard(n)] = mine.to(torch.uint8)
            right[kind] = self._group.sum(everyone)
        return {"right": right, "average": self.average.state() if self.average else None}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state`; the model has its weights of then already."""
        shard = self._group.shard(self._placed.validation.n)
        self._right = {
            kind: everyone[shard].to(self._group.device, torch.bool)
            for kind, everyone in state["right"].items()
        }
        if self.average:
            self.average.load(state["average"])
        with torch.no_grad():
            self._weights = self._parameters()

    @torch.no_grad()
    def measure(self, training: torch.Tensor, grad_norm: torch.Tensor) -> dict[str, dict[str, Any]]:
        """Measure the columns of the epoch's rows, by kind of weights; `raw` comes last.

        Args: training: [number correct, sum of losses] of this worker's shard of the training
            pass; grad_norm: of its last step.
        """
        placed, group, precision = self._placed, self._group, self._precision
        group.broadcast_buffers(self._model)
        sums = {"training": training}

        # In eval mode: the fixed training subset, then the whole validation set, then that once
        # more for each kind of averaged weights.
        sums["subset"] = evaluate(self._model, placed.train_eval, group, precision).sums()
        before, seen, kept = self._right, dict[str, PerExample](), list[LogitMargins]()
        raw = self._on_validation(self._model, kept if self._fits else None)
        if self.average:
            for kind, model in self.average.kinds(self._model, placed.train_eval, group, precision):
                seen[kind] = self._on_validation(model)
        seen["raw"] = raw
        self._right = {kind: now.correct for kind, now in seen.items()}
        for kind, now in seen.items():
            sums[kind] = validation_sums(now, before.get(kind), placed, group)

        # What the probes make of it.
        if self.noise:
            sums["noise"] = self.noise.take()
        fitted, sure = (math.nan, math.nan), None
        if self._fits:
            fitted = confidence.fit_temperature(kept, placed.validation.n, group)
            sums["brier"], sure = confidence.as_they_are(kept, group.device)
            blocks = placed.val_blocks[group.shard(placed.validation.n)]
            sums["refined"] = confidence.block_losses(kept, fitted[0], blocks, NUM_BLOCKS)
        if self._fits or self._bits:
            sums["each"] = spread_out(raw.correct, sure, placed.validation.n, group)
        previous, self._weights = self._weights, self._parameters()
        update_norm = (self._weights - previous).norm()
        norms = torch.stack([grad_norm, self._weights.norm(), update_norm])

        # All other numbers of an epoch cross from worker to worker, and from device to host, once.
        found = _together(norms, sums, group)
        columns = {
            kind: validation_columns(found[kind].tolist(), placed, first=not before)
            for kind in seen
        }
        for row in columns.values():
            row["status"] = "ok" if math.isfinite(row["val_loss_sum"]) else "diverged"
        row = columns["raw"]
        train_correct, train_loss = found["training"].tolist()
        eval_correct, eval_loss = found["subset"].tolist()
        row |= {
            "train_n": placed.train.n,
            "train_loss": train_loss / placed.train.n,
            "train_accuracy": train_correct / placed.train.n,
            "train_eval_n": placed.train_eval.n,
            "train_eval_correct": int(eval_correct),
            "train_eval_loss_sum": eval_loss,
        }
        row |= zip(("grad_norm", "param_norm", "update_norm"), found["norms"].tolist(), strict=True)
        if not math.isfinite(train_loss):
            row["status"] = "diverged"
        if self.noise:
            row |= self.noise.columns(found["noise"].tolist())
        if "each" in found:
            each, correct = gathered(found["each"])
            if self._bits:
                row["val_correct_bits"] = np.packbits(correct).tobytes()
            if self._fits:
                brier = float(found["brier"][0])
                by_block = found["refined"].tolist()
                row |= confidence.confidence_columns(fitted, by_block, brier, each, correct)
        return columns

    def _on_validation(
        self, model: nn.Module, keep: list[LogitMargins] | None = None
    ) -> PerExample:
        return evaluate(model, self._placed.validation, self._group, self._precision, keep)

    def _parameters(self) -> torch.Tensor:
        return nn.utils.parameters_to_vector(self._model.parameters())


def _together(
    norms: torch.Tensor, sums: dict[str, torch.Tensor], group: Group
) -> dict[str, np.ndarray]:
    """`norms`, which all workers have alike, and the sums over workers; on the host."""
    summed = group.sum(torch.cat(list(sums.values())))
    numbers = torch.cat([norms.double(), summed]).cpu().numpy()
    sizes = [len(norms), *(len(part) for part in sums.values())]
    parts = np.split(numbers, np.cumsum(sizes)[:-1])
    return dict(zip(["norms", *sums], parts, strict=True))
