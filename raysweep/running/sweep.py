"""Run a sweep: plan its packs, start the recorder, let Ray Tune train, stop when it is time to."""

import contextlib
import datetime
import importlib
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysweep.cluster import capacity, connect, preflight
from raysweep.cluster.life import Life
from raysweep.cluster.ray_internals import remove_group
from raysweep.cluster.watchdog import StuckSweepError, Watchdog
from raysweep.errors import InputError, RayDiedError, RaysweepError, StorageError, one_line
from raysweep.planning.budget import Budget
from raysweep.planning.grid import Trial, listed
from raysweep.planning.packing import plan_packs
from raysweep.planning.plan import Plan, make_plan, speed_of
from raysweep.recording.handle import RecorderHandle
from raysweep.recording.recorder import Recorder, SweepRecorder
from raysweep.recording.state import Failure, Progress
from raysweep.running.gate import Turnstile
from raysweep.running.handover import Handed, hand_over
from raysweep.running.record import sweep_record
from raysweep.running.scratch import make_scratch
from raysweep.running.signals import InterruptedSweepError, Signals, taken_over
from raysweep.running.worker import Assignment
from raysweep.spec import SweepSpec
from raysweep.store.files import Store
from raysweep.store.lease import Invocation, Lease, wait_until_free
from raysweep.store.record import SweepRecord
from raysweep.store.resume import ResumeFolder
from raysweep.tasks.sources import fingerprints, pack

if TYPE_CHECKING:
    from raysweep.running.tuning import Schedule

POLL_S = 0.5
FLUSH_S = 5.0  # for the recorder's last rows, when something stops the sweep
HALT_S = 3.0  # Tune ends within a second when it is told to; a signal must not wait much longer
RECORDER_RESTARTS = 20
NAME_S = 10.0  # for Ray to end the recorder of a driver that died
_A = TypeVar("_A")


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
    if not isinstance(store, Store):
        store = Store(Path("results") / spec.name if store is None else store)
    store.check_writable(exclusive=True)
    wait_until_free(store.folder, tell=tell)
    plan = plan or make_plan(spec, store)
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    if not plan.left:
        # Nothing to train needs no Ray: the invocation is noted, and that is all.
        record = sweep_record(plan, (connect.local_node(),), command, started)
        Recorder(store.folder.uri, listed(record, plan.trials), plan.trials, {}).close()
        return Result(store, len(plan.trials), 0, len(plan.trials), ())
    preflight.check_room(plan, store.folder)
    if connect.running_address(address) is None:
        capacity.slots(spec.resources, (connect.local_node(),))  # refused before Ray is started
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
    beside, shipped = ThreadPoolExecutor(1), make_scratch()
    try:
        # While Ray starts its processes, this one looks at the model's cost and imports Tune.
        judged = beside.submit(speed_of, plan)
        beside.submit(importlib.import_module, "raysweep.running.tuning")
        modules = pack(plan.source.files or {}, shipped)
        with connect.connect(asked.address, modules, groups=resources.workers > 1) as connected:
            asked.signals.take()
            with asked.signals.raised():
                nodes = connected.nodes
                growing = not connected.started_here and connect.autoscaled()
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
                life = Life(connected, store.root)
                handed = hand_over(plan.source.task, plan.data)
                invocation = Invocation.begin()
            # Held from here to the end by this process, whatever becomes of the recorder's.
            with asked.signals.raised():
                lease = Lease.take(store.folder, invocation, store.live_record)
            with lease:
                try:
                    recorder = _start_recorder(plan, store, asked.record(nodes), invocation)
                    return _run(asked, planned, recorder, watchdog, life, handed)
                except (InputError, InterruptedSweepError, StorageError):
                    raise
                except (RayError, RaysweepError):
                    life.check()  # what died last is not what died first
                    raise
    finally:
        beside.shutdown(wait=False, cancel_futures=True)
        shutil.rmtree(shipped, ignore_errors=True)


def _run(
    asked: _Invoked,
    planned: list[list[Trial]],
    recorder: RecorderHandle,
    watchdog: Watchdog,
    life: Life,
    handed: Handed,
) -> Result:
    """Let Tune train until all is done, or something says stop."""
    from raysweep.running.tuning import Schedule

    plan, store, signals = asked.plan, asked.store, asked.signals
    resources, rule = plan.spec.resources, plan.spec.scheduler
    scratch = make_scratch()
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
    notice, lost = None, False
    try:
        thread.start()
        while thread.is_alive() and not signals.received and time.monotonic() < asked.deadline:
            thread.join(min(POLL_S, max(0.0, asked.deadline - time.monotonic())))
            if (seen := _progress(recorder, signals, life)) is None:
                continue
            if seen.storage_error is not None:
                asked.show(seen)
                raise StorageError(seen.storage_error)
            if seen.abandoned is not None:
                raise StuckSweepError(seen.abandoned)
            if life.answers():
                notice = watchdog.look(seen)
                schedule.set_slots(watchdog.slots)
            asked.show(seen._replace(notice=notice))
        out_of_time = thread.is_alive()
        signals.check()
        _halt(schedule, thread, recorder)
        _answer(recorder.close.remote(), life)
        progress: Progress = _answer(recorder.progress.remote(), life)
    except RayDiedError:
        lost = True
        raise
    finally:
        # The one way of stopping, for signals, budgets and errors; nothing to do at an end. What
        # does not get into a segment in time is in the log, for the next run to find.
        # Where Ray itself died, nothing is left to be told anything.
        with contextlib.suppress(RayError, RaysweepError):
            if thread.is_alive() and not lost:
                ray.get(recorder.flush.remote(), timeout=FLUSH_S)
        with contextlib.suppress(RayError):
            if not lost:
                _halt(schedule, thread, recorder)
        shutil.rmtree(scratch, ignore_errors=True)
        actors: list[Any] = [] if lost else [recorder, turnstile]
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


def _progress(recorder: RecorderHandle, signals: Signals, life: Life) -> Progress | None:
    """Where the sweep stands, or None once a signal has come: a recorder that Ray starts again
    answers late."""
    answer = recorder.progress.remote()
    while not signals.received:
        if ray.wait([answer], timeout=POLL_S)[0]:
            return ray.get(answer)
        life.answers()
    return None


def _answer(reference: "ray.ObjectRef[_A]", life: Life) -> _A:
    """What an actor answers. Raises: RayDiedError instead of waiting for ever."""
    while not ray.wait([reference], timeout=POLL_S)[0]:
        life.answers()
    return ray.get(reference)


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
        "score_name": plan.source.task.score_name,
        "baseline": plan.source.task.baseline,
        "margin": plan.source.task.margin,
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
