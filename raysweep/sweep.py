"""Run a sweep: Ray Tune schedules its packs. The only file that knows Ray Tune."""

import contextlib
import datetime
import importlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysweep import capacity, cluster, packs, preflight
from raysweep.errors import InputError, RaysweepError, StorageError, one_line
from raysweep.grid import Trial
from raysweep.lease import Invocation, Lease, wait_until_free
from raysweep.plan import Plan, make_plan, speed_of, sweep_record
from raysweep.recorder import MAX_LOST_NODES, Failure, Progress, Recorder
from raysweep.retries import ran_out_of_memory
from raysweep.shelf import Shelf
from raysweep.signals import Signals, taken_over
from raysweep.spec import Resources, SweepSpec
from raysweep.store import Store
from raysweep.watchdog import StuckSweepError, Watchdog
from raysweep.worker import Assignment, train_pack

# What a pack's start costs, in seconds: a reused actor, or a group of Ray Train workers.
INLINE_START_S, GROUP_START_S = 0.02, 10.0
POLL_S = 0.5
FLUSH_S = 5.0  # for the recorder's last rows, when a signal stops the sweep
RECORDER_RESTARTS = 20
NAME_S = 10.0  # for Ray to end the recorder of a driver that died
# On a cluster that grows, packs are small enough for this many at the same time.
GROWN_SLOTS = 16


class Result(NamedTuple):
    """What one invocation did."""

    store: Store
    planned: int
    trained: int
    skipped: int  # done before, by an earlier invocation
    failures: tuple[Failure, ...]


def run_sweep(
    spec: SweepSpec,
    store: Store | Path | str | None = None,
    *,
    address: str | None = None,
    show: Callable[[Progress], None] = lambda progress: None,
    tell: Callable[[str], None] = lambda line: None,
    plan: Plan | None = None,
    command: Sequence[str] = (),
) -> Result:
    """Train what the store lacks of a sweep.

    Args:
        store: a folder; `results/<name>` by default.
        address: of a Ray cluster; by default one that runs here, else one started for the sweep.
        show: called about twice a second while the sweep runs.
        tell: given a line when there is something to wait for before the sweep starts.
        plan: of `make_plan`, where it is at hand.
        command: what is noted as the origin of this invocation.

    Raises: InputError before anything starts; InterruptedSweepError; RaysweepError when Ray fails.
    """
    store = store if isinstance(store, Store) else Store(store or Path("results") / spec.name)
    _check_writable(store)
    wait_until_free(store.folder, tell=tell)
    plan = plan or make_plan(spec, store)
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    if not plan.left:
        # Nothing to train needs no Ray: the invocation is noted, and that is all.
        record = sweep_record(plan, (cluster.local_node(),), command, started)
        Recorder(store.folder.uri, record, plan.trials, {}).close()
        return Result(store, len(plan.trials), 0, len(plan.trials), ())
    preflight.check_room(plan, store.folder)
    if cluster.running_address(address) is None:
        capacity.slots(spec.resources, (cluster.local_node(),))  # refused before Ray is started
    with taken_over(store) as signals:
        try:
            return _train(plan, store, address, command, started, show, signals)
        except RayError as error:
            raise _in_words(error) from error


def _train(
    plan: Plan,
    store: Store,
    address: str | None,
    command: Sequence[str],
    started: str,
    show: Callable[[Progress], None],
    signals: Signals,
) -> Result:
    resources = plan.spec.resources
    modules = [plan.source.module_path] if plan.source.module_path else []
    beside = ThreadPoolExecutor(1)
    try:
        # While Ray starts its processes, this one looks at the model's cost and imports Tune.
        judged = beside.submit(speed_of, plan)
        beside.submit(importlib.import_module, "ray.tune")
        with cluster.connect(address, modules, groups=resources.workers > 1) as connected:
            nodes = connected.nodes
            growing = not connected.started_here and cluster.autoscaled()
            slots, speed = capacity.slots(resources, nodes, growing=growing), judged.result()
            module, _, _ = plan.source.reference.partition(":")
            if len(nodes) > 1:
                preflight.check_nodes(module)
                if shelf := Shelf.shared(plan.spec.checkpoints.folder, store.folder):
                    preflight.check_shared(shelf.folder.uri)
            planned = packs.plan(
                plan.left,
                lambda trial: speed.seconds(trial.hyperparameters, plan.n_train),
                slots=max(slots, GROWN_SLOTS) if growing else slots,
                start_s=start_seconds(resources),
            )
            record = sweep_record(plan, nodes, command, started)
            watchdog = Watchdog(resources, nodes, module, growing=growing)
            invocation = Invocation.begin()
            # Held from here to the end by this process, whatever becomes of the recorder's.
            with Lease.take(store.folder, invocation, store.live_record):
                return _run(plan, store, planned, record, show, watchdog, invocation, signals)
    finally:
        beside.shutdown(wait=False, cancel_futures=True)


def _run(
    plan: Plan,
    store: Store,
    planned: list[list[Trial]],
    record: dict[str, Any],
    show: Callable[[Progress], None],
    watchdog: Watchdog,
    invocation: Invocation,
    signals: Signals,
) -> Result:
    recorder = _start_recorder(plan, store, record, invocation)
    scratch = Path(tempfile.mkdtemp(prefix="raysweep-"))
    given = Assignment(
        recorder, plan.source.task, ray.put(plan.data), plan.spec.resources, str(scratch),
        plan.spec.checkpoints, Shelf.shared(plan.spec.checkpoints.folder, store.folder),
    )  # fmt: skip
    outcome: list[BaseException | None] = []
    searches: list[Any] = []

    def schedule() -> None:
        # In a thread, so that signals come to the main one: Tune's own way of stopping is slow.
        try:
            _schedule(planned, given, watchdog.slots, plan.spec.retries, scratch, searches)
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=schedule, daemon=True)
    try:
        signals.raising = False
        thread.start()
        while thread.is_alive() and not signals.received:
            thread.join(POLL_S)
            if (seen := _progress(recorder, signals)) is None:
                continue
            if seen.storage_error is not None:
                show(seen)
                raise StorageError(seen.storage_error)
            try:
                notice = watchdog.look(seen)
            except StuckSweepError:
                _flush(recorder)
                raise
            for search in searches:
                search.max_concurrent = watchdog.slots
            show(seen._replace(notice=notice))
        if signals.received:
            _flush(recorder)
            signals.stop()
        ray.get(recorder.close.remote())
        progress: Progress = ray.get(recorder.progress.remote())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        ray.kill(recorder)
    missing = progress.planned - progress.done - len(progress.failures)
    if missing:
        raise RaysweepError(
            f"{missing} of {progress.planned} trials were not trained: {outcome[0] or 'see Ray'}"
        )
    trained = progress.done - len(plan.done)
    return Result(store, progress.planned, trained, len(plan.done), progress.failures)


def _progress(recorder: Any, signals: Signals) -> Progress | None:
    """Where the sweep stands, or None once a signal has come: a recorder that Ray starts again
    answers late."""
    answer = recorder.progress.remote()
    while not signals.received:
        if ray.wait([answer], timeout=POLL_S)[0]:
            return ray.get(answer)
    return None


def _flush(recorder: Any) -> None:
    """What does not get into a segment in time is in the log, for the next run to find."""
    with contextlib.suppress(RayError, GetTimeoutError):
        ray.get(recorder.flush.remote(), timeout=FLUSH_S)


def _in_words(error: RayError) -> RaysweepError:
    """What went wrong in Ray, in one line."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, RaysweepError):
        return cause
    if isinstance(error, RayActorError) and error.actor_init_failed:
        said = str(error).strip().splitlines()[-1]
        return RaysweepError(said.partition(": ")[2] or said)
    if isinstance(error, RayActorError) and f"{Recorder.__name__}\n" in str(error):
        return RaysweepError(
            f"the recorder's process died {RECORDER_RESTARTS + 1} times (killed, or out of "
            "memory), so the sweep has stopped. The store is whole, and the same command goes on"
        )
    return RaysweepError(one_line(cause or error, "in Ray; the store is whole"))


def _check_writable(store: Store) -> None:
    """Raises: InputError when the store could not be made or written; nothing is made here."""
    root = store.folder.local
    if root is None:
        store.folder.check()
        return
    there = next(place for place in (root.absolute(), *root.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = "may not be written" if there.is_dir() else "is no folder"
        raise InputError(f"the store {root} can't be written: {there} {reason}")


def _start_recorder(
    plan: Plan, store: Store, record: dict[str, Any], invocation: Invocation
) -> Any:
    """The recorder, on this node, where the store is; its name keeps a second writer out.

    Ray starts it again when its process dies, and repeats the calls that it has not answered.
    """
    constants = {
        "task": plan.source.reference,
        "world_size": plan.spec.resources.workers,
        "n_train": plan.n_train,
        "n_val": plan.n_val,
        "num_classes": plan.data.num_classes,
        "val_digest": plan.val_digest,
    }
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    root = store.folder.local.resolve() if store.folder.local else store.folder.uri
    actor: Any = ray.remote(Recorder)
    named = actor.options(
        name=f"raysweep {root}",
        namespace="raysweep",
        num_cpus=0,
        scheduling_strategy=here,
        max_restarts=RECORDER_RESTARTS,
        max_task_retries=-1,
    )
    shelf = Shelf.shared(plan.spec.checkpoints.folder, store.folder)
    arguments = root, record, plan.trials, constants
    until = time.monotonic() + NAME_S
    while True:
        try:
            return named.remote(
                *arguments, invocation=invocation, retries=plan.spec.retries, shelf=shelf
            )
        except ValueError as error:
            # This sweep holds the lease: the other recorder's driver is dead, and Ray ends it soon.
            if time.monotonic() > until:
                message = f"another sweep is writing to {store.root} on this cluster"
                raise InputError(message) from error
            time.sleep(POLL_S)


def _schedule(
    planned: list[list[Trial]],
    given: Assignment,
    slots: int,
    retries: int,
    scratch: Path,
    searches: list[Any],
) -> None:
    """Let Tune train all packs, `slots` at a time.

    Args: searches: takes what hands out the packs; its `max_concurrent` may be changed meanwhile.
    """
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the newer one prints a banner at any verbosity
    os.environ["TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S"] = "0"
    from ray import tune
    from ray.tune.progress_reporter import TrialProgressCallback
    from ray.tune.search.basic_variant import BasicVariantGenerator

    class Silent(TrialProgressCallback):
        """Tune adds a talking one where it finds none; our own display says all there is."""

        def _print(self, msg: str) -> None:
            pass

    class Charging(tune.Callback):
        """A trial whose process Ray killed for its memory would need as much again."""

        def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            said = str(trial.get_error() or "").rpartition("Failure #")[2]
            if ran_out_of_memory(said):
                ids = [one.trial_id for one in planned[trial.config["pack"]]]
                line = "OutOfMemoryError: Ray killed the process, its node was short of memory"
                ray.get(given.recorder.blame.remote(ids, line, said))

    for name in ("ray.tune", "ray.train", "ray.air"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    resources = given.resources
    inline = resources.workers == 1
    if inline:
        request = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
    else:
        # Drivers only wait, so they reserve next to nothing: with Ray's default of one CPU each
        # they starve the workers they started. They stay on the head, which is not preempted.
        request = {"CPU": 0, "node:__internal_head__": 0.001}
    search = BasicVariantGenerator(max_concurrent=slots)
    searches.append(search)
    stored = [ray.put(pack) for pack in planned]

    def pack_trainable(config: dict[str, Any]) -> None:
        train_pack(ray.get(stored[config["pack"]]), given)

    tuner = tune.Tuner(
        tune.with_resources(pack_trainable, request),
        param_space={"pack": tune.grid_search(list(range(len(planned))))},
        tune_config=tune.TuneConfig(
            search_alg=search,
            # A nested fit() does not survive its actor's reuse; a pack in the process does.
            reuse_actors=inline,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            verbose=0,
            callbacks=[Silent(), Charging()],
            # A pack starts again after its process died; the recorder charges the trial that was
            # claimed, so each trial of a pack costs its pack so many starts at most.
            failure_config=tune.FailureConfig(
                max_failures=(retries + 1) * max(map(len, planned)) + MAX_LOST_NODES
            ),
        ),
    )
    for error in tuner.fit().errors:
        raise error


def start_seconds(resources: Resources) -> float:
    """What the start of a pack costs."""
    return INLINE_START_S if resources.workers == 1 else GROUP_START_S
