"""Nodes that leave and join while a sweep runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from raysweep.cluster import connect
from raysweep.recording.state import Progress
from raysweep.running.sweep import run_sweep
from raysweep.store.files import Store
from tests.support.commands import wait_for
from tests.support.interrupted import attempts, live_rows, rows_of_group, run_disturbed, trainers

HERE = Path(__file__).parents[1] / "support"

SLOW = """
name: slow
task: odd_tasks:slow
base: {epochs: 500}
axes: {learning_rate: [0.01, 0.1]}
seeds: 2
resources: {cpus_per_worker: 2}
"""

IMPATIENT = """
import sys
from raysweep import main
from raysweep.cluster import watchdog
watchdog.QUIET_S = watchdog.HOPELESS_S = 2.0
main.main(sys.argv[1:])
"""


@pytest.fixture
def connected(nodes):
    """This process, connected to that cluster; sweeps in it use the connection."""
    with connect.connect(nodes.address, [HERE / "odd_tasks.py"], groups=True):
        yield


@pytest.mark.usefixtures("connected")
def test_a_node_that_leaves_costs_only_the_trial_that_trained_on_it(nodes, make_spec, tmp_path):
    hold = tmp_path / "hold"
    hold.touch()  # the first trial waits in epoch 5
    for _ in range(3):
        nodes.add_node(env_vars={"HOLD": str(hold)})
    spec = make_spec(
        task="odd_tasks:late",
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
        nodes.remove_node(next(node for node in nodes.nodes if node in training))
        hold.unlink()

    result = run_disturbed(spec, tmp_path / "disturbed", lose_a_node, after_epoch=4)
    assert (result.trained, result.failures) == (2, ())
    assert sum(node["Alive"] for node in ray.nodes()) == 3
    tried = [(attempt, start) for _, attempt, start in attempts(result.store.root)]
    assert sorted(tried) == [(1, 1), (1, 1), (2, 5)]
    found, undisturbed = live_rows(result.store.root), rows_of_group(spec, 2, tmp_path)
    assert found.equals(undisturbed, null_equal=True)


def test_a_node_that_leaves_for_good_ends_the_sweep_with_its_name_and_a_whole_store(
    nodes, tmp_path
):
    node = nodes.add_node(num_cpus=2)
    shutil.copy(HERE / "odd_tasks.py", tmp_path)
    (tmp_path / "sweep.yaml").write_text(SLOW)
    store = Store(tmp_path / "store")
    # A process of its own, as people have it: what Tune still does in there ends with it.
    command = [
        sys.executable,
        "-c",
        IMPATIENT,
        "run",
        "sweep.yaml",
        "--keep-going",
        "--store",
        "store",
    ]
    command += ["--address", nodes.address]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        wait_for(lambda: store.read("epochs").num_rows, process)
        nodes.remove_node(node)
        said, _ = process.communicate()
    assert process.returncode == 1, said
    assert "this sweep stops in 2 s" in said
    *_, last = said.splitlines()
    assert last.startswith("raysweep: 4 trials are left: a trial needs 1 x (2 CPU)")
    assert f"1 of 2 nodes left: {os.uname().nodename}" in last
    assert store.read("epochs").num_rows > 0
    assert len(store.sweeps()) == 1


def test_a_node_that_joins_is_used(nodes, make_spec, tmp_path, monkeypatch):
    hold = tmp_path / "hold"
    hold.touch()
    monkeypatch.setenv("HOLD", str(hold))
    held = {"env_vars": {"HOLD": str(hold)}}  # of the processes that train
    nodes.add_node(**held)

    def show(progress: Progress) -> None:
        if progress.running == 1 and len(nodes.nodes) == 1:
            nodes.add_node(**held)
        if progress.running == 2:
            hold.unlink(missing_ok=True)

    # Long enough by its model's size that each trial is a pack of its own.
    spec = make_spec(task="odd_tasks:held", base={"epochs": 100})
    result = run_sweep(spec, tmp_path / "store", address=nodes.address, show=show)
    assert not hold.exists()  # two trained at the same time
    assert (result.trained, result.failures) == (4, ())
