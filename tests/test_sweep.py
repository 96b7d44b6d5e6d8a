"""Sweeps on a real local Ray: equality, isolation, resumption, clear refusals."""

import threading

import numpy as np
import polars as pl
import pytest

from raysweep.errors import InputError
from raysweep.grid import points
from raysweep.packs import plan as plan_packs
from raysweep.store import Store
from raysweep.sweep import run_sweep

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

TIMES = ["wall_s", "train_s"]


def rows(store, trial_ids=None):
    table = pl.DataFrame(store.read("epochs")).drop(*TIMES, "attempt")
    if trial_ids is not None:
        table = table.filter(pl.col("trial_id").is_in(list(trial_ids)))
    return table.sort("trial_id", "epoch")


def test_a_sweep_trains_every_trial_and_running_it_again_trains_none(make_spec, tmp_path):
    spec = make_spec()
    first = run_sweep(spec, tmp_path)
    assert (first.planned, first.trained, first.skipped, first.failures) == (4, 4, 0, ())
    again = run_sweep(spec, tmp_path)
    assert (again.trained, again.skipped) == (0, 4)
    store = Store(tmp_path)
    assert rows(store).height == 4 * 3
    assert len(store.sweeps()) == 2
    assert len(store.live_files("epochs")) == 1


def test_one_more_seed_trains_only_the_new_trials(make_spec, tmp_path):
    run_sweep(make_spec(), tmp_path)
    before = rows(Store(tmp_path))
    more = run_sweep(make_spec(seeds=3), tmp_path)
    assert (more.planned, more.trained, more.skipped) == (6, 2, 4)
    after = rows(Store(tmp_path))
    assert after.filter(pl.col("trial_id").is_in(before["trial_id"].unique())).equals(before)
    keys = after.select("trial_id", "weights_kind", "epoch")
    assert keys.height == keys.unique().height == 6 * 3


def test_rows_are_bit_equal_alone_first_or_last_in_a_pack(make_spec, expand_digits, tmp_path):
    spec = make_spec(base={"epochs": 2, "dropout": 0.3}, seeds=1)
    both = run_sweep(spec, tmp_path / "both")
    assert both.trained == 2
    for rate in spec.axes["learning_rate"]:
        alone = make_spec(
            base={"epochs": 2, "dropout": 0.3}, axes={"learning_rate": [rate]}, seeds=1
        )
        run_sweep(alone, tmp_path / f"{rate}")
        found = rows(Store(tmp_path / f"{rate}"))
        assert found.equals(rows(Store(tmp_path / "both"), found["trial_id"]))
    assert len(list(points(spec))) == 2
    packs = plan_packs(expand_digits(spec), lambda trial: 1.0, slots=1, start_s=1.0)
    assert list(map(len, packs)) == [2]  # with one slot they do share a pack


def test_two_workers_of_ray_train_equal_one(make_spec, tmp_path):
    changes = {"task": "odd_tasks:odd", "axes": {"batch_size": [32, 20]}, "seeds": 1}
    changes["base"] = {"epochs": 3, "learning_rate": 0.1, "momentum": 0.9}
    one = run_sweep(make_spec(**changes), tmp_path / "1")
    two = run_sweep(make_spec(**changes, resources={"workers": 2}), tmp_path / "2")
    assert one.trained == two.trained == 2
    a, b = rows(one.store), rows(two.store)
    assert a["trial_id"].equals(b["trial_id"])
    for name in ("val_correct", "train_eval_correct", "flip_to_wrong", "val_block_correct"):
        assert a[name].equals(b[name]), name
    for name in ("train_loss", "val_loss_sum", "val_loss_sumsq", "grad_norm", "param_norm"):
        # float32 sums in another order
        np.testing.assert_allclose(a[name], b[name], rtol=2e-4, err_msg=name)


def run_with_one_bad_width(make_spec, task, workers, root):
    """Three trials of a task that goes wrong at width 13."""
    spec = make_spec(
        task=f"odd_tasks:{task}",
        base={"epochs": 2},
        axes={"width": [8, 13, 16]},
        seeds=1,
        resources={"workers": workers},
    )
    result = run_sweep(spec, root)
    assert (result.trained, len(result.failures)) == (2, 1)
    return result


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_that_raises_fails_that_trial_only(make_spec, tmp_path, workers):
    result = run_with_one_bad_width(make_spec, "unlucky", workers, tmp_path)
    (failure,) = result.failures
    assert "ValueError: thirteen is unlucky" in failure.error
    assert "odd_tasks.py" in (tmp_path / failure.log).read_text()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_trial_that_kills_its_process_is_charged_alone(make_spec, tmp_path, workers):
    result = run_with_one_bad_width(make_spec, "deadly", workers, tmp_path)
    assert "died, 3 times" in result.failures[0].error


def test_a_gpu_that_a_trial_broke_costs_no_other_trial(make_spec, tmp_path):
    # One slot: all trials are one pack, and the one that breaks the GPU is not its last.
    spec = make_spec(
        task="odd_tasks:shattering",
        base={"epochs": 1},
        axes={"width": [8, 13, 16, 4]},
        seeds=1,
        resources={"cpus_per_worker": 2},
    )
    result = run_sweep(spec, tmp_path)
    assert result.trained == 3
    assert ["device-side assert" in failure.error for failure in result.failures] == [True]


def test_a_diverging_learning_rate_is_a_result_and_the_sweep_goes_on(make_spec, tmp_path):
    result = run_sweep(make_spec(axes={"learning_rate": [0.1, 1e4]}, seeds=1), tmp_path)
    assert (result.trained, result.failures) == (2, ())
    table = Store(tmp_path).read("trials").to_pylist()
    status = {row["learning_rate"]: row["status"] for row in table}
    assert status == {0.1: "completed", 1e4: "diverged"}


def test_a_scan_beside_a_sweep_never_fails(make_spec, tmp_path):
    store, stop, scans, errors = Store(tmp_path), threading.Event(), [], []

    def scan():
        while not stop.is_set():
            try:
                scans.append(store.read("epochs").num_rows)
            except Exception as error:
                errors.append(error)

    scanner = threading.Thread(target=scan)
    scanner.start()
    for seeds in (1, 2):
        run_sweep(make_spec(seeds=seeds), store)
    stop.set()
    scanner.join()
    assert errors == []
    assert scans[-1] == 2 * 2 * 3
    assert scans == sorted(scans)  # rows never disappear
    assert len(scans) > 10


def test_what_the_cluster_can_never_hold_is_refused_at_once(make_spec, tmp_path):
    spec = make_spec(resources={"workers": 3, "cpus_per_worker": 64})
    with pytest.raises(InputError, match=r"a trial needs 3 x \(64 CPU\).*can never hold"):
        run_sweep(spec, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_second_sweep_into_a_store_that_is_written_to_is_refused(make_spec, tmp_path):
    spec = make_spec(task="odd_tasks:slow", base={"epochs": 10}, seeds=1)
    started, results = threading.Event(), []

    def first():
        results.append(run_sweep(spec, tmp_path, show=lambda progress: started.set()))

    thread = threading.Thread(target=first)
    thread.start()
    assert started.wait(60)
    with pytest.raises(InputError, match="another sweep is writing"):
        run_sweep(make_spec(), tmp_path)
    thread.join()
    assert results[0].trained == 2
