"""What the models of a task are, looked at on torch's `meta` device: nothing is computed there.

Tensors have shapes on it and no numbers, so a model that is too large for this machine does no
harm. A model is tried in eval mode.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from raysweep.errors import InputError, one_line
from raysweep.spec import Hyperparameters
from raysweep.tasks.definition import Arrays, Data, Task
from raysweep.tasks.loop import Loop

_CHANGE_NO_SHAPE = (nn.Dropout, nn.Identity, nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Tanh)


class Traits(NamedTuple):
    """What of training depends on how a batch is divided between workers."""

    batch_norm: bool
    random: bool  # dropout that the trial's own `dropout` does not set, or augmentation


class Tried(NamedTuple):
    """What trying a model on two examples of each split gave."""

    flops_per_example: float  # of training, both ways; 0 where that is not known
    problem: str | None = None  # why it could not be tried


def traits(task: Task | Loop, data: Data, fields: Hyperparameters) -> Traits:
    """Look what training is made of, beside the trial's own dropout. A dataset may augment.

    Of a loop, and of a model that can't be built, nothing is promised.

    Raises: InputError that `build` raised.
    """
    if isinstance(task, Loop):
        return Traits(batch_norm=False, random=True)
    model = _on_meta(task, data, fields.model_copy(update={"dropout": 0.0}))
    if not isinstance(model, nn.Module):
        return Traits(batch_norm=False, random=True)
    layers = list(model.modules())
    norms = (nn.modules.batchnorm._BatchNorm,)
    drops = (nn.modules.dropout._DropoutNd,)
    return Traits(
        batch_norm=any(isinstance(layer, norms) for layer in layers),
        random=not isinstance(data.train, Arrays)
        or any(isinstance(layer, drops) and layer.p > 0 for layer in layers),
    )


def num_parameters(task: Task | Loop, data: Data, fields: Hyperparameters) -> int:
    """Count the numbers that a model learns; 0 if the meta device can't build it."""
    if isinstance(task, Loop):
        return 0
    model = _on_meta(task, data, fields)
    if not isinstance(model, nn.Module):
        return 0
    return sum(parameter.numel() for parameter in model.parameters())


def tried(task: Task | Loop, data: Data, fields: Hyperparameters) -> Tried:
    """Run a model forward and backward on two examples, as far as shapes go.

    Raises: InputError when what it gives does not fit the data's classes, or that `build` raised.
    """
    if isinstance(task, Loop):
        return Tried(0.0, "a Loop builds its models itself")
    model = _on_meta(task, data, fields)
    if not isinstance(model, nn.Module):
        return Tried(0.0, model)
    inputs = [_inputs(examples) for examples in (data.train, data.validation)]
    features = [_features(model, x) for x in inputs]
    if None not in features:
        for given in features:
            _check_outputs((2, given), data.num_classes, fields)
        # Each weight is used once an example, in two operations, forward and twice backward. This
        # is the rule for a perceptron, and spares it the second that torch's meta device takes.
        return Tried(6.0 * sum(parameter.numel() for parameter in model.parameters()))
    try:
        model.eval()
        with FlopCounterMode(display=False) as counter:
            outputs = model(inputs[0])
            flops = counter.get_total_flops
            if isinstance(outputs, torch.Tensor) and outputs.shape == (2, data.num_classes):
                y = torch.zeros(2, dtype=torch.long, device="meta")
                nn.functional.cross_entropy(outputs.float(), y).backward()
        others = model(inputs[1])
    except (Exception, SystemExit) as error:  # a model may look at numbers, which are not there
        return Tried(0.0, one_line(error, "tried on shapes alone"))
    for given in (outputs, others):
        if not isinstance(given, torch.Tensor):
            raise InputError(
                f"the model of {_point(fields)} gives a {type(given).__name__}; a tensor of shape "
                f"(batch, {data.num_classes}) is needed"
            )
        _check_outputs(tuple(given.shape), data.num_classes, fields)
    return Tried(flops() / 2)


def _check_outputs(
    shape: tuple[int | None, ...], num_classes: int, fields: Hyperparameters
) -> None:
    if len(shape) == 2 and shape[0] == 2 and shape[1] != num_classes:
        raise InputError(
            f"the model of {_point(fields)} has {shape[1]} outputs, and the data "
            f"{num_classes} classes (num_classes): build one output for each class"
        )
    if shape != (2, num_classes):
        raise InputError(
            f"the model of {_point(fields)} makes {shape} of a batch of 2 examples; "
            f"(2, {num_classes}) is needed, one output for each of the {num_classes} classes"
        )


def _point(fields: Hyperparameters) -> str:
    return f"width {fields.width} and depth {fields.depth}"


def _inputs(examples: object) -> torch.Tensor:
    """Two inputs of a split, without their numbers."""
    if isinstance(examples, Arrays):
        x = torch.from_numpy(examples.x[:1].copy())[0]
    else:
        x = examples[0][0]  # pyright: ignore[reportIndexIssue]
        # A copy of an array, since torch warns of one that may not be written.
        x = torch.from_numpy(x.copy()) if isinstance(x, np.ndarray) else torch.as_tensor(x)
    return x.new_empty((2, *x.shape), device="meta")


def _features(model: nn.Module, x: torch.Tensor) -> int | None:
    """Count the outputs of a perceptron that takes x; None for any other model."""
    if type(model) is not nn.Sequential or x.ndim != 2:
        return None
    features = x.shape[1]
    for layer in model:
        if type(layer) is nn.Linear:
            if layer.in_features != features or layer.weight.dtype != x.dtype:
                return None
            features = layer.out_features
        elif type(layer) is nn.BatchNorm1d:
            if layer.num_features != features:
                return None
        elif type(layer) not in _CHANGE_NO_SHAPE:
            return None
    return features


def _on_meta(task: Task, data: Data, fields: Hyperparameters) -> nn.Module | str:
    """Build a model on the meta device. Returns: why not, where that fails."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = task.build(fields, data)
            if isinstance(model, nn.Module):
                return model.to("meta")
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's build() raises, trials will say
        return one_line(error, "in build(), on shapes alone")
    raise InputError(f"build() gave {type(model).__name__}, not a torch.nn.Module")
