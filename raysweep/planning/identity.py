"""What makes a sweep's trials what they are: its task, its data, and each distinct model."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from raysweep.errors import InputError, shown
from raysweep.planning.grid import Identity, Model, model_key, points
from raysweep.spec import Hyperparameters, SweepSpec
from raysweep.tasks import (
    Data,
    Look,
    Loop,
    TaskSource,
    Traits,
    data_digest,
    find_task,
    load_data,
    look,
    num_examples,
)
from raysweep.tasks.child import DOING, ChildDiedError, Message, heard
from raysweep.tasks.models.trying import traits_by_trying

Try = Callable[[Sequence[Hyperparameters]], list[Traits]]

_TRY_S = 60.0  # for one model to be built and run
_LOAD_S = 1_800.0
_UNSHOWN = Traits(batch_norm=False, random=True)


def load_task(task: str, folder: Path | None, data: str | None) -> tuple[TaskSource, Data]:
    """Find a sweep's task and load its data.

    Args: task, folder, data: of the sweep, which lies in that folder.
    Raises: InputError.
    """
    source, place = find_task(task, folder), None
    if data is not None:
        place = (folder or Path()) / os.path.expanduser(data)
        if not os.path.isdir(place):  # where Path would raise at a name that is too long
            raise InputError(f"data = {shown(data)}: there is no folder {place}")
    return source, load_data(source, place)


def identify(spec: SweepSpec, source: TaskSource, data: Data, by_trying: Try) -> Identity:
    """Look at each distinct model of a sweep, and at its data.

    With several workers, a model of which no look can tell whether the number of workers changes
    its results is tried. Where that fails nothing is shown, and the number enters the ids.

    Args: by_trying: finds what of training depends on how a batch is divided, by trials' fields.
    Raises: InputError.
    """
    grid = [spec.base.model_copy(update=point) for point in points(spec)]
    axes, distinct, looks = _distinct(source, data, grid, list(spec.axes))
    traits = [found.traits for found in looks]
    if spec.resources.workers > 1 and not source.shipped:
        open_ = [at for at, found in enumerate(looks) if not (found.shown or found.traits.random)]
        tried = by_trying([distinct[at] for at in open_]) if open_ else []
        for at, found in zip(open_, tried, strict=True):
            traits[at] = found
    models = [
        Model(trait, None if source.shipped else found.signature)
        for trait, found in zip(traits, looks, strict=True)
    ]
    keys = [model_key(fields, axes) for fields in distinct]
    return Identity(
        task=source.reference,
        task_digest=source.digest,
        data_digest=data_digest(data),
        n_train=0 if isinstance(source.task, Loop) else num_examples(data.train),
        models=dict(zip(keys, models, strict=True)),
        axes=axes,
    )


def _distinct(
    source: TaskSource, data: Data, grid: Sequence[Hyperparameters], axes: Sequence[str]
) -> tuple[tuple[str, ...], list[Hyperparameters], list[Look]]:
    """The axes that `build` reads, and for each combination of them a trial and its model."""
    looks: dict[str, Look] = {}
    names: tuple[str, ...] = ()
    while True:
        distinct: dict[tuple[str, ...], Hyperparameters] = {}
        for fields in grid:
            distinct.setdefault(model_key(fields, names), fields)
        for fields in distinct.values():
            if repr(fields) not in looks:
                looks[repr(fields)] = look(source.task, data, fields)
        read = set[str]().union(*(found.read for found in looks.values()))
        grown = tuple(name for name in axes if name in read)
        if grown == names:
            return names, list(distinct.values()), [looks[repr(one)] for one in distinct.values()]
        names = grown


def try_in_child(spec: SweepSpec) -> Try:
    """Give what tries a sweep's models in a child process, where they can do no harm."""

    def by_trying(trials: Sequence[Hyperparameters]) -> list[Traits]:
        found: list[Traits] = []
        try:
            fields = [trial.model_dump() for trial in trials]
            for kind, *said in heard(_try, spec.task, spec.folder, spec.data, fields):
                if kind == "traits":
                    found.append(Traits(*said))
        except ChildDiedError:
            pass
        return found + [_UNSHOWN] * (len(trials) - len(found))

    return by_trying


def try_here(source: TaskSource, data: Data) -> Try:
    """Give what tries models in this process."""
    return lambda trials: [_traits(source, data, fields) for fields in trials]


def _try(
    task: str, folder: Path | None, data: str | None, trials: Sequence[dict[str, Any]]
) -> Iterator[Message]:
    yield DOING, "the data were loaded", _LOAD_S
    source, loaded = load_task(task, folder, data)
    for fields in trials:
        yield DOING, "a model was tried", _TRY_S
        yield "traits", *_traits(source, loaded, _fields_of(source, fields))


def _fields_of(source: TaskSource, fields: dict[str, Any]) -> Hyperparameters:
    return source.task.hyperparameters.model_validate(fields)


def _traits(source: TaskSource, data: Data, fields: Hyperparameters) -> Traits:
    try:
        return traits_by_trying(source.task, data, fields)
    except (Exception, SystemExit):  # what a model raises is for the check to say
        return _UNSHOWN
