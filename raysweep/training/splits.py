"""A task's splits where they train: tensors on a device or a DataLoader; validation blocks."""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import IterableDataset

from raysweep.errors import InputError
from raysweep.store.schema import NUM_BLOCKS
from raysweep.tasks import Arrays, Data, Examples, Loader, num_examples
from raysweep.training.reading import Batch, DatasetSplit, StreamSplit

_MAX_TRAIN_EVAL = 1_000
MAX_CLASSES = 1_000
# Examples of a pass without gradients, and the numbers in their inputs: large images go in smaller
# batches, as what a model makes of them takes a multiple of their memory.
MAX_BATCH, MIN_BATCH, MAX_NUMBERS = 2_048, 32, 2**23


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

    def shuffled(
        self, order: torch.Tensor, sizes: Sequence[int], seed: int | str = 0
    ) -> Iterator[Batch]:
        """Yield batches of these sizes, in this order; a size of 0 gives an empty batch.

        Args: seed: not needed, since nothing is drawn.
        """
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


Split = TensorSplit | DatasetSplit
TrainSplit = Split | StreamSplit


def at_once(split: Split) -> int:
    """Choose how many examples go through a model together where no gradient is needed."""
    return min(MAX_BATCH, max(MIN_BATCH, MAX_NUMBERS // max(1, split.size_of_one)))


class Placed(NamedTuple):
    """The splits of a task on one device."""

    train: TrainSplit
    train_eval: Split  # a fixed subset of at most _MAX_TRAIN_EVAL, without augmentation
    validation: Split
    val_blocks: torch.Tensor  # shape (num_validation,), block of each example
    val_block_n: list[int]


def place(data: Data, device: torch.device) -> Placed:
    """Put the splits on a device, and fix the training subset and the validation blocks."""
    blocks = deal_blocks(num_examples(data.validation), data.val_clusters)
    train = _place(data.train, device, data.loader)
    without_augmentation = train
    if data.train_eval is not None:
        without_augmentation = _place(data.train_eval, device, data.loader)
    if isinstance(without_augmentation, StreamSplit):
        train_eval = without_augmentation.first(_MAX_TRAIN_EVAL)
    else:
        order = _hashed_order(without_augmentation.n, "train_eval")
        train_eval = without_augmentation.subset(np.sort(order[:_MAX_TRAIN_EVAL]))
    validation = _place(data.validation, device, data.loader)
    if isinstance(validation, StreamSplit):
        raise InputError("validation is an IterableDataset; a length and an order are needed")
    return Placed(
        train=train,
        train_eval=train_eval,
        validation=validation,
        val_blocks=torch.from_numpy(blocks).to(device),
        val_block_n=np.bincount(blocks, minlength=NUM_BLOCKS).tolist(),
    )


def _place(examples: Examples, device: torch.device, loader: Loader) -> TrainSplit:
    if isinstance(examples, Arrays):
        # Arrays from Ray's object store are read-only, of which torch warns. On a CPU they stay
        # there, one copy a node, and a GPU gets its own.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            x = torch.from_numpy(examples.x).to(device)
        # As losses want them: whole numbers of 64 bits, others of 32.
        kind = {"i": np.int64, "u": np.int64, "f": np.float32}.get(examples.y.dtype.kind)
        y = torch.from_numpy(np.array(examples.y, dtype=kind))
        return TensorSplit(x, y.to(device))
    if isinstance(examples, IterableDataset):
        return StreamSplit(examples, device, loader)
    return DatasetSplit(examples, num_examples(examples), device, loader)


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
