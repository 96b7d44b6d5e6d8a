"""Train the trials of a pack: inside the Tune trial's process, or in Ray Train workers.

The only file that knows Ray Train, which takes seconds to import and is not imported otherwise.
"""

import contextlib
import io
import logging
import os
import platform
import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from traceback import format_exception
from typing import Any, NamedTuple

import ray
import torch
from ray.util import get_current_placement_group
from torch import nn

from raysweep.errors import InputError, one_line, place_of
from raysweep.loops.run import run_loop
from raysweep.planning.grid import Trial
from raysweep.recording.client import Sender
from raysweep.recording.handle import RecorderHandle
from raysweep.running.handover import Handed, taken
from raysweep.running.retries import broke_the_gpu, is_transient, ran_out_of_memory
from raysweep.spec import Checkpoints, Resources
from raysweep.store.resume import ResumeFolder
from raysweep.store.schema import val_accuracy
from raysweep.training.checkpoints import Checkpointer, UnusableCheckpointError, from_bytes, on_all
from raysweep.training.group import Group
from raysweep.training.train import Training, train

# Tells the scheduler what a trial has reached, and returns when it may go on.
Report = Callable[[Mapping[str, Any]], None]
Ask = Callable[[str, Mapping[str, Any]], None]  # the same, with the trial's id

MAX_IDLE_STARTS = 3  # of a worker group, one after another, that begin no trial
# Of a collective operation: far longer than one worker waits for another's checkpoint or slow
# disk, and short enough that a worker that hangs costs minutes (PyTorch's own is half an hour).
COLLECTIVE_TIMEOUT_S = 300


class Assignment(NamedTuple):
    """What every worker of a sweep is given."""

    recorder: RecorderHandle
    handed: Handed  # the task and its data
    resources: Resources
    scratch: str  # Ray Train's own folder, thrown away after the sweep
    checkpoints: Checkpoints = Checkpoints()
    resume: ResumeFolder | None = None  # where workers put checkpoints themselves
    turnstile: Any = None  # actor handle, for a sweep with a scheduler and several workers a trial
    metric: str | None = None  # what the scheduler compares trials by


def train_pack(pack: Sequence[Trial], given: Assignment, report: Report | None = None) -> None:
    """Train a pack, whatever of it is left, to its end. An error ends its own trial only.

    Args: report: of a sweep with a scheduler, whose packs are of one trial.
    """
    if given.resources.workers > 1:
        with _relayed(pack, given, report):
            _drive_workers(pack, given)
        return
    on_gpu = given.resources.gpus_per_worker > 0
    group = Group(device=torch.device("cuda" if on_gpu else "cpu"))
    by_id = {trial.trial_id: trial for trial in pack}
    todo, kept = _todo(list(by_id), given)
    trials = [by_id[trial_id] for trial_id in todo]
    ask = None if report is None else lambda trial_id, metrics: report(metrics)
    _train_trials(trials, kept, given, group, lambda model: model, ask)


def _todo(trial_ids: list[str], given: Assignment) -> tuple[list[str], list[str]]:
    """What of a pack is left, and which of it has a checkpoint."""
    living = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    todo = given.recorder.todo.remote(trial_ids, living)
    kept = given.recorder.kept.remote(trial_ids)
    return ray.get(todo), ray.get(kept)


def _train_trials(
    trials: Sequence[Trial],
    kept: Collection[str],
    given: Assignment,
    group: Group,
    wrap: Callable[[nn.Module], nn.Module],
    ask: Ask | None,
) -> None:
    torch.set_num_threads(max(1, int(given.resources.cpus_per_worker)))
    taken(given.handed.data.hex(), given.handed, group.device)  # no trial's fault if that fails
    nodes = group.gather(ray.get_runtime_context().get_node_id())
    sender = Sender(given.recorder, nodes=nodes, resume=given.resume) if group.rank == 0 else None
    shares_gpu = 0 < given.resources.gpus_per_worker < 1
    for trial in trials:
        _train_trial(trial, trial.trial_id in kept, given, group, wrap, sender, ask)
        if shares_gpu:
            torch.cuda.empty_cache()  # what this process keeps for later, its neighbour lacks now
    if sender is not None:
        sender.drain()


def _train_trial(
    trial: Trial,
    resumable: bool,
    given: Assignment,
    group: Group,
    wrap: Callable[[nn.Module], nn.Module],
    sender: Sender | None,
    ask: Ask | None,
) -> None:
    if sender is not None:
        sender.start(trial.trial_id)
    asking = False
    try:
        checkpointer = _checkpointer(trial, resumable, given.checkpoints, group, sender)

        def spent() -> dict[str, Any]:
            return {"seconds": checkpointer.seconds, "node": platform.node()}

        def between(row: dict[str, Any]) -> None:
            nonlocal asking
            if sender is not None and ask is not None:
                sender.hand_over()  # a trial that is stopped sends nothing any more
                measured = _reached(row, given.metric) | spent()
                asking = True
                ask(trial.trial_id, measured)
                asking = False

        emit = sender.emit if sender else lambda row: None
        task, data, placed = taken(given.handed.data.hex(), given.handed, group.device)
        if placed is None:  # of a Loop
            columns, state = run_loop(task, trial, group, checkpointer, emit, between), None
        else:
            training = Training(
                trial.hyperparameters,
                trial.seed,
                task,
                data,
                placed,
                probes=trial.probes,
                group=group,
                wrap=wrap,
                checkpointer=checkpointer,
            )
            columns = train(training, emit, between)._asdict()
            state = columns.pop("best_state")
    except BaseException as error:  # a model may call sys.exit
        if asking and isinstance(error, SystemExit):
            raise  # Tune ends the thread of a trial that it has stopped
        if is_transient(error):
            raise  # the recorder counts a claimed trial that did not end as one more attempt
        rank = f"rank {group.rank} on " if group.world_size > 1 else "on "
        where = ", ".join(filter(None, [place_of(error), rank + platform.node()]))
        line, details = one_line(error, where), "".join(format_exception(error))
        ray.get(given.recorder.blame.remote([trial.trial_id], line, details))
        if group.world_size > 1 or broke_the_gpu(error):
            # The others may wait for this one inside a collective operation, so the whole group
            # starts again without the trial; so does a process whose GPU would fail every trial
            # that follows. Otherwise a worker that is alone goes on with the next. The line goes
            # instead of the error: Ray sends it, and could not send every error.
            raise RuntimeError(line) from error
        return
    if sender is not None:
        if columns.get("val_digest") is None:  # that of the sweep
            columns.pop("val_digest", None)
        sender.finish(columns | spent(), None if state is None else _saved(state))


def _reached(row: Mapping[str, Any], needed: str | None) -> dict[str, Any]:
    """What a trial has reached, as the scheduler is told. Args: needed: what it compares.

    Raises: InputError where a loop has not reported that.
    """
    loss = None if row["val_loss_sum"] is None else row["val_loss_sum"] / row["val_n"]
    means = {"val_accuracy": val_accuracy(row), "val_loss": loss}
    if needed is not None and means[needed] is None:
        raise InputError(f"scheduler.metric = {needed!r}: the loop's report() does not say it")
    return {"epoch": row["epoch"], **means}


def _checkpointer(
    trial: Trial, resumable: bool, rule: Checkpoints, group: Group, sender: Sender | None
) -> Checkpointer:
    """A trial's checkpoints, with the one that it goes on from where there is one to be used."""
    identity = {"trial_id": trial.trial_id, "probes": trial.probes.model_dump(mode="json")}
    found = None
    if resumable:
        body = sender.checkpoint() if sender else None
        if sender and body is not None:
            try:
                from_bytes(body, **identity)
            except UnusableCheckpointError as error:
                sender.drop_checkpoint(str(error))
                body = None
        if (body := on_all(body, group)) is not None:
            found = from_bytes(body, **identity)
            if sender:
                sender.start_epoch = found["epoch"] + 1
    return Checkpointer(
        rule, identity, group, sender.keep if sender else lambda epoch, body: None, found
    )


def _saved(state: dict[str, torch.Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save({name: value.cpu() for name, value in state.items()}, buffer)
    return buffer.getvalue()


@contextlib.contextmanager
def _relayed(pack: Sequence[Trial], given: Assignment, report: Report | None) -> Iterator[None]:
    """Meanwhile pass on what a trial's workers ask: they can't reach Tune, this process can."""
    if report is None:
        yield
        return
    (trial,), turnstile = pack, given.turnstile
    ray.get(turnstile.open.remote(trial.trial_id))

    def relay() -> None:
        while True:
            metrics: Any = ray.get(turnstile.asked.remote(trial.trial_id))
            if metrics is None:
                return
            report(metrics)
            turnstile.let_pass.remote(trial.trial_id)

    thread = threading.Thread(target=relay, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ray.get(turnstile.close.remote(trial.trial_id))
        thread.join()


def _drive_workers(pack: Sequence[Trial], given: Assignment) -> None:
    """Start a group of Ray Train workers for a pack, again after each failure, until it is done."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from raysweep.running.torch_backend import FreeingTorchConfig

    logging.getLogger("ray.train").setLevel(logging.ERROR)
    resources, by_id = given.resources, {trial.trial_id: trial for trial in pack}
    on_gpu = resources.gpus_per_worker > 0
    per_worker = {"CPU": resources.cpus_per_worker}
    if on_gpu:
        per_worker["GPU"] = resources.gpus_per_worker
    before, idle_starts = -1, 0
    while todo := (left := _todo(list(by_id), given))[0]:
        attempts = ray.get(given.recorder.num_attempts.remote(list(by_id)))
        idle_starts = idle_starts + 1 if attempts == before else 0
        before = attempts
        trainer = TorchTrainer(
            _worker_loop,
            train_loop_config={
                "pack": [by_id[trial_id] for trial_id in todo],
                "kept": left[1],
                "given": given,
            },
            scaling_config=ScalingConfig(
                num_workers=resources.workers, use_gpu=on_gpu, resources_per_worker=per_worker
            ),
            torch_config=FreeingTorchConfig(
                backend="nccl" if on_gpu else "gloo", timeout_s=COLLECTIVE_TIMEOUT_S
            ),
            run_config=RunConfig(
                name=uuid.uuid4().hex[:8],
                storage_path=given.scratch,
                # Retries live in one place, the recorder's claims; a group that Train starts
                # again by itself would train what is done already.
                failure_config=FailureConfig(
                    max_failures=0, max_preemption_failures=0, controller_failure_limit=3
                ),
            ),
        )
        try:
            trainer.fit()
        except Exception as error:
            # Workers report what a trial raised, and the recorder charges a death to the claimed
            # trial; what is left is memory that ran out, and a group that does not start.
            failures: dict[int, BaseException] = getattr(error, "worker_failures", {})
            for rank, failure in failures.items():
                if ran_out_of_memory(failure):
                    line = one_line(failure, f"on rank {rank}")
                    ray.get(given.recorder.blame.remote(list(by_id), line, str(failure)))
            if idle_starts + 1 == MAX_IDLE_STARTS:
                # Tune would start the pack again, as often as its trials may fail.
                given.recorder.abandon.remote(
                    f"a group of {resources.workers} workers failed {MAX_IDLE_STARTS} times "
                    f"before any trial began: {_first(failures, error)}"
                )
                return


def _first(failures: dict[int, BaseException], error: Exception) -> str:
    """What the lowest rank that failed raised."""
    if not failures:  # its controller failed, most often to set up the workers
        cause = getattr(error, "controller_failure", error)
        return one_line(getattr(cause, "cause", None) or cause, "while the group was set up")
    rank = min(failures)
    return one_line(failures[rank], f"on rank {rank}")


def _worker_loop(config: dict[str, Any]) -> None:
    """One Ray Train worker: the same loop as alone, with the model wrapped for its group."""
    from ray import train as ray_train
    from ray.train.torch import get_device, prepare_model

    context = ray_train.get_context()
    group = Group(context.get_world_rank(), context.get_world_size(), get_device())
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    pack, given = config["pack"], config["given"]
    if group.rank == 0 and (placed := get_current_placement_group()):
        trial_ids = [trial.trial_id for trial in pack]
        given.recorder.use.remote(trial_ids, placed.id.hex())

    def ask(trial_id: str, metrics: Mapping[str, Any]) -> None:
        ray.get(given.turnstile.ask.remote(trial_id, metrics))

    _train_trials(
        pack, config["kept"], given, group, prepare_model, ask if given.turnstile else None
    )
