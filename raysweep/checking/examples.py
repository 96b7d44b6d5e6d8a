"""What is wrong with a task's examples, beyond their form: repeats, leaks, one class, no change."""

import hashlib
import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

from raysweep.tasks import Arrays, Data, num_examples
from raysweep.tasks.batches import LABELS, tensors
from raysweep.tasks.child import ERROR, Message

WARNING = "warning"

_MOST_ROWS = 200_000  # of arrays, that are compared
_READ_S = 2.0  # for the examples of a dataset to be read
_SEEN_BOTH_WAYS = 64  # examples of a dataset that are read twice


def faults(data: Data, *, of_classes: bool) -> Iterator[Message]:
    """Look at the splits. Yields: errors and warnings.

    Args: of_classes: whether an example has one class, out of `data.num_classes`.
    """
    train, train_rows = _inputs(data.train if data.train_eval is None else data.train_eval)
    validation, val_rows = _inputs(data.validation)
    yield from _not_finite("train", train)
    yield from _not_finite("validation", validation)
    yield from _shared(train_rows, val_rows, data)
    if not isinstance(data.validation, Arrays):
        again = _digests(data.validation, min(len(val_rows), _SEEN_BOTH_WAYS))
        changed = sum(a != b for a, b in zip(val_rows, again, strict=False))
        if changed:
            yield (
                ERROR,
                f"{changed} of {len(again)} validation examples differ when they are read a second "
                "time: an augmentation, or a random draw, is left in the validation set",
            )
    if len(set(train_rows)) == 1 and len(train_rows) > 1:
        yield ERROR, f"all {len(train_rows)} training inputs that were read are the same"
    if of_classes and data.loader.collate_fn is None:
        yield from _classes(data, len(train_rows), len(val_rows))


def _inputs(examples: Any) -> tuple[list[Any], list[bytes]]:
    """Some inputs of a split, for a look at their numbers, and a digest of each that was read."""
    if isinstance(examples, Arrays):
        rows = examples.x[:_MOST_ROWS]
        return [], [_digest(row) for row in np.ascontiguousarray(rows)]
    read, digests, until = list[Any](), list[bytes](), time.monotonic() + _READ_S
    for example in _in_turn(examples):
        given = _input_of(example)
        digests.append(_digest(given))
        if len(read) < _SEEN_BOTH_WAYS:
            read.append(given)
        if time.monotonic() > until:
            break
    return read, digests


def _in_turn(examples: Any) -> Iterator[Any]:
    if isinstance(examples, IterableDataset):
        yield from itertools.islice(examples, _MOST_ROWS)
        return
    for index in range(min(num_examples(examples), _MOST_ROWS)):
        yield examples[index]


def _digests(examples: Any, count: int) -> list[bytes]:
    return [_digest(_input_of(examples[index])) for index in range(count)]


def _input_of(example: Any) -> Any:
    if isinstance(example, Mapping):
        return {name: value for name, value in example.items() if name != LABELS}
    return example[0] if isinstance(example, tuple | list) and len(example) == 2 else example


def _digest(value: Any) -> bytes:
    """Digest the exact bytes of an input, whatever its form."""
    content = hashlib.blake2b(digest_size=8)
    for part in _parts(value):
        content.update(part)
    return content.digest()


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, np.ndarray | np.generic):
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, Mapping):
        for name in sorted(value, key=str):
            yield str(name).encode()
            yield from _parts(value[name])
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from _parts(inner)
    else:
        yield repr(value).encode()


def _not_finite(split: str, read: Sequence[Any]) -> Iterator[Message]:
    """Arrays are refused as they are loaded; of datasets some examples are looked at here."""
    bad = sum(
        not all(bool(torch.isfinite(part).all()) for part in tensors(_as_tensors(given)))
        for given in read
    )
    if bad:
        yield (
            ERROR,
            f"{bad} of {len(read)} examples of {split} that were read hold values that are not "
            "finite (NaN or infinite); leave those out or fill them in",
        )


def _as_tensors(given: Any) -> Any:
    if isinstance(given, np.ndarray | float):
        return torch.as_tensor(given)
    return given


def _shared(train: Sequence[bytes], validation: Sequence[bytes], data: Data) -> Iterator[Message]:
    known = set(train)
    shared = sum(digest in known for digest in validation)
    if not shared:
        return
    rest = "" if len(validation) == num_examples(data.validation) else " that were read"
    line = (
        f"{shared} of {len(validation)} validation examples{rest} are training examples as well, "
        "byte for byte: the validation set can't show overfitting on them"
    )
    # Where inputs repeat in the training set too, they are few and of another kind: words, say.
    distinct = len(known) > 0.9 * len(train)
    yield (ERROR if distinct and 2 * shared >= len(validation) else WARNING), line


def _classes(data: Data, num_train: int, num_val: int) -> Iterator[Message]:
    seen = [
        _labels(examples, count)
        for examples, count in ((data.train, num_train), (data.validation, num_val))
    ]
    for split, labels in zip(("train", "validation"), seen, strict=True):
        low, high = min(labels), max(labels)
        if low < 0 or high >= data.num_classes:
            more = "; counted from 0, they fit: subtract 1" if high == data.num_classes else ""
            yield (
                ERROR,
                f"{split} has classes {low} to {high}; allowed: 0 to {data.num_classes - 1} "
                f"(num_classes = {data.num_classes}){more}",
            )
            return
    train, validation = (set(labels) for labels in seen)
    if len(train) == 1 and isinstance(data.train, Arrays):
        yield ERROR, f"all training examples are of class {train.pop()}"
        return
    if len(validation) == 1 and len(train) > 1 and isinstance(data.validation, Arrays):
        yield WARNING, f"all validation examples are of class {next(iter(validation))}"
    missing = sorted(validation - train)
    if missing and isinstance(data.train, Arrays) and num_train == num_examples(data.train):
        names = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        yield WARNING, f"classes that are in validation, and not in train: {names}"


def _labels(examples: Any, count: int) -> list[int]:
    if isinstance(examples, Arrays):
        return np.unique(examples.y).astype(int).tolist()
    found, until = [], time.monotonic() + _READ_S
    for example in _in_turn(examples):
        found.append(int(example[LABELS] if isinstance(example, Mapping) else example[1]))
        if len(found) >= max(1, count) or time.monotonic() > until:
            break
    return found


def guessing_loss(data: Data) -> float:
    """Compute the cross-entropy of a model that gives all classes the same probability."""
    return math.log(data.num_classes)
