"""What fits, and the refusal of what never can."""

import pytest

from raysweep.cluster.capacity import Node, packing, slots, workers_on
from raysweep.errors import InputError
from raysweep.spec import Resources

LAPTOP = Node("laptop", 8, 0, 16 * 2**30, is_head=True)
GPUS = Node("gpus", 32, 4, 256 * 2**30)


def resources(workers=1, cpus=1.0, gpus=0.0):
    return Resources(workers=workers, cpus_per_worker=cpus, gpus_per_worker=gpus)


@pytest.mark.parametrize(
    ("wanted", "nodes", "held"),
    [
        (resources(), [LAPTOP], 8),
        (resources(cpus=3), [LAPTOP], 2),
        (resources(cpus=0.5), [LAPTOP], 16),
        (resources(cpus=0.001), [LAPTOP], 49),  # processes of 350 MB in 16 GiB
        (resources(gpus=1), [LAPTOP, GPUS], 4),
        (resources(gpus=3), [GPUS, GPUS], 2),  # a GPU is left on each, and 2 can't be joined
        (resources(workers=3, gpus=1), [GPUS, GPUS], 2),  # workers of a trial may be apart
        (resources(gpus=0.3), [GPUS], 12),  # 3 to a GPU, never one over two GPUs
        (resources(workers=2), [LAPTOP], 4),
    ],
)
def test_slots(wanted, nodes, held):
    assert slots(wanted, nodes) == held


def test_waiting_drivers_are_counted_against_the_heads_memory():
    head = Node("head", 0, 0, 4 * 2**30, is_head=True)
    many = [head, *[GPUS._replace(cpus=1000)] * 4]
    assert slots(resources(workers=2), many) == 4


@pytest.mark.parametrize("wanted", [resources(cpus=64), resources(gpus=8), resources(workers=99)])
def test_what_can_never_fit_is_refused_with_the_numbers(wanted):
    with pytest.raises(InputError) as caught:
        slots(wanted, [LAPTOP, GPUS])
    message = str(caught.value)
    assert "can never hold it" in message
    assert "laptop: 8 CPUs" in message
    assert "gpus: 32 CPUs, 4 GPUs" in message


def test_a_node_without_the_gpu_holds_none():
    assert workers_on(LAPTOP, resources(gpus=0.1)) == 0


def test_gpus_that_are_free_on_different_nodes_are_not_free_together():
    # Each node holds a trial of 3 GPUs; 2 GPUs are left, and no trial of 2 fits.
    table = packing(resources(gpus=3), [GPUS, GPUS])
    assert table == ["gpus: 32 CPUs, 4 GPUs, 256 GiB  1 worker, 31 CPUs and 1 GPUs left over"] * 2
    ones = GPUS._replace(gpus=1)
    with pytest.raises(InputError, match=r"holds 0\. A worker's 2 GPUs must be on one node"):
        slots(resources(gpus=2), [ones, ones])


def test_where_nodes_may_come_nothing_is_refused():
    head = LAPTOP._replace(cpus=0)
    assert slots(resources(gpus=1), [head], growing=True) == 1
    assert slots(resources(gpus=1), [head, GPUS], growing=True) == 4
