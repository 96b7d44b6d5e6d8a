"""What must hold before a sweep starts: room on the disk, and nodes that agree."""

import shutil
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysweep.errors import InputError
from raysweep.planning.plan import Plan
from raysweep.store.folder import Folder
from raysweep.tasks import num_parameters
from raysweep.training.splits import MAX_CLASSES

# How long a node may take to start a process and answer. Most of it is that start: 1 to 3 s.
_ANSWER_S = 60.0
_LEAVE_S = 8.0  # how long Ray may still list a node that has gone

# Of an epoch's row without its bits, compressed, with every probe on: 437 bytes measured on digits,
# whose 797 validation examples are 100 of them. Merging the segments holds them twice for a while.
_ROW_BYTES, _COPIES = 337, 2
_DIGITS_CLASSES, _CLASS_BYTES = 10, 8  # digits' classes are in there; beyond: two numbers of each
_KINDS_OF_WEIGHTS = 4  # raw, and the three averages


class UnlikeNodesError(InputError):
    """A node would train something else, or nothing."""


def check_nodes(
    module: str,
    node_ids: Collection[str] | None = None,
    files: Mapping[str, str] | None = None,
) -> None:
    """Check that every node has this process's raysweep, Ray, torch and Python, and the task.

    Args:
        module: of the task, imported everywhere.
        node_ids: Ray's, by default all.
        files: fingerprints of the task's own modules, which every node must have alike.

    Raises: UnlikeNodesError naming the node, both versions and the cure; InputError for one that
        does not answer.
    """
    versions = _version_probe()
    ours = versions()
    for host, theirs in _on_nodes(versions, node_ids=node_ids):
        for package, version in ours.items():
            if theirs[package] != version:
                raise UnlikeNodesError(
                    f"{package} differs: {host} has {theirs[package]}, this process has {version}. "
                    "Install the same on every node: `ray up` does, from the checkout"
                )
    for host, problem in _on_nodes(_import_probe(), module, dict(files or {}), node_ids=node_ids):
        if problem:
            what, why = problem
            raise UnlikeNodesError(f"task module {module!r} {what} on {host}: {why}")


def check_shared(folder: str) -> None:
    """Check that all nodes read what one writes into a folder, or s3:// and the like.

    Raises: InputError naming the folder and the node that does not see it.
    """
    name = f".raysweep-{uuid.uuid4().hex}"
    probe = _folder_probe()
    writer, *others = living()
    ((host, problem),) = _on_nodes(probe, "write", folder, name, node_ids=[writer])
    if problem:
        raise InputError(f"the checkpoint folder {folder} can't be written on {host}: {problem}")
    try:
        for reader, problem in _on_nodes(probe, "read", folder, name, node_ids=others):
            if problem:
                raise InputError(
                    f"the checkpoint folder {folder} is not shared: {reader} does not see what "
                    f"{host} wrote ({problem}). Name one that every node mounts, or s3://; or "
                    "leave checkpoints.folder out: then they travel through the head"
                )
    finally:
        _on_nodes(probe, "remove", folder, name, node_ids=[writer])


def disk_bytes(plan: Plan) -> int:
    """Estimate the most bytes that the trials that are left take in the store."""
    rows = bits = 0
    saved = False
    for trial in plan.left:
        epochs = trial.hyperparameters.epochs
        rows += epochs * (_KINDS_OF_WEIGHTS if trial.probes.ema_half_life else 1)
        bits += epochs * bool(trial.probes.correct_bits)
        saved |= trial.hyperparameters.early_stopping is not None
    classes = plan.data.num_classes if plan.data.num_classes <= MAX_CLASSES else 0
    row_bytes = _ROW_BYTES + _CLASS_BYTES * max(0, classes - _DIGITS_CLASSES)
    size = _COPIES * (rows * row_bytes + bits * plan.n_val // 8)
    if saved:
        largest = max(plan.left, key=lambda t: t.hyperparameters.width * t.hyperparameters.depth)
        weights = num_parameters(plan.source.task, plan.data, largest.hyperparameters)
        stopped = sum(t.hyperparameters.early_stopping is not None for t in plan.left)
        size += 4 * weights * stopped
    return size


def check_room(plan: Plan, place: Folder) -> str:
    """Check that the store's disk has room for the sweep. Returns: both sizes, in words.

    Raises: InputError with both.
    """
    needed = disk_bytes(plan)
    if place.local is None:
        return f"about {size(needed)} at most, in {place.uri}"
    root = place.local.absolute()
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise InputError(
            f"the store {place.local} needs about {size(needed)}, and {there} has {size(free)} "
            "free. Choose another disk with --store, or set probes.correct_bits to false"
        )
    return f"about {size(needed)} at most, of {size(free)} free on {there}"


def size(num_bytes: float) -> str:
    """Write bytes as people read them: 12 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"


def living() -> dict[str, str]:
    """List the living nodes: Ray's id -> host name and address, the head first."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    nodes.sort(key=lambda node: "node:__internal_head__" not in node["Resources"])
    return {
        node["NodeID"]: f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        for node in nodes
    }


def _has_left(node_id: str) -> bool:
    """Whether a node that could not be asked is leaving the cluster: it will train nothing."""
    until = time.monotonic() + _LEAVE_S
    while node_id in living():
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


def _on_nodes(
    function: Callable[..., Any], *arguments: Any, node_ids: Collection[str] | None = None
) -> list[tuple[str, Any]]:
    """(host, answer) of a function on each node. Raises: InputError for one without an answer
    that is there to stay.

    Args: function: one that was defined in another, which Ray therefore sends whole: the package
        over there may be another one, or none.
    """
    task: Any = ray.remote(num_cpus=0, max_retries=0)(function)
    asked = [
        (
            node_id,
            host,
            task.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)
            ).remote(*arguments),
        )
        for node_id, host in living().items()
        if node_ids is None or node_id in node_ids
    ]
    until = time.monotonic() + _ANSWER_S
    answers: list[tuple[str, Any]] = []
    for node_id, host, reference in asked:
        try:
            answer = ray.get(reference, timeout=max(0.0, until - time.monotonic()))
        except GetTimeoutError:
            raise InputError(f"the node {host} did not answer within {_ANSWER_S:.0f} s") from None
        except RayError as error:
            if _has_left(node_id):
                continue
            line = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
            raise InputError(f"the node {host} can't run a task: {line}") from error
        answers.append((host, answer))
    return answers


def _version_probe() -> Callable[[], dict[str, str]]:
    def versions() -> dict[str, str]:
        import hashlib
        import importlib.util
        import platform
        from importlib import metadata
        from pathlib import Path

        found = {"python": platform.python_version()}
        for package in ("ray", "torch", "raysweep"):
            try:
                found[package] = metadata.version(package)
            except metadata.PackageNotFoundError:
                found[package] = "none"
        # Two checkouts may call themselves by one version.
        where = importlib.util.find_spec("raysweep")
        content = hashlib.blake2b(digest_size=4)
        if where is not None and where.origin is not None:
            folder = Path(where.origin).parent
            for path in sorted(folder.rglob("*.py")):
                content.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
        found["raysweep"] += f" (content {content.hexdigest()})"
        return found

    return versions


def _import_probe() -> Callable[[str, Mapping[str, str]], tuple[str, str] | None]:
    def problem_with(module: str, files: Mapping[str, str]) -> tuple[str, str] | None:
        import importlib

        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:
            return "can't be imported", f"{type(error).__name__}: {' '.join(str(error).split())}"
        from raysweep.tasks.sources import unlike  # every node has the same, by now

        other = unlike(files)
        if other is not None:
            return "would be another one", f"{other} there is not what it is here; copy it again"
        return None

    return problem_with


def _folder_probe() -> Callable[[str, str, str], str | None]:
    def problem_with(doing: str, folder: str, name: str) -> str | None:
        from raysweep.store.folder import Folder  # every node has the same, by now

        try:
            place = Folder(folder)
            if doing == "write":
                if place.local is not None:
                    place.local.mkdir(parents=True, exist_ok=True)
                place.write_new(name, name.encode())
            elif doing == "read":
                assert place.read(name) == name.encode(), "other content"
            else:
                place.remove(name)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None

    return problem_with
