"""What one report says of the validation set, checked: each fault is an error naming the argument.

There are four forms, and a report has one of them:

    outputs=, targets=   logits of shape (n, classes), and the classes, shape (n,)
    correct=             whether each example is right, shape (n,); losses= beside it where known
    scores=              a number for each example, more is better; losses= beside it where known
    val_accuracy=        the share of right answers alone; val_loss= beside it where known
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from raysweep.errors import InputError, shown

_FORMS = ("outputs", "correct", "scores", "val_accuracy")
# What each form may have beside it, and what of that it needs.
_BESIDE = {
    "outputs": ("targets",),
    "correct": ("losses",),
    "scores": ("losses",),
    "val_accuracy": ("val_loss",),
}
_CHOICE = (
    "give outputs= and targets= (classes), correct= (each example right or wrong), scores= (a "
    "number for each example), or val_accuracy= alone"
)
_SUM = 1e-3  # how far the sum of probabilities may be from 1


class Given(NamedTuple):
    """What a report says of each validation example, in their order.

    correct: bool, (n,); None where scores or only means are known.
    scores: float64, (n,); None unless they were given.
    losses: float64, (n,); None where they are not known.
    logits: float32, (classes, n), and targets: int64, (n,); None unless outputs were given.
    accuracy, loss: means, where nothing is known of single examples.
    """

    correct: torch.Tensor | None = None
    scores: torch.Tensor | None = None
    losses: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    targets: torch.Tensor | None = None
    accuracy: float | None = None
    loss: float | None = None

    @property
    def each(self) -> np.ndarray | None:
        """What the mean over the validation set is made of: right or wrong, or scores; (n,)."""
        values = self.correct if self.scores is None else self.scores
        return None if values is None else values.numpy().astype(float)


def read(n: int, said: dict[str, Any]) -> Given:
    """Read the arguments of a report that speak of the validation set.

    Args: n: number of validation examples; said: the arguments by name, None where not given.
    Raises: InputError naming the argument, what it is, and what is needed.
    """
    given = [name for name, value in said.items() if value is not None]
    forms = [name for name in _FORMS if name in given]
    if not forms:
        raise InputError(f"report(): nothing says how good the model is: {_CHOICE}")
    if len(forms) > 1:
        raise InputError(f"report(): {forms[0]}= and {forms[1]}= are two forms; {_CHOICE}")
    (form,) = forms
    for name in given:
        if name != form and name not in _BESIDE[form]:
            raise InputError(f"report({name}=): it does not go with {form}=; {_CHOICE}")
    if form == "outputs":
        return _of_outputs(n, said["outputs"], said["targets"])
    if form == "val_accuracy":
        accuracy, loss = number("val_accuracy", said["val_accuracy"]), said["val_loss"]
        if not 0 <= accuracy <= 1:
            raise InputError(
                f"report(val_accuracy = {accuracy:g}): a share from 0 to 1 is needed; divide per "
                "cent by 100"
            )
        finite = None if loss is None else number("val_loss", loss, finite=False)
        return Given(accuracy=accuracy, loss=finite)
    losses = None if said["losses"] is None else _numbers("losses", said["losses"], n)
    if form == "scores":
        return Given(scores=_numbers("scores", said["scores"], n), losses=losses)
    right = _numbers("correct", said["correct"], n)
    if not bool(((right == 0) | (right == 1)).all()):
        odd = right[(right != 0) & (right != 1)][0].item()
        raise InputError(
            f"report(correct=): one of its values is {odd:g}; each is true or false, 1 or 0. Give "
            "scores= for other numbers"
        )
    return Given(correct=right.bool(), losses=losses)


def _of_outputs(n: int, outputs: Any, targets: Any) -> Given:
    if targets is None:
        raise InputError("report(outputs=): targets= is missing, the true class of each example")
    logits, classes = _tensor("outputs", outputs).float(), _tensor("targets", targets)
    if logits.ndim != 2 or logits.shape[1] < 2:
        of_one = logits.ndim < 2 or (logits.ndim == 2 and logits.shape[1] == 1)
        cure = (
            "For one logit z give torch.stack([0 * z, z], 1), or correct= and losses="
            if of_one
            else "Where an example has several predictions, give scores= and losses=, their means"
        )
        raise InputError(
            f"report(outputs=) has shape {tuple(logits.shape)}; ({n}, classes) is needed. {cure}"
        )
    _check_length("outputs", len(logits), n)
    whole = not (classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool)
    if classes.ndim != 1 or not whole:
        raise InputError(
            f"report(targets=) has shape {tuple(classes.shape)} and type {_type(classes)}; a class "
            f"for each example is needed, whole numbers of shape ({n},). For one-hot rows give "
            "targets.argmax(1); where there are no classes, scores= and losses="
        )
    _check_length("targets", len(classes), n)
    classes, num_classes = classes.long(), logits.shape[1]
    low, high = int(classes.min()), int(classes.max())
    if low < 0 or high >= num_classes:
        raise InputError(
            f"report(targets=) has classes {low} to {high}; outputs= has {num_classes} columns, so "
            f"0 to {num_classes - 1} are allowed"
        )
    sums = logits.sum(1)
    if bool((logits >= 0).all()) and bool(((sums - 1).abs() < _SUM).all()):
        raise InputError(
            "report(outputs=): these are probabilities, since each row sums to 1; give the values "
            "before the softmax, or their logarithm"
        )
    logits = logits.T.contiguous()
    losses = -functional.log_softmax(logits, 0).gather(0, classes[None])[0].double()
    return Given(logits.max(0).indices == classes, None, losses, logits, classes)


def number(name: str, value: Any, *, finite: bool = True) -> float:
    """Read one number of a report. Raises: InputError naming the argument."""
    try:
        read = float(value)
    except (TypeError, ValueError):
        raise InputError(f"report({name} = {shown(value)}): a number is needed") from None
    if finite and not math.isfinite(read):
        raise InputError(f"report({name} = {read}): a finite number is needed")
    return read


def _tensor(name: str, value: Any) -> torch.Tensor:
    """Take an array of any library, or a list, to the host."""
    try:
        if isinstance(value, torch.Tensor):
            return value.detach().cpu()
        return torch.from_numpy(np.array(value))
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"report({name} = {shown(value)}): an array of numbers is needed, one row for each "
            "validation example"
        ) from None


def _numbers(name: str, value: Any, n: int) -> torch.Tensor:
    """Read a number for each validation example; (n,), float64."""
    values = _tensor(name, value)
    if values.ndim == 0:
        raise InputError(
            f"report({name} = {values.item():g}): one number for each of the {n} validation "
            'examples is needed: no mean over them (reduction="none")'
        )
    _check_length(name, len(values), n)
    if values.ndim > 1 and values.numel() != n:
        raise InputError(
            f"report({name}=) has shape {tuple(values.shape)}; ({n},) is needed. Where an example "
            "has several predictions, give their mean"
        )
    return values.reshape(n).double()


def _check_length(name: str, length: int, n: int) -> None:
    if length == n:
        return
    why = (
        "a sampler that divides the set between workers repeats examples: leave those out"
        if length > n
        else "where workers divide the set, rank 0 gives what all of them found"
    )
    raise InputError(
        f"report({name}=) has {length} rows, and the validation set {n} examples (num_val): {why}"
    )


def _type(values: torch.Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")
