"""Nodes that disagree, folders that are not shared, disks that are full: refused before a start."""

import logging
import shutil
from pathlib import Path

import pytest
import ray

from raysweep.cluster import preflight
from raysweep.errors import InputError
from raysweep.planning.plan import make_plan
from raysweep.running.sweep import run_sweep
from raysweep.store.files import Store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def connected(nodes, tmp_path, monkeypatch):
    """A cluster of a head and a node, and this process connected to it."""
    # Ray puts the folder of the driver on the path of all workers: not this checkout.
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    nodes.add_node()
    ray.init(nodes.address, log_to_driver=False, logging_level=logging.ERROR)
    return nodes


def test_the_estimate_of_the_store_is_an_upper_bound_of_the_right_size(make_spec, tmp_path):
    store = Store(tmp_path)
    plan = make_plan(make_spec(), store)
    rows = 4 * 3
    assert preflight.disk_bytes(plan) == 2 * (rows * 337 + rows * plan.n_val // 8)
    averaged = make_plan(make_spec(probes={"ema_half_life": 1.0}), store)
    assert preflight.disk_bytes(averaged) > 2 * preflight.disk_bytes(plan)
    stopping = make_spec(base={"epochs": 3, "early_stopping": {}}, axes={"width": [16, 512]})
    weights = 64 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10
    saved = preflight.disk_bytes(make_plan(stopping, store)) - preflight.disk_bytes(plan)
    assert saved == 4 * 4 * weights


def test_a_sweep_that_the_disk_can_never_hold_is_refused_with_both_numbers(make_spec, tmp_path):
    spec = make_spec(base={"epochs": 10**6}, seeds=10_000, probes={"correct_bits": True})
    with pytest.raises(InputError, match=r"needs about [\d.]+ TB, and .* has .*B free\. Choose"):
        run_sweep(spec, tmp_path / "store", address="local")
    assert not (tmp_path / "store").exists()


def test_sizes_read_well():
    assert [preflight.size(n) for n in (12, 3456, 12e6, 7.5e15)] == [
        "12 bytes",
        "3.46 kB",
        "12 MB",
        "7.5e+03 TB",
    ]


def test_nodes_that_agree_pass_and_a_folder_that_they_share(connected, tmp_path):
    preflight.check_nodes("raysweep.tasks.digits")
    preflight.check_shared(str(tmp_path / "shared"))
    assert list((tmp_path / "shared").iterdir()) == []
    with pytest.raises(InputError, match=r"'nowhere_task' can't be imported on .*ModuleNotFound"):
        preflight.check_nodes("nowhere_task")
    connected.let_leave(connected.nodes[0])  # is not waited for
    preflight.check_nodes("raysweep")


def test_a_folder_that_each_node_has_for_itself_is_refused(connected, tmp_path):
    # One name, two places: the processes of a node work in the folder that the node started in.
    connected.add_node(cwd=str(tmp_path))
    with pytest.raises(InputError, match=r"folder /proc/self/cwd/here is not shared: .* does"):
        preflight.check_shared("/proc/self/cwd/here")


def test_a_node_with_another_raysweep_is_refused_and_the_store_untouched(
    connected, make_spec, tmp_path
):
    other = tmp_path / "other"
    shutil.copytree(ROOT / "raysweep", other / "raysweep")
    (other / "raysweep-9.9.9.dist-info").mkdir()
    metadata = other / "raysweep-9.9.9.dist-info" / "METADATA"
    metadata.write_text("Metadata-Version: 2.1\nName: raysweep\nVersion: 9.9.9\n")
    connected.add_node(env_vars={"PYTHONPATH": str(other)})
    with pytest.raises(InputError, match=r"raysweep differs: .* has 9\.9\.9 .*Install"):
        run_sweep(make_spec(), tmp_path / "store")
    assert not (tmp_path / "store").exists()
