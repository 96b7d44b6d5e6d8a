"""What a task's `load()` gave, checked and made NumPy arrays of, before anything starts."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, default_collate

from raysweep.errors import InputError, one_line, place_of, shown
from raysweep.tasks.batches import LABELS, divided, taken, tensors
from raysweep.tasks.definition import Arrays, Data, Loader, num_examples

_NO_DATASETS = (dict, tuple, list, str, bytes, np.ndarray, torch.Tensor)
_CHUNK = 2**24  # numbers that are looked at together: what that takes stays small


def checked(data: object, *, crossed: bool = True) -> Data:
    """Check the splits of a task.

    Args: crossed: whether the loss is the default one, cross-entropy, which needs whole numbers.
    Returns: them, with torch tensors as NumPy arrays.
    Raises: InputError naming what is wrong, where, and what is needed.
    """
    if not isinstance(data, Data):
        raise InputError(f"load() gave {type(data).__name__}, not Data")
    classes = data.num_classes
    whole = isinstance(classes, int | np.integer) and not isinstance(classes, bool)
    if not whole or classes < 0 or classes == 1:
        raise InputError(
            f"num_classes = {shown(classes)}: a whole number from 2 on is needed, or none at all "
            "where no example has one class"
        )
    _check_loader(data)
    if not (data.digest is None or (isinstance(data.digest, str) and data.digest)):
        raise InputError(f"digest = {shown(data.digest)}: a text is needed, or None")
    classes = int(classes)
    splits: dict[str, Any] = {"train": data.train, "validation": data.validation}
    if data.train_eval is not None:
        splits["train_eval"] = data.train_eval
    for name, examples in splits.items():
        if isinstance(examples, Arrays):
            splits[name] = _arrays(name, examples, classes, crossed=crossed)
            continue
        _check_dataset(name, examples, data.loader, classes, crossed=crossed)
        if data.digest is None:
            raise InputError(
                f"{name} is {_kind(examples)}; a Dataset needs Data(digest=...): a text that "
                "changes when the data change; or a `data:` folder in the sweep, whose files' "
                "names, sizes and times stand for it then"
            )
    made = data._replace(**splits, num_classes=classes)
    if data.val_clusters is not None:
        clusters = _array("val_clusters", data.val_clusters)
        if clusters.ndim != 1:
            raise InputError(
                f"val_clusters has shape {clusters.shape}; (num_validation,) is needed"
            )
        _check_finite("val_clusters", clusters)
        made = made._replace(val_clusters=clusters)
    _check_together(made)
    return made


def _check_loader(data: Data) -> None:
    loader: object = data.loader
    if not isinstance(loader, Loader):
        raise InputError(f"loader is {_kind(loader)}; Loader(...) is needed")
    for name in ("num_workers", "steps_per_epoch"):
        number = getattr(loader, name)
        least = 0 if name == "num_workers" else 1
        if name == "steps_per_epoch" and number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise InputError(
                f"Loader({name}={shown(number)}): a whole number from {least} on is needed"
            )
    if loader.collate_fn is not None and not callable(loader.collate_fn):
        raise InputError(f"Loader(collate_fn=...) is {_kind(loader.collate_fn)}, no function")
    if isinstance(data.train, IterableDataset) and loader.steps_per_epoch is None:
        raise InputError(
            "train is an IterableDataset, which has no length: say how many batches make an epoch, "
            "Data(loader=Loader(steps_per_epoch=...))"
        )


def _arrays(split: str, examples: Arrays, num_classes: int, *, crossed: bool) -> Arrays:
    """Check the arrays of a split."""
    x, y = (_array(f"{split}: {name}", given) for name, given in zip("xy", examples, strict=True))
    one_class = crossed and num_classes > 0
    if x.ndim < 1 or y.ndim < 1 or (one_class and y.ndim != 1):
        which, array = ("x", x) if x.ndim < 1 else ("y", y)
        needed = "(num_examples, ...)"
        if which == "y" and one_class:
            needed = "(num_examples,), one class each,"
        raise InputError(f"{split}: {which} has shape {array.shape}; {needed} is needed")
    if len(x) != len(y):
        what = "classes" if num_classes else "targets"
        raise InputError(f"{split} has {len(x)} inputs and {len(y)} {what}")
    if len(y) < 1:
        raise InputError(f"its {split} split is empty")
    for name, array in (("x", x), ("y", y)):
        if array.size == 0:
            raise InputError(f"{split}: {name} has shape {array.shape}: there are no numbers in it")
    if crossed and y.dtype.kind not in "iu":
        raise InputError(_no_classes(split, str(y.dtype), "y.astype(int)"))
    if one_class:
        _check_classes(split, int(y.min()), int(y.max()), num_classes)
    _check_finite(f"{split}: x", x)
    _check_finite(f"{split}: y", y)
    return Arrays(x, y)


def _no_classes(split: str, kind: str, instead: str) -> str:
    return (
        f"{split} has classes of type {kind}; whole numbers are needed: {instead}; or, where "
        "they are no classes, a loss and a score of your own: Task(load, build, loss=..., "
        "score=...)"
    )


def _check_classes(split: str, low: int, high: int, num_classes: int) -> None:
    if low < 0 or high >= num_classes:
        raise InputError(
            f"{split} has classes {low} to {high}; allowed: 0 to {num_classes - 1} "
            f"(num_classes = {num_classes})"
            + ("; counted from 0, they fit: subtract 1" if (low, high) == (1, num_classes) else "")
        )


def _array(name: str, given: object) -> np.ndarray:
    """Make an array of what torch and Ray's object store hold as it is: native, contiguous."""
    if isinstance(given, torch.Tensor):
        if given.layout != torch.strided or given.is_meta or given.is_quantized:
            raise InputError(f"{name} is a tensor without plain numbers; a dense one is needed")
        given = given.detach().cpu().resolve_conj().resolve_neg()
        given = (given.float() if given.dtype == torch.bfloat16 else given).numpy()
    if not isinstance(given, np.ndarray):
        raise InputError(
            f"{name} is {_kind(given)}; a NumPy array or a torch tensor is needed: np.array(...)"
        )
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise InputError(f"{name} has {np.ma.count_masked(given)} masked values; fill them in")
    array = np.asarray(given)
    if array.dtype.kind not in "biufc":
        raise InputError(f"{name} is of type {array.dtype}; numbers are needed: x.astype(float)")
    array = np.require(array, array.dtype.newbyteorder("="), "C")
    try:
        torch.from_numpy(np.empty(0, array.dtype))
    except TypeError:
        raise InputError(
            f"{name} is of type {array.dtype}, which torch lacks; float32 or int64, say, is needed"
        ) from None
    return array


def _check_finite(name: str, array: np.ndarray) -> None:
    """Refuse NaN and infinities: a network that has seen one is lost."""
    if array.dtype.kind not in "fc":
        return
    bad = rows = 0
    for part in _chunks(array):
        wrong = ~np.isfinite(part.reshape(len(part), -1))
        bad += int(wrong.sum())
        rows += int(wrong.any(axis=1).sum())
    if bad:
        raise InputError(
            f"{name} has {bad} values that are not finite (NaN or infinite), in {rows} of its "
            f"{len(array)} examples; leave those out or fill them in"
        )


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    at_once = max(1, _CHUNK * len(array) // max(1, array.size))
    for start in range(0, len(array), at_once):
        yield array[start : start + at_once]


def _check_dataset(
    split: str, examples: Any, loader: Loader, num_classes: int, *, crossed: bool
) -> None:
    """Look at a dataset's length and at its first and last example, and at a batch of them."""
    kind = _kind(examples)
    endless = isinstance(examples, IterableDataset)
    if endless and split != "train":
        raise InputError(
            f"{split} is an IterableDataset ({type(examples).__name__}); it needs a length and an "
            "order, as Arrays(x, y) and map-style datasets have them"
        )
    sized = all(hasattr(type(examples), name) for name in ("__len__", "__getitem__"))
    if not endless and (not sized or isinstance(examples, _NO_DATASETS)):
        raise InputError(
            f"{split} is {kind}; Arrays(x, y) or a map-style Dataset of (x, class) pairs is needed"
        )
    try:
        if endless:
            ends = taken(examples, 2)
        else:
            length = num_examples(examples)
            ends = [examples[index] for index in sorted({0, length - 1})] if length else []
    except Exception as error:
        line = one_line(error, ", ".join(filter(None, [type(examples).__name__, place_of(error)])))
        raise InputError(f"{split} can't be read: {line}") from error
    if not ends:
        raise InputError(f"its {split} split is empty")
    if loader.collate_fn is None:
        for example in ends:
            _check_example(split, example, num_classes, crossed=crossed)
    try:
        inputs, _ = divided((loader.collate_fn or default_collate)(ends))
        if not any(True for _ in tensors(inputs)):
            raise ValueError("there is no tensor in the inputs of a batch")
    except Exception as error:
        line = one_line(error, place_of(error))
        hint = "" if loader.collate_fn else "; Data(loader=Loader(collate_fn=...)) makes batches"
        raise InputError(f"{split}: two examples make no batch: {line}{hint}") from error


def _check_example(split: str, example: Any, num_classes: int, *, crossed: bool) -> None:
    """Look at what a dataset gives: a pair, or a mapping that holds its target as labels."""
    if isinstance(example, Mapping):
        if LABELS not in example:
            names = ", ".join(map(str, example)) or "nothing"
            raise InputError(
                f"an example of {split} is a mapping without {LABELS!r}, its target: it has {names}"
            )
        inputs = [value for name, value in example.items() if name != LABELS]
        label = example[LABELS]
    elif isinstance(example, tuple | list) and len(example) == 2:
        given, label = example
        if isinstance(given, Mapping):
            inputs = list(given.values())
        else:
            inputs = list(given) if isinstance(given, tuple) else [given]
    else:
        raise InputError(
            f"an example of {split} is {_kind(example)}; a pair (x, class) is needed, or a mapping "
            f"that holds its target as {LABELS!r}"
        )
    for x in inputs or [None]:
        if not isinstance(x, torch.Tensor) and _dtype_kind(x) not in "biufc":
            raise InputError(f"an input of {split} is {_kind(x)}; a tensor is needed")
    if crossed and num_classes:
        if _dtype_kind(label) not in "iu" or np.ndim(label):
            raise InputError(f"a class of {split} is {shown(label)}; a whole number is needed")
        _check_classes(split, int(label), int(label), num_classes)
    elif crossed and _dtype_kind(label) not in "iu":
        raise InputError(_no_classes(split, type(label).__name__, "int(label)"))
    elif _dtype_kind(label) not in "biufc":
        raise InputError(f"a target of {split} is {shown(label)}; numbers are needed")


def _check_together(data: Data) -> None:
    endless = isinstance(data.train, IterableDataset)
    for name, examples, beside in (
        ("train_eval", None if endless else data.train_eval, "train"),
        ("val_clusters", data.val_clusters, "validation"),
    ):
        if examples is None:
            continue
        length = len(examples) if isinstance(examples, np.ndarray) else num_examples(examples)
        if length != num_examples(getattr(data, beside)):
            raise InputError(
                f"{name} has {length} examples, and {beside} has "
                f"{num_examples(getattr(data, beside))}; they must be the same ones"
            )


def _dtype_kind(thing: object) -> str:
    """Find NumPy's letter for what numbers a thing holds."""
    try:
        return np.asarray(thing).dtype.kind
    except Exception:  # whatever does not become an array
        return "O"


def _kind(thing: object) -> str:
    """Name a thing's type, as a sentence has it."""
    return "None" if thing is None else f"of type {type(thing).__name__}"
