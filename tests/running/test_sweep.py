"""Sweeps on a real Ray: equality, isolation, resumption."""

import numpy as np
import polars as pl
import pytest

from raysweep.errors import InputError
from raysweep.running.sweep import run_sweep
from raysweep.store.files import Store
from raysweep.store.lease import Invocation, Lease
from tests.support.interrupted import live_rows, rows_alone


@pytest.mark.usefixtures("local_ray")
def test_a_sweep_trains_what_is_missing_and_every_row_is_that_of_the_trial_alone(
    make_spec, tmp_path
):
    # A rate of 10,000 diverges, which is a result; the rates of a seed share a pack or not.
    changes = {"base": {"epochs": 2, "dropout": 0.3}, "axes": {"learning_rate": [0.01, 0.1, 1e4]}}
    first = run_sweep(make_spec(**changes, seeds=1), tmp_path)
    assert (first.planned, first.trained, first.skipped, first.failures) == (3, 3, 0, ())
    before = live_rows(tmp_path)
    again = run_sweep(make_spec(**changes, seeds=1), tmp_path)
    assert (again.trained, again.skipped) == (0, 3)

    spec = make_spec(**changes, seeds=2)
    more = run_sweep(spec, tmp_path)
    assert (more.planned, more.trained, more.skipped) == (6, 3, 3)
    after = live_rows(tmp_path)
    assert after.filter(pl.col("trial_id").is_in(before["trial_id"].unique())).equals(before)
    assert after.equals(rows_alone(spec), null_equal=True)

    store = Store(tmp_path)
    ends = store.read("trials").to_pylist()
    assert {(row["learning_rate"], row["status"]) for row in ends} == {
        (0.01, "completed"),
        (0.1, "completed"),
        (1e4, "diverged"),
    }
    assert len(ends) == 6
    assert len(store.sweeps()) == 3
    assert len(store.live_files("epochs")) == 1


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    ("workers", "widths"), [(1, [8, 13, 14, 15, 16]), (2, [8, 13, 15, 16])], ids=["one", "group"]
)
def test_a_trial_that_raises_breaks_its_gpu_or_dies_costs_no_other(
    make_spec, tmp_path, workers, widths
):
    # One slot: all trials are one pack, and those that go wrong are not its last.
    spec = make_spec(
        task="odd_tasks:faulty",
        base={"epochs": 2, "batch_size": 20},
        axes={"width": widths},
        seeds=1,
        resources={"workers": workers, "cpus_per_worker": 2 // workers},
        retries=0,
    )
    result = run_sweep(spec, tmp_path)
    assert result.trained == 2
    said = {failure.error: failure.log for failure in result.failures}
    wanted = ["thirteen is unlucky", "died, 1 times", "device-side assert"][: len(widths) - 2]
    assert len(said) == len(wanted)
    for words in wanted:
        (log,) = [log for error, log in said.items() if words in error]
        assert "died" in words or "odd_tasks.py" in (tmp_path / log).read_text()

    ends = Store(tmp_path).read("trials").to_pylist()
    trained = [row["trial_id"] for row in ends if row["status"] == "completed"]
    found, alone = live_rows(tmp_path), rows_alone(spec, trained)
    found = found.filter(pl.col("trial_id").is_in(trained))
    for name in (
        "trial_id",
        "epoch",
        "val_correct",
        "train_eval_correct",
        "flip_to_wrong",
        "val_block_correct",
    ):
        assert found[name].equals(alone[name]), name
    for name in ("train_loss", "val_loss_sum", "val_loss_sumsq", "grad_norm", "param_norm"):
        # float32 sums in another order: of workers, or of threads
        np.testing.assert_allclose(found[name], alone[name], rtol=2e-4, err_msg=name)


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("workers", [1, 2], ids=["one", "group"])
def test_a_trial_that_exits_ends_by_its_own_words_and_costs_no_other(make_spec, tmp_path, workers):
    widths = {1: [8, 11, 12, 14, 15, 16], 2: [8, 11, 15]}[workers]
    spec = make_spec(
        task="odd_tasks:quitting",
        base={"epochs": 2, "batch_size": 20},
        axes={"width": widths},
        seeds=1,
        resources={"workers": workers, "cpus_per_worker": 2 // workers},
    )
    result = run_sweep(spec, tmp_path)
    said = sorted(failure.error.rpartition(" (")[0] for failure in result.failures)
    words = {
        11: "SystemExit: no such configuration",
        12: "SystemExit: 0",
        14: "KeyboardInterrupt: stop",
        15: "Leave: this and that",
    }
    assert said == sorted(words[width] for width in widths if width in words)
    assert result.trained == len(widths) - len(said)
    attempts = Store(tmp_path).read("trials").column("attempt").to_pylist()
    assert set(attempts) == {1}  # none was tried again


def test_what_this_machine_can_never_hold_is_refused_at_once(make_spec, tmp_path):
    spec = make_spec(resources={"workers": 3, "cpus_per_worker": 640})
    with pytest.raises(InputError, match=r"a trial needs 3 x \(640 CPU\).*can never hold"):
        run_sweep(spec, tmp_path / "store", address="local")
    assert not (tmp_path / "store").exists()


def test_a_second_sweep_into_a_store_that_is_written_to_is_refused(make_spec, tmp_path):
    store = Store(tmp_path)
    with (
        Lease.take(store.folder, Invocation.begin(), store.live_record),
        pytest.raises(InputError, match="another sweep is writing"),
    ):
        run_sweep(make_spec(), tmp_path, address="local")
