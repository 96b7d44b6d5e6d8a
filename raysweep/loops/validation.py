"""The validation set of a loop: its blocks, and the columns that a report of it fills.

The columns are made by the functions that make a task's, of as much as the report gives.
"""

import hashlib
import math
from typing import Any

import numpy as np
import torch

from raysweep.errors import InputError
from raysweep.loops.given import Given
from raysweep.store.schema import NUM_BLOCKS
from raysweep.tasks import Data, Task
from raysweep.training import confidence
from raysweep.training.confidence import LogitMargins
from raysweep.training.evaluation import (
    PerExample,
    gathered,
    spread_out,
    validation_columns,
    validation_sums,
)
from raysweep.training.group import ALONE
from raysweep.training.objective import Objective
from raysweep.training.splits import Placed, TensorSplit, deal_blocks

_LOSSES = ("val_loss_sum", "val_loss_sumsq", "val_block_loss_sum")
_UNUSED: Any = None
_NO_TASK = Task(_UNUSED, _UNUSED)  # the loss and score a loop computes itself


class Validation:
    """Looks at what is reported of one validation set, epoch by epoch."""

    def __init__(self, n: int, clusters: np.ndarray | None, *, bits: bool, fits: bool) -> None:
        """Args: bits: whether right answers are kept bit by bit; fits: whether a temperature is
        fitted, where logits are given."""
        self.n, self._bits, self._fits = n, bits, fits
        self._clusters = np.arange(n) if clusters is None else clusters
        self._blocks = deal_blocks(n, clusters)
        unseen = TensorSplit(torch.zeros(n, 0), torch.zeros(n, dtype=torch.int64))
        self._placed = Placed(
            train=unseen,
            train_eval=unseen,
            validation=unseen,
            val_blocks=torch.from_numpy(self._blocks),
            val_block_n=np.bincount(self._blocks, minlength=NUM_BLOCKS).tolist(),
        )
        self._before: torch.Tensor | None = None  # which were right, or the scores, an epoch ago
        self._targets: str | None = None  # digest of the first report's targets
        self.score_kind = "right"  # of the last report, as the store names it

    def state(self) -> dict[str, Any]:
        """Collect what the next report's columns need."""
        return {"before": self._before, "targets": self._targets}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self._before, self._targets = state["before"], state["targets"]

    def columns(self, given: Given) -> dict[str, Any]:
        """Make the columns of an epoch's row.

        Raises: InputError where the targets are not those of the first report.
        """
        self.score_kind = "right" if given.scores is None else "number"
        if given.accuracy is not None:
            return {
                "val_n": self.n,
                "val_correct": round(self.n * given.accuracy),
                "val_loss_sum": None if given.loss is None else self.n * given.loss,
            }
        if given.targets is not None:
            self._check_order(given.targets)
        each = given.correct if given.scores is None else given.scores
        assert each is not None
        before, self._before = self._before, each
        if before is not None and before.dtype != each.dtype:
            before = None  # this loop reported in another form before
        num_classes = 0 if given.logits is None else len(given.logits)
        objective = Objective(_NO_TASK, Data(_UNUSED, _UNUSED, num_classes), 0.0)
        objective.kind = self.score_kind
        losses = torch.zeros(self.n).double() if given.losses is None else given.losses
        now = PerExample(each, losses, None, given.targets)
        sums = validation_sums(now, before, self._placed, ALONE, objective)
        on_host = {name: part.numpy() for name, part in sums.items()}
        row = validation_columns(on_host, self._placed, self.score_kind, first=before is None)
        if given.losses is None:
            row |= dict.fromkeys(_LOSSES)
        if self._bits and given.correct is not None:
            row["val_correct_bits"] = np.packbits(given.correct.numpy()).tobytes()
        return row | self._confidence(given)

    def said(self, given: Given) -> str:
        """Write what this validation set alone makes of a result, in one line.

        Returns: the mean over its examples and that mean's standard error, of a draw of examples;
            of clusters, where examples belong together.
        """
        name, each = "accuracy" if given.scores is None else "score", given.each
        if each is None:
            mean = given.accuracy or 0.0
            error = math.sqrt(mean * (1 - mean) / self.n)
        else:
            mean = float(each.mean())
            _, member = np.unique(self._clusters, return_inverse=True)
            error = float(np.sqrt(np.square(np.bincount(member, each - mean)).sum())) / self.n
        return f"val {name} {mean:.3f}, +- {error:.3f} from {self.n:,} examples"

    def _check_order(self, targets: torch.Tensor) -> None:
        digest = hashlib.blake2b(targets.numpy().tobytes(), digest_size=8).hexdigest()
        if self._targets not in (None, digest):
            raise InputError(
                "report(targets=): they are not those of the first report. The validation set "
                "must be the same and in the same order at each one (shuffle=False)"
            )
        self._targets = digest

    def _confidence(self, given: Given) -> dict[str, Any]:
        logits, targets, correct = given.logits, given.targets, given.correct
        if logits is None or targets is None or correct is None:
            return {}
        if not self._fits or logits.numel() > confidence.MAX_KEPT_LOGITS:
            return {}
        margins = logits - logits.max(0).values
        kept = [LogitMargins(margins, margins.gather(0, targets[None])[0])]
        fitted = confidence.fit_temperature(kept, self.n, ALONE)
        brier, sure = confidence.as_they_are(kept, torch.device("cpu"))
        blocks = torch.from_numpy(self._blocks)
        refined = confidence.block_losses(kept, fitted[0], blocks, NUM_BLOCKS).tolist()
        each, right = gathered(spread_out(correct, sure, self.n, ALONE).numpy())
        return confidence.confidence_columns(fitted, refined, float(brier[0]), each, right)
