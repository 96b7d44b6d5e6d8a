"""Processes of a sweep are killed at random; nothing is lost, nothing counts twice, and the result
is that of an undisturbed run. `make chaos` does the same for longer, with nodes."""

import os
import subprocess
import sys
import time

import chaos
import polars as pl
import private_cluster
import pytest
import store_watch
from simulated import Curve, Sweep, spec


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_a_sweep_whose_processes_are_killed_ends_as_if_nothing_had_happened(tmp_path):
    tally = chaos.run(
        3, seed=0, folder=tmp_path, kinds=("driver", "trial", "recorder"), sweeps=(1,), pause=4.0
    )
    assert tally.kills == {"driver": 1, "trial": 1, "recorder": 1}
    assert not any(tally.wrong.values()), tally.wrong
    assert tally.hangs == 0
    assert tally.rows_seen > 100


def test_the_comparison_finds_what_is_lost_changed_and_doubled(tmp_path):
    small = Sweep(spec("s", axes={"learning_rate": [0.1, 0.2]}, epochs=5, seeds=1), num_val=40,
                  num_train=40)  # fmt: skip
    whole = small.write(tmp_path / "whole", lambda trial: Curve())
    again = small.write(tmp_path / "again", lambda trial: Curve())
    other = Sweep(small.spec, num_val=40, num_train=40, rng_seed=1)
    changed = other.write(tmp_path / "changed", lambda trial: Curve())
    less = small.write(tmp_path / "less", lambda trial: Curve(), missing=[1])
    seen = store_watch.Watcher(whole)
    seen.look()
    assert not any(store_watch.differences(again, whole, seen).values())
    lost = store_watch.differences(less, whole, seen)
    assert (lost["rows lost"], lost["finished trials lost"]) == (5, 1)
    assert lost["rows unlike the undisturbed run's"] == 1
    assert store_watch.differences(changed, whole, seen)["rows changed"] > 0
    rows = store_watch.epochs_in(whole)
    doubled = pl.concat([rows, rows])
    assert store_watch.live(doubled).select(store_watch.KEY).is_duplicated().all()
    later = rows.with_columns(attempt=pl.lit(2, pl.Int32), start_epoch=pl.lit(3, pl.Int32))
    both = store_watch.live(pl.concat([rows, later.filter(pl.col("epoch") >= 3)]))
    assert both.height == rows.height
    assert both.filter(pl.col("epoch") >= 3)["attempt"].unique().to_list() == [2]


def test_what_is_killed_hangs_below_the_process_that_holds_the_cluster():
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not private_cluster.below(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        (child,) = private_cluster.below(process.pid)
        assert "input()" in private_cluster.command_line(child)
        assert os.getpid() not in private_cluster.below(process.pid)
        private_cluster.kill(child)
        assert process.wait(60) == 0
        assert not private_cluster.alive(child)
