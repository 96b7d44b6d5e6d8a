"""A task and its data on their way to the processes that train: one copy of each on a node."""

import functools
import platform
from pathlib import Path
from typing import Any, NamedTuple

import ray
import torch
from ray import cloudpickle

from raysweep.errors import InputError, RaysweepError, one_line
from raysweep.tasks import Data, Loop, Task
from raysweep.training.splits import Placed, place


class Handed(NamedTuple):
    """References to what lies in Ray's object store."""

    task: Any  # pickled, so that a process that can't read it can say so
    data: Any


def hand_over(task: Task | Loop, data: Data) -> Handed:
    """Put a task or a loop and its data into Ray's object store.

    Raises: InputError when one of them can't be sent to another process.
    """
    # What loads the data stays here: it may hold them.
    if isinstance(task, Loop):
        parts = {"the loop runs": task, "the loop says of its data": data}
    else:
        parts = {"build": task._replace(load=_loaded_before), "load() gave": data}
    held: list[Any] = []
    for name, part in parts.items():
        try:
            held.append(ray.put(_pickled(part) if isinstance(part, Task | Loop) else part))
        except Exception as error:
            line = one_line(error, "when it was pickled")
            raise InputError(f"what {name} can't be sent to the workers: {line}") from error
    return Handed(*held)


def _pickled(task: Task | Loop) -> bytes:
    return cloudpickle.dumps(task)  # pyright: ignore[reportPrivateImportUsage]


def _loaded_before(folder: Path | None) -> Data:
    raise RaysweepError("the data were loaded where the sweep was started")


@functools.lru_cache(maxsize=1)
def taken(key: str, handed: Handed, device: torch.device) -> tuple[Any, Data, Placed | None]:
    """Take what was handed over, with the data on a device, once for all trials of a process.

    Of a loop nothing is placed: it reads its data itself.

    Args: key: tells one sweep from another.
    Raises: RaysweepError when this process can't read the task.
    """
    try:
        task: Any = cloudpickle.loads(ray.get(handed.task))
        data: Data = ray.get(handed.data)
    except Exception as error:
        line = one_line(error, f"on {platform.node()}")
        raise RaysweepError(f"the task can't be read where it is to train: {line}") from error
    return task, data, None if isinstance(task, Loop) else place(data, device)
