"""Batches of any form: a few examples of a split as a model takes them."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import IterableDataset, default_collate

from raysweep.tasks.definition import Arrays, Loader, num_examples

LABELS = "labels"  # where a batch that is a mapping holds its targets


def few(examples: Any, count: int, loader: Loader) -> tuple[Any, Any]:
    """Take the first examples of a split as a batch. Returns: (inputs, targets)."""
    if isinstance(examples, Arrays):
        x, y = (np.array(part[:count]) for part in examples)
        return torch.from_numpy(x), torch.from_numpy(y)
    return divided((loader.collate_fn or default_collate)(taken(examples, count)))


def taken(examples: Any, count: int) -> list[Any]:
    """Read the first examples of a dataset, as it gives them."""
    if isinstance(examples, IterableDataset):
        return list(itertools.islice(examples, count))
    return [examples[index] for index in range(min(count, num_examples(examples)))]


def divided(batch: Any) -> tuple[Any, Any]:
    """Tell a batch's inputs from its targets.

    Raises: ValueError for what is neither a pair nor a mapping with labels.
    """
    if isinstance(batch, Mapping):
        if LABELS not in batch:
            raise ValueError(f"a batch is a mapping without {LABELS!r}: it has {', '.join(batch)}")
        return {name: part for name, part in batch.items() if name != LABELS}, batch[LABELS]
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        what = f"{type(batch).__name__} of {len(batch)}" if hasattr(batch, "__len__") else "value"
        raise ValueError(f"a batch is a {what}; a pair (inputs, targets) is needed")
    return tuple(batch)


def call(model: nn.Module, inputs: Any) -> Any:
    """Call a model with a tensor, with each part of a tuple, or with a mapping's names.

    Returns: its outputs; their `logits`, where they have some.
    """
    if isinstance(inputs, Mapping):
        outputs = model(**inputs)
    else:
        outputs = model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)
    return getattr(outputs, "logits", outputs)


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Go through the tensors in whatever a model takes or gives."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from tensors(inner)
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from tensors(inner)


def length(batch: Any) -> int:
    """Count the examples of a batch."""
    return next((len(tensor) for tensor in tensors(batch) if tensor.ndim), 0)


def first(batch: Any, count: int) -> Any:
    """Take the first examples of a batch."""
    return changed(batch, lambda tensor: tensor[:count])


def changed(value: Any, change: Any) -> Any:
    """Change every tensor of a batch, whatever its form."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: changed(inner, change) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return tuple(changed(inner, change) for inner in value)
    return value
