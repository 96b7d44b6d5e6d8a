"""A task's files reach the processes that train, or the sweep ends in one line."""

import pytest

from raysweep.errors import RaysweepError
from raysweep.running.sweep import run_sweep
from raysweep.spec import SweepSpec
from tests.support.commands import run

LAZY = """
from raysweep.tasks import Task
from raysweep.tasks.digits import load

def build(trial, data):
    from helper_of_mine.nets import make
    return make(trial.width)

task = Task(load, build)
"""
NETS = "from torch import nn\ndef make(width): return nn.Linear(64, 10)\n"
# It can be read by the process that wrote it alone.
UNREADABLE = """
import os
from raysweep.tasks import Task
from raysweep.tasks.digits import build, load

class Builder:
    def __call__(self, trial, data):
        return build(trial, data)
    def __getstate__(self):
        return {"pid": os.getpid()}
    def __setstate__(self, state):
        raise ValueError(f"only process {state['pid']}\\nmay read this")

task = Task(load, Builder())
"""
SWEEP = "{name: mine, task: '%s:task', base: {epochs: 2}, axes: {learning_rate: [0.1, 0.2]}}"


@pytest.fixture
def project(tmp_path):
    """Tasks beside their sweep files, in a folder below the one that one stands in."""
    folder = tmp_path / "my_sweep"
    (folder / "helper_of_mine").mkdir(parents=True)  # a namespace package
    (folder / "helper_of_mine" / "nets.py").write_text(NETS)
    (folder / "lazy_task.py").write_text(LAZY)
    (folder / "unreadable_task.py").write_text(UNREADABLE)
    for name in ("lazy_task", "unreadable_task"):
        (folder / f"{name}.yaml").write_text(SWEEP % name)
    return tmp_path


def test_a_helper_that_build_imports_is_there_on_one_node(shared_ray, project):
    done = run(
        *("run", "my_sweep/lazy_task.yaml", "--address", shared_ray.address, "--seeds", "1"),
        cwd=project,
    )
    assert done.returncode == 0, done.stderr
    assert "trained 2 trials" in done.stdout


def test_a_task_that_can_not_be_read_ends_the_sweep_after_three_tries_in_one_line(
    shared_ray, project
):
    done = run(
        *("run", "my_sweep/unreadable_task.yaml", "--keep-going", "--seeds", "1"),
        *("--address", shared_ray.address),
        cwd=project,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "the task can't be read where it is to train: ValueError: only process" in done.stderr
    assert "3 times" in done.stderr


def test_a_helper_reaches_several_nodes_that_were_started_elsewhere(
    nodes, project, tmp_path, monkeypatch
):
    (tmp_path / "elsewhere").mkdir()
    for _ in range(2):
        nodes.add_node(cwd=str(tmp_path / "elsewhere"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    spec = SweepSpec.from_mapping(
        {
            "name": "mine",
            "task": "lazy_task:task",
            "base": {"epochs": 2},
            "seeds": 1,
            "resources": {"workers": 2},
        },
        folder=project / "my_sweep",
    )
    result = run_sweep(spec, tmp_path / "store", address=nodes.address)
    assert (result.trained, result.failures) == (1, ())


@pytest.mark.usefixtures("local_ray")
def test_a_task_that_a_connected_ray_does_not_have_is_refused_by_name(project, tmp_path):
    spec = SweepSpec.from_mapping(
        {"name": "mine", "task": "lazy_task:task", "base": {"epochs": 2}, "seeds": 1},
        folder=project / "my_sweep",
    )
    with pytest.raises(RaysweepError, match="task module 'lazy_task' can't be imported on"):
        run_sweep(spec, tmp_path / "store")
    assert not (tmp_path / "store").exists()
