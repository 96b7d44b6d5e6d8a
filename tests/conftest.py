"""What several tests share: the digits data, and one local Ray for the tests that need it."""

import os
from pathlib import Path

import pytest
import torch

from raysweep.plan import make_plan
from raysweep.spec import SweepSpec
from raysweep.splits import place
from raysweep.store import Store
from raysweep.tasks import find_task, load_data

HERE = Path(__file__).parent
torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """A test that starts Ray is slow."""
    for item in items:
        if item.get_closest_marker("ray"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def digits():
    """(task, data, the data on the CPU)."""
    source = find_task("digits")
    data = load_data(source, None)
    return source.task, data, place(data, torch.device("cpu"))


@pytest.fixture(scope="module")
def local_ray():
    """A Ray that all tests of a file share; sweeps in them use it."""
    from raysweep import cluster

    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    with cluster.connect("local", modules=[HERE / "odd_tasks.py"], groups=True) as connected:
        yield connected


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
