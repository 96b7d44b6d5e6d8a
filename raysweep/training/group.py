"""This process among the workers that train one trial together: shards, sums, broadcasts."""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import nn


class Group(NamedTuple):
    """One worker of a trial; alone by default."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = torch.device("cpu")

    def shard(self, num_items: int) -> slice:
        """Cut out this worker's contiguous shard of items; shards differ by one item at most."""
        start = num_items * self.rank // self.world_size
        return slice(start, num_items * (self.rank + 1) // self.world_size)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over all workers; each gets the sum."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, text: str) -> list[str]:
        """Collect every worker's text, by rank."""
        texts = [text] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(texts, text)
        return texts

    def from_first(self, values: torch.Tensor) -> torch.Tensor:
        """Give all workers the values of rank 0."""
        if self.world_size > 1:
            dist.broadcast(values, src=0)
        return values

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Give all workers the buffers of rank 0: batch-norm statistics differ between them."""
        if self.world_size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)


ALONE = Group()
