"""Why a sweep stands still: what its packs wait for, who holds it, and when waiting is in vain."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import ray

from raysweep.cluster import capacity, connect, preflight, ray_internals
from raysweep.errors import RaysweepError
from raysweep.recording.pace import Standing
from raysweep.recording.state import Progress
from raysweep.spec import Resources

# Nothing has to happen for so long before anything is said, and so long again before a sweep that
# no living node can hold is given up: a node that restarts is back by then.
QUIET_S, HOPELESS_S = 30.0, 90.0
LOOK_S = 5.0  # how often the cluster is asked

# The actors that train: Tune's, and those of a Ray Train group, whose driver is one of Tune's.
_INLINE_ACTOR, _GROUP_ACTOR = "ImplicitFunc", "RayTrainWorker"


class StuckSweepError(RaysweepError):
    """What is left of a sweep can't be placed or started, or a node joined that must not train."""

    leaves_threads = True


class Watchdog:
    """Give `look` every Progress; it says once, for every standstill, what is waited for.

    It also counts, in `slots`, how many packs the nodes of the moment hold.

    A sweep stands still when for QUIET_S no trial began or ended and no row came, and no process
    of its own trains: an epoch that takes an hour is none.
    """

    def __init__(
        self,
        resources: Resources,
        nodes: tuple[capacity.Node, ...],
        module: str,
        *,
        growing: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: nodes: those of the start; module: of the task; growing: an autoscaler may bring
        others."""
        self._resources = resources
        self._growing = growing
        self._clock = clock
        self._hosts = [node.host for node in nodes]
        self._module = module
        self.slots = capacity.slots(resources, nodes, growing=True)
        self._vain = False
        self._known = set(preflight.living())
        self._checks: list[Future[None]] = []
        self._beside = ThreadPoolExecutor(1, "raysweep-nodes")
        self._last: tuple[Any, ...] = ()
        self._moved_at = self._looked_at = clock()
        self._notice: str | None = None
        self._standing: dict[str, str] = {}

    def look(self, progress: Progress) -> str | None:
        """Say what the sweep waits for, or which trial stands still, or None while it moves.

        Raises: StuckSweepError when no node that is left can hold a trial and none will come, or
            when a node joined that runs something else.
        """
        return self._look(progress) or self._name_standing(progress)

    def _name_standing(self, progress: Progress) -> str | None:
        """Which trials send nothing any more. Each is said once, as it was when it was found."""
        ids = {trial.trial_id for trial in progress.standing}
        self._standing = {key: line for key, line in self._standing.items() if key in ids}
        for trial in progress.standing:
            if trial.trial_id not in self._standing:
                self._standing[trial.trial_id] = _stands_still(trial)
        return "; ".join(self._standing.values()) or None

    def _look(self, progress: Progress) -> str | None:
        now = self._clock()
        if now - self._looked_at < min(LOOK_S, QUIET_S):
            return self._notice
        self._looked_at = now
        for group in ray_internals.orphaned_groups():
            ray_internals.remove_group(group)
        nodes = connect.nodes()
        self.slots = capacity.slots(self._resources, nodes, growing=True)
        self._check_new_nodes()
        seen = (progress.done, progress.running, len(progress.failures), progress.num_rows)
        if seen != self._last:
            self._last, self._moved_at, self._notice = seen, now, None
        still = now - self._moved_at
        if still < QUIET_S:
            return self._notice
        if self._trains():
            self._moved_at, self._notice = now, None
            return None
        waiting = progress.planned - progress.done - len(progress.failures)
        if not waiting:
            return None
        held = sum(capacity.workers_on(node, self._resources) for node in nodes)
        vain = held < self._resources.workers and not self._growing
        if vain and still >= QUIET_S + HOPELESS_S:
            raise StuckSweepError(
                f"{waiting} trials are left: {capacity.shortage(self._resources, nodes)}"
                f"{self._gone(nodes)}. What is finished is in the store: run the same command "
                "again when the nodes are back"
            )
        if self._notice is None or vain != self._vain:
            self._vain = vain
            self._notice = self._explain(waiting, nodes, still, vain=vain)
        return self._notice

    def _check_new_nodes(self) -> None:
        """Nodes that joined after the preflight are asked the same, beside the sweep."""
        new = set(preflight.living()) - self._known
        if new:
            self._known |= new
            self._checks.append(
                self._beside.submit(preflight.check_nodes, self._module, frozenset(new))
            )
        for check in [check for check in self._checks if check.done()]:
            self._checks.remove(check)
            error = check.exception()
            if isinstance(error, preflight.UnlikeNodesError):  # one that left again is no matter
                raise StuckSweepError(f"a node that joined would train otherwise: {error}")

    def _trains(self) -> bool:
        """Whether a process of this sweep lives that could train."""
        kind = _INLINE_ACTOR if self._resources.workers == 1 else _GROUP_ACTOR
        mine = ray.get_runtime_context().get_job_id()
        return any(
            actor["JobID"] == mine and kind in actor["ActorClassName"]
            for actor in ray_internals.living_actors()
        )

    def _explain(
        self, waiting: int, nodes: tuple[capacity.Node, ...], still: float, *, vain: bool
    ) -> str:
        said = f"nothing has moved for {still:.0f} s: {waiting} trials wait"
        if vain:
            return (
                f"{said}: {capacity.shortage(self._resources, nodes)}{self._gone(nodes)}. "
                f"Without a node that comes back this sweep stops in {HOPELESS_S:.0f} s"
            )
        said += f" for {capacity.need(self._resources)}; {'; '.join(_free())}{self._gone(nodes)}"
        others = _other_jobs()
        if others:
            said += f". Held by {'; '.join(others)}"
        if self._growing:
            said += ". The autoscaler may bring nodes; `ray status` says what it does"
        return said

    def _gone(self, nodes: tuple[capacity.Node, ...]) -> str:
        left = list(self._hosts)
        for node in nodes:
            if node.host in left:
                left.remove(node.host)
        return f"; {len(left)} of {len(self._hosts)} nodes left: {', '.join(left)}" if left else ""


def _stands_still(trial: Standing) -> str:
    since = f"has sent no row for {trial.seconds:.0f} s"
    if trial.usual_s is None:
        since += ", and no epoch of this sweep has ended yet"
    else:
        since += f"; an epoch takes {trial.usual_s:.2g} s"
    pid = trial.where.partition(" ")[2].partition(" ")[0]
    return (
        f"trial {trial.trial_id} {since}. It trains in {trial.where}: look at it there (py-spy "
        f"dump --pid {pid}), or end it (kill {pid}), which counts as one of its retries. Nothing "
        "is ended for you"
    )


def _free() -> list[str]:
    """What every node has to give now: 10.0.0.2: 1 of 4 CPUs free, 0 of 1 GPUs."""
    available = ray_internals.free_resources()
    lines = []
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        free, total = available.get(node["NodeID"], {}), node["Resources"]
        parts = [
            f"{free.get(kind, 0.0):g} of {total[kind]:g} {kind}s free"
            for kind in ("CPU", "GPU")
            if total.get(kind)
        ]
        lines.append(f"{node['NodeManagerHostname']}: {', '.join(parts) or 'no CPU to give'}")
    return lines


def _other_jobs() -> list[str]:
    """Other programs on this cluster that run now, with the nodes their actors are on."""
    mine = ray.get_runtime_context().get_job_id()
    living = ray_internals.living_actors()
    found = []
    for job in ray_internals.jobs():
        if job["IsDead"] or job["JobID"] == mine:
            continue
        number = sum(actor["JobID"] == job["JobID"] for actor in living)
        what = job["Entrypoint"] or "a program"
        where = f"process {job['DriverPid']} on {job['DriverIPAddress']}"
        found.append(f"another job, {what!r} ({where}, {number} actors)")
    return found
