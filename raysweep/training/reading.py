"""Datasets where they train: read through a DataLoader, with draws that no worker count changes."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, default_collate

from raysweep.errors import InputError
from raysweep.tasks import Loader
from raysweep.tasks.batches import changed, divided, tensors
from raysweep.training.group import Group
from raysweep.training.seeds import (
    derive_seed,
    host_state,
    kept_generators,
    seed_host,
    set_host_state,
)

Batch = tuple[Any, Any]
# Batches of a split that is read in order are kept while all of them take no more bytes.
MAX_KEPT_BYTES = 2**29
_PLAIN = Loader()
_Key = tuple[int, int]  # the seed of an example's draws, and its index


class DatasetSplit:
    """Examples of a map-style dataset, fetched by a DataLoader in this process or in others.

    What an example draws is seeded by (seed, epoch, index): neither the number of processes that
    read nor that of those that train changes it. A split that is read in order is seeded the same
    in each epoch and trial, so it is read once and kept while it fits.
    """

    def __init__(
        self, dataset: Dataset[Any], n: int, device: torch.device, loader: Loader = _PLAIN
    ) -> None:
        """Args: n: number of examples; device: where batches go."""
        self.n = n
        self._dataset, self._device, self._how = dataset, device, loader
        self._reader = _Reader(dataset, loader.collate_fn or default_collate)
        self._keys: list[list[_Key]] = []
        self._loader: DataLoader[Any] | None = None
        self._kept: dict[tuple[int, int, int], list[Batch]] = {}
        self._kept_bytes, self._size_of_one = 0, 0

    @property
    def size_of_one(self) -> int:
        """Numbers in the inputs of an example."""
        if not self._size_of_one:
            inputs, _ = self._reader[[(derive_seed("in order", 0), 0)]]
            self._size_of_one = sum(tensor.numel() for tensor in tensors(inputs))
        return self._size_of_one

    def shuffled(
        self, order: torch.Tensor, sizes: Sequence[int], seed: int | str = 0
    ) -> Iterator[Batch]:
        """Yield batches of these sizes, in this order; a size of 0 gives an empty batch.

        Args: seed: of the draws, together with each example's index.
        """
        # A DataLoader can't fetch an empty batch: it fetches one example, which is cut off here.
        indices = [index.tolist() or [0] for index in order.split(list(sizes))]
        self._keys[:] = [[(derive_seed(seed, i), i) for i in batch] for batch in indices]
        on_gpu = self._device.type == "cuda"  # pinned memory crosses while the GPU computes
        if self._loader is None:
            self._loader = DataLoader(
                self._reader,
                batch_sampler=self._keys,
                collate_fn=_only,
                num_workers=self._how.num_workers,
                persistent_workers=self._how.num_workers > 0,
                pin_memory=on_gpu,
                generator=torch.Generator(),  # else it draws from the one that dropout uses
            )
        for size, batch in zip(sizes, self._loader, strict=True):
            moved = _moved(batch, self._device)
            yield moved if size else changed(moved, lambda tensor: tensor[:0])

    def in_order(self, part: slice, size: int) -> Iterator[Batch]:
        """Yield a part of the split, `size` examples at a time. They may be changed."""
        name = part.start, part.stop, size
        if name not in self._kept:
            yield from self._read_in_order(name)
            return
        for batch in self._kept[name]:
            yield _copied(batch)

    def _read_in_order(self, name: tuple[int, int, int]) -> Iterator[Batch]:
        start, stop, size = name
        kept: list[Batch] | None = []
        order = torch.arange(start, stop)
        sizes = [len(index) for index in order.split(size) if len(index)]
        total = self._kept_bytes
        for batch in self.shuffled(order, sizes, "in order"):
            total += sum(tensor.nbytes for tensor in tensors(batch))
            kept = None if kept is None or total > MAX_KEPT_BYTES else [*kept, _copied(batch)]
            yield batch
        if kept is not None:
            self._kept[name], self._kept_bytes = kept, total

    def subset(self, index: np.ndarray) -> "DatasetSplit":
        """Make a split of these examples alone."""
        chosen = Subset(self._dataset, index.tolist())
        return DatasetSplit(chosen, len(index), self._device, self._how)


class StreamSplit:
    """Training examples of an IterableDataset. Each epoch is a new pass over it, which begins with
    generators seeded by (seed, epoch) and goes round where the stream ends before the epoch.

    Every process reads the whole stream, itself or in one process that reads ahead, and takes its
    shard of each batch: so the batches are the same whatever the number of processes.
    """

    n = 0  # it has no length

    def __init__(self, dataset: IterableDataset[Any], device: torch.device, loader: Loader) -> None:
        self._dataset, self._device, self._how = dataset, device, loader
        self.steps_per_epoch = loader.steps_per_epoch or 0

    def first(self, count: int) -> DatasetSplit:
        """Make a split of the stream's first examples."""
        with kept_generators():
            seed_host(derive_seed("first"))
            examples = list(itertools.islice(self._dataset, count))
        return DatasetSplit(_Listed(examples), len(examples), self._device, self._how)

    def batches(self, batch_size: int, seed: int, epoch: int, group: Group) -> Iterator[Batch]:
        """Yield this worker's shard of each batch of an epoch."""
        stream = _Stream(
            self._dataset,
            self._how.collate_fn or default_collate,
            batch_size,
            self.steps_per_epoch,
            group.shard(batch_size),
            derive_seed(seed, "stream"),
            epoch,
        )
        loader = DataLoader(
            stream,
            batch_size=None,
            num_workers=min(1, self._how.num_workers),  # each further one would read it all again
            pin_memory=self._device.type == "cuda",
            generator=torch.Generator(),
        )
        for batch in loader:
            yield _moved(batch, self._device)


class _Listed(Dataset[Any]):
    """A list as a dataset."""

    def __init__(self, items: list[Any]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Any:
        return self._items[index]


class _Reader(Dataset[Any]):
    """Reads whole batches, each example with its own seed."""

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any]) -> None:
        self._dataset, self._collate = dataset, collate

    def __getitems__(self, keys: list[_Key]) -> list[Batch]:
        return [self[keys]]  # a DataLoader asks for a list, here of one batch

    def __getitem__(self, keys: list[_Key]) -> Batch:
        with kept_generators():
            examples: list[Any] = []
            for seed, index in keys:
                seed_host(seed)
                examples.append(self._dataset[index])
            seed_host(derive_seed(keys[0][0], "collate"))
            return divided(self._collate(examples))


class _Stream(IterableDataset[Any]):
    """Whole batches of an epoch, read with the stream's own generators."""

    def __init__(
        self,
        dataset: Any,
        collate: Callable[[list[Any]], Any],
        batch_size: int,
        num_batches: int,
        shard: slice,
        seed: int,
        epoch: int,
    ) -> None:
        self._dataset, self._collate = dataset, collate
        self._batch_size, self._num_batches, self._shard = batch_size, num_batches, shard
        self._seed, self._epoch = seed, epoch

    def __iter__(self) -> Iterator[Batch]:
        if hasattr(self._dataset, "set_epoch"):
            self._dataset.set_epoch(self._epoch)
        with kept_generators():
            seed_host(derive_seed(self._seed, self._epoch))
            inside = host_state()
        examples = self._endless()
        for _ in range(self._num_batches):
            # Between two batches the model may draw, from generators of its own.
            outside = host_state()
            set_host_state(inside)
            whole = list(itertools.islice(examples, self._batch_size))
            batch = divided(self._collate(whole[self._shard] or whole[:1]))
            inside = host_state()
            set_host_state(outside)
            empty = self._shard.start == self._shard.stop
            yield changed(batch, lambda tensor: tensor[:0]) if empty else batch

    def _endless(self) -> Iterator[Any]:
        while True:
            count = 0
            for count, example in enumerate(self._dataset, 1):  # noqa: B007 - is it empty?
                yield example
            if not count:
                raise InputError("train is an IterableDataset that gives no example")


def _only(batches: list[Batch]) -> Batch:
    return batches[0]


def _moved(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    return changed(batch, lambda tensor: tensor.to(device, non_blocking=True))


def _copied(batch: Batch) -> Batch:
    return changed(batch, torch.clone)
