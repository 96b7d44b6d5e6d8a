"""Axes that change nothing: values between which neither the model nor its training differs."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from raysweep.planning.grid import points
from raysweep.spec import Hyperparameters, SweepSpec
from raysweep.tasks import Task

_MOST = 20_000  # points of a grid that are compared
# Fields that training itself reads, whatever the task does.
_OWN_TO_MODELS = ("width", "depth", "dropout")


def idle_axes(spec: SweepSpec, task: Task, read: Collection[str]) -> Iterator[str]:
    """Say which axes change nothing, or nothing in a part of the grid.

    Args: read: fields that functions of the task read: its build, optimizer, augment, prepare.
    """
    grid = [point for point, _ in zip(points(spec), range(_MOST), strict=False)]
    matters = [_matters(spec.base.model_copy(update=point), task, read) for point in grid]
    for name, values in spec.axes.items():
        if len(values) < 2:
            continue
        groups: dict[str, list[int]] = {}
        for at, point in enumerate(grid):
            others = {key: value for key, value in point.items() if key != name}
            groups.setdefault(repr(others), []).append(at)
        whole = [group for group in groups.values() if len(group) == len(values)]
        idle = [group for group in whole if len({matters[at] for at in group}) < len(values)]
        if not idle:
            continue
        why = _why(name, [spec.base.model_copy(update=grid[group[0]]) for group in idle], task)
        if len(idle) == len(whole):
            one = all(len({matters[at] for at in group}) == 1 for group in idle)
            some = "" if one else " between some of its values"
            yield f"axis {name} changes nothing{some}: {why}"
        elif name != "lr_scaling":  # every scaling has a batch size at which it does nothing
            yield (
                f"axis {name} changes nothing in {sum(map(len, idle))} of {len(grid)} "
                f"configurations, which repeat each other: {why}"
            )


def _matters(fields: Hyperparameters, task: Task, read: Collection[str]) -> str:
    """Write what of a trial's fields can change its training."""
    content: dict[str, Any] = {name: getattr(fields, name) for name in type(fields).model_fields}
    idle = set(_idle_fields(fields, task)) | set(content) - set(Hyperparameters.model_fields)
    idle |= set(_OWN_TO_MODELS)
    scaled = {"learning_rate", "lr_scaling", "reference_batch_size"} - set(read)
    kept = {
        name: value
        for name, value in content.items()
        if name in read or (name not in idle and name not in scaled)
    }
    return repr((kept, fields.effective_learning_rate()))


def _idle_fields(fields: Hyperparameters, task: Task) -> Iterator[str]:
    if task.optimizer is not None:
        yield from ("optimizer", "momentum", "weight_decay")
    elif fields.optimizer not in ("sgd", "rmsprop"):
        yield "momentum"
    if fields.schedule != "step":
        yield from ("step_epochs", "step_factor")
    if task.loss is not None:
        yield "label_smoothing"


def _why(name: str, idle: Sequence[Hyperparameters], task: Task) -> str:
    """Say why an axis changes nothing in these configurations."""
    own = name not in Hyperparameters.model_fields
    if name in ("optimizer", "momentum", "weight_decay") and task.optimizer is not None:
        return f"the task's optimizer() never reads trial.{name}"
    if name == "momentum":
        used = sorted({fields.optimizer for fields in idle})
        return f"optimizer {' and '.join(used)} has a momentum of its own"
    if name in ("step_epochs", "step_factor"):
        used = sorted({fields.schedule for fields in idle})
        return f"schedule {' and '.join(used)} has no steps; schedule: step reads it"
    if name == "reference_batch_size":
        return "the learning rate is not scaled; lr_scaling: linear reads it"
    if name == "lr_scaling":
        return "batch_size is reference_batch_size, where nothing is scaled"
    if name == "label_smoothing":
        return "the task's own loss() is given no smoothing"
    if own or name in _OWN_TO_MODELS:
        return f"the task never reads trial.{name}"
    return "neither the model nor its training differs"
