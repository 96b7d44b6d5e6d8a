"""What the tests of kills share: the processes that train, and how a sweep came through."""

import threading
import time
from collections.abc import Mapping
from typing import Any

import polars as pl
import ray
import torch
from ray._private import state
from ray.util import placement_group_table
from ray.util.state import list_actors
from torch.nn.parallel import DistributedDataParallel

from raysweep.planning.plan import make_plan
from raysweep.running.sweep import run_sweep
from raysweep.store.files import Store
from raysweep.store.schema import EPOCHS
from raysweep.training.group import ALONE
from raysweep.training.splits import place
from raysweep.training.train import Training, train
from tests.support.commands import wait_for
from tests.support.groups import in_group

TIMES = ("wall_s", "train_s")
CIRCUMSTANCES = (*TIMES, "attempt", "start_epoch")
KEY = ["trial_id", "weights_kind", "epoch"]


def live_rows(store):
    """Live epoch rows without times and attempts."""
    from analysis.sources.store import live_epochs

    rows = live_epochs(pl.DataFrame(Store(store).read("epochs")))
    return rows.drop(CIRCUMSTANCES).sort(KEY)


def rows_alone(spec, trial_ids=None):
    """What `live_rows` is to find: the same trials, trained here, one by one, without Ray.

    trial_ids: of some of them.
    """
    return _as_live(_train_all(ALONE, spec, trial_ids))


def rows_of_group(spec, world_size, folder):
    """The same, trained by processes of a group, without Ray."""
    rows, *_ = in_group(world_size, _train_all, spec, folder=folder)
    return _as_live(rows)


def _train_all(group, spec, trial_ids=None):
    torch.set_num_threads(1)
    plan = make_plan(spec, Store("none"))
    placed = place(plan.data, torch.device("cpu"))
    rows: list[dict[str, Any]] = []
    for trial in plan.trials:
        if trial_ids is not None and trial.trial_id not in trial_ids:
            continue

        def emit(row: Mapping[str, Any], trial_id: str = trial.trial_id) -> None:
            rows.append({**row, "trial_id": trial_id})

        train(
            Training(
                trial.hyperparameters,
                trial.seed,
                plan.source.task,
                plan.data,
                placed,
                probes=trial.probes,
                group=group,
                wrap=DistributedDataParallel if group.world_size > 1 else lambda model: model,
            ),
            emit,
        )
    return rows


def _as_live(rows):
    schema = pl.DataFrame(EPOCHS.empty_table()).schema
    return pl.DataFrame(rows, schema=schema).drop(CIRCUMSTANCES).sort(KEY)


def attempts(store):
    """(trial_id, attempt, start_epoch) of whatever left a row, sorted."""
    rows = pl.DataFrame(Store(store).read("epochs"))
    return rows.select("trial_id", "attempt", "start_epoch").unique().sort(pl.all()).rows()


def trainers(class_name):
    """(pid, node) of the living actors of a class, of this process's job."""
    context = ray.get_runtime_context()
    actors: list[Any] = list_actors(
        address=context.gcs_address, filters=[("state", "=", "ALIVE")], detail=True
    )
    mine = [a for a in actors if a.job_id == context.get_job_id()]
    return [(a.pid, a.node_id) for a in mine if a.class_name.endswith(class_name)]


def run_disturbed(spec, store, disturb, *, after_epoch, num_trials=1):
    """The result of a sweep that is disturbed once, when that many trials have a checkpoint of
    that epoch or a later one."""
    done, results, errors = threading.Event(), [], []

    def sweep():
        try:
            results.append(run_sweep(spec, store))
        except BaseException as error:
            errors.append(error)
        done.set()

    thread = threading.Thread(target=sweep, daemon=True)
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


def held():
    """Living actors and placement groups of this cluster, but Ray's own one for the autoscaler,
    which stays as long as the cluster."""
    actors = state.actors().values()
    actors = [a for a in actors if a["ActorClassName"] != "_AutoscalingCoordinatorActor"]
    groups = placement_group_table().items()
    living = {a["ActorID"] for a in actors if a["State"] not in ("DEAD", "DEPENDENCIES_UNREADY")}
    return living | {name for name, group in groups if group["state"] != "REMOVED"}


def assert_nothing_is_left(before):
    """Of what came since then, `held`."""
    wait_for(lambda: not held() - before, said=lambda: str(held() - before))
