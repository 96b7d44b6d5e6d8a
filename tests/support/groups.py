"""Processes that train one trial together, as Ray Train's workers do, without Ray."""

import multiprocessing
import os

import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from raysweep.training.group import Group

# Its processes begin with PyTorch imported, which takes each of them seconds otherwise.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["raysweep.training.train", "torch.distributed", "torch.nn.parallel"]
)


def _worker(rank, world_size, function, arguments, init_file, queue, all_found):
    dist.init_process_group(
        "gloo", init_method=f"file://{init_file}", rank=rank, world_size=world_size
    )
    queue.put((rank, function(Group(rank, world_size), *arguments)))
    all_found.wait()
    # An interpreter that is torn down beside gloo's threads aborts now and then.
    os._exit(0)


def in_group(world_size, function, *arguments, folder):
    """What `function(group, *arguments)` returns on each worker of a group, by rank."""
    queue, all_found = CONTEXT.SimpleQueue(), CONTEXT.Event()
    init_file = folder / f"group {world_size} {len(list(folder.iterdir()))}"
    everything = (world_size, function, arguments, init_file, queue, all_found)
    context = start_processes(
        _worker, everything, nprocs=world_size, join=False, start_method="forkserver"
    )
    assert context is not None
    found = []
    while len(found) < world_size:
        if not queue.empty():
            found.append(queue.get())
        else:
            context.join(timeout=0.1)  # raises what a worker raised
    all_found.set()
    context.join()
    return [result for _, result in sorted(found, key=lambda pair: pair[0])]
