"""Loops on a real Ray: a kill, a group of workers, a scheduler."""

import importlib.util
from pathlib import Path

import pytest
import yaml

from raysweep.spec import Hyperparameters
from raysweep.store.files import Store
from raysweep.tasks import find_task
from tests.loops.in_process import EXAMPLES, TIMES, train_loop
from tests.support.commands import run

HERE = Path(__file__).parent
KEYS = ("trial_id", "attempt", "start_epoch")


@pytest.fixture
def sweep(shared_ray, tmp_path):
    """Runs a sweep of a loop by the command line. Returns: its store."""

    def run_it(task, folder=HERE, **changes):
        content = {"name": "s", "task": task, "seeds": 1, **changes}
        (folder_of_sweep := tmp_path / "sweep").mkdir()
        module = f"{task.partition(':')[0]}.py"
        (folder_of_sweep / module).write_text((folder / module).read_text())
        (folder_of_sweep / "sweep.yaml").write_text(yaml.safe_dump(content))
        options = ("--store", tmp_path / "store", "--address", shared_ray.address)
        done = run("run", folder_of_sweep / "sweep.yaml", *options, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (tmp_path / "store" / "report.html").exists()
        return Store(tmp_path / "store")

    return run_it


def live(store):
    """Rows by epoch, without what names their trial; and the first epoch of each attempt."""
    rows = sorted(store.read("epochs").to_pylist(), key=lambda row: (row["attempt"], row["epoch"]))
    newest = {row["epoch"]: row for row in rows}
    starts = {row["attempt"]: row["start_epoch"] for row in rows}
    kept = [
        {n: v for n, v in row.items() if n not in (*KEYS, *TIMES) and v is not None}
        for _, row in sorted(newest.items())
    ]
    return kept, starts


def test_a_loop_whose_process_is_killed_goes_on_from_its_checkpoint(sweep):
    store = sweep(
        "loop_tasks:killed",
        base={"epochs": 6, "learning_rate": 0.1},
        checkpoints={"every_epochs": 1},
    )
    found, starts = live(store)
    assert starts == {1: 1, 2: 4}
    loop = find_task("loop_tasks:undisturbed", HERE).task
    rows, _, _ = train_loop(loop, Hyperparameters(epochs=6, learning_rate=0.1))
    for row in rows:
        for name in TIMES:
            row.pop(name, None)
    assert found == [{n: v for n, v in row.items() if v is not None} for row in rows]
    (trial,) = store.read("trials").to_pylist()
    assert (trial["status"], trial["attempt"], trial["epochs_run"]) == ("completed", 2, 6)


def test_two_workers_train_a_loop_together_and_evaluate_every_example_once(sweep):
    store = sweep(
        "loop_tasks:group",
        base={"epochs": 3, "learning_rate": 0.1},
        resources={"workers": 2, "cpus_per_worker": 1},
    )
    rows, _ = live(store)
    assert [row["val_n"] for row in rows] == [797] * 3
    assert rows[-1]["val_correct"] > rows[0]["val_correct"]
    (trial,) = store.read("trials").to_pylist()
    assert (trial["status"], trial["world_size"]) == ("completed", 2)


@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="needs accelerate")
def test_two_workers_are_a_group_of_the_trainer_of_hugging_face(sweep):
    store = sweep(
        "hf_trainer:task",
        EXAMPLES,
        base={"epochs": 2, "width": 16, "depth": 1, "learning_rate": 0.01},
        resources={"workers": 2, "cpus_per_worker": 1},
    )
    rows, _ = live(store)
    assert [row["val_n"] for row in rows] == [401] * 2  # odd: a sampler would repeat one
    assert [row["train_eval_n"] for row in rows] == [1000] * 2
    (trial,) = store.read("trials").to_pylist()
    assert (trial["status"], trial["world_size"]) == ("completed", 2)


def test_a_scheduler_stops_loops_that_do_worse(sweep):
    store = sweep(
        "loop_tasks:undisturbed",
        base={"epochs": 6},
        # Each is worse than those before it, so that some are stopped in whatever order they start.
        axes={"learning_rate": [0.3, 0.03, 0.003, 3e-4, 3e-5]},
        scheduler={"kind": "asha", "grace_period": 1, "reduction_factor": 2},
    )
    ends = {row["learning_rate"]: row["status"] for row in store.read("trials").to_pylist()}
    assert "stopped" in ends.values()
    assert ends[0.3] == "completed"
