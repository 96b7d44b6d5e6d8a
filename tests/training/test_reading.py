"""Datasets and streams are read alike by any number of processes, and once where that is enough."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from raysweep.errors import InputError
from raysweep.spec import Hyperparameters
from raysweep.tasks import Loader, Task
from raysweep.training.group import ALONE, Group
from raysweep.training.reading import DatasetSplit, StreamSplit
from raysweep.training.seeds import host_state
from raysweep.training.splits import place
from raysweep.training.train import Training, train
from tests.support import odd_tasks

CPU = torch.device("cpu")


class Noisy(Dataset):
    """Draws from all three generators."""

    def __init__(self, arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays.y)

    def __getitem__(self, index):
        noise = torch.randn(64) * np.random.rand()  # noqa: NPY002
        return torch.from_numpy(self.arrays.x[index]) + noise, int(self.arrays.y[index])


class Numbers(IterableDataset):
    """Draws numbers for ever, or so many."""

    def __init__(self, count=None):
        self.count = count

    def __iter__(self):
        number = 0
        while self.count is None or number < self.count:
            yield torch.tensor([float(number)]), torch.randint(1000, ()).item()
            number += 1


def batches(dataset, num_workers, group=ALONE):
    split = DatasetSplit(dataset, len(dataset), CPU, Loader(num_workers=num_workers))
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    mine = [part[group.shard(8)] for part in order.split(8)]
    return [x for x, _ in split.shuffled(torch.cat(mine), [len(part) for part in mine], 5)]


def test_neither_readers_nor_workers_change_what_is_drawn_and_reading_draws_nothing():
    dataset, before = Noisy(odd_tasks.load_odd(None).train), host_state()
    alone = batches(dataset, 0)
    assert str(host_state()) == str(before)
    for number in (1, 2):
        for mine, theirs in zip(batches(dataset, number), alone, strict=True):
            assert torch.equal(mine, theirs)
    shards = [batches(dataset, 0, Group(rank, 2)) for rank in range(2)]
    for at, whole in enumerate(alone):
        assert torch.equal(torch.cat([shard[at] for shard in shards]), whole)


def test_processes_that_read_ahead_change_no_row():
    def load(loader):
        data = odd_tasks.load_odd(None)
        splits = {name: Noisy(getattr(data, name)) for name in ("train", "validation")}
        return data._replace(**splits, digest="noisy", loader=loader)

    task = Task(odd_tasks.load_odd, odd_tasks.build)
    fields: dict[str, Any] = {"epochs": 2, "batch_size": 20, "dropout": 0.5}
    found = []
    for loader in (Loader(), Loader(num_workers=2)):
        data, rows = load(loader), []
        train(Training(Hyperparameters(**fields), 0, task, data, place(data, CPU)), rows.append)
        found.append([row | {"wall_s": 0, "train_s": 0} for row in rows])
    assert found[0] == found[1]


def test_a_split_in_order_is_read_once_while_it_fits(monkeypatch):
    reads: list[int] = []

    class Counted(Noisy):
        def __getitem__(self, index):
            reads.append(index)
            return super().__getitem__(index)

    dataset = Counted(odd_tasks.load_odd(None).train)
    split = DatasetSplit(dataset, 40, CPU)
    first, again = ([x.clone() for x, _ in split.in_order(slice(0, 40), 16)] for _ in range(2))
    assert reads == list(range(40))
    assert all(map(torch.equal, first, again))
    for x, _ in split.in_order(slice(0, 40), 16):
        x.zero_()  # as a model may
    assert torch.equal(next(iter(split.in_order(slice(0, 40), 16)))[0], first[0])
    monkeypatch.setattr("raysweep.training.reading.MAX_KEPT_BYTES", 100)
    large = DatasetSplit(dataset, 40, CPU)
    reads.clear()
    for _ in range(2):
        assert all(map(torch.equal, (x for x, _ in large.in_order(slice(0, 40), 16)), first))
    assert reads == list(range(40)) * 2


def of_stream(dataset, num_workers=0, group=ALONE, epoch=1):
    loader = Loader(num_workers=num_workers, steps_per_epoch=3)
    return list(StreamSplit(dataset, CPU, loader).batches(5, 0, epoch, group))


def test_a_stream_gives_the_same_batches_to_any_number_of_processes():
    torch.manual_seed(0)
    alone = of_stream(Numbers())
    torch.rand(3)
    for number in (0, 1, 3):
        for mine, theirs in zip(of_stream(Numbers(), number), alone, strict=True):
            assert all(map(torch.equal, mine, theirs))
    shards = [of_stream(Numbers(), 0, Group(rank, 2)) for rank in range(2)]
    for at, (x, y) in enumerate(alone):
        assert torch.equal(torch.cat([shard[at][0] for shard in shards]), x)
        assert torch.equal(torch.cat([shard[at][1] for shard in shards]), y)
    assert not torch.equal(of_stream(Numbers(), epoch=2)[0][1], alone[0][1])


def test_a_stream_that_ends_begins_again_and_an_empty_one_is_refused():
    seen = torch.cat([x for x, _ in of_stream(Numbers(4))])[:, 0].tolist()
    assert seen == [0, 1, 2, 3] * 3 + [0, 1, 2]
    with pytest.raises(InputError, match="gives no example"):
        of_stream(Numbers(0))
