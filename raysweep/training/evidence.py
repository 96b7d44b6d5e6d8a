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
from raysweep.training.objective import SCORE_KINDS, Objective
from raysweep.training.probes import Average, GradientNoise
from raysweep.training.splits import Placed, Split


class Evidence:
    """Looks at a trial's model, epoch by epoch. All workers of the trial call it alike."""

    def __init__(
        self,
        model: nn.Module,
        fields: Hyperparameters,
        probes: Probes,
        placed: Placed,
        objective: Objective,
        steps_per_epoch: int,
        group: Group,
        precision: AbstractContextManager[Any],
    ) -> None:
        self._model, self._placed, self._group = model, placed, group
        self._precision, self._objective = precision, objective
        n, half_life, every = placed.validation.n, probes.ema_half_life, probes.gradient_noise_every
        self.average = Average(model, half_life, steps_per_epoch) if half_life else None
        self.noise = GradientNoise(every, fields.batch_size, group) if every else None
        fits = n * objective.num_classes <= confidence.MAX_KEPT_LOGITS
        self._fits = probes.confidence and objective.of_classes and fits
        self._bits = probes.settled(n, fields.epochs).correct_bits
        # The scores of its validation examples, by kind of weights.
        self._scores: dict[str, torch.Tensor] = {}
        self._agreed = objective.of_classes
        with torch.no_grad():
            self._weights = self._parameters()

    def train_eval_loss(self) -> float:
        """Measure the mean loss of the fixed training subset now."""
        _, loss, n = self._group.sum(self._on(self._placed.train_eval).sums()).tolist()
        return loss / n

    def repeat(self) -> dict[str, Any]:
        """Name the column of the summed scores that a second evaluation of the same weights gives
        on the validation set."""
        score = self._group.sum(self._on(self._placed.validation).sums())[0].item()
        if self._objective.kind == "right":
            return {"repeat_correct": round(score)}
        return {"repeat_score_sum": score}

    def state(self) -> dict[str, Any]:
        """Collect what the next epoch's evidence needs. All workers call it and get the same."""
        n, right = self._placed.validation.n, dict[str, torch.Tensor]()
        for kind, mine in self._scores.items():
            dtype = torch.uint8 if self._objective.kind == "right" else torch.float64
            everyone = torch.zeros(n, dtype=dtype, device=mine.device)
            everyone[self._group.shard(n)] = mine.to(dtype)
            right[kind] = self._group.sum(everyone)
        average = self.average.state() if self.average else None
        return {"right": right, "average": average, "score_kind": self._objective.kind}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state`; the model has its weights of then already."""
        shard = self._group.shard(self._placed.validation.n)
        self._objective.kind = state["score_kind"]
        dtype = torch.bool if self._objective.kind == "right" else torch.float64
        self._scores = {
            kind: everyone[shard].to(self._group.device, dtype)
            for kind, everyone in state["right"].items()
        }
        if self.average:
            self.average.load(state["average"])
        with torch.no_grad():
            self._weights = self._parameters()

    @torch.no_grad()
    def measure(self, training: torch.Tensor, grad_norm: torch.Tensor) -> dict[str, dict[str, Any]]:
        """Measure the columns of the epoch's rows, by kind of weights; `raw` comes last.

        Args: training: [scores, losses, examples] of this worker's shard of the training pass;
            grad_norm: of its last step.
        """
        placed, group, precision = self._placed, self._group, self._precision
        group.broadcast_buffers(self._model)
        sums = {"training": training}

        # In eval mode: the fixed training subset, then the whole validation set, then that once
        # more for each kind of averaged weights.
        subset = self._on(placed.train_eval)
        sums["subset"] = subset.sums()
        before, seen, kept = self._scores, dict[str, PerExample](), list[LogitMargins]()
        raw = self._on(placed.validation, keep=kept if self._fits else None)
        if self.average:
            for kind, model in self.average.kinds(self._model, placed.train_eval, group, precision):
                seen[kind] = self._on(placed.validation, model)
        seen["raw"] = raw
        self._scores = {kind: now.score for kind, now in seen.items()}
        counted = self._objective.kind == "right"
        if not counted:
            sums["subset_sq"] = subset.score.double().square().sum().reshape(1)
        for kind, now in seen.items():
            parts = validation_sums(now, before.get(kind), placed, group, self._objective)
            sums |= {f"{kind} {name}": part for name, part in parts.items()}

        # What the probes make of it.
        if self.noise:
            sums["noise"] = self.noise.take()
        fitted, sure = (math.nan, math.nan), None
        if self._fits:
            fitted = confidence.fit_temperature(kept, placed.validation.n, group)
            sums["brier"], sure = confidence.as_they_are(kept, group.device)
            blocks = placed.val_blocks[group.shard(placed.validation.n)]
            sums["refined"] = confidence.block_losses(kept, fitted[0], blocks, NUM_BLOCKS)
        bits = self._bits and counted
        if self._fits or bits:
            sums["each"] = spread_out(raw.correct, sure, placed.validation.n, group)
        previous, self._weights = self._weights, self._parameters()
        update_norm = (self._weights - previous).norm()
        norms = torch.stack([grad_norm, self._weights.norm(), update_norm])

        # All other numbers of an epoch cross from worker to worker, and from device to host, once.
        found = _together(norms, sums, group)
        columns = {
            kind: validation_columns(
                {
                    name.removeprefix(f"{kind} "): part
                    for name, part in found.items()
                    if name.startswith(f"{kind} ")
                },
                placed,
                str(self._objective.kind),
                first=not before,
            )
            for kind in seen
        }
        for row in columns.values():
            row["status"] = "ok" if math.isfinite(row["val_loss_sum"]) else "diverged"
        row = columns["raw"]
        train_score, train_loss, train_n = found["training"].tolist()
        eval_score, eval_loss, eval_n = found["subset"].tolist()
        row |= {
            "train_n": round(train_n),
            "train_loss": train_loss / train_n,
            "train_accuracy": train_score / train_n,
            "train_eval_n": round(eval_n),
            "train_eval_loss_sum": eval_loss,
        }
        if counted:
            row["train_eval_correct"] = round(eval_score)
        else:
            row["train_eval_score_sum"] = eval_score
            row["train_eval_score_sumsq"] = found["subset_sq"].item()
        row |= zip(("grad_norm", "param_norm", "update_norm"), found["norms"].tolist(), strict=True)
        if not math.isfinite(train_loss):
            row["status"] = "diverged"
        if self.noise:
            row |= self.noise.columns(found["noise"].tolist())
        if "each" in found:
            each, correct = gathered(found["each"])
            if bits and row["val_n"] == placed.validation.n:
                row["val_correct_bits"] = np.packbits(correct).tobytes()
            if self._fits:
                brier = float(found["brier"][0])
                by_block = found["refined"].tolist()
                row |= confidence.confidence_columns(fitted, by_block, brier, each, correct)
        return columns

    def _on(
        self,
        split: Split,
        model: nn.Module | None = None,
        keep: list[LogitMargins] | None = None,
    ) -> PerExample:
        """Evaluate a model, by default the one that trains; all workers then know the kind."""
        found = evaluate(
            model or self._model, split, self._group, self._precision, keep, self._objective
        )
        if not self._agreed:  # a worker whose shard is empty has seen no score
            kinds = [float(kind == self._objective.kind) for kind in SCORE_KINDS]
            votes = self._group.sum(torch.tensor(kinds, device=self._group.device)).tolist()
            self._objective.kind = SCORE_KINDS[votes.index(max(votes))]
            self._agreed = True
        return found

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
