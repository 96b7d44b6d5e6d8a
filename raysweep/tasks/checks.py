"""What a task's `load()` gave, checked and made NumPy arrays of, before anything starts."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

from raysweep.errors import InputError, one_line, shown
from raysweep.tasks.definition import Arrays, Data, num_examples

_NO_DATASETS = (IterableDataset, dict, tuple, list, str, bytes, np.ndarray, torch.Tensor)
_CHUNK = 2**24  # numbers that are looked at together: what that takes stays small


def checked(data: object) -> Data:
    """Check the splits of a task.

    Returns: them, with torch tensors as NumPy arrays.
    Raises: InputError naming what is wrong, where, and what is needed.
    """
    if not isinstance(data, Data):
        raise InputError(f"load() gave {type(data).__name__}, not Data")
    classes = data.num_classes
    if isinstance(classes, bool) or not isinstance(classes, int | np.integer) or classes < 2:
        raise InputError(f"num_classes = {shown(classes)}: a whole number from 2 on is needed")
    if not (data.digest is None or (isinstance(data.digest, str) and data.digest)):
        raise InputError(f"digest = {shown(data.digest)}: a text is needed, or None")
    classes = int(classes)
    splits: dict[str, Any] = {"train": data.train, "validation": data.validation}
    if data.train_eval is not None:
        splits["train_eval"] = data.train_eval
    for name, examples in splits.items():
        if isinstance(examples, Arrays):
            splits[name] = _arrays(name, examples, classes)
            continue
        _check_dataset(name, examples, classes)
        if data.digest is None:
            raise InputError(
                f"{name} is {_kind(examples)}; a Dataset needs Data(digest=...): a text that "
                "changes when the data change"
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


def _arrays(split: str, examples: Arrays, num_classes: int) -> Arrays:
    """Check the arrays of a split."""
    x, y = (_array(f"{split}: {name}", given) for name, given in zip("xy", examples, strict=True))
    if x.ndim < 1 or y.ndim != 1:
        which, array = ("x", x) if x.ndim < 1 else ("y", y)
        needed = "(num_examples, ...)" if which == "x" else "(num_examples,), one class each,"
        raise InputError(f"{split}: {which} has shape {array.shape}; {needed} is needed")
    if len(x) != len(y):
        raise InputError(f"{split} has {len(x)} inputs and {len(y)} classes")
    if len(y) < 1:
        raise InputError(f"its {split} split is empty")
    if x.size == 0:
        raise InputError(f"{split}: x has shape {x.shape}: there are no numbers in it")
    if y.dtype.kind not in "iu":
        raise InputError(
            f"{split} has classes of type {y.dtype}; whole numbers are needed: y.astype(int)"
        )
    _check_classes(split, int(y.min()), int(y.max()), num_classes)
    _check_finite(f"{split}: x", x)
    return Arrays(x, y)


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


def _check_dataset(split: str, examples: Any, num_classes: int) -> None:
    """Look at a dataset's length and at its first and last example."""
    kind = _kind(examples)
    sized = all(hasattr(type(examples), name) for name in ("__len__", "__getitem__"))
    if not sized or isinstance(examples, _NO_DATASETS):
        raise InputError(
            f"{split} is {kind}; Arrays(x, y) or a map-style Dataset of (x, class) pairs is needed"
        )
    try:
        length = num_examples(examples)
        ends = [examples[index] for index in {0, length - 1}] if length else []
    except Exception as error:
        raise InputError(
            f"{split} can't be read: {one_line(error, type(examples).__name__)}"
        ) from error
    if not ends:
        raise InputError(f"its {split} split is empty")
    for example in ends:
        if not isinstance(example, tuple | list) or len(example) != 2:
            raise InputError(
                f"an example of {split} is {_kind(example)}; a pair (x, class) is needed"
            )
        x, label = example
        if not isinstance(x, torch.Tensor) and _dtype_kind(x) not in "biufc":
            raise InputError(f"an input of {split} is {_kind(x)}; a tensor is needed")
        if _dtype_kind(label) not in "iu" or np.ndim(label):
            raise InputError(f"a class of {split} is {shown(label)}; a whole number is needed")
        _check_classes(split, int(label), int(label), num_classes)


def _check_together(data: Data) -> None:
    for name, examples, beside in (
        ("train_eval", data.train_eval, "train"),
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
