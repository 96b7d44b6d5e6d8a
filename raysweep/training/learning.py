"""How a trial's model learns: its optimizer, the learning rate of each step, its loss scale."""

import contextlib
import math
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from raysweep.errors import InputError
from raysweep.schedule import learning_rate
from raysweep.spec import Hyperparameters
from raysweep.tasks import Task


def autocast(fields: Hyperparameters, device: torch.device) -> AbstractContextManager[Any]:
    """Make the context in which the model runs at the trial's precision."""
    if fields.precision == "fp32":
        return contextlib.nullcontext()
    half = torch.bfloat16 if fields.precision == "bf16" else torch.float16
    return torch.autocast(device.type, half)


def build_optimizer(fields: Hyperparameters, model: nn.Module) -> torch.optim.Optimizer:
    """Build the trial's optimizer; its learning rate is set at every step."""
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


class Learning:
    """The steps of a trial's optimizer.

    The learning rates of an optimizer of the task's own are multiplied by what the trial's schedule
    makes of its `learning_rate`; one that comes with a scheduler follows that alone.
    """

    def __init__(
        self,
        fields: Hyperparameters,
        optimizer: torch.optim.Optimizer,
        scheduler: Any = None,
        *,
        own: bool = False,
        device: torch.device,
    ) -> None:
        """Args: own: whether the task has made the optimizer."""
        self.lr = math.nan  # of the last step, of the first group of parameters
        self._fields, self._optimizer, self._scheduler = fields, optimizer, scheduler
        groups = optimizer.param_groups
        self._rates = [float(settings["lr"]) for settings in groups] if own else None
        fp16 = fields.precision == "fp16"
        self._scaler = torch.amp.GradScaler(device.type) if fp16 else None

    @classmethod
    def of(
        cls, task: Task, fields: Hyperparameters, model: nn.Module, device: torch.device
    ) -> "Learning":
        """Build the optimizer that the task has, or the trial's.

        Raises: InputError for what is no optimizer.
        """
        if task.optimizer is None:
            return cls(fields, build_optimizer(fields, model), device=device)
        made = task.optimizer(fields, model)
        optimizer, scheduler = made if isinstance(made, tuple | list) else (made, None)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise InputError(
                f"optimizer(trial, model) gave {type(optimizer).__name__}; a torch.optim.Optimizer "
                "is needed, or a pair of it and a scheduler"
            )
        return cls(fields, optimizer, scheduler, own=True, device=device)

    def begin(self, step: int, steps_per_epoch: int) -> None:
        """Set the learning rates of a step of the trial, counted from 0."""
        groups = self._optimizer.param_groups
        if self._scheduler is not None:
            self.lr = float(groups[0]["lr"])
            return
        lr = learning_rate(self._fields, step, steps_per_epoch)
        if self._rates is None:
            rates = [lr] * len(groups)
        else:
            rates = [rate * lr / self._fields.learning_rate for rate in self._rates]
        for settings, rate in zip(groups, rates, strict=True):
            settings["lr"] = rate
        self.lr = rates[0]

    @property
    def loss_scale(self) -> float:
        """What losses are multiplied by before their gradients are taken."""
        return self._scaler.get_scale() if self._scaler else 1.0

    def backward(self, loss: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add the gradients of a summed loss. Args: gradient: that of what is minimised in it."""
        (self._scaler.scale(loss) if self._scaler else loss).backward(gradient)

    def unscale(self) -> None:
        """Make gradients what they are without the loss scale."""
        if self._scaler:
            self._scaler.unscale_(self._optimizer)

    def step(self) -> None:
        """Let the optimizer step; one whose gradients are not finite is left out at fp16."""
        if self._scaler:
            self._scaler.step(self._optimizer)
            self._scaler.update()
        else:
            self._optimizer.step()
        if self._scheduler is not None:
            self._scheduler.step()

    def state(self) -> dict[str, Any]:
        """Collect what the next epoch needs of this one's."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict() if self._scheduler is not None else None,
            "scaler": self._scaler.state_dict() if self._scaler else None,
        }

    def load(self, state: Any) -> None:
        """Go on from `state`."""
        self._optimizer.load_state_dict(state["optimizer"])
        if self._scheduler is not None:
            self._scheduler.load_state_dict(state["scheduler"])
        if self._scaler:
            self._scaler.load_state_dict(state["scaler"])
