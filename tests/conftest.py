"""What several tests share: their tiers, the digits data, and one Ray for all that need one.

A test's tier is what it needs. It follows from its fixtures, and is its marker:

    pure        nothing but Python and torch
    page        a browser
    simulation  many simulated curves
    ray         the Ray that all tests of this tier share
    cluster     a Ray of its own, because it starts, stops or kills one
"""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from raysweep.planning.plan import make_plan
from raysweep.spec import SweepSpec
from raysweep.store.files import Store
from raysweep.tasks import find_task, load_data
from raysweep.training.splits import place
from tests.support.private_cluster import private_cluster
from tests.support.shared_ray import start_ray

HERE = Path(__file__).parent / "support"
TIERS = ("pure", "page", "simulation", "ray", "cluster")
TIER_OF = {
    "browser": "page",
    "simulation": "simulation",
    "shared_ray": "ray",
    "own_ray": "cluster",
}
torch.set_num_threads(1)
# In the background of a shell or under `nohup` these are ignored, and every process that a test
# starts would ignore them, too. A handler goes when another program is executed.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda number, frame: None)
# Ray's processes that train are nice by default: beside a busy program they would hardly get on.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - as Ray spells it


def tier(item):
    """The last tier that one of its fixtures asks for."""
    asked = {TIER_OF.get(name, "pure") for name in item.fixturenames}
    return max(asked | {"pure"}, key=TIERS.index)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark every test with its tier. A process has one connection to a Ray, so the tests that
    share theirs come before those that make their own."""
    for item in items:
        mark = tier(item)
        item.add_marker(mark)
        if mark in ("ray", "cluster"):
            item.add_marker(pytest.mark.xdist_group(mark))
    items.sort(key=lambda item: TIERS.index(tier(item)))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter):
    """The last lines name what passed only when it was run once more."""
    stats = terminalreporter.stats
    again = {report.nodeid for report in stats.get("rerun", [])}
    for name in sorted(again & {report.nodeid for report in stats.get("passed", [])}):
        terminalreporter.write_line(f"flaky: {name} failed, and passed when it was run once more")


@pytest.fixture(autouse=True)
def no_ray_by_accident(request):
    """Only the tiers that say so use a Ray."""
    yield
    if tier(request.node) not in ("ray", "cluster"):
        import ray

        assert not ray.is_initialized(), "this test connects to a Ray: use shared_ray or own_ray"


@pytest.fixture
def simulation():
    """Makes seeded generators, for tests that simulate many curves."""
    return np.random.default_rng


@pytest.fixture(scope="session")
def digits():
    """(task, data, the data on the CPU)."""
    source = find_task("digits")
    data = load_data(source, None)
    return source.task, data, place(data, torch.device("cpu"))


@pytest.fixture(scope="session")
def shared_ray():
    """The Ray of tier ray: a head with two CPUs, as `ray start` leaves it. Commands attach to its
    address."""
    with start_ray() as started:
        yield started


@pytest.fixture
def hold(shared_ray):
    """While there is this file, odd tasks that look for it wait in the shared Ray."""
    shared_ray.hold.touch()
    yield shared_ray.hold
    shared_ray.hold.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def local_ray(shared_ray):
    """This process, connected to the shared Ray; sweeps in it use the connection."""
    from raysweep.cluster import connect

    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    modules = [HERE / "odd_tasks.py"]
    with connect.connect(shared_ray.address, modules, groups=True) as connected:
        yield connected


@pytest.fixture
def own_ray():
    """For a test that starts a Ray of its own: ends this process's connection to the shared one.

    What it is: the words that make a command start one.
    """
    import ray

    ray.shutdown()
    yield ["--address", "local"]
    ray.shutdown()


@pytest.fixture(scope="session")
def _a_cluster(tmp_path_factory):
    with private_cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture
def nodes(own_ray, _a_cluster):
    """A cluster of a head without CPUs, to which a test adds nodes, and takes them away. All
    tests of tier cluster share the head; the nodes of a test go with it."""
    yield _a_cluster
    for node in list(_a_cluster.nodes):
        _a_cluster.remove_node(node)


@pytest.fixture
def make_spec():
    """A small sweep of digits, with changes."""

    def make(**changes):
        content = {
            "name": "small",
            "task": "digits",
            "base": {"epochs": 3},
            "axes": {"learning_rate": [0.01, 0.1]},
            "seeds": 2,
        }
        return SweepSpec.from_mapping(content | changes, folder=HERE)

    return make


@pytest.fixture
def expand_digits(tmp_path):
    """The trials of a sweep of digits."""

    def expand(spec):
        return make_plan(spec, Store(tmp_path / "none")).trials

    return expand
