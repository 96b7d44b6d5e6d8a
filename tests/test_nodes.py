"""A cluster of several nodes that loses one while trials train across them."""

from pathlib import Path

import pytest
import ray
from interrupted import attempts, live_rows, run_disturbed, trainers

from raysweep import cluster
from raysweep.sweep import run_sweep

pytestmark = pytest.mark.ray

HERE = Path(__file__).parent


@pytest.fixture
def machines(monkeypatch):
    """(cluster, its nodes but the head): a head that trains nothing, and three nodes of one CPU."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True})
    try:
        nodes = [found.add_node(num_cpus=1) for _ in range(3)]
        found.wait_for_nodes()
        with cluster.connect(found.address, [HERE / "odd_tasks.py"], groups=True):
            yield found, nodes
    finally:
        found.shutdown()


@pytest.mark.timeout(600)
def test_a_node_that_leaves_costs_only_the_trial_that_trained_on_it(machines, make_spec, tmp_path):
    found, nodes = machines
    spec = make_spec(
        task="odd_tasks:lingering",
        base={"epochs": 8, "batch_size": 20},
        axes={"width": [8, 16]},
        seeds=1,
        resources={"workers": 2},
        checkpoints={"every_epochs": 1, "every_minutes": None},
        retries=0,  # of the trial's own deaths: a lost node is none
    )

    def lose_a_node():
        training = {node for _, node in trainers("RayTrainWorker")}
        assert len(training) == 2  # one trial, across two nodes
        found.remove_node(next(node for node in nodes if node.node_id in training))

    result = run_disturbed(spec, tmp_path / "disturbed", lose_a_node)
    assert (result.trained, result.failures) == (2, ())
    assert sum(node["Alive"] for node in ray.nodes()) == 3
    whole = run_sweep(spec, tmp_path / "whole")  # on the nodes that are left
    assert live_rows(result.store.root).equals(live_rows(whole.store.root))
    again = [start for _, attempt, start in attempts(result.store.root) if attempt == 2]
    assert len(attempts(result.store.root)) == 3
    assert len(again) == 1
    assert again[0] > 3
