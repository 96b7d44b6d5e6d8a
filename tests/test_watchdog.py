"""A sweep that stands still says why, goes on when it can, and ends when it never will."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray
from nodes import ray_nodes

from raysweep import watchdog
from raysweep.recorder import Progress
from raysweep.store import Store
from raysweep.sweep import run_sweep

HERE = Path(__file__).parent
pytestmark = pytest.mark.slow

HOG = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False)
@ray.remote(num_cpus=float(sys.argv[2]))
class Hog:
    def sit(self): return "sits"
hog = Hog.remote()
print(ray.get(hog.sit.remote()), flush=True)
time.sleep(600)
"""


@pytest.fixture
def growing_cluster():
    """A cluster of its own, with a head that trains nothing; nodes come and go in the test."""
    with ray_nodes(head_cpus=0) as cluster:
        yield cluster


def test_a_node_that_leaves_for_good_ends_the_sweep_with_its_name_and_a_whole_store(
    growing_cluster, make_spec, tmp_path, monkeypatch
):
    monkeypatch.setattr(watchdog, "QUIET_S", 2.0)
    monkeypatch.setattr(watchdog, "HOPELESS_S", 2.0)
    node = growing_cluster.add_node(num_cpus=2)
    spec = make_spec(
        task="odd_tasks:slow", base={"epochs": 500}, resources={"cpus_per_worker": 2.0}
    )
    notices: list[str] = []

    def show(progress: Progress) -> None:
        if progress.num_rows and node in growing_cluster.worker_nodes:
            growing_cluster.remove_node(node)
        if progress.notice:
            notices.append(progress.notice)

    with pytest.raises(watchdog.StuckSweepError) as stopped:
        run_sweep(spec, tmp_path, address=growing_cluster.address, show=show)
    message = str(stopped.value)
    assert "4 trials are left: a trial needs 1 x (2 CPU)" in message
    assert f"1 of 2 nodes left: {os.uname().nodename}" in message
    assert (stopped.value.exit_code, stopped.value.leaves_threads) == (1, True)
    assert any("this sweep stops in" in notice for notice in notices)
    store = Store(tmp_path)
    assert store.read("epochs").num_rows > 0
    assert len(store.sweeps()) == 1


def test_a_node_that_joins_is_used(growing_cluster, make_spec, tmp_path):
    growing_cluster.add_node(num_cpus=1)
    spec = make_spec(task="odd_tasks:slow", base={"epochs": 20}, seeds=4)
    most = 0

    def show(progress: Progress) -> None:
        nonlocal most
        most = max(most, progress.running)
        if progress.num_rows and len(growing_cluster.worker_nodes) == 1:
            growing_cluster.add_node(num_cpus=1)

    result = run_sweep(spec, tmp_path, address=growing_cluster.address, show=show)
    assert (result.trained, result.failures) == (8, ())
    assert most == 2


def test_cpus_that_another_job_holds_are_named_and_the_sweep_goes_on_when_they_are_free(
    local_ray, make_spec, tmp_path, monkeypatch
):
    monkeypatch.setattr(watchdog, "QUIET_S", 2.0)
    cpus = ray.cluster_resources()["CPU"]
    command = [sys.executable, "-c", HOG, local_ray.address, str(cpus)]
    notices: list[str] = []

    def show(progress: Progress) -> None:
        if progress.notice and not notices:
            notices.append(progress.notice)
            hog.kill()

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as hog:
        try:
            assert hog.stdout is not None
            assert hog.stdout.readline().strip() == "sits"
            result = run_sweep(make_spec(), tmp_path, show=show)
        finally:
            hog.kill()
    assert result.trained == 4
    (notice,) = notices
    assert "4 trials wait for 1 x (1 CPU)" in notice
    assert f"0 of {cpus:g} CPUs free" in notice
    assert f"(process {hog.pid} on " in notice
