"""What is trained: a task loads data splits and builds a model; this finds and identifies one."""

import hashlib
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from raysweep.errors import InputError, did_you_mean, one_line, place_of
from raysweep.tasks import sources
from raysweep.tasks.checks import checked
from raysweep.tasks.definition import Arrays, Data, Examples, Loader, Task, num_examples
from raysweep.tasks.listing import listing_digest
from raysweep.tasks.loop import Loop, sizes
from raysweep.tasks.models.looking import Look, Traits, look, num_parameters, tried
from raysweep.tasks.words import check_words

__all__ = [
    "Arrays",
    "Data",
    "Examples",
    "Loader",
    "Look",
    "Loop",
    "Task",
    "TaskSource",
    "Traits",
    "data_bytes",
    "data_digest",
    "find_task",
    "load_data",
    "look",
    "num_examples",
    "num_parameters",
    "tried",
    "validation_digest",
]

_SHIPPED = ("digits", "few_digits", "noisy_digits", "varied_digits", "mnist1d", "fashion_mnist")
# By task module: the modules that were imported with it, however its code asked for them.
_BROUGHT: WeakKeyDictionary[ModuleType, frozenset[str]] = WeakKeyDictionary()


class TaskSource(NamedTuple):
    """A task or a loop together with where it came from: `module:object`, and a digest of its
    source."""

    reference: str
    task: Any  # a Task or a Loop
    digest: str
    files: Mapping[str, Path] | None  # what other machines need to import it; None when installed

    @property
    def shipped(self) -> bool:
        """Whether it comes with raysweep: its ids are known, and its models are."""
        return self.reference.startswith("raysweep.tasks.") and self.files is None


def find_task(name: str, folder: Path | None = None) -> TaskSource:
    """Find a task or a loop: a shipped one by its name, or `module:object`, also in `folder`.

    The folder is appended to sys.path, never put first. Raises: InputError.
    """
    if ":" not in name:
        if name not in _SHIPPED:
            raise InputError(
                f"task {name!r} is unknown{did_you_mean(name, _SHIPPED)} "
                f"Shipped: {', '.join(_SHIPPED)}; your own is module:object"
            )
        name = f"raysweep.tasks.{name}:task"
    module_name, _, attribute = name.partition(":")
    for place in (folder, Path.cwd()):
        if place is not None and str(place.resolve()) not in sys.path:
            sys.path.append(str(place.resolve()))
    importlib.invalidate_caches()  # for files that are newer than this process
    try:
        module = _imported(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise InputError(f"task {name!r}: importing it failed: {error}") from error
        places = ", ".join(str(place) for place in (folder, Path.cwd()) if place)
        raise InputError(
            f"task {name!r}: no module {error.name!r} in {places} or installed"
        ) from None
    except (Exception, SystemExit) as error:
        # Whatever the user's module raises is one line, with its cause; a script may end itself.
        line = one_line(error, place_of(error))
        raise InputError(f"task {name!r}: importing it failed: {line}") from error
    task = getattr(module, attribute, None)
    if not isinstance(task, Task | Loop):
        found = [key for key, value in vars(module).items() if isinstance(value, Task | Loop)]
        tasks = f"it has {', '.join(found)}" if found else "it has no raysweep.Task and no Loop"
        raise InputError(
            f"task {name!r}: {attribute!r} is no task of module {module_name}; {tasks}"
        )
    try:
        check_words(task)
    except InputError as error:
        raise InputError(f"task {name!r}: {error}") from error
    files = sources.own_modules(module_name, _BROUGHT.get(module, ()))
    digest = sources.digest(module_name, files)
    return TaskSource(name, task, digest, sources.to_ship(files))


def _imported(name: str) -> ModuleType:
    """Import a module, and note what its first import in this process brought in."""
    before = set(sys.modules)
    module = importlib.import_module(name)
    if name not in before:
        _BROUGHT[module] = frozenset(set(sys.modules) - before)
    return module


def load_data(source: TaskSource, folder: Path | None) -> Data:
    """Load a task's splits and check them.

    Datasets that say no digest get one of the names, sizes and times of the files in the folder.

    Of a loop only sizes are known.

    Raises: InputError naming the task.
    """
    if isinstance(source.task, Loop):
        try:
            return sizes(source.task)
        except InputError as error:
            raise InputError(f"loop {source.reference}: {error}") from error
    try:
        data = source.task.load(folder)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's load() raises is one line
        line = one_line(error, place_of(error))
        if folder is None and isinstance(error, TypeError | AttributeError):
            line += "; the sweep names no `data:` folder, so load() was given None"
        raise InputError(f"task {source.reference}: load() failed: {line}") from error
    if isinstance(data, Data) and data.digest is None and folder is not None:
        splits = [data.train, data.validation, data.train_eval]
        if not all(split is None or isinstance(split, Arrays) for split in splits):
            data = data._replace(digest=listing_digest(folder))
    try:
        return checked(data, crossed=source.task.loss is None)
    except InputError as error:
        raise InputError(f"task {source.reference}: {error}") from error


def data_bytes(data: Data) -> int:
    """Add up what the arrays of a task take in memory; a dataset counts nothing."""
    parts: list[Any] = [data.train, data.validation, data.train_eval]
    return sum(array.nbytes for part in parts if isinstance(part, Arrays) for array in part)


def data_digest(data: Data) -> str:
    """Digest the content of every split."""
    splits = [data.train, data.validation, data.train_eval]
    return _digest([*splits, data.val_clusters], data)


def validation_digest(data: Data) -> str:
    """Digest the validation set alone: those of equal digests compare example by example."""
    return _digest([data.validation, data.val_clusters], data)


def _digest(parts: list[Any], data: Data) -> str:
    content = hashlib.blake2b(f"{data.num_classes} {data.digest}".encode(), digest_size=8)
    for part in parts:
        for array in part if isinstance(part, Arrays) else [part]:
            if isinstance(array, np.ndarray):
                content.update(f"{array.shape}{array.dtype}".encode())
                content.update(np.ascontiguousarray(array).data)
            else:
                content.update(b"-" if array is None else b"dataset")
    return content.hexdigest()
