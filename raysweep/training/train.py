"""Train one trial: its epochs, its early stopping, its outcome."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from raysweep.spec import EarlyStopping, Hyperparameters, Probes
from raysweep.store.schema import val_accuracy
from raysweep.tasks import Data, Task, validation_digest
from raysweep.training.checkpoints import Checkpointer, load_weights, weights
from raysweep.training.evaluation import evaluate
from raysweep.training.evidence import Evidence
from raysweep.training.group import ALONE, Group
from raysweep.training.learning import Learning, autocast
from raysweep.training.objective import Objective
from raysweep.training.passes import train_epoch
from raysweep.training.prepared import prepared
from raysweep.training.seeds import derive_seed, reset_global_state, seed_generators
from raysweep.training.splits import Placed

_DEFAULT_PROBES = Probes()


class Outcome(NamedTuple):
    """How a trial ended. `restored_*` and `best_state` only with early stopping."""

    status: str  # completed, diverged
    epochs_run: int
    stopped_early: bool
    restored_epoch: int | None
    restored_val_correct: int | None
    best_state: dict[str, torch.Tensor] | None
    num_parameters: int
    initial_train_eval_loss: float
    restored_val_score_sum: float | None = None  # in place of `restored_val_correct`
    score_kind: str = "right"
    n_train: int | None = None  # None where training examples come from a stream
    n_val: int | None = None
    val_digest: str | None = None  # of a task whose trials may have sets of their own


@dataclass
class Stopper:
    """Early stopping: the best epoch so far, and whether patience has run out."""

    rule: EarlyStopping
    best: float = math.inf  # of the value to be minimised
    best_epoch: int = 0
    epochs_run: int = 0
    best_state: dict[str, torch.Tensor] | None = None  # the weights after the best epoch

    def improved(self, val_loss: float, val_accuracy: float) -> bool:
        """Count one epoch; true when it is the best by at least min_delta."""
        self.epochs_run += 1
        value = val_loss if self.rule.metric == "val_loss" else -val_accuracy
        if not value < self.best - (self.rule.min_delta if self.best_epoch else 0.0):
            return False
        self.best, self.best_epoch = value, self.epochs_run
        return True

    @property
    def out_of_patience(self) -> bool:
        """True once `patience` epochs in a row have not improved."""
        return self.epochs_run - self.best_epoch >= self.rule.patience

    def state(self) -> dict[str, Any]:
        """Collect all of it but the rule."""
        return {name: value for name, value in vars(self).items() if name != "rule"}


class Training:
    """One trial on one of its workers: call `epoch` until it is `over`, then `outcome`.

    All workers of a trial make the same calls. Training goes on from what the checkpointer found;
    then every row is what it would have been, on a CPU with as many threads to the last bit.
    """

    def __init__(
        self,
        fields: Hyperparameters,
        seed: int,
        task: Task,
        data: Data,
        placed: Placed,
        *,
        probes: Probes = _DEFAULT_PROBES,
        group: Group = ALONE,
        wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
        checkpointer: Checkpointer | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Build the model, or restore it.

        Args:
            placed: the splits of `data`, on the group's device.
            wrap: makes the model of one worker one of the group's.
            clock: gives the seconds that the rows' times are made of.
        """
        self.group, self.over, self.epochs_run = group, False, 0
        data, placed = prepared(task, fields, data, placed, group)
        self._val_digest = validation_digest(data) if task.varies_validation else None
        self._fields, self._seed, self._placed, self._probes = fields, seed, placed, probes
        self._checkpointer, self._clock = checkpointer, clock
        reset_global_state(derive_seed(seed, "model"))
        self._model = task.build(fields, data).to(group.device)
        if fields.compile:
            self._model.compile()
        self._parallel = wrap(self._model)
        self._learning = Learning.of(task, fields, self._model, group.device)
        self._objective = Objective(task, data, fields.label_smoothing)
        self._augment = task.augment
        self._stopper = Stopper(fields.early_stopping) if fields.early_stopping else None
        self._precision = autocast(fields, group.device)
        self._evidence = Evidence(
            self._model,
            fields,
            probes,
            placed,
            self._objective,
            data.steps_per_epoch(fields.batch_size),
            group,
            self._precision,
        )
        self._raw: dict[str, Any] = {}  # what the last epoch measured of the weights
        if checkpointer and checkpointer.found:
            self._restore(checkpointer.found)
        else:
            self._initial_loss = self._evidence.train_eval_loss()

    def _restore(self, found: Mapping[str, Any]) -> None:
        load_weights(self._model, found["weights"])
        self._learning.load(found["learning"])
        self._evidence.load(found["evidence"])
        if self._stopper:
            vars(self._stopper).update(found["stopper"])
        self._initial_loss, self.epochs_run = found["initial_loss"], found["epoch"]

    def epoch(self) -> list[dict[str, Any]]:
        """Train one epoch, and measure what it made.

        Returns: its rows, `raw` last. They hold the columns of the store's epochs that describe an
            epoch; the caller adds those that name the trial.
        """
        self.epochs_run += 1
        started = self._clock()
        passed = train_epoch(
            self._parallel,
            self._learning,
            self._objective,
            self._fields,
            self._placed.train,
            self._seed,
            self.epochs_run,
            self.group,
            augment=self._augment,
            average=self._evidence.average,
            noise=self._evidence.noise,
        )
        train_s = self._clock() - started
        measured = self._evidence.measure(passed.sums, passed.grad_norm)
        raw = self._raw = measured["raw"]
        self.over = self._ends_with(raw)
        if self._probes.repeat_evaluation and (self.over or self.epochs_run == 1):
            raw |= self._evidence.repeat()
        on_cpu = self.group.device.type == "cpu"  # a GPU is not waited for
        raw |= {"train_s": train_s if on_cpu else None, "wall_s": self._clock() - started}
        step = {
            "epoch": self.epochs_run,
            "global_step": self.epochs_run * passed.num_steps,
            "lr": passed.last_lr,
            "batch_size": self._fields.batch_size,
        }
        return [{"weights_kind": kind, **step, **columns} for kind, columns in measured.items()]

    def _ends_with(self, raw: Mapping[str, Any]) -> bool:
        """Whether this epoch is the last. Early stopping keeps its weights if it is the best."""
        if raw["status"] == "diverged":
            return True
        if self._stopper:
            if self._stopper.improved(raw["val_loss_sum"] / raw["val_n"], val_accuracy(raw)):
                state = self._model.state_dict()
                self._stopper.best_state = {key: value.clone() for key, value in state.items()}
            if self._stopper.out_of_patience:
                return True
        return self.epochs_run == self._fields.epochs

    def keep_if_due(self) -> None:
        """Keep a checkpoint after this epoch, where the trial's rule asks for one."""
        if self._checkpointer and self._checkpointer.due(self.epochs_run):
            state = {
                "weights": weights(self._model),
                "learning": self._learning.state(),
                "evidence": self._evidence.state(),
                "stopper": self._stopper.state() if self._stopper else None,
                "initial_loss": self._initial_loss,
            }
            self._checkpointer.keep(self.epochs_run, state)

    def outcome(self) -> Outcome:
        """Say how the trial ended; the weights of the best epoch are evaluated once more."""
        # Ended above where it began, without a number that is not finite: diverged all the same.
        final_loss = self._raw["train_eval_loss_sum"] / self._raw["train_eval_n"]
        diverged = self._raw["status"] == "diverged" or not final_loss <= self._initial_loss
        stopper = self._stopper
        best_state = stopper.best_state if stopper else None
        restored_epoch, restored_score = None, None
        if stopper and stopper.rule.restore_best and best_state is not None:
            seed_generators(derive_seed(self._seed, "restored"))
            self._model.load_state_dict(best_state)
            restored = evaluate(
                self._model,
                self._placed.validation,
                self.group,
                self._precision,
                objective=self._objective,
            )
            restored_epoch = stopper.best_epoch
            restored_score = self.group.sum(restored.sums())[0].item()
        counted = self._objective.kind == "right"
        return Outcome(
            status="diverged" if diverged else "completed",
            epochs_run=self.epochs_run,
            stopped_early=bool(stopper and stopper.out_of_patience),
            restored_epoch=restored_epoch,
            restored_val_correct=(
                None if restored_score is None or not counted else round(restored_score)
            ),
            best_state=best_state,
            num_parameters=sum(parameter.numel() for parameter in self._model.parameters()),
            initial_train_eval_loss=self._initial_loss,
            restored_val_score_sum=None if counted else restored_score,
            score_kind=str(self._objective.kind),
            n_train=self._placed.train.n or None,
            n_val=self._placed.validation.n,
            val_digest=self._val_digest,
        )


def train(
    trial: Training,
    emit: Callable[[dict[str, Any]], None],
    between: Callable[[dict[str, Any]], None] = lambda row: None,
) -> Outcome:
    """Train a trial to its end. All workers of the trial call it, and rank 0 passes rows on.

    Args:
        emit: takes every row of an epoch, `raw` last.
        between: takes the raw row once more where another epoch follows.

    Returns: how the trial ended.
    """
    first = trial.group.rank == 0
    while not trial.over:
        rows = trial.epoch()
        for row in rows if first else []:
            emit(row)
        if not trial.over:
            trial.keep_if_due()
            if first:
                between(rows[-1])
    return trial.outcome()
