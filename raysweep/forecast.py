"""What a sweep will do, said before anything starts: where, in which packs, for how long."""

from raysweep.cluster import capacity, connect, preflight
from raysweep.planning import packs
from raysweep.planning.budget import Budget
from raysweep.planning.grid import Trial
from raysweep.planning.packing import plan_packs
from raysweep.planning.plan import Plan, speed_of
from raysweep.running.progress import duration
from raysweep.spec import Scheduler
from raysweep.store.files import Store
from raysweep.tasks import Loop, data_bytes
from raysweep.tasks.listing import WHAT_IT_MEANS, is_listing


def forecast(plan: Plan, store: Store, address: str | None, budget: Budget) -> list[str]:
    """Say in lines what a sweep would do; times are judged by the size of the model."""
    lines: list[str] = []
    spec = plan.spec
    for name, values in spec.axes.items():
        shown = ", ".join("none" if v is None else str(v) for v in values)
        lines.append(f"  {name}: {shown}")
    lines.append(f"  seeds: {', '.join(map(str, spec.seeds))}")
    training = f"{plan.n_train} training"
    if not plan.n_train and isinstance(plan.source.task, Loop):
        training = "an unknown number of training"
    elif not plan.n_train:  # a stream has no length
        training = f"{plan.data.steps_per_epoch(1)} training batches an epoch of a stream"
    lines.append(f"  data: {training} and {plan.n_val} validation examples")
    if is_listing(plan.data.digest):
        lines.append(f"  ids: {WHAT_IT_MEANS}")
    lines.append(f"trials: {len(plan.left)} to train, {len(plan.done)} done")

    running = connect.running_address(address)
    if running:
        with connect.connect(address) as connected:
            nodes, growing = connected.nodes, connect.autoscaled()
    else:
        nodes, growing = (connect.local_node(),), False
    slots = capacity.slots(spec.resources, nodes, growing=growing)
    where = f"cluster at {running}" if running else "a Ray that the sweep starts on this machine"
    lines.append(f"{where}:")
    lines += [f"  {line}" for line in capacity.packing(spec.resources, nodes)]
    lines.append(f"  trials at the same time: {slots}, each of {capacity.need(spec.resources)}")
    if growing:
        lines.append("  an autoscaler may add nodes, which will be used")
    lines.append(f"disk: {preflight.check_room(plan, store.folder)}")
    lines.append(_memory_statement(plan, slots))

    speed = speed_of(plan)

    def seconds(trial: Trial) -> float:
        return speed.seconds(trial.hyperparameters, plan.examples(trial))

    planned = plan_packs(plan, budget, seconds, slots, growing=growing)
    if budget.max_trials is not None:
        lines.append(
            f"budget: {sum(map(len, planned))} of these {len(plan.left)} trials (--max-trials)"
        )
    sizes = ""
    if planned:
        sizes = f", of {min(map(len, planned))} to {max(map(len, planned))} trials"
    lines.append(f"packs: {len(planned)}{sizes}")
    if speed.problem:
        lines.append(f"time: not known, because the model could not be tried: {speed.problem}")
    else:
        estimate = packs.makespan(planned, seconds, slots)
        lines.append(
            f"time: about {duration(estimate)} of training, judged by the model's size, "
            "plus Ray's start and the report"
        )
    if budget.max_hours is not None:
        ended = packs.done_within(planned, seconds, slots, budget.seconds)
        trained = "" if speed.problem else f", with about {ended} trials trained"
        lines.append(f"budget: it stops after {duration(budget.seconds)} (--max-hours){trained}")
    if spec.scheduler:
        lines.append(_scheduler_statement(spec.scheduler, spec.base.epochs))
    return lines


def training_time(plan: Plan) -> str:
    """Say about how long a sweep that has trained nothing yet takes on this machine alone."""
    speed = speed_of(plan)
    if speed.problem:
        return "for a time that is not known"
    slots = capacity.slots(plan.spec.resources, (connect.local_node(),))
    total = sum(speed.seconds(trial.hyperparameters, plan.n_train) for trial in plan.trials)
    return f"about {duration(total / slots)} of training here"


def _memory_statement(plan: Plan, slots: int) -> str:
    """What the data take while the sweep runs."""
    held = preflight.size(data_bytes(plan.data))
    if plan.data.digest is not None and not data_bytes(plan.data):
        return "memory: what the datasets take in each process that trains is theirs to say"
    processes = slots * plan.spec.resources.workers
    where = "on its device" if plan.spec.resources.gpus_per_worker else "of its own"
    return (
        f"memory: {held} of data once on every node, in Ray's object store, and about as much "
        f"{where} in each process that trains, {processes} at the same time"
    )


def _scheduler_statement(rule: Scheduler, epochs: int) -> str:
    """When trials may be stopped, and what that costs."""
    when = f"from epoch {rule.grace_period} on"
    if rule.kind == "asha":
        rungs, rung = list[str](), rule.grace_period
        while rung < epochs:
            rungs.append(str(rung))
            rung *= rule.factor
        when = f"at epochs {', '.join(rungs)}"
    return (
        f"scheduler: {rule.kind} stops trials {when}, by {rule.metric}; their curves are cut "
        "short, and left out of every estimate"
    )
