"""Train one trial: the epoch loop. Torch only; Ray never appears here."""

import contextlib
import hashlib
import math
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from raysweep.schedule import learning_rate
from raysweep.spec import EarlyStopping, Hyperparameters, Probes
from raysweep.tasks import Data, Task
from raysweep.training.checkpoints import Keeper, load_weights, weights
from raysweep.training.evaluation import evaluate
from raysweep.training.evidence import Evidence
from raysweep.training.group import ALONE, Group
from raysweep.training.probes import Average, GradientNoise
from raysweep.training.splits import Placed, Split

# Above this many numbers, logits kept for the train-mode accuracy are counted and let go.
MAX_KEPT_LOGITS = 4_000_000
DEFAULT_PROBES = Probes()


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


def derive_seed(*parts: int | str) -> int:
    """A generator's seed from (seed, epoch, rank) or the like: any change gives another stream."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def reset_global_state(seed: int) -> None:
    """Every trial starts from the same global state, whatever trained in this process before."""
    seed_generators(seed)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False  # by default convolutions have 10 bits, unlike on a CPU
    torch.backends.cudnn.benchmark = False


def seed_generators(seed: int) -> None:
    """Every epoch begins with the same generators, whether or not the one before it was trained
    here: nothing of them has to be kept."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - for user code that draws from it
    seed_torch(seed)


def seed_torch(seed: int) -> None:
    """As torch.manual_seed, at a hundredth of its cost: that one looks at the call stack."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def autocast(fields: Hyperparameters, device: torch.device) -> AbstractContextManager[Any]:
    """The context in which the model runs at the trial's precision."""
    if fields.precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def build_optimizer(fields: Hyperparameters, model: nn.Module) -> torch.optim.Optimizer:
    """The trial's optimizer; its learning rate is set at every step."""
    parameters, decay = list(model.parameters()), fields.weight_decay
    match fields.optimizer:
        case "sgd":
            return torch.optim.SGD(
                parameters, 0.0, momentum=fields.momentum, weight_decay=decay, fused=True
            )
        case "adam":
            return torch.optim.Adam(parameters, 0.0, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(parameters, 0.0, weight_decay=decay, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop(
                parameters, 0.0, momentum=fields.momentum, weight_decay=decay
            )


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
        """All of it but the rule."""
        return {name: value for name, value in vars(self).items() if name != "rule"}


def train(
    fields: Hyperparameters,
    seed: int,
    task: Task,
    data: Data,
    placed: Placed,
    *,
    probes: Probes = DEFAULT_PROBES,
    group: Group = ALONE,
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
    emit: Callable[[dict[str, Any]], None],
    between: Callable[[dict[str, Any]], None] = lambda row: None,
    keeper: Keeper | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Outcome:
    """Train one trial to its end; `emit` gets its rows on rank 0, at each epoch `raw` last, and
    `between` the raw row once more where another epoch follows.

    All ranks call this with the same arguments. Rows hold the columns of `store.EPOCHS` that
    describe an epoch; the caller adds those that name the trial. Probes add rows and columns and
    change no other. With what `keeper` found, training goes on after that epoch, and every row is
    what it would have been; on a CPU, with as many threads, to the last bit.
    """
    reset_global_state(derive_seed(seed, "model"))
    model = task.build(fields, data).to(group.device)
    parallel = wrap(model)
    optimizer = build_optimizer(fields, model)
    stopper = Stopper(fields.early_stopping) if fields.early_stopping else None
    precision = autocast(fields, group.device)
    evidence = Evidence(model, fields, probes, placed, data.num_classes, group, precision)
    found = keeper.found if keeper else None
    if found is None:
        initial_loss, epochs_done = evidence.train_eval_loss(), 0
    else:
        load_weights(model, found["weights"])
        optimizer.load_state_dict(found["optimizer"])
        evidence.load(found["evidence"])
        if stopper:
            vars(stopper).update(found["stopper"])
        initial_loss, epochs_done = found["initial_loss"], found["epoch"]
    raw, epoch = dict[str, Any](), epochs_done

    for epoch in range(epochs_done + 1, fields.epochs + 1):
        started = clock()
        passed = train_epoch(
            parallel,
            optimizer,
            fields,
            placed.train,
            seed,
            epoch,
            group,
            average=evidence.average,
            noise=evidence.noise,
        )
        train_s = clock() - started

        found = evidence.measure(passed.sums, passed.grad_norm)
        raw = found["raw"]
        if stopper and raw["status"] == "ok":
            n = raw["val_n"]
            if stopper.improved(raw["val_loss_sum"] / n, raw["val_correct"] / n):
                state = model.state_dict()
                stopper.best_state = {key: value.clone() for key, value in state.items()}
        out_of_patience = stopper is not None and stopper.out_of_patience
        last = epoch == fields.epochs or out_of_patience or raw["status"] == "diverged"
        if probes.repeat_evaluation and (last or epoch == 1):
            raw["repeat_correct"] = evidence.repeat()

        raw |= {
            "train_s": train_s if group.device.type == "cpu" else None,  # a GPU is not waited for
            "wall_s": clock() - started,
        }
        if group.rank == 0:
            step = {
                "epoch": epoch,
                "global_step": epoch * passed.num_steps,
                "lr": passed.last_lr,
                "batch_size": fields.batch_size,
            }
            for kind, columns in found.items():
                emit({"weights_kind": kind, **step, **columns})
        if last:
            break
        if keeper and keeper.due(epoch):
            keeper.keep(
                epoch,
                {
                    "weights": weights(model),
                    "optimizer": optimizer.state_dict(),
                    "evidence": evidence.state(),
                    "stopper": stopper.state() if stopper else None,
                    "initial_loss": initial_loss,
                },
            )
        if group.rank == 0:
            between(raw | {"epoch": epoch})

    # Ended above where it began, without a number that is not finite: diverged all the same.
    ended = raw["train_eval_loss_sum"] / raw["train_eval_n"]
    diverged = raw["status"] == "diverged" or not ended <= initial_loss
    restored_correct = None
    best_state = stopper.best_state if stopper else None
    if stopper and stopper.rule.restore_best and best_state is not None:
        seed_generators(derive_seed(seed, "restored"))
        model.load_state_dict(best_state)
        restored = evaluate(model, placed.validation, group, precision)
        restored_correct = int(group.sum(restored.sums())[0].item())
    return Outcome(
        status="diverged" if diverged else "completed",
        epochs_run=epoch,
        stopped_early=bool(stopper and stopper.out_of_patience),
        restored_epoch=stopper.best_epoch if stopper and restored_correct is not None else None,
        restored_val_correct=restored_correct,
        best_state=best_state,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        initial_train_eval_loss=initial_loss,
    )


class Pass(NamedTuple):
    """One pass over the training set by one worker."""

    sums: torch.Tensor  # [number correct, sum of losses] in train mode, of this worker's share
    grad_norm: torch.Tensor  # of the last step, before clipping
    num_steps: int
    last_lr: float


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    fields: Hyperparameters,
    train_set: Split,
    seed: int,
    epoch: int,
    group: Group,
    *,
    average: Average | None = None,
    noise: GradientNoise | None = None,
) -> Pass:
    """One pass: the order of examples comes from (seed, epoch) alone, so that every number of
    workers sees the same global batches. The probes look on."""
    model.train()
    seed_generators(derive_seed(seed, epoch, group.rank))  # dropout, augmentation
    generator = torch.Generator().manual_seed(derive_seed(seed, epoch))
    order = torch.randperm(train_set.n, generator=generator)
    batches = order.split(fields.batch_size)
    mine = [batch[group.share(len(batch))] for batch in batches]
    loader = train_set.shuffled(torch.cat(mine), [len(share) for share in mine])
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # DDP averages gradients over workers. Scaled like this, the average is the gradient of the
    # mean over the global batch, however uneven (or empty) the shares are.
    scales = {
        size: torch.tensor(group.world_size / size, device=group.device)
        for size in {len(batch) for batch in batches}
    }
    # Kept on the device and counted at the end, so that no step waits for a number.
    precision = autocast(fields, group.device)
    sums = torch.zeros(2, dtype=torch.float64, device=group.device)
    losses: list[torch.Tensor] = []
    logits_and_classes: list[tuple[torch.Tensor, torch.Tensor]] = []
    norm = torch.zeros((), device=group.device)
    lr = last_lr = -1.0

    def summed_loss(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(
            logits.float(), y, reduction="sum", label_smoothing=fields.label_smoothing
        )

    for step, (x, y) in enumerate(loader):
        global_step = (epoch - 1) * len(batches) + step
        lr = learning_rate(fields, global_step, len(batches))
        if lr != last_lr:
            for settings in optimizer.param_groups:
                settings["lr"] = lr
            last_lr = lr
        for parameter in parameters:
            parameter.grad = None
        with precision:
            logits = model(x)
        loss = summed_loss(logits, y)
        measured = noise if noise and noise.wants(global_step, len(batches[step])) else None
        if measured:
            part = measured.part
            measured.before_backward(summed_loss(logits[part], y[part]), parameters)
        loss.backward(scales[len(batches[step])])
        if measured:
            measured.after_backward(parameters)
        if fields.grad_clip is not None:
            norm = nn.utils.clip_grad_norm_(parameters, fields.grad_clip)
        elif step == len(batches) - 1:
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        optimizer.step()
        if average:
            average.update()
        losses.append(loss.detach())
        logits_and_classes.append((logits.detach(), y))
        if len(logits_and_classes) * logits.numel() > MAX_KEPT_LOGITS:
            sums[0] += _num_correct(logits_and_classes)
            logits_and_classes.clear()
    if logits_and_classes:
        sums[0] += _num_correct(logits_and_classes)
    sums[1] = torch.stack(losses).double().sum()
    return Pass(sums, norm, len(batches), lr)


def _num_correct(logits_and_classes: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    logits, classes = zip(*logits_and_classes, strict=True)
    return (torch.cat(logits).argmax(1) == torch.cat(classes)).sum()
