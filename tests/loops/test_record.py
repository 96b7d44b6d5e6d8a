"""Runs outside of a sweep are trials of a store: refused, gone on with, analysed as those are."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import raysweep
from analysis import analyze, write_report
from raysweep.errors import InputError
from raysweep.spec import Checkpoints
from raysweep.store.done import done_trials
from raysweep.store.files import Store, StoreWriter
from raysweep.store.record import SweepRecord
from raysweep.store.schema import Table
from tests.loops.in_process import TIMES

N = 60


def train(folder, *, epochs=5, stop=None, **about):
    """A run of noise that gets better; `stop(epoch)` may end it. Returns: the first epoch."""
    every = Checkpoints(every_epochs=1, every_minutes=None)
    about = {"num_val": N, "num_train": 100, "seed": 0, "checkpoints": every, **about}
    with raysweep.record(folder, **about) as report:
        first, state = report.epoch + 1, report.state or {"drawn": 0.0}
        for epoch in report.epochs(epochs):
            drawn = np.random.rand(N)  # noqa: NPY002 - the generators that epochs() seeds
            state = {"drawn": state["drawn"] + float(drawn.sum())}
            report(
                correct=drawn < 0.5 + 0.05 * epoch,
                losses=drawn,
                train_accuracy=0.9,
                lr=0.1,
                checkpoint=state,
            )
            if stop:
                stop(epoch)
    return first


def rows(folder, table: Table = "epochs"):
    found = Store(folder).read(table).to_pylist()
    found.sort(key=lambda row: (row["trial_id"], row.get("epoch") or 0))
    return [
        {name: v for name, v in row.items() if name not in (*TIMES, "attempt")} for row in found
    ]


def test_runs_of_several_settings_and_seeds_are_one_store_with_a_report(tmp_path):
    for rate in (0.3, 0.1):
        for seed in range(2):
            train(tmp_path / "mine", epochs=12, learning_rate=rate, optimizer="lion", seed=seed)
    found = analyze(tmp_path / "mine")
    (axis,) = found.axes
    assert (axis.name, axis.levels) == ("learning_rate", (0.1, 0.3))
    assert found.trials["outcome"].to_list() == ["completed"] * 4
    assert found.configurations["noise"].null_count() == 0
    assert found.quality["check"].to_list() == [
        *("trials planned", "trials completed", "trials without loss at the fitted temperature")
    ]
    assert found.quality["detail"][2].endswith("report() takes it with outputs= and targets=")
    assert write_report(found, tmp_path / "report.html").stat().st_size > 0
    trials = rows(tmp_path / "mine", "trials")
    assert {trial["optimizer"] for trial in trials} == {"lion"}
    assert {trial["batch_size"] for trial in trials} == {None}  # nobody has said it


def test_settings_of_any_name_are_kept_and_those_that_come_later_are_none_before(tmp_path):
    train(tmp_path / "mine", learning_rate=1, early_stopping=3)
    train(tmp_path / "mine", learning_rate=1, early_stopping=3, heads=np.int64(4))
    first, second = Store(tmp_path / "mine").sweeps()[-1].configurations.values()
    assert first == {"learning_rate": 1, "early_stopping": 3, "heads": None}
    assert second == {**first, "heads": 4}
    own = {row["own_fields"] for row in rows(tmp_path / "mine", "trials")}
    assert own == {json.dumps({"early_stopping": 3}), json.dumps({"early_stopping": 3, "heads": 4})}


def test_the_same_run_again_is_refused_and_another_seed_is_not(tmp_path):
    train(tmp_path / "mine", learning_rate=0.1)
    with pytest.raises(InputError, match=r"holds this run already \(learning_rate=0.1, seed=0\)"):
        train(tmp_path / "mine", learning_rate=0.1)
    assert train(tmp_path / "mine", learning_rate=0.1, seed=1) == 1


def test_a_run_that_is_killed_goes_on_from_its_checkpoint_as_if_nothing_had_happened(tmp_path):
    train(tmp_path / "whole", learning_rate=0.1)
    killed = f"""
import os, signal
from tests.loops.test_record import train
train({str(tmp_path / "killed")!r}, learning_rate=0.1,
      stop=lambda epoch: os.kill(os.getpid(), signal.SIGKILL) if epoch == 3 else None)
"""
    assert subprocess.run([sys.executable, "-c", killed]).returncode == -signal.SIGKILL
    assert not done_trials(Store(tmp_path / "killed"))
    assert train(tmp_path / "killed", learning_rate=0.1) == 4
    for row in (found := rows(tmp_path / "killed")):
        assert row.pop("start_epoch") == (1 if row["epoch"] < 4 else 4)
    expected = rows(tmp_path / "whole")
    for row in expected:
        row.pop("start_epoch")
    assert found == expected


def test_a_run_that_a_person_stops_goes_on_and_one_that_fails_is_named_and_tried_again(tmp_path):
    def stop(error):
        def at(epoch):
            if epoch == 2:
                raise error

        return at

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "mine", stop=stop(KeyboardInterrupt()))
    assert rows(tmp_path / "mine", "trials") == []
    with pytest.raises(ValueError, match="lost"):
        train(tmp_path / "mine", stop=lambda epoch: stop(ValueError("lost"))(epoch - 2))
    (failed,) = rows(tmp_path / "mine", "trials")
    assert (failed["status"], failed["error"]) == ("failed", "ValueError: lost")
    assert train(tmp_path / "mine") == 1
    assert len(done_trials(Store(tmp_path / "mine"))) == 1


def test_a_run_that_diverges_is_a_result_and_goes_on_as_its_script_says(tmp_path):
    with raysweep.record(tmp_path / "mine", num_val=2) as report:
        for loss in (1.0, float("nan"), 1.0):
            report(val_accuracy=0.5, val_loss=loss)
    (trial,) = rows(tmp_path / "mine", "trials")
    assert (trial["status"], trial["epochs_run"]) == ("diverged", 3)


def test_only_the_first_of_several_processes_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with raysweep.record(tmp_path / "mine", num_val=2) as report:
        report(val_accuracy=0.5)
    assert (report.rank, report.world_size) == (1, 2)
    assert not (tmp_path / "mine").exists()


def test_what_can_not_be_recorded_is_refused_before_it_costs_training(tmp_path):
    train(tmp_path / "mine")
    with pytest.raises(
        InputError, match=r"another validation set, of 60 examples; here num_val = 2"
    ):
        train(tmp_path / "mine", num_val=2)
    with pytest.raises(InputError, match="another validation set"):
        train(tmp_path / "mine", digest="other")
    writer = StoreWriter(Store(tmp_path / "sweep"))
    writer.add_sweep(SweepRecord(spec={"name": "theirs"}))
    writer.lease.end()
    with pytest.raises(InputError, match="holds the sweep 'theirs'"):
        train(tmp_path / "sweep")
    for about, message in [
        ({"heads": [1]}, r"heads = \[1\]: a setting is"),
        ({"learning_rate": float("nan")}, "learning_rate = nan"),
        ({"seed": -1}, "seed = -1"),
        ({"seed": True}, "seed = True"),
        ({"num_val": 0}, "num_val = 0"),
    ]:
        with pytest.raises(InputError, match=message):
            train(tmp_path / "other", **about)
    with raysweep.record(tmp_path / "mine", num_val=N, num_train=100, seed=1) as report:
        report(val_accuracy=0.5)
        with pytest.raises(InputError, match="another sweep is writing"):
            train(tmp_path / "mine", seed=2)
    with (
        pytest.raises(InputError, match="without a report"),
        raysweep.record(tmp_path / "mine", num_val=N, num_train=100, seed=3),
    ):
        pass


def test_recording_needs_no_ray():
    code = "import sys, raysweep; raysweep.record; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0
