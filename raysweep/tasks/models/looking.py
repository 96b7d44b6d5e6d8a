"""What the models of a task are, looked at on torch's `meta` device: nothing is computed there.

Tensors have shapes on it and no numbers, so a model that is too large for this machine does no
harm. A model is tried in eval mode.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from raysweep.errors import InputError, one_line, place_of
from raysweep.spec import Hyperparameters
from raysweep.tasks.batches import call, changed, few, tensors
from raysweep.tasks.definition import Arrays, Data, Loader, Task
from raysweep.tasks.loop import Loop
from raysweep.tasks.models.signature import signature
from raysweep.tasks.models.watching import WatchedTrial

_CHANGE_NO_SHAPE = (nn.Dropout, nn.Identity, nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Tanh)
# Modules of torch whose code is known: without dropout they draw nothing, and but for batch norm
# they treat each example by itself.
_KNOWN = frozenset(
    f"torch.nn.modules.{name}"
    for name in (
        "activation",
        "batchnorm",
        "conv",
        "dropout",
        "flatten",
        "linear",
        "normalization",
        "padding",
        "pooling",
        "sparse",
        "upsampling",
    )
)
_DRAWING = (nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d, nn.MultiheadAttention)


class Traits(NamedTuple):
    """What of training depends on how a batch is divided between workers."""

    batch_norm: bool
    random: bool  # dropout, augmentation, draws of its own; or nothing could be shown
    mixes: bool = False  # what a model makes of an example depends on the rest of its batch


class Look(NamedTuple):
    """What a model is, as far as it can be seen without its numbers."""

    traits: Traits
    signature: str | None  # see `signature`; None where it could not be built
    read: frozenset[str]  # fields of the trial that `build` reads
    shown: bool  # whether the traits follow from modules whose code is known


class Tried(NamedTuple):
    """What trying a model on two examples of each split gave."""

    flops_per_example: float  # of training, both ways; 0 where that is not known
    problem: str | None = None  # why it could not be tried


def look(task: Task | Loop, data: Data, fields: Hyperparameters) -> Look:
    """Look what the model of a trial is made of, and which fields of the trial make it.

    Of a loop, and of a model that can't be built, nothing is promised. A model that the meta device
    can't build is built on the CPU.

    Raises: InputError that `build` raised.
    """
    if isinstance(task, Loop):
        return Look(Traits(batch_norm=False, random=True), None, frozenset(), shown=False)
    read = set[str]()
    watched: Any = WatchedTrial(fields, read)
    model = _built(task, data, watched, "meta")
    if isinstance(model, str):
        # What fails because of a stand-in for the trial works without it.
        for device, trial in (("meta", fields), ("cpu", watched), ("cpu", fields)):
            if not isinstance(model := _built(task, data, trial, device), str):
                break
        if trial is fields:
            read = set(type(fields).model_fields)
    if isinstance(model, str):
        return Look(Traits(batch_norm=False, random=True), None, frozenset(read), shown=False)
    again = _built(task, data, fields, str(next(iter(_tensors(model)), torch.empty(0)).device))
    layers = list(model.modules())
    found = Traits(
        batch_norm=any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in layers),
        random=not isinstance(data.train, Arrays)
        or task.augment is not None
        or any(map(_drops, layers)),
    )
    return Look(
        found,
        None if isinstance(again, str) else signature(model, again),
        frozenset(read),
        shown=all(map(_is_known, layers)),
    )


def _drops(layer: nn.Module) -> bool:
    return isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0


def _is_known(layer: nn.Module) -> bool:
    """Whether a module is one of torch's own, unchanged, whose code draws and mixes nothing."""
    if layer._forward_hooks or layer._forward_pre_hooks or isinstance(layer, _DRAWING):
        return False
    return type(layer) is nn.Sequential or type(layer).__module__ in _KNOWN


def num_parameters(task: Task | Loop, data: Data, fields: Hyperparameters) -> int:
    """Count the numbers that a model learns; 0 if the meta device can't build it."""
    if isinstance(task, Loop):
        return 0
    model = _built(task, data, fields, "meta")
    if not isinstance(model, nn.Module):
        return 0
    return sum(parameter.numel() for parameter in model.parameters())


def tried(task: Task | Loop, data: Data, fields: Hyperparameters) -> Tried:
    """Run a model forward and backward on two examples, as far as shapes go.

    Raises: InputError when what it gives does not fit the data's classes, or that `build` raised.
    """
    if isinstance(task, Loop):
        return Tried(0.0, "a Loop builds its models itself")
    model = _built(task, data, fields, "meta")
    if not isinstance(model, nn.Module):
        return Tried(0.0, model)
    classes = data.num_classes if task.of_classes(data) else None
    try:
        inputs = [_inputs(examples, data.loader) for examples in (data.train, data.validation)]
        features = [_features(model, x) for x in inputs]
        if classes and None not in features:
            for given in features:
                _check_outputs((2, given), classes, fields)
            # Each weight is used once an example, in two operations, forward and twice backward.
            # This is the rule for a perceptron, and spares it the second that torch's meta device
            # takes.
            return Tried(6.0 * sum(parameter.numel() for parameter in model.parameters()))
        model.eval()
        with FlopCounterMode(display=False) as counter:
            outputs = call(model, inputs[0])
            flops = counter.get_total_flops
            floats = [value for value in tensors(outputs) if value.is_floating_point()]
            if any(value.requires_grad for value in floats):
                torch.stack([value.float().sum() for value in floats]).sum().backward()
        others = call(model, inputs[1])
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a model may look at numbers, which are not there
        return Tried(0.0, one_line(error, "tried on shapes alone"))
    for given in (outputs, others) if classes else ():
        if not isinstance(given, torch.Tensor):
            raise InputError(
                f"the model of {_point(fields)} gives a {type(given).__name__}; a tensor of shape "
                f"(batch, {classes}) is needed"
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


def _inputs(examples: Any, loader: Loader) -> Any:
    """Two inputs of a split, without their numbers."""
    inputs, _ = few(examples, 1, loader)
    return changed(inputs, lambda x: x.new_empty((2, *x.shape[1:]), device="meta"))


def _features(model: nn.Module, x: Any) -> int | None:
    """Count the outputs of a perceptron that takes x; None for any other model."""
    if type(model) is not nn.Sequential or not isinstance(x, torch.Tensor) or x.ndim != 2:
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


def _built(task: Task, data: Data, fields: Hyperparameters, device: str) -> nn.Module | str:
    """Build a model on a device, the meta device say. Returns: why not, where that fails."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            model = task.build(fields, data)
            if isinstance(model, nn.Module):
                return model.to(device)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's build() raises, trials will say
        return one_line(error, f"in build(), {place_of(error)}")
    raise InputError(f"build() gave {type(model).__name__}, not a torch.nn.Module")


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    yield from model.parameters()
    yield from model.buffers()
