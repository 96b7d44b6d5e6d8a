"""Run a sweep: plan its packs, start the recorder, let Ray Tune train, stop when it is time to."""

import contextlib
import datetime
import importlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysweep import capacity, cluster, packs
from raysweep.budget import Budget, by_seed
from raysweep.errors import InputError, RaysweepError
from raysweep.grid import Trial
from raysweep.plan import Plan, make_plan, speed_of, sweep_record
from raysweep.recorder import Failure, Progress, Recorder, one_line
from raysweep.spec import Resources, SweepSpec
from raysweep.store import Store
from raysweep.tuning import remove_group, tune_packs
from raysweep.turnstile import Turnstile
from raysweep.worker import Assignment

# What a pack's start costs, in seconds: a reused actor, or a group of Ray Train workers.
INLINE_START_S, GROUP_START_S = 0.02, 10.0
POLL_S = 0.5
HALT_S = 6.0  # Tune ends within a second when it is told to; a signal must not wait much longer
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Result(NamedTuple):
    """What one invocation did."""

    store: Store
    planned: int
    trained: int
    skipped: int  # done before, by an earlier invocation
    failures: tuple[Failure, ...]
    left: int = 0  # not trained, because the budget was spent


class InterruptedSweepError(RaysweepError):
    """A signal stopped the sweep; what it had finished is in the store."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def run_sweep(
    spec: SweepSpec,
    store: Store | Path | str | None = None,
    *,
    address: str | None = None,
    show: Callable[[Progress], None] = lambda progress: None,
    plan: Plan | None = None,
    command: Sequence[str] = (),
    max_hours: float | None = None,
    max_trials: int | None = None,
) -> Result:
    """Train what the store lacks of a sweep, or as much of it as the budget allows.

    Args:
        store: a folder; `results/<name>` by default.
        address: of a Ray cluster; by default one that runs here, else one started for the sweep.
        show: called about twice a second while the sweep runs.
        plan: of `make_plan`, where it is at hand.
        command: what is noted as the origin of this invocation.
        max_hours: after that, training stops as at a signal, and what is left is left.
        max_trials: so many of what is left; the first seeds of all configurations come first.

    Raises: InputError before anything starts; InterruptedSweepError; RaysweepError when Ray fails.
    """
    began, budget = time.monotonic(), Budget(max_hours, max_trials)
    budget.check()
    store = store if isinstance(store, Store) else Store(store or Path("results") / spec.name)
    _check_writable(store)
    plan = plan or make_plan(spec, store)
    modules = [plan.source.module_path] if plan.source.module_path else []
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    if not plan.left:
        # Nothing to train needs no Ray: the invocation is noted, and that is all.
        record = sweep_record(plan, (cluster.local_node(),), command, started)
        Recorder(store.folder.uri, record, plan.trials, {}).close()
        return Result(store, len(plan.trials), 0, len(plan.trials), ())
    if cluster.running_address(address) is None:
        capacity.slots(spec.resources, (cluster.local_node(),))  # refused before Ray is started
    with ThreadPoolExecutor(1) as beside:
        # While Ray starts its processes, this one looks at the model's cost and imports Tune.
        judged = beside.submit(speed_of, plan)
        beside.submit(importlib.import_module, "ray.tune")
        with cluster.connect(address, modules, groups=spec.resources.workers > 1) as connected:
            slots, speed = capacity.slots(spec.resources, connected.nodes), judged.result()
            planned = plan_packs(
                plan, budget, lambda t: speed.seconds(t.hyperparameters, plan.n_train), slots
            )
            record = sweep_record(plan, connected.nodes, command, started)
            try:
                return _run(plan, store, planned, slots, record, show, began + budget.seconds)
            except RayError as error:
                cause = getattr(error, "cause", None) or error
                raise RaysweepError(one_line(cause, "in Ray; the store is whole")) from error


def plan_packs(
    plan: Plan, budget: Budget, seconds: Callable[[Trial], float], slots: int
) -> list[list[Trial]]:
    """The packs of one invocation, in the order in which they are to start."""
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
            slots=slots,
            start_s=start_seconds(plan.spec.resources),
            longest_first=budget == Budget(),
        )
    ]


def _run(
    plan: Plan,
    store: Store,
    planned: list[list[Trial]],
    slots: int,
    record: dict[str, Any],
    show: Callable[[Progress], None],
    deadline: float,
) -> Result:
    recorder = _start_recorder(plan, store, record)
    scratch = Path(tempfile.mkdtemp(prefix="raysweep-"))
    resources, rule = plan.spec.resources, plan.spec.scheduler
    turnstile = _start_here(Turnstile).remote() if rule and resources.workers > 1 else None
    given = Assignment(
        recorder, plan.source.task, ray.put(plan.data), resources, str(scratch), turnstile
    )
    outcome: list[BaseException | None] = []
    halt = threading.Event()

    def schedule() -> None:
        # In a thread, so that signals come to the main one: Tune's own way of stopping is slow.
        try:
            tune_packs(planned, given, slots, scratch, rule, halt)
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=schedule, daemon=True)
    try:
        with _signals() as received:
            thread.start()
            while thread.is_alive() and not received and time.monotonic() < deadline:
                thread.join(min(POLL_S, max(0.0, deadline - time.monotonic())))
                show(ray.get(recorder.progress.remote()))
            out_of_time = thread.is_alive()
            if received:
                ray.get(recorder.flush.remote(), timeout=8)
                name = signal.Signals(received[0]).name
                raise InterruptedSweepError(
                    f"stopped by {name}; what is finished is in {store.root}, and the same "
                    "command goes on from there",
                    received[0],
                )
            _halt(halt, thread, recorder)
        ray.get(recorder.close.remote())
        progress: Progress = ray.get(recorder.progress.remote())
    finally:
        # The one way of stopping, for signals, budgets and errors; nothing to do at an end.
        with contextlib.suppress(RayError, GetTimeoutError):
            _halt(halt, thread, recorder)
        shutil.rmtree(scratch, ignore_errors=True)
        for actor in filter(None, (recorder, turnstile)):
            ray.kill(actor)
    left = progress.planned - progress.done - len(progress.failures)
    beyond_budget = len(plan.left) - sum(map(len, planned))
    if left > beyond_budget and not out_of_time:
        raise RaysweepError(
            f"{left - beyond_budget} of {progress.planned} trials were not trained: "
            f"{outcome[0] or 'see Ray'}"
        )
    trained = progress.done - len(plan.done)
    return Result(store, progress.planned, trained, len(plan.done), progress.failures, left)


def _halt(halt: threading.Event, thread: threading.Thread, recorder: Any) -> None:
    """End Tune and the processes of all trials, at once."""
    if not thread.is_alive():
        return
    halt.set()
    thread.join(HALT_S)
    # Workers of a trial die with it, and what they held comes back with their placement group.
    for group in ray.get(recorder.groups.remote(), timeout=HALT_S):
        remove_group(group)


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


def _start_recorder(plan: Plan, store: Store, record: dict[str, Any]) -> Any:
    """The recorder, on this node, where the store is; its name keeps a second writer out."""
    constants = {
        "task": plan.source.reference,
        "world_size": plan.spec.resources.workers,
        "n_train": plan.n_train,
        "n_val": plan.n_val,
        "num_classes": plan.data.num_classes,
        "val_digest": plan.val_digest,
    }
    root = store.folder.local.resolve() if store.folder.local else store.folder.uri
    named = _start_here(Recorder, name=f"raysweep {root}", namespace="raysweep")
    pruned = plan.spec.scheduler is not None
    try:
        return named.remote(root, record, plan.trials, constants, pruned=pruned)
    except ValueError as error:
        raise InputError(f"another sweep is writing to {store.root} on this cluster") from error


def _start_here(kind: Any, **named: str) -> Any:
    """What starts an actor on this node, without a CPU of its own."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(kind)
    return actor.options(num_cpus=0, scheduling_strategy=here, **named)


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Signals that ask to stop, collected instead of raised; only the main thread may."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start_seconds(resources: Resources) -> float:
    """What the start of a pack costs."""
    return INLINE_START_S if resources.workers == 1 else GROUP_START_S
