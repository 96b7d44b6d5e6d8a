"""What a cluster can hold: trials at the same time, or a refusal with the numbers."""

from collections.abc import Sequence
from typing import NamedTuple

from raysweep.errors import InputError
from raysweep.spec import Resources

# A waiting driver of a multi-worker trial holds this much memory on the head
# (resident size of the process after importing ray.train.torch, measured with Ray 2.60).
_DRIVER_BYTES = 500_000_000
# What a process that trains holds before any data (resident in benchmarks/memory.py: 344 MB).
_TRAINER_BYTES = 350_000_000


class Node(NamedTuple):
    """One machine of a cluster and what Ray may hand out on it."""

    host: str
    cpus: float
    gpus: float
    memory_bytes: float
    is_head: bool = False

    def describe(self) -> str:
        """Say in one line what the node has."""
        gpus = f", {self.gpus:g} GPUs" if self.gpus else ""
        return f"{self.host}: {self.cpus:g} CPUs{gpus}, {self.memory_bytes / 2**30:.0f} GiB"


def workers_on(node: Node, resources: Resources) -> int:
    """Count the workers that fit on one node; only equal fractions share a GPU.

    However little of a CPU each asks for, its process takes memory.
    """
    by_cpu = int(node.cpus / resources.cpus_per_worker + 1e-9)
    if resources.cpus_per_worker < 1:
        by_cpu = min(by_cpu, max(int(node.cpus), int(node.memory_bytes / _TRAINER_BYTES)))
    wanted = resources.gpus_per_worker
    if wanted == 0:
        return by_cpu
    by_gpu = int(node.gpus // wanted) if wanted >= 1 else int(node.gpus) * int(1 / wanted + 1e-9)
    return min(by_cpu, by_gpu)


def slots(resources: Resources, nodes: Sequence[Node], *, growing: bool = False) -> int:
    """Count the trials that train at a time. Workers of a trial may sit on several nodes.

    Args: growing: an autoscaler may add nodes, so nothing is refused, and one is the least.

    Raises: InputError when not even one fits.
    """
    packed = sum(workers_on(node, resources) for node in nodes) // resources.workers
    if not packed and not growing:
        raise InputError(
            f"{shortage(resources, nodes)}. "
            "Lower resources.workers, cpus_per_worker or gpus_per_worker, or add nodes"
        )
    if resources.workers > 1:
        head = next((node for node in nodes if node.is_head), nodes[0])
        packed = min(packed, int(head.memory_bytes / 2 / _DRIVER_BYTES))
    return max(1, packed)


def shortage(resources: Resources, nodes: Sequence[Node]) -> str:
    """Say why not even one trial fits, with the numbers of every node."""
    fitting = [workers_on(node, resources) for node in nodes]
    have = "; ".join(
        f"{node.describe()} holds {count}" for node, count in zip(nodes, fitting, strict=True)
    )
    gpus = resources.gpus_per_worker
    apart = sum(node.gpus for node in nodes) >= gpus * resources.workers > 0
    hint = ""
    if apart and all(node.gpus < gpus for node in nodes):
        hint = f". A worker's {gpus:g} GPUs must be on one node"
    return (
        f"a trial needs {need(resources)}, and the cluster can never hold it: {have or 'no node'}"
        f"{hint}"
    )


def need(resources: Resources) -> str:
    """Say what a trial asks for: 2 x (4 CPU + 1 GPU)."""
    gpu = f" + {resources.gpus_per_worker:g} GPU" if resources.gpus_per_worker else ""
    return f"{resources.workers} x ({resources.cpus_per_worker:g} CPU{gpu})"


def packing(resources: Resources, nodes: Sequence[Node]) -> list[str]:
    """Say in a line per node how many workers of a trial it holds, and what is left over."""
    width = max((len(node.describe()) for node in nodes), default=0)
    lines = []
    for node in nodes:
        count = workers_on(node, resources)
        cpus = node.cpus - count * resources.cpus_per_worker
        rest = [f"{cpus:g} CPUs"] if cpus > 1e-9 else []
        gpus = node.gpus - count * resources.gpus_per_worker
        rest += [f"{gpus:g} GPUs"] if gpus > 1e-9 and resources.gpus_per_worker else []
        left = f", {' and '.join(rest)} left over" if rest else ""
        line = f"{node.describe():{width}}  {count} worker{'s' * (count != 1)}{left}"
        lines.append(line + (", the head" if node.is_head and len(nodes) > 1 else ""))
    return lines
