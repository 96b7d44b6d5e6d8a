"""A sweep that stands still says why, goes on when it can, and ends when it never will."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
from nodes import ray_nodes

from raysweep import watchdog
from raysweep.standing import Progress
from raysweep.store import Store
from raysweep.sweep import run_sweep

HERE = Path(__file__).parent
pytestmark = pytest.mark.ray

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
from raysweep import main, watchdog
watchdog.QUIET_S = watchdog.HOPELESS_S = 2.0
main.main(sys.argv[1:])
"""


@pytest.fixture
def growing_cluster():
    """A cluster of its own, with a head that trains nothing; nodes come and go in the test."""
    with ray_nodes(head_cpus=0) as cluster:
        yield cluster


def test_a_node_that_leaves_for_good_ends_the_sweep_with_its_name_and_a_whole_store(
    growing_cluster, tmp_path
):
    node = growing_cluster.add_node(num_cpus=2)
    shutil.copy(HERE / "odd_tasks.py", tmp_path)
    (tmp_path / "sweep.yaml").write_text(SLOW)
    store = Store(tmp_path / "store")
    # A process of its own, as people have it: what Tune still does in there ends with it.
    command = [sys.executable, "-c", IMPATIENT, "run", "sweep.yaml", "--store", "store"]
    command += ["--address", growing_cluster.address]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        until = time.monotonic() + 120
        while not store.read("epochs").num_rows:
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.2)
        growing_cluster.remove_node(node)
        said, _ = process.communicate(timeout=150)
    assert process.returncode == 1, said
    assert "this sweep stops in 2 s" in said
    *_, last = said.splitlines()
    assert last.startswith("raysweep: 4 trials are left: a trial needs 1 x (2 CPU)")
    assert f"1 of 2 nodes left: {os.uname().nodename}" in last
    assert store.read("epochs").num_rows > 0
    assert len(store.sweeps()) == 1


def test_a_group_that_never_starts_ends_the_sweep_with_the_reason(tmp_path):
    sweep = {
        "name": "none",
        "task": "digits",
        "base": {"epochs": 1},
        "axes": {"learning_rate": [0.01, 0.1]},
        "seeds": 1,
        "resources": {"workers": 2},
    }
    (tmp_path / "sweep.yaml").write_text(json.dumps(sweep))  # JSON is YAML
    done = subprocess.run(
        [sys.executable, "-m", "raysweep.main", "run", "sweep.yaml", "--address", "local"],
        cwd=tmp_path,
        env=os.environ | {"GLOO_SOCKET_IFNAME": "nosuch0"},  # the workers can't meet
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "a group of 2 workers failed 3 times before any trial began: RuntimeError: " in last
    assert last.endswith("Unable to find address for: nosuch0 (while the group was set up)")


def test_a_node_that_joins_is_used(make_spec, tmp_path, monkeypatch):
    hold = tmp_path / "hold"
    hold.touch()
    monkeypatch.setenv("HOLD", str(hold))  # of all nodes that start from here on
    with ray_nodes(head_cpus=0) as cluster:
        cluster.add_node(num_cpus=1)

        def show(progress: Progress) -> None:
            if progress.running == 1 and len(cluster.worker_nodes) == 1:
                cluster.add_node(num_cpus=1)
            if progress.running == 2:
                hold.unlink(missing_ok=True)

        # Long enough by its model's size that each trial is a pack of its own.
        spec = make_spec(task="odd_tasks:held", base={"epochs": 100})
        result = run_sweep(spec, tmp_path / "store", address=cluster.address, show=show)
    assert not hold.exists()  # two trained at the same time
    assert (result.trained, result.failures) == (4, ())


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
