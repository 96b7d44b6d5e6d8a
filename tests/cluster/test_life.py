"""When Ray itself dies under a sweep, one line says so, and the same command goes on."""

import shutil
from pathlib import Path

import pytest

from raysweep.store.files import Store
from tests.support.commands import run, started, wait_for
from tests.support.process_tree import below, command_line, kill, of_folder
from tests.support.shared_ray import start_ray

HERE = Path(__file__).parents[1] / "support"
SWEEP = (
    "{name: mine, task: 'odd_tasks:patient', base: {epochs: 60},"
    " axes: {learning_rate: [0.01, 0.1]}, seeds: 1}"
)
PROGRAMS = {"head": "gcs/gcs_server", "node": "raylet/raylet"}


def of_ray(pids, part):
    """The process of one part of Ray among these."""
    (found,) = [pid for pid in pids if command_line(pid).partition(" ")[0].endswith(PROGRAMS[part])]
    return found


@pytest.fixture
def sweep_file(tmp_path):
    """A sweep of two trials that take seconds."""
    shutil.copy(HERE / "odd_tasks.py", tmp_path)
    (tmp_path / "mine.yaml").write_text(SWEEP)
    return tmp_path / "mine.yaml"


def said_after_the_death_of(part, among, sweep_file, address):
    """The lines of a sweep whose Ray loses a part in its midst."""
    store = Store(sweep_file.parent / "results" / "mine")
    with started("run", sweep_file, "--keep-going", *address, cwd=sweep_file.parent) as process:
        wait_for(lambda: store.read("epochs").num_rows, process)
        kill(of_ray(among(process), part))
        said, _ = process.communicate()
    assert process.returncode == 1, said
    return said.splitlines()


def assert_is_one_line(lines):
    """Hardly anything of Ray's own before it: its C++ may say a line or two at once."""
    assert lines[-1].startswith("raysweep: Ray itself died under the sweep: ")
    assert "The store results/mine is whole, and the same command goes on" in lines[-1]
    assert sum("trials" not in line for line in lines[:-1]) <= 5, lines
    assert not any("Traceback" in line for line in lines)


@pytest.mark.parametrize("part", PROGRAMS)
def test_a_ray_of_the_sweep_that_dies_is_one_line_and_the_next_run_goes_on(
    own_ray, sweep_file, part
):
    lines = said_after_the_death_of(part, lambda process: below(process.pid), sweep_file, own_ray)
    assert_is_one_line(lines)
    done = run("run", sweep_file, "--keep-going", *own_ray, cwd=sweep_file.parent)
    assert done.returncode == 0, done.stderr
    assert "results/mine holds 2 of 2" in done.stdout
    assert Store(sweep_file.parent / "results" / "mine").damaged() == []


@pytest.mark.usefixtures("own_ray")
def test_a_node_that_dies_under_a_sweep_that_is_attached_is_one_line(sweep_file):
    with start_ray() as other:
        folder = other.hold.parent
        address = ["--address", other.address]
        lines = said_after_the_death_of("node", lambda _: of_folder(folder), sweep_file, address)
    assert_is_one_line(lines)
