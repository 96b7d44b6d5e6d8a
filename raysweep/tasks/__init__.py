"""What is trained: a task loads data splits and builds a model; this finds and identifies one."""

import ast
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from torch.utils.flop_counter import FlopCounterMode

from raysweep.errors import InputError, did_you_mean
from raysweep.spec import Hyperparameters

_SHIPPED = ("digits", "few_digits", "noisy_digits", "fashion_mnist")


class Arrays(NamedTuple):
    """Examples in memory, indexed on the device that trains.

    x: shape (num_examples, ...), any numeric type. y: integer classes, shape (num_examples,).
    """

    x: np.ndarray
    y: np.ndarray


Examples = Arrays | Dataset[tuple[torch.Tensor, int]]


class Data(NamedTuple):
    """The splits of a task.

    Arrays, or a map-style dataset of (x, class) pairs, which is then read through a DataLoader.
    train_eval: the training set without augmentation, where `train` has some.
    val_clusters: shape (num_validation,); validation examples that belong together (frames of one
        video, say) share a number, so that they fall into one block.
    digest: needed where the splits are datasets; whatever changes when the data change.
    """

    train: Examples
    validation: Examples
    num_classes: int
    train_eval: Examples | None = None
    val_clusters: np.ndarray | None = None
    digest: str | None = None


class Task(NamedTuple):
    """Load data from a folder (None where the user named none); build a model for one trial."""

    load: Callable[[Path | None], Data]
    build: Callable[[Hyperparameters, Data], nn.Module]


class Traits(NamedTuple):
    """What of training depends on how a batch is divided between workers."""

    batch_norm: bool
    random: bool  # dropout that the trial's own `dropout` does not set, or augmentation


class TaskSource(NamedTuple):
    """A task together with where it came from: `module:object`, and a digest of its source."""

    reference: str
    task: Task
    digest: str
    module_path: Path | None  # what other machines need to import it; None when installed


def find_task(name: str, folder: Path | None = None) -> TaskSource:
    """Find a task: a shipped one by its name, or `module:object`, also in `folder`.

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
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise InputError(f"task {name!r}: importing it failed: {error}") from error
        places = ", ".join(str(place) for place in (folder, Path.cwd()) if place)
        raise InputError(
            f"task {name!r}: no module {error.name!r} in {places} or installed"
        ) from None
    except (Exception, SystemExit) as error:
        # Whatever the user's module raises is one line, with its cause; a script may end itself.
        raise InputError(
            f"task {name!r}: importing it failed: {type(error).__name__}: {error}"
        ) from error
    task = getattr(module, attribute, None)
    if not isinstance(task, Task):
        found = [key for key, value in vars(module).items() if isinstance(value, Task)]
        tasks = f"it has {', '.join(found)}" if found else "it has no raysweep.tasks.Task"
        raise InputError(
            f"task {name!r}: {attribute!r} is no task of module {module_name}; {tasks}"
        )
    return TaskSource(name, task, _source_digest(module), _module_path(module))


def _module_path(module: ModuleType) -> Path | None:
    root = sys.modules[module.__name__.partition(".")[0]]
    path = Path(str(root.__file__))
    if "site-packages" in path.parts or root.__name__ == "raysweep":
        return None
    return path.parent if path.name == "__init__.py" else path


def _source_digest(module: ModuleType) -> str:
    """Digest a module's file and every file beside or below it that it imports."""
    start = Path(str(module.__file__))
    folder, seen, waiting = start.parent, set[Path](), [start]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in _imported_names(path, module.__package__ or ""):
            inside = _source_file(name)
            if (
                inside is not None
                and inside.is_relative_to(folder)
                and inside.name != "__init__.py"
            ):
                waiting.append(inside)
    content = hashlib.blake2b(digest_size=8)
    for path in sorted(seen):
        content.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return content.hexdigest()


def _imported_names(path: Path, package: str) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            if node.level:
                source = importlib.util.resolve_name(source, package) if package else ""
            names += [source, *(f"{source}.{alias.name}" for alias in node.names)]
    return [name for name in names if name]


def _source_file(name: str) -> Path | None:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(found.origin) if found and found.origin and found.has_location else None


def load_data(source: TaskSource, folder: Path | None) -> Data:
    """Load a task's splits and check them. Raises: InputError naming the task."""
    try:
        data = source.task.load(folder)
    except InputError:
        raise
    except Exception as error:  # whatever the user's load() raises is one line, with its place
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"task {source.reference}: load() failed: {type(error).__name__}: "
            f"{' '.join(str(error).split())} ({last.filename}, line {last.lineno})"
        ) from error
    if not isinstance(data, Data):
        raise InputError(f"task {source.reference}: load() gave {type(data).__name__}, not Data")
    for split in ("train", "validation"):
        examples = getattr(data, split)
        if num_examples(examples) < 1:
            raise InputError(f"task {source.reference}: its {split} split is empty")
        if isinstance(examples, Arrays):
            if len(examples.x) != len(examples.y):
                sizes = f"{len(examples.x)} inputs and {len(examples.y)} classes"
                raise InputError(f"task {source.reference}: {split} has {sizes}")
            if examples.y.dtype.kind not in "iu":
                raise InputError(
                    f"task {source.reference}: {split} has classes of type {examples.y.dtype}; "
                    "whole numbers are needed"
                )
            low, high = int(examples.y.min()), int(examples.y.max())
            if low < 0 or high >= data.num_classes:
                raise InputError(
                    f"task {source.reference}: {split} has classes {low} to {high}; "
                    f"allowed: 0 to {data.num_classes - 1}"
                )
        elif data.digest is None:
            raise InputError(f"task {source.reference}: a Dataset needs Data(digest=...)")
    for name, examples, beside in (
        ("train_eval", data.train_eval, "train"),
        ("val_clusters", data.val_clusters, "validation"),
    ):
        if examples is None:
            continue
        length = len(examples) if isinstance(examples, np.ndarray) else num_examples(examples)
        if length != num_examples(getattr(data, beside)):
            raise InputError(
                f"task {source.reference}: {name} has {length} examples, and {beside} has "
                f"{num_examples(getattr(data, beside))}; they must be the same ones"
            )
    return data


def num_examples(examples: Examples) -> int:
    """Count the examples of a split."""
    return len(examples.y) if isinstance(examples, Arrays) else len(examples)  # pyright: ignore[reportArgumentType]


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


def _example_input(data: Data) -> torch.Tensor:
    """Take one training input, without a batch axis."""
    if isinstance(data.train, Arrays):
        return torch.from_numpy(np.array(data.train.x[0]))
    return data.train[0][0]


def traits(task: Task, data: Data, fields: Hyperparameters) -> Traits:
    """Look what training is made of, beside the trial's own dropout. A dataset may augment.

    The model is built on torch's `meta` device, where tensors have shapes and no numbers: one that
    is too large for this machine does no harm here. Of one that can't be built nothing is promised.
    """
    model = _on_meta(task, data, fields.model_copy(update={"dropout": 0.0}))
    if model is None:
        return Traits(batch_norm=False, random=True)
    layers = list(model.modules())
    norms = (nn.modules.batchnorm._BatchNorm,)
    drops = (nn.modules.dropout._DropoutNd,)
    return Traits(
        batch_norm=any(isinstance(layer, norms) for layer in layers),
        random=not isinstance(data.train, Arrays)
        or any(isinstance(layer, drops) and layer.p > 0 for layer in layers),
    )


def flops_per_example(task: Task, data: Data, fields: Hyperparameters) -> float:
    """Count the floating-point operations of training on one example, both ways.

    The model runs on the `meta` device too, so nothing is computed. Returns: 0 for a model that
    can't be run like this.
    """
    model = _on_meta(task, data, fields)
    x = _example_input(data)
    if model is not None and x.ndim == 1 and _is_linear(model):
        # Each weight is used once an example, in two operations, forward and twice backward. This
        # is the rule for a perceptron, and spares it the second that torch's meta device takes.
        return 6.0 * sum(parameter.numel() for parameter in model.parameters())
    batch, y = x.new_empty((2, *x.shape), device="meta"), torch.zeros(2, dtype=torch.long)
    try:
        with FlopCounterMode(display=False) as counter:
            assert model is not None
            nn.functional.cross_entropy(model(batch), y.to("meta")).backward()
    except Exception:  # a model may look at numbers, which are not there
        return 0.0
    return counter.get_total_flops() / 2


def num_parameters(task: Task, data: Data, fields: Hyperparameters) -> int:
    """Count the numbers that a model learns; 0 if the meta device can't build it."""
    model = _on_meta(task, data, fields)
    return sum(parameter.numel() for parameter in model.parameters()) if model else 0


def _is_linear(model: nn.Module) -> bool:
    owners = [m for m in model.modules() if next(m.parameters(recurse=False), None) is not None]
    return all(isinstance(owner, nn.Linear | nn.BatchNorm1d | nn.LayerNorm) for owner in owners)


def _on_meta(task: Task, data: Data, fields: Hyperparameters) -> nn.Module | None:
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            return task.build(fields, data).to("meta")
    except Exception:  # whatever the user's build() raises, its trials will say
        return None
