"""What a loop calls after each epoch: it makes a row of what is said, and says when to stop."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch

from raysweep.errors import InputError, shown
from raysweep.loops.given import number, read
from raysweep.loops.kept import check_kept
from raysweep.loops.validation import Validation
from raysweep.spec import EarlyStopping
from raysweep.store.schema import val_accuracy
from raysweep.training.checkpoints import Checkpointer
from raysweep.training.group import Group
from raysweep.training.seeds import derive_seed, seed_generators
from raysweep.training.train import Stopper

_MUST_BE_FINITE = ("val_loss_sum", "val_score_sum", "train_loss", "train_eval_loss_sum")


class LoopOver(BaseException):
    """Ends a loop whose trial has ended: it diverged, or its rule of early stopping says so.

    It is no Exception, so that a loop that catches its own errors lets it through.
    """


class Rules(NamedTuple):
    """What a report is held to, by the sweep or by the settings of a run."""

    seed: int
    epochs: int | None = None  # the last one; None where only the loop knows
    batch_size: int | None = None
    num_train: int | None = None
    early_stopping: EarlyStopping | None = None
    stops: bool = True  # whether a trial that diverges ends there


class Report:
    """Call it after each epoch: `report(outputs=logits, targets=classes)`.

    seed: of this trial.
    rank, world_size, device: of this process among those that train the trial together.
    state: what an earlier attempt at the trial kept with `checkpoint=`; None where it begins.
    epoch: the last epoch that was reported; 0 where the trial begins.
    said: what the validation set alone makes of the last report, in words.
    """

    def __init__(
        self,
        rules: Rules,
        validation: Validation,
        group: Group,
        checkpointer: Checkpointer,
        emit: Callable[[dict[str, Any]], None],
        between: Callable[[dict[str, Any]], None] = lambda row: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Args: emit, between: as raysweep.training.train.train takes them; clock: in seconds."""
        self.seed, self.rank, self.world_size = rules.seed, group.rank, group.world_size
        self.device, self.said = group.device, ""
        self._rules, self._validation, self._group = rules, validation, group
        self._checkpointer, self._emit, self._between = checkpointer, emit, between
        self._stopper = Stopper(rules.early_stopping) if rules.early_stopping else None
        self._initial_loss = self._last_loss = math.nan
        self._diverged = self._over = self._iterating = False
        self._clock, self._began = clock, clock()
        found = checkpointer.found
        self.epoch: int = found["epoch"] if found else 0
        self.state: Any = found["own"] if found else None
        if found:
            validation.load(found["validation"])
            self._initial_loss, self._diverged = found["initial_loss"], found["diverged"]
            if self._stopper:
                vars(self._stopper).update(found["stopper"])

    def epochs(self, last: int | None = None) -> Iterator[int]:
        """Go through the epochs that are left: after the one that a checkpoint was kept at.

        Each begins with the generators of Python, NumPy and torch seeded by (seed, epoch, rank), so
        that a trial that goes on from a checkpoint draws what it would have drawn.

        Args: last: the last epoch, where no field of the trial says it.
        """
        last = self._rules.epochs if last is None else last
        if last is None:
            raise InputError("report.epochs(): say how many there are, report.epochs(20)")
        self._iterating = True
        for epoch in range(self.epoch + 1, last + 1):
            if self._over:
                break
            seed_generators(derive_seed(self.seed, epoch, self.rank))
            yield epoch
            if self.epoch < epoch:
                raise InputError(f"epoch {epoch} ended without a report()")
        self._iterating = False

    def __call__(
        self,
        *,
        outputs: Any = None,
        targets: Any = None,
        correct: Any = None,
        scores: Any = None,
        losses: Any = None,
        val_accuracy: float | None = None,
        val_loss: float | None = None,
        train_accuracy: float | None = None,
        train_score: float | None = None,
        train_loss: float | None = None,
        train_n: int | None = None,
        running_accuracy: float | None = None,
        running_loss: float | None = None,
        lr: float | None = None,
        epoch: int | None = None,
        checkpoint: Callable[[], Any] | Any = None,
    ) -> None:
        """Report one epoch. All workers of a trial call it alike; what rank 0 gives is recorded.

        Of the validation set, one of four forms is given, of all examples in an order that is
        always the same. A report(epoch=0, train_loss=...) before the first step shows later whether
        the trial has diverged.

        Args:
            outputs: logits, shape (n, classes). targets: classes, shape (n,).
            correct: whether each example is right, shape (n,).
            scores: a number for each example, more is better, shape (n,).
            losses: a loss for each example, shape (n,), beside `correct` or `scores`.
            val_accuracy: share of right answers. val_loss: mean loss, beside `val_accuracy`.
            train_accuracy, train_score, train_loss: means over training examples, in eval mode.
            train_n: how many those were; by default all.
            running_accuracy, running_loss: means as they were summed up while training.
            lr: learning rate of the epoch's last step.
            epoch: its number, where it should be checked; by default one more than the last.
            checkpoint: what the loop needs to go on from here, or a function that returns it:
                tensors, numbers, texts, and lists, tuples and dicts of them.

        Raises: InputError naming the argument; LoopOver where the trial has ended.
        """
        if self._over:
            raise LoopOver
        if epoch == 0 and self.epoch == 0:
            if train_loss is None:
                raise InputError("report(epoch=0): train_loss= is missing, that before training")
            self._initial_loss = number("train_loss", train_loss)
            return
        self.epoch = self._numbered(epoch)
        now = self._clock()
        row: dict[str, Any] = {"wall_s": now - self._began}
        self._began = now
        if self.rank == 0:
            given = read(
                self._validation.n,
                {
                    "outputs": outputs,
                    "targets": targets,
                    "correct": correct,
                    "scores": scores,
                    "losses": losses,
                    "val_accuracy": val_accuracy,
                    "val_loss": val_loss,
                },
            )
            row |= self._step(lr)
            row |= self._of_training(
                train_accuracy, train_score, train_loss, train_n, running_accuracy, running_loss
            )
            row |= self._validation.columns(given)
            self.said = self._validation.said(given)
            row["status"] = _status(row)
            self._emit(row)
            self._count(row)
        ended = self._on_all(self._over)
        last = self.epoch == self._rules.epochs
        if not ended and not last:
            if checkpoint is not None:
                self._keep(checkpoint)
            if self.rank == 0:
                self._between(row)
        self._over = ended
        if ended and not self._iterating:
            raise LoopOver

    def outcome(self) -> dict[str, Any]:
        """Say how the trial ended: columns of the store's trials.

        Raises: InputError where nothing was reported.
        """
        if not self.epoch:
            raise InputError("the loop ended without a report()")
        # Ended above where it began, without a number that is not finite: diverged all the same.
        above = self._last_loss > self._initial_loss
        epochs, initial = self._rules.epochs, self._initial_loss
        return {
            "status": "diverged" if self._diverged or above else "completed",
            "epochs_run": self.epoch,
            "stopped_early": not self._diverged and epochs is not None and self.epoch < epochs,
            "initial_train_eval_loss": None if math.isnan(initial) else initial,
            "score_kind": self._validation.score_kind,
            "seconds": self._checkpointer.seconds,
        }

    def _numbered(self, epoch: int | None) -> int:
        """Check the number of an epoch. Raises: InputError."""
        following, last = self.epoch + 1, self._rules.epochs
        if epoch is not None and epoch != following:
            again = isinstance(epoch, int) and 0 <= epoch < following
            why = "it was reported before" if again else f"{following} comes next"
            raise InputError(f"report(epoch = {shown(epoch)}): {why}; epochs are numbered from 1")
        if last is not None and following > last:
            raise InputError(f"report(): epoch {following} of {last}; train `epochs` of them")
        return following

    def _step(self, lr: float | None) -> dict[str, Any]:
        return {
            "weights_kind": "raw",
            "epoch": self.epoch,
            "lr": None if lr is None else number("lr", lr),
            "batch_size": self._rules.batch_size,
            "train_n": self._rules.num_train,
        }

    def _of_training(
        self,
        accuracy: float | None,
        score: float | None,
        loss: float | None,
        n: int | None,
        running_accuracy: float | None,
        running_loss: float | None,
    ) -> dict[str, Any]:
        """Make the columns of what was measured of the training set."""
        row: dict[str, Any] = {}
        for name, share in (("train_accuracy", accuracy), ("running_accuracy", running_accuracy)):
            if share is not None and not 0 <= number(name, share) <= 1:
                raise InputError(
                    f"report({name} = {shown(share)}): a share from 0 to 1 is needed; divide per "
                    "cent by 100"
                )
        if running_accuracy is not None:
            row["train_accuracy"] = float(running_accuracy)
        if running_loss is not None:
            row["train_loss"] = number("running_loss", running_loss, finite=False)
        if accuracy is None and score is None and loss is None:
            return row
        size = self._rules.num_train if n is None else n
        if size is None:
            given = {"train_accuracy": accuracy, "train_score": score, "train_loss": loss}
            name = next(name for name, value in given.items() if value is not None)
            raise InputError(
                f"report({name}=): train_n= is missing, the number of examples that it was "
                "measured on; num_train= says it once for all reports"
            )
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InputError(f"report(train_n = {shown(size)}): a number of examples is needed")
        row["train_eval_n"] = size
        if accuracy is not None:
            row["train_eval_correct"] = round(size * float(accuracy))
        if score is not None:
            row["train_eval_score_sum"] = size * number("train_score", score)
        if loss is not None:
            row["train_eval_loss_sum"] = size * number("train_loss", loss, finite=False)
            self._last_loss = number("train_loss", loss, finite=False)
        return row

    def _count(self, row: Mapping[str, Any]) -> None:
        """See whether the trial ends with this row."""
        if row["status"] == "diverged":
            self._diverged = True
            self._over = self._rules.stops
        elif self._stopper:
            n, loss = row["val_n"], row["val_loss_sum"]
            if loss is None and self._stopper.rule.metric == "val_loss":
                raise InputError("early_stopping needs a loss: give outputs=, losses= or val_loss=")
            self._stopper.improved(math.nan if loss is None else loss / n, val_accuracy(row))
            self._over = self._stopper.out_of_patience

    def _keep(self, checkpoint: Any) -> None:
        if not self._checkpointer.due(self.epoch):
            return
        own = checkpoint() if callable(checkpoint) else checkpoint
        check_kept(own, "checkpoint")
        state = {
            "own": own,
            "validation": self._validation.state(),
            "initial_loss": self._initial_loss,
            "diverged": self._diverged,
            "stopper": self._stopper.state() if self._stopper else None,
        }
        self._checkpointer.keep(self.epoch, state)

    def _on_all(self, flag: bool) -> bool:
        """Give all workers what rank 0 knows of an end, where there can be one."""
        if not (self._rules.stops or self._stopper):
            return flag
        return bool(self._group.from_first(torch.tensor(flag, device=self.device)).item())


def _status(row: Mapping[str, Any]) -> str:
    """Judge a row: a loss or a score that is not finite is a trial that has diverged."""
    sums = (row.get(name) for name in _MUST_BE_FINITE)
    return "ok" if all(total is None or math.isfinite(total) for total in sums) else "diverged"
