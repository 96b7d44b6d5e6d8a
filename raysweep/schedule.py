"""The learning rate of a trial at every step: for training, and for what is said before it."""

import math

from raysweep.spec import Hyperparameters


def learning_rate(fields: Hyperparameters, step: int, steps_per_epoch: int) -> float:
    """Compute the learning rate of one step, counted from 0."""
    full = fields.effective_learning_rate()
    epoch = step / steps_per_epoch
    if epoch < fields.warmup_epochs:
        # A warm-up need not end with a step: its last one may be only a part of one.
        return full * min(1.0, (step + 1) / (fields.warmup_epochs * steps_per_epoch))
    if fields.schedule == "step":
        return full * fields.step_factor ** (int(epoch) // fields.step_epochs)
    done = (epoch - fields.warmup_epochs) / (fields.epochs - fields.warmup_epochs)
    if fields.schedule == "linear":
        return full * (1 - done)
    if fields.schedule == "cosine":
        return full * 0.5 * (1 + math.cos(math.pi * done))
    return full


def recorded_rates(fields: Hyperparameters, steps_per_epoch: int) -> list[float]:
    """List the learning rate that each epoch's row will hold: that of the epoch's last step.

    Returns: `fields.epochs` numbers.
    """
    last_steps = range(steps_per_epoch - 1, fields.epochs * steps_per_epoch, steps_per_epoch)
    return [learning_rate(fields, step, steps_per_epoch) for step in last_steps]
