"""What a cluster can hold: trials at the same time, or a refusal with the numbers."""

from collections.abc import Sequence
from typing import NamedTuple

from raysweep.errors import InputError
from raysweep.spec import Resources

# A waiting driver of a multi-worker trial holds this much memory on the head
# (resident size of the process after importing ray.train.torch, measured with Ray 2.60).
DRIVER_BYTES = 500_000_000


class Node(NamedTuple):
    """One machine of a cluster and what Ray may hand out on it."""

    host: str
    cpus: float
    gpus: float
    memory_bytes: float
    is_head: bool = False

    def describe(self) -> str:
        """One line for people."""
        gpus = f", {self.gpus:g} GPUs" if self.gpus else ""
        return f"{self.host}: {self.cpus:g} CPUs{gpus}, {self.memory_bytes / 2**30:.0f} GiB"


def workers_on(node: Node, resources: Resources) -> int:
    """How many workers fit on one node; a GPU is shared only by equal fractions of it."""
    by_cpu = int(node.cpus / resources.cpus_per_worker + 1e-9)
    wanted = resources.gpus_per_worker
    if wanted == 0:
        return by_cpu
    by_gpu = int(node.gpus // wanted) if wanted >= 1 else int(node.gpus) * int(1 / wanted + 1e-9)
    return min(by_cpu, by_gpu)


def slots(resources: Resources, nodes: Sequence[Node]) -> int:
    """How many trials train at the same time. Workers of one trial may sit on several nodes.

    Raises: InputError when not even one fits.
    """
    fitting = [workers_on(node, resources) for node in nodes]
    if sum(fitting) < resources.workers:
        need = f"{resources.workers} x ({resources.cpus_per_worker:g} CPU"
        need += f" + {resources.gpus_per_worker:g} GPU)" if resources.gpus_per_worker else ")"
        have = "; ".join(
            f"{node.describe()} holds {count}" for node, count in zip(nodes, fitting, strict=True)
        )
        raise InputError(
            f"a trial needs {need}, and the cluster can never hold it: {have}. "
            "Lower resources.workers, cpus_per_worker or gpus_per_worker, or add nodes"
        )
    packed = sum(fitting) // resources.workers
    if resources.workers == 1:
        return packed
    head = next((node for node in nodes if node.is_head), nodes[0])
    drivers = max(1, int(head.memory_bytes / 2 / DRIVER_BYTES))
    return min(packed, drivers)
