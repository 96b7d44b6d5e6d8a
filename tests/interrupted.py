"""What the tests of kills share: the processes that train, and how a sweep came through."""

import os
import signal
import threading
import time
from typing import Any

import polars as pl
import ray
from ray.util.state import list_actors

from raysweep.store import Store
from raysweep.sweep import run_sweep

TIMES = ("wall_s", "train_s")


def live_rows(store):
    """Live epoch rows without times and attempts."""
    from analysis.frames import live_epochs

    rows = live_epochs(pl.DataFrame(Store(store).read("epochs")))
    return rows.drop(*TIMES, "attempt", "start_epoch").sort("trial_id", "weights_kind", "epoch")


def attempts(store):
    """(trial_id, attempt, start_epoch) of whatever left a row, sorted."""
    rows = pl.DataFrame(Store(store).read("epochs"))
    return rows.select("trial_id", "attempt", "start_epoch").unique().sort(pl.all()).rows()


def trainers(class_name):
    """(pid, node) of the living actors of a class."""
    actors: list[Any] = list_actors(
        address=ray.get_runtime_context().gcs_address, filters=[("state", "=", "ALIVE")]
    )
    return [(a.pid, a.node_id) for a in actors if a.class_name.endswith(class_name)]


def run_disturbed(spec, store, disturb, *, after_epoch=3, num_trials=1):
    """The result of a sweep that is disturbed once, when that many trials have a checkpoint of
    that epoch or a later one."""
    done, results, errors = threading.Event(), [], []

    def sweep():
        try:
            results.append(run_sweep(spec, store))
        except BaseException as error:
            errors.append(error)
        done.set()

    thread = threading.Thread(target=sweep)
    thread.start()
    while not done.is_set():
        names = [path.stem.split("-") for path in (store / "resume").glob("*.pt")]
        if len({trial for trial, _, epoch in names if int(epoch) >= after_epoch}) >= num_trials:
            disturb()
            break
        time.sleep(0.05)
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def kill(pid):
    """As the kernel does when memory runs out."""
    os.kill(pid, signal.SIGKILL)
