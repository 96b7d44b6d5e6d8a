"""What dies in mid-sweep, or is told to: the recorder, the driver; nothing acknowledged is lost."""

import contextlib
import gc
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import ray
from test_cli import RAYSWEEP, started, wait_for
from test_sweep import rows

from raysweep import sweep as sweep_module
from raysweep.errors import RaysweepError
from raysweep.lease import wait_until_free
from raysweep.store import Store
from raysweep.sweep import run_sweep

HERE = Path(__file__).parent
SLOW = "{{name: s, task: 'odd_tasks:slow', base: {{epochs: 400}}, seeds: 6, resources: {}}}"

pytestmark = pytest.mark.ray


def kill_recorder(store):
    """Returns: the process id that it had."""
    recorder = ray.get_actor(f"raysweep {Path(store).resolve()}", namespace="raysweep")
    pid: int = ray.get([recorder.__ray_call__.remote(lambda self: os.getpid())])[0]
    os.kill(pid, signal.SIGKILL)
    return pid


def unique(store):
    keys = store.read("epochs", ["trial_id", "attempt", "epoch", "weights_kind"]).to_pylist()
    ends = store.read("trials", ["trial_id", "attempt"]).to_pylist()
    return all(len(t) == len({tuple(r.values()) for r in t}) for t in (keys, ends))


@pytest.mark.usefixtures("local_ray")
def test_a_recorder_that_is_killed_goes_on_without_loss_or_duplicates(make_spec, tmp_path):
    spec = make_spec(task="odd_tasks:slow", base={"epochs": 12}, axes={"width": [8, 16]})
    undisturbed = run_sweep(spec, tmp_path / "whole")
    store, killed = Store(tmp_path / "killed"), []

    def kill(progress):
        # At a few moments: early, between the ends of trials, and twice in a row.
        if len(killed) < 3 and progress.done >= len(killed):
            killed.append(kill_recorder(store.root))

    result = run_sweep(spec, store, show=kill)
    assert len(set(killed)) == 3
    assert (result.trained, result.failures) == (4, ())
    assert unique(store)
    assert rows(store).equals(rows(undisturbed.store))
    assert len(store.sweeps()) == 1
    assert set(store.read("trials")["attempt"].to_pylist()) == {1}  # none was trained again
    assert not list(store.wal_folder.iterdir())


@pytest.mark.usefixtures("local_ray")
def test_a_recorder_of_many_trials_is_started_again_too(make_spec, tmp_path, capfd):
    # Arguments beyond 100 kB go through Ray's object store, where a restart must find them.
    rates = [0.01 + 1e-4 * number for number in range(400)]
    spec = make_spec(base={"epochs": 1}, axes={"learning_rate": rates}, seeds=2)
    store, killed = Store(tmp_path), []

    def kill(progress):
        if not killed and progress.done >= 10:
            gc.collect()
            killed.append(kill_recorder(store.root))

    result = run_sweep(spec, store, show=kill)
    assert len(killed) == 1
    assert (result.trained, result.failures) == (800, ())
    assert unique(store)
    assert "constructor arguments" not in capfd.readouterr().err


@pytest.mark.usefixtures("local_ray")
def test_a_recorder_that_dies_too_often_stops_the_sweep_with_a_whole_store(
    make_spec, tmp_path, monkeypatch
):
    monkeypatch.setattr(sweep_module, "RECORDER_RESTARTS", 1)
    spec, store = make_spec(task="odd_tasks:slow", seeds=3), Store(tmp_path)

    def kill(progress):
        if progress.done:
            kill_recorder(tmp_path)

    with pytest.raises(RaysweepError, match="the recorder's process died 2 times") as stopped:
        run_sweep(spec, store, show=kill)
    assert "\n" not in str(stopped.value)
    wait_until_free(store.folder)  # in this process, which lives
    done = run_sweep(spec, store)
    assert done.trained + done.skipped == 6
    assert unique(store)
    epochs = store.read("epochs", ["trial_id", "attempt", "epoch"]).to_pylist()
    for end in store.read("trials", ["trial_id", "attempt"]).to_pylist():
        assert [row["epoch"] for row in epochs if end.items() <= row.items()] == [1, 2, 3]


def children_of(pid):
    """All processes below one, by their pids."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [pid]
    for parent in found:
        found += [child for child, of in parents.items() if of == parent]
    return found[1:]


def named(pid):
    """A process's title; empty where it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0 ")
    return ""


def gone(pids):
    def lives(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False

    return not any(map(lives, pids))


@pytest.fixture
def slow_sweep(tmp_path):
    """(command, store) of a sweep of minutes; a number of workers per trial."""

    def make(workers=1):
        shutil.copy(HERE / "odd_tasks.py", tmp_path)
        file = tmp_path / "sweep.yaml"
        file.write_text(SLOW.format(f"{{workers: {workers}}}"))
        return [RAYSWEEP, "run", file, "--address", "local"], Store(tmp_path / "results" / "s")

    return make


def test_a_second_driver_is_refused_at_once_and_a_killed_ones_store_is_free(slow_sweep, tmp_path):
    command, store = slow_sweep()
    with started(*command, cwd=tmp_path) as process:
        wait_for(
            lambda: store.wal_folder.is_dir() and list(store.wal_folder.glob("*-epochs.*")), 300
        )
        began = time.monotonic()
        second = subprocess.run(
            list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert second.returncode == 2
        assert time.monotonic() - began < 10
        assert f"another sweep is writing to results/s: pid {process.pid} on " in second.stderr
        assert second.stderr.count("\n") == 1
        below = children_of(process.pid)
        process.kill()
        process.wait()
        waited = time.monotonic()
        wait_until_free(store.folder)
        assert time.monotonic() - waited < 20
    # Two agents of Ray's look for their node for a minute; all else ends by itself.
    agents = [pid for pid in below if named(pid).endswith("Agent")]
    wait_for(lambda: gone(set(below) - set(agents)), 30)
    for pid in agents:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(("workers", "phase"), [(1, "ray"), (2, "packs"), (2, "training")])
def test_a_signal_stops_in_time_whatever_goes_on_and_leaves_no_process(
    slow_sweep, tmp_path, workers, phase
):
    command, store = slow_sweep(workers)
    with started(*command, cwd=tmp_path) as process:
        if phase == "ray":
            wait_for(lambda: len(children_of(process.pid)) > 1, 300)  # the first of Ray's processes
        else:
            pattern = "*.journal" if phase == "packs" else "*-epochs.arrows"
            wait_for(
                lambda: store.wal_folder.is_dir() and list(store.wal_folder.glob(pattern)), 300
            )
        below = children_of(process.pid)
        began = time.monotonic()
        process.send_signal(signal.SIGINT if phase == "packs" else signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
        seconds = time.monotonic() - began
    name = "SIGINT" if phase == "packs" else "SIGTERM"
    assert process.returncode == 128 + getattr(signal, name), out
    assert f"stopped by {name}" in out
    assert "Traceback" not in out
    assert seconds < 10
    wait_for(lambda: gone(below))
    wait_until_free(store.folder)
