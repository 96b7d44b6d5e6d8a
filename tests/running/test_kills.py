"""What dies in mid-sweep, or is told to: the recorder, the driver; nothing acknowledged is lost."""

import os
import pickle
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest
import ray

from raysweep.errors import RaysweepError
from raysweep.planning.plan import make_plan
from raysweep.running import sweep as sweep_module
from raysweep.running.sweep import recorder_arguments, run_sweep
from raysweep.store.files import Store, StoreWriter
from raysweep.store.lease import Invocation, wait_until_free
from raysweep.store.record import SweepRecord
from tests.support.commands import run, started, wait_for
from tests.support.interrupted import live_rows, rows_alone
from tests.support.process_tree import alive, below, command_line, kill, kill_all
from tests.support.store_watch import logged

HERE = Path(__file__).parents[1] / "support"


def kill_recorder(store):
    """Returns: the process id that it had."""
    recorder = ray.get_actor(f"raysweep {Path(store).resolve()}", namespace="raysweep")
    pid: int = ray.get([recorder.__ray_call__.remote(lambda self: os.getpid())])[0]
    kill(pid)
    return pid


def unique(store):
    keys = store.read("epochs", ["trial_id", "attempt", "epoch", "weights_kind"]).to_pylist()
    ends = store.read("trials", ["trial_id", "attempt"]).to_pylist()
    return all(len(t) == len({tuple(r.values()) for r in t}) for t in (keys, ends))


@pytest.mark.usefixtures("local_ray")
def test_a_recorder_that_is_killed_goes_on_without_loss_or_duplicates(make_spec, tmp_path, hold):
    spec = make_spec(task="odd_tasks:narrow", base={"epochs": 6}, axes={"width": [4, 400]})
    store, killed = Store(tmp_path / "killed"), []

    def strike(progress):
        # At a few moments: early, between the ends of trials, and twice in a row.
        if len(killed) < 3 and progress.done >= len(killed):
            killed.append(kill_recorder(store.root))
        if len(killed) == 3:
            hold.unlink(missing_ok=True)

    result = run_sweep(spec, store, show=strike)
    assert len(set(killed)) == 3
    assert (result.trained, result.failures) == (4, ())
    assert unique(store)
    assert live_rows(store.root).equals(rows_alone(spec), null_equal=True)
    assert len(store.sweeps()) == 1
    assert set(store.read("trials")["attempt"].to_pylist()) == {1}  # none was trained again
    assert not list(store.log_folder.iterdir())


def test_a_recorder_is_started_with_little_however_many_trials_there_are(make_spec, tmp_path):
    # Arguments beyond 100 kB go through Ray's object store, where a restart does not find them.
    rates = [0.01 + 1e-4 * number for number in range(400)]
    plan = make_plan(make_spec(axes={"learning_rate": rates}, seeds=50), Store(tmp_path))
    assert len(plan.trials) == 20_000
    everything = recorder_arguments(plan, Store(tmp_path), SweepRecord(), Invocation.begin())
    assert len(pickle.dumps(everything)) < 50_000


@pytest.mark.usefixtures("local_ray")
def test_a_recorder_that_dies_too_often_stops_the_sweep_with_a_whole_store(
    make_spec, tmp_path, monkeypatch, hold
):
    monkeypatch.setattr(sweep_module, "RECORDER_RESTARTS", 1)
    spec, store = make_spec(task="odd_tasks:narrow", axes={"width": [4, 400]}), Store(tmp_path)

    def strike(progress):
        if progress.done:
            kill_recorder(tmp_path)

    with pytest.raises(RaysweepError, match="the recorder's process died 2 times") as stopped:
        run_sweep(spec, store, show=strike)
    assert "\n" not in str(stopped.value)
    wait_until_free(store.folder)  # in this process, which lives
    hold.unlink()
    done = run_sweep(spec, store)
    assert done.trained + done.skipped == 4
    assert unique(store)
    epochs = store.read("epochs", ["trial_id", "attempt", "epoch"]).to_pylist()
    for end in store.read("trials", ["trial_id", "attempt"]).to_pylist():
        assert [row["epoch"] for row in epochs if end.items() <= row.items()] == [1, 2, 3]


@pytest.fixture
def slow_sweep(tmp_path):
    """(the words that run a sweep of six trials, its store); it takes minutes by default."""
    store = Store(tmp_path / "store")

    def make(*, task="slow", epochs=400, workers=1):
        shutil.copy(HERE / "odd_tasks.py", tmp_path)
        (tmp_path / "sweep.yaml").write_text(
            f"name: s\ntask: odd_tasks:{task}\nbase: {{epochs: {epochs}, batch_size: 100}}\n"
            f"axes: {{width: [4, 400, 800]}}\nseeds: 2\nresources: {{workers: {workers}}}\n"
        )
        return ["run", "sweep.yaml", "--keep-going", "--store", "store"], store

    return make


def has_logged(store, table):
    """Whether there are rows on their way into a segment."""
    return lambda: logged(store, table).height


def test_a_killed_driver_loses_nothing_that_was_finished_and_a_second_one_waits_for_its_end(
    shared_ray, slow_sweep, tmp_path, hold
):
    words, store = slow_sweep(task="narrow", epochs=8)
    words += ["--address", shared_ray.address]
    with started(*words, cwd=tmp_path) as process:
        # A trial that ends 10 s after the last one goes into a segment at once.
        wait_for(lambda: has_logged(store, "trials")() or store.read("trials").num_rows, process)
        second = run(*words, cwd=tmp_path)
        assert second.returncode == 2
        assert f"another sweep is writing to store: pid {process.pid} on " in second.stderr
        assert second.stderr.count("\n") == 1
        process.kill()
        process.wait()
        wait_until_free(store.folder)
    finished = set(logged(store, "trials")["trial_id"])
    finished |= set(store.read("trials")["trial_id"].to_pylist())
    assert 0 < len(finished) < 6
    hold.unlink()
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trials = Counter(store.read("trials")["trial_id"].to_pylist())
    assert len(trials) == 6
    assert set(trials.values()) == {1}  # no completed trial was trained twice
    rows = store.read("epochs", ["trial_id", "attempt"]).to_pylist()
    assert {row["attempt"] for row in rows if row["trial_id"] in finished} == {1}

    from analysis import analyze

    epochs = analyze(store.root).epochs
    keys = epochs.select("trial_id", "weights_kind", "epoch")
    assert keys.height == keys.unique().height == 6 * 8


def test_a_killed_driver_takes_the_ray_with_it_that_it_had_started(own_ray, slow_sweep, tmp_path):
    words, store = slow_sweep()
    with started(*words, *own_ray, cwd=tmp_path) as process:
        wait_for(has_logged(store, "epochs"), process)
        left = below(process.pid)
        process.kill()
        process.wait()
    # Two agents of Ray's look for their node for a minute; all else ends by itself.
    agents = [pid for pid in left if command_line(pid).endswith("Agent")]
    wait_for(lambda: not any(map(alive, set(left) - set(agents))))
    kill_all(agents)
    wait_until_free(store.folder)


@pytest.mark.parametrize(("workers", "phase"), [(1, "ray"), (2, "training")])
def test_a_signal_stops_whatever_goes_on_and_leaves_no_process(
    own_ray, slow_sweep, tmp_path, workers, phase
):
    words, store = slow_sweep(workers=workers)
    with started(*words, *own_ray, cwd=tmp_path) as process:
        if phase == "ray":
            wait_for(lambda: len(below(process.pid)) > 1, process)  # the first of Ray's processes
        else:
            wait_for(has_logged(store, "epochs"), process)
        left = below(process.pid)
        number = signal.SIGTERM if phase == "ray" else signal.SIGINT
        process.send_signal(number)
        out, _ = process.communicate()
    assert process.returncode == 128 + number, out
    assert f"stopped by {number.name}" in out
    assert "the same command goes on from there" in out
    assert "Traceback" not in out
    wait_for(lambda: not any(map(alive, left)))
    wait_until_free(store.folder)
    if phase == "training":
        StoreWriter(store)  # takes in what there was no time to put into a segment
        assert store.read("epochs").num_rows > 0
