"""What batches cost that a DataLoader makes, beside tensors that lie on the device.

One process, one torch thread, contenders in turn.
`python benchmarks/data_path.py [--repeats 9] [--device cuda]`
"""

from collections.abc import Iterable
from typing import Any

import measure
import torch
from problems import SEED, Problem, begun, epochs_in_turn, fresh, learner, problems
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from raysweep.tasks import Arrays
from raysweep.training.passes import train_epoch
from raysweep.training.splits import DatasetSplit, Split


class Pairs(Dataset[tuple[torch.Tensor, int]]):
    """Arrays as a map-style dataset, as users write one."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays.y)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(self.arrays.x[index]), int(self.arrays.y[index])


def plain_loader(chosen: Problem) -> DataLoader[Any]:
    """A DataLoader of this process as documented: shuffled, its memory pinned for a GPU."""
    assert isinstance(chosen.data.train, Arrays)
    arrays = TensorDataset(*(torch.from_numpy(part) for part in chosen.data.train))
    return DataLoader(
        arrays,
        batch_size=chosen.fields.batch_size,
        shuffle=True,
        pin_memory=chosen.device.type == "cuda",
    )


def data_paths(chosen: Problem, repeats: int) -> dict[str, list[float]]:
    """The same training pass, fed by tensors and by DataLoaders in this process."""
    assert isinstance(chosen.data.train, Arrays)
    split = DatasetSplit(Pairs(chosen.data.train), chosen.train_set.n, chosen.device)
    tensors, datasets, loaded = learner(chosen), learner(chosen), fresh(chosen)
    loader = plain_loader(chosen)

    def loader_epoch() -> None:
        model, optimizer = loaded
        model.train()
        for x, y in loader:
            inputs, classes = (part.to(chosen.device, non_blocking=True) for part in (x, y))
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs), classes).backward()
            optimizer.step()

    return epochs_in_turn(
        chosen.epochs,
        {
            "tensors (train_epoch)": lambda e: train_epoch(
                *tensors, chosen.fields, chosen.train_set, SEED, e, chosen.group
            ),
            "DatasetSplit (train_epoch)": lambda e: train_epoch(
                *datasets, chosen.fields, split, SEED, e, chosen.group
            ),
            "DataLoader, workers=0, bare loop": lambda e: loader_epoch(),
        },
        repeats,
    )


def fetching(chosen: Problem, repeats: int) -> dict[str, list[float]]:
    """The batches of an epoch alone, without training on them."""
    assert isinstance(chosen.data.train, Arrays)
    split = DatasetSplit(Pairs(chosen.data.train), chosen.train_set.n, chosen.device)
    size = chosen.fields.batch_size
    loader = plain_loader(chosen)
    sizes = [len(index) for index in torch.arange(chosen.train_set.n).split(size)]

    def consume(batches: Iterable[Any]) -> None:
        for x, y in batches:
            for part in (x, y):
                part.to(chosen.device, non_blocking=True)

    def fetch(source: Split) -> None:
        consume(source.shuffled(torch.randperm(source.n), sizes))

    return epochs_in_turn(
        chosen.epochs,
        {
            "tensors": lambda e: fetch(chosen.train_set),
            "DatasetSplit": lambda e: fetch(split),
            "DataLoader, workers=0": lambda e: consume(loader),
        },
        repeats,
    )


def main() -> None:
    """Print the tables."""
    asked = begun(__doc__)
    for one in problems(asked.device, short=asked.short)[:3]:
        title = f"With training: {one.name}"
        paths = data_paths(one, asked.repeats)
        print(measure.table(title, paths, "tensors (train_epoch)", "ms per epoch"))
        title = f"Batches alone: {one.name}"
        print(
            measure.table(title, fetching(one, asked.repeats), "tensors", "ms per epoch"),
            flush=True,
        )


if __name__ == "__main__":
    main()
