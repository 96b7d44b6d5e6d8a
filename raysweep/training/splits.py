"""A task's splits where they train: tensors on a device or a DataLoader; validation blocks."""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from raysweep.store.schema import NUM_BLOCKS
from raysweep.tasks import Arrays, Data, Examples, num_examples

_MAX_TRAIN_EVAL = 1_000
MAX_CLASSES = 1_000
# Examples of a pass without gradients, and the numbers in their inputs: large images go in smaller
# batches, as what a model makes of them takes a multiple of their memory.
MAX_BATCH, MIN_BATCH, MAX_NUMBERS = 2_048, 32, 2**23

Batch = tuple[torch.Tensor, torch.Tensor]


class TensorSplit(NamedTuple):
    """Examples as tensors on the device that trains.

    On a CPU they may lie in memory that all processes of a machine share and that can't be written:
    whatever leaves here is a copy, which a model may change.
    """

    x: torch.Tensor
    y: torch.Tensor

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.y)

    @property
    def size_of_one(self) -> int:
        """Numbers in the input of an example."""
        return self.x[0].numel()

    def shuffled(self, order: torch.Tensor, sizes: Sequence[int]) -> Iterator[Batch]:
        """Yield batches of these sizes, in this order; a size of 0 gives an empty batch."""
        # The order crosses to the device once, not once per step.
        for index in order.to(self.x.device).split(list(sizes)):
            yield self.x[index], self.y[index]

    def in_order(self, part: slice, size: int) -> Iterator[Batch]:
        """Yield a part of the split, `size` examples at a time."""
        for start in range(part.start, part.stop, size):
            stop = min(start + size, part.stop)
            yield self.x[start:stop].clone(), self.y[start:stop]

    def subset(self, index: np.ndarray) -> "TensorSplit":
        """Make a split of these examples alone."""
        chosen = torch.from_numpy(index).to(self.x.device)
        return TensorSplit(self.x[chosen], self.y[chosen])


class DatasetSplit(NamedTuple):
    """Examples of a map-style dataset, fetched by a DataLoader in this process."""

    dataset: Dataset[tuple[torch.Tensor, int]]
    n: int
    device: torch.device

    @property
    def size_of_one(self) -> int:
        """Numbers in the input of an example."""
        return self.dataset[0][0].numel()

    def shuffled(self, order: torch.Tensor, sizes: Sequence[int]) -> Iterator[Batch]:
        """Yield batches of these sizes, in this order; a size of 0 gives an empty batch."""
        # A DataLoader can't fetch an empty batch: it fetches one example, which is cut off here.
        wanted = [index.tolist() or [0] for index in order.split(list(sizes))]
        on_gpu = self.device.type == "cuda"  # pinned memory crosses while the GPU computes
        loader: DataLoader[Any] = DataLoader(self.dataset, batch_sampler=wanted, pin_memory=on_gpu)
        for size, batch in zip(sizes, loader, strict=True):
            x, y = (part[:size].to(self.device, non_blocking=on_gpu) for part in batch)
            yield x, y

    def in_order(self, part: slice, size: int) -> Iterator[Batch]:
        """Yield a part of the split, `size` examples at a time."""
        order = torch.arange(part.start, part.stop)
        yield from self.shuffled(order, [len(index) for index in order.split(size) if len(index)])

    def subset(self, index: np.ndarray) -> "DatasetSplit":
        """Make a split of these examples alone."""
        return DatasetSplit(Subset(self.dataset, index.tolist()), len(index), self.device)


Split = TensorSplit | DatasetSplit


def at_once(split: Split) -> int:
    """Choose how many examples go through a model together where no gradient is needed."""
    return min(MAX_BATCH, max(MIN_BATCH, MAX_NUMBERS // max(1, split.size_of_one)))


class Placed(NamedTuple):
    """The splits of a task on one device."""

    train: Split
    train_eval: Split  # a fixed subset of at most _MAX_TRAIN_EVAL, without augmentation
    validation: Split
    val_blocks: torch.Tensor  # shape (num_validation,), block of each example
    val_classes: torch.Tensor | None  # shape (num_validation,); None beyond MAX_CLASSES
    val_block_n: list[int]
    val_class_n: list[int] | None


def place(data: Data, device: torch.device) -> Placed:
    """Put the splits on a device, and fix the training subset and the validation blocks."""
    n_train, n_val = num_examples(data.train), num_examples(data.validation)
    subset = np.sort(_hashed_order(n_train, "train_eval")[:_MAX_TRAIN_EVAL])
    blocks = deal_blocks(n_val, data.val_clusters)
    classes = _classes(data.validation) if data.num_classes <= MAX_CLASSES else None
    train = _place(data.train, device)
    without_augmentation = train if data.train_eval is None else _place(data.train_eval, device)
    return Placed(
        train=train,
        train_eval=without_augmentation.subset(subset),
        validation=_place(data.validation, device),
        val_blocks=torch.from_numpy(blocks).to(device),
        val_classes=None if classes is None else torch.from_numpy(classes).to(device),
        val_block_n=np.bincount(blocks, minlength=NUM_BLOCKS).tolist(),
        val_class_n=(
            None if classes is None else np.bincount(classes, minlength=data.num_classes).tolist()
        ),
    )


def _place(examples: Examples, device: torch.device) -> Split:
    if isinstance(examples, Arrays):
        # Arrays from Ray's object store are read-only, of which torch warns. On a CPU they stay
        # there, one copy a node, and a GPU gets its own.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            x = torch.from_numpy(examples.x).to(device)
        y = torch.from_numpy(np.array(examples.y, dtype=np.int64))  # as the loss wants its classes
        return TensorSplit(x, y.to(device))
    return DatasetSplit(examples, num_examples(examples), device)


def _classes(examples: Examples) -> np.ndarray:
    if isinstance(examples, Arrays):
        return np.array(examples.y, dtype=np.int64)
    return np.array([int(examples[i][1]) for i in range(num_examples(examples))], dtype=np.int64)


def _hashed_order(num_items: int, purpose: str) -> np.ndarray:
    """Shuffle items in a fixed order, the same in every trial and on every machine."""
    digests = [hashlib.blake2b(f"{purpose} {i}".encode()).digest() for i in range(num_items)]
    return np.array(sorted(range(num_items), key=digests.__getitem__), dtype=np.int64)


def deal_blocks(num_examples: int, clusters: np.ndarray | None) -> np.ndarray:
    """Deal validation examples into blocks, round-robin in hashed order, clusters whole.

    Returns: shape (num_examples,), values in [0, NUM_BLOCKS).
    """
    names = np.arange(num_examples) if clusters is None else np.asarray(clusters)
    distinct, member = np.unique(names, return_inverse=True)
    block_of = np.empty(len(distinct), dtype=np.int64)
    block_of[_hashed_order(len(distinct), "block")] = np.arange(len(distinct)) % NUM_BLOCKS
    return block_of[member]
