"""Run a sweep: plan its packs, start the recorder, let Ray Tune train, stop when it is time to."""

import contextlib
import datetime
import importlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysweep.cluster import capacity, preflight
from raysweep.cluster import connect as cluster
from raysweep.cluster.ray_internals import remove_group
from raysweep.cluster.watchdog import StuckSweepError, Watchdog
from raysweep.errors import InputError, RaysweepError, StorageError, one_line
from raysweep.planning import packs
from raysweep.planning.budget import Budget, by_seed
from raysweep.planning.grid import Trial, listed
from raysweep.planning.plan import Plan, make_plan, speed_of
from raysweep.recording.handle import RecorderHandle
from raysweep.recording.recorder import Recorder, SweepRecorder
from raysweep.recording.state import Failure, Progress
from raysweep.running.gate import Turnstile
from raysweep.running.handover import Handed, hand_over
from raysweep.running.record import sweep_record
from raysweep.running.signals import Signals, taken_over
from raysweep.running.worker import Assignment
from raysweep.spec import Resources, SweepSpec
from raysweep.store.files import Store
from raysweep.store.lease import Invocation, Lease, wait_until_free
from raysweep.store.record import SweepRecord
from raysweep.store.resume import ResumeFolder
from raysweep.tasks.sources import fingerprints, packed

if TYPE_CHECKING:
    from raysweep.running.tuning import Schedule

# What a pack's start costs, in seconds: a reused actor, or a group of Ray Train workers.
INLINE_START_S, GROUP_START_S = 0.02, 10.0
POLL_S = 0.5
FLUSH_S = 5.0  # for the recorder's last rows, when something stops the sweep
HALT_S = 3.0  # Tune ends within a second when it is told to; a signal must not wait much longer
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
    left: int = 0  # not trained, because the budget was spent


class _Invoked(NamedTuple):
    """What one call of `run_sweep` is about."""

    plan: Plan
    store: Store
    address: str | None
    budget: Budget
    deadline: float  # on time.monotonic's clock
    show: Callable[[Progress], None]
    command: Sequence[str]
    started: str
    signals: Signals

    def record(self, nodes: Sequence[capacity.Node]) -> SweepRecord:
        """Its entry in the store, without its trials."""
        return sweep_record(self.plan, nodes, self.command, self.started)


def run_sweep(
    spec: SweepSpec,
    store: Store | Path | str | None = None,
    *,
    address: str | None = None,
    show: Callable[[Progress], None] = lambda progress: None,
    tell: Callable[[str], None] = lambda line: None,
    plan: Plan | None = None,
    command: Sequence[str] = (),
    max_hours: float | None = None,
    max_trials: int | None = None,
) -> Result:
    """Train what the store lacks of a sweep, or as much of it as the budget allows.

    Args:
        spec: what to train.
        store: a folder; `results/<name>` by default.
        address: of a Ray cluster; by default one that runs here, else one started for the sweep.
        show: called about twice a second while the sweep runs.
        tell: given a line when there is something to wait for before the sweep starts.
        plan: of `make_plan`, where it is at hand.
        command: what is noted as the origin of this invocation.
        max_hours: hours, after which training stops as at a signal, and what is left is left.
        max_trials: so many of what is left; the first seeds of all configurations come first.

    Returns: the store, and how many trials were trained, skipped, left and failed.
    Raises: InputError before anything starts; InterruptedSweepError; RaysweepError when Ray fails.
    """
    began, budget = time.monotonic(), Budget(max_hours, max_trials)
    budget.check()
    store = store if isinstance(store, Store) else Store(store or Path("results") / spec.name)
    _check_writable(store)
    wait_until_free(store.folder, tell=tell)
    plan = plan or make_plan(spec, store)
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    if not plan.left:
        # Nothing to train needs no Ray: the invocation is noted, and that is all.
        record = sweep_record(plan, (cluster.local_node(),), command, started)
        Recorder(store.folder.uri, listed(record, plan.trials), plan.trials, {}).close()
        return Result(store, len(plan.trials), 0, len(plan.trials), ())
    preflight.check_room(plan, store.folder)
    if cluster.running_address(address) is None:
        capacity.slots(spec.resources, (cluster.local_node(),))  # refused before Ray is started
    with taken_over(store) as signals:
        deadline = began + budget.seconds
        asked = _Invoked(plan, store, address, budget, deadline, show, command, started, signals)
        try:
            return _train(asked)
        except RayError as error:
            raise _in_words(error) from error


def _train(asked: _Invoked) -> Result:
    """Connect to Ray, look whether it will do, and train."""
    plan, store, resources = asked.plan, asked.store, asked.plan.spec.resources
    beside = ThreadPoolExecutor(1)
    try:
        # While Ray starts its processes, this one looks at the model's cost and imports Tune.
        judged = beside.submit(speed_of, plan)
        beside.submit(importlib.import_module, "raysweep.running.tuning")
        with (
            packed(plan.source.files or {}) as modules,
            cluster.connect(asked.address, modules, groups=resources.workers > 1) as connected,
        ):
            asked.signals.take()
            with asked.signals.raised():
                nodes = connected.nodes
                growing = not connected.started_here and cluster.autoscaled()
                slots, speed = capacity.slots(resources, nodes, growing=growing), judged.result()
                module, _, _ = plan.source.reference.partition(":")
                if plan.source.files or not connected.started_here:
                    preflight.check_nodes(module, files=fingerprints(plan.source.files or {}))
                resume = ResumeFolder.shared(plan.spec.checkpoints.folder, store.folder)
                if len(nodes) > 1 and resume:
                    preflight.check_shared(resume.folder.uri)
                planned = plan_packs(
                    plan,
                    asked.budget,
                    lambda trial: speed.seconds(trial.hyperparameters, plan.n_train),
                    slots,
                    growing=growing,
                )
                watchdog = Watchdog(resources, nodes, module, growing=growing)
                handed = hand_over(plan.source.task, plan.data)
                invocation = Invocation.begin()
            # Held from here to the end by this process, whatever becomes of the recorder's.
            with asked.signals.raised():
                lease = Lease.take(store.folder, invocation, store.live_record)
            with lease:
                recorder = _start_recorder(plan, store, asked.record(nodes), invocation)
                return _run(asked, planned, recorder, watchdog, handed)
    finally:
        beside.shutdown(wait=False, cancel_futures=True)


def plan_packs(
    plan: Plan,
    budget: Budget,
    seconds: Callable[[Trial], float],
    slots: int,
    *,
    growing: bool,
) -> list[list[Trial]]:
    """The packs of one invocation, in the order in which they are to start.

    Args: seconds: that a trial takes; slots, growing: of the cluster.
    """
    seeds = plan.spec.seeds
    if plan.spec.scheduler:
        # One trial a pack: what Tune stops is a Tune trial.
        unlimited = budget == Budget()
        waves = by_seed(plan.left, seeds) if unlimited else budget.waves(plan.left, seeds)
        return [[trial] for wave in waves for trial in wave]
    return [
        pack
        for wave in budget.waves(plan.left, seeds)
        for pack in packs.plan(
            wave,
            seconds,
            slots=max(slots, GROWN_SLOTS) if growing else slots,
            start_s=start_seconds(plan.spec.resources),
            longest_first=budget == Budget(),
        )
    ]


def _run(
    asked: _Invoked,
    planned: list[list[Trial]],
    recorder: RecorderHandle,
    watchdog: Watchdog,
    handed: Handed,
) -> Result:
    """Let Tune train until all is done, or something says stop."""
    from raysweep.running.tuning import Schedule

    plan, store, signals = asked.plan, asked.store, asked.signals
    resources, rule = plan.spec.resources, plan.spec.scheduler
    scratch = Path(tempfile.mkdtemp(prefix="raysweep-"))
    turnstile = _start_here(Turnstile).remote() if rule and resources.workers > 1 else None
    given = Assignment(
        recorder,
        handed,
        resources,
        str(scratch),
        plan.spec.checkpoints,
        ResumeFolder.shared(plan.spec.checkpoints.folder, store.folder),
        turnstile,
    )
    schedule = Schedule(planned, given, watchdog.slots, rule)
    # In a thread, so that signals come to the main one: Tune's own way of stopping is slow.
    thread = threading.Thread(
        target=schedule.run, args=(scratch, plan.spec.retries), name="(schedule)", daemon=True
    )
    try:
        thread.start()
        while thread.is_alive() and not signals.received and time.monotonic() < asked.deadline:
            thread.join(min(POLL_S, max(0.0, asked.deadline - time.monotonic())))
            if (seen := _progress(recorder, signals)) is None:
                continue
            if seen.storage_error is not None:
                asked.show(seen)
                raise StorageError(seen.storage_error)
            if seen.abandoned is not None:
                raise StuckSweepError(seen.abandoned)
            notice = watchdog.look(seen)
            schedule.set_slots(watchdog.slots)
            asked.show(seen._replace(notice=notice))
        out_of_time = thread.is_alive()
        signals.check()
        _halt(schedule, thread, recorder)
        ray.get(recorder.close.remote())
        progress: Progress = ray.get(recorder.progress.remote())
    finally:
        # The one way of stopping, for signals, budgets and errors; nothing to do at an end. What
        # does not get into a segment in time is in the log, for the next run to find.
        with contextlib.suppress(RayError, RaysweepError):
            if thread.is_alive():
                ray.get(recorder.flush.remote(), timeout=FLUSH_S)
        with contextlib.suppress(RayError):
            _halt(schedule, thread, recorder)
        shutil.rmtree(scratch, ignore_errors=True)
        actors: list[Any] = [recorder, turnstile]
        for actor in filter(None, actors):
            ray.kill(actor)
    left = progress.planned - progress.done - len(progress.failures)
    beyond_budget = len(plan.left) - sum(map(len, planned))
    if left > beyond_budget and not out_of_time:
        raise RaysweepError(
            f"{left - beyond_budget} of {progress.planned} trials were not trained: "
            f"{one_line(schedule.error, 'in Ray Tune') if schedule.error else 'see Ray'}"
        )
    trained = progress.done - len(plan.done)
    return Result(store, progress.planned, trained, len(plan.done), progress.failures, left)


def _halt(schedule: "Schedule", thread: threading.Thread, recorder: RecorderHandle) -> None:
    """End Tune and the processes of all trials, at once."""
    if not thread.is_alive():
        return
    schedule.halt()
    thread.join(HALT_S)
    # Workers of a trial die with it, and what they held comes back with their placement group.
    # A recorder in a long flush does not answer: then the group goes with this job.
    with contextlib.suppress(GetTimeoutError):
        for group in ray.get(recorder.groups.remote(), timeout=HALT_S):
            remove_group(group)


def _progress(recorder: RecorderHandle, signals: Signals) -> Progress | None:
    """Where the sweep stands, or None once a signal has come: a recorder that Ray starts again
    answers late."""
    answer = recorder.progress.remote()
    while not signals.received:
        if ray.wait([answer], timeout=POLL_S)[0]:
            return ray.get(answer)
    return None


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
        store.folder.check(exclusive=True)
        return
    there = next(place for place in (root.absolute(), *root.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = "may not be written" if there.is_dir() else "is no folder"
        raise InputError(f"the store {root} can't be written: {there} {reason}")


def recorder_arguments(
    plan: Plan, store: Store, record: SweepRecord, invocation: Invocation
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What SweepRecorder is started with: little, however many trials there are."""
    constants = {
        "task": plan.source.reference,
        "world_size": plan.spec.resources.workers,
        "n_train": plan.n_train,
        "n_val": plan.n_val,
        "num_classes": plan.data.num_classes,
        "val_digest": plan.val_digest,
    }
    root = store.folder.local.resolve() if store.folder.local else store.folder.uri
    how = {
        "invocation": invocation,
        "retries": plan.spec.retries,
        "resume": ResumeFolder.shared(plan.spec.checkpoints.folder, store.folder),
        "pruned": plan.spec.scheduler is not None,
    }
    return (root, record, plan.spec, plan.identity, constants), how


def _start_recorder(
    plan: Plan, store: Store, record: SweepRecord, invocation: Invocation
) -> RecorderHandle:
    """The recorder, on this node, where the store is; its name keeps a second writer out.

    Ray starts it again when its process dies, and repeats the calls that it has not answered.
    """
    arguments, how = recorder_arguments(plan, store, record, invocation)
    named = _start_here(
        SweepRecorder,
        name=f"raysweep {arguments[0]}",
        namespace="raysweep",
        max_restarts=RECORDER_RESTARTS,
        max_task_retries=-1,
    )
    until = time.monotonic() + NAME_S
    while True:
        try:
            return named.remote(*arguments, **how)
        except ValueError as error:
            # This sweep holds the lease: the other recorder's driver is dead, and Ray ends it soon.
            if time.monotonic() > until:
                message = f"another sweep is writing to {store.root} on this cluster"
                raise InputError(message) from error
            time.sleep(POLL_S)


def _start_here(kind: Any, **options: Any) -> Any:
    """What starts an actor on this node, without a CPU of its own."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(kind)
    return actor.options(num_cpus=0, scheduling_strategy=here, **options)


def start_seconds(resources: Resources) -> float:
    """What the start of a pack costs."""
    return INLINE_START_S if resources.workers == 1 else GROUP_START_S
