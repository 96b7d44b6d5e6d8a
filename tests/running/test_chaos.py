"""Processes of a sweep are killed at random; nothing is lost, nothing counts twice, and the result
is that of an undisturbed run. `make chaos` does the same for longer, with nodes."""

import os
import subprocess
import sys

import polars as pl

from benchmarks import chaos
from raysweep.store.files import Store, StoreWriter
from tests.support import process_tree, store_watch
from tests.support.commands import wait_for
from tests.support.simulated import Curve, Sweep, spec
from tests.support.stored_rows import epochs


def test_a_sweep_whose_processes_are_killed_ends_as_if_nothing_had_happened(nodes, tmp_path):
    for _ in range(2):
        nodes.add_node()
    kinds = ("driver", "trial", "recorder", "node")
    tally = chaos.run(
        nodes, len(kinds), seed=0, folder=tmp_path, kinds=kinds, sweeps=(1,), epochs=8, pause=3.0
    )
    assert tally.kills == dict.fromkeys(kinds, 1)
    assert not any(tally.wrong.values()), tally.wrong
    assert tally.hangs == 0
    assert tally.rows_seen > 50


def test_the_comparison_finds_what_is_lost_changed_and_doubled(tmp_path):
    small = Sweep(
        spec("s", axes={"learning_rate": [0.1, 0.2]}, epochs=5, seeds=1), num_val=40, num_train=40
    )
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


def test_a_checkpoint_that_is_ahead_of_its_rows_is_found(tmp_path):
    store = Store(tmp_path)
    writer = StoreWriter(store)
    writer.append("epochs", epochs("a", 1, 2))
    (tmp_path / "resume").mkdir()
    (tmp_path / "resume" / "a-1-2.pt").touch()
    seen = store_watch.Watcher(store)
    seen.look()
    writer.flush()
    seen.look()
    assert (seen.looks, seen.ahead) == (2, [])
    (tmp_path / "resume" / "a-1-3.pt").touch()
    seen.look()
    assert seen.ahead == ["a-1-3"]


def test_what_is_killed_hangs_below_the_process_that_holds_the_cluster():
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        wait_for(lambda: process_tree.below(process.pid))
        (child,) = process_tree.below(process.pid)
        wait_for(lambda: "input()" in process_tree.command_line(child))
        assert os.getpid() not in process_tree.below(process.pid)
        process_tree.kill(child)
        assert process.wait() == 0
        assert not process_tree.alive(child)
