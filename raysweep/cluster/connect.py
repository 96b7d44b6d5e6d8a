"""The Ray cluster a sweep runs on: attach to a running one, or start one on this machine."""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import ray
from ray.util import get_node_ip_address

from raysweep.cluster import ray_internals
from raysweep.cluster.capacity import Node
from raysweep.errors import InputError

# Ray reads these where trials and workers run. Train polls for errors this often, in seconds.
_WORKER_ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A group waits for its nodes as long as it takes: the watchdog says for what, and when to stop.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "1000000",
}


class Cluster(NamedTuple):
    """A Ray cluster that this process is connected to."""

    address: str
    started_here: bool
    nodes: tuple[Node, ...]


def local_node() -> Node:
    """Look at this machine as a Ray started on it would; nothing is started."""
    return Node(os.uname().nodename, *ray_internals.machine(), is_head=True)


def running_address(address: str | None) -> str | None:
    """Find the cluster that `connect` would attach to; None where it would start one.

    Without an address that is RAY_ADDRESS, or what `ray start` left running on this machine. A
    Ray that another program started for itself does not count: it ends with that program.

    Raises: InputError when nothing answers at an address that was asked for.
    """
    if ray.is_initialized():
        return ray.get_runtime_context().gcs_address
    if address == "local":
        return None
    found = ray_internals.address_of_running(address)
    if found is None or _answers(found):
        return found
    if address is None and "RAY_ADDRESS" not in os.environ:
        return None  # a note that a crashed `ray start` left behind
    # Ray itself would try for minutes.
    raise InputError(
        f"no Ray cluster answers at {found}. Start one with `ray start --head`, name another by "
        "--address HOST:PORT, or use --address local to start one for this sweep alone"
    )


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except (OSError, ValueError):
        return False
    return True


@contextlib.contextmanager
def connect(
    address: str | None, modules: Sequence[Path] = (), *, groups: bool = False
) -> Iterator[Cluster]:
    """Attach to `address`, or to a cluster that `ray start` left running here, or start Ray.

    An existing connection of this process is used as it is, and kept.

    Args:
        modules: files or packages of the user that all nodes need.
        groups: whether Ray Train will start worker groups. It asks Ray's state API, at the address
            in RAY_ADDRESS, whether a group's controller lives: without dashboard and address each
            group ends 12 s late, and one whose controller was killed holds its resources for ever.

    Raises: InputError when the cluster can't be reached.
    """
    if ray.is_initialized():
        yield Cluster(ray.get_runtime_context().gcs_address, False, nodes())
        return
    # While a sweep is being stopped, what is left of Tune must fail rather than start Ray again.
    ray_internals.never_start_by_itself()
    running = running_address(address)
    environment: dict[str, object] = {}
    if modules:
        environment["py_modules"] = [str(path) for path in modules]
    settings: dict[str, object] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if running:
        environment["env_vars"] = _WORKER_ENVIRONMENT | {"RAY_ADDRESS": running}
    else:
        # The processes of a Ray that starts here inherit these, which saves each the second that
        # a runtime environment takes; the dashboard takes another, and a share of the cores.
        os.environ.update(_WORKER_ENVIRONMENT)
        settings["include_dashboard"] = groups
        if groups:
            port = _free_port()
            os.environ["RAY_GCS_SERVER_PORT"] = str(port)
            environment["env_vars"] = {"RAY_ADDRESS": f"{get_node_ip_address()}:{port}"}
    if environment:
        settings["runtime_env"] = environment
    try:
        # Found by Ray itself, a cluster's token is too; an address switches token auth off.
        found = (address or None) if running else "local"
        ray.init(address=found, **settings)  # pyright: ignore[reportArgumentType]
    except ConnectionError as error:
        raise InputError(
            f"the Ray cluster at {running} does not let this process in. One with token auth needs "
            f"RAY_AUTH_MODE=token and its token here: {error}"
        ) from error
    except BaseException:
        ray.shutdown()  # a signal came: leave nothing half started
        raise
    finally:
        os.environ.pop("RAY_GCS_SERVER_PORT", None)
    try:
        yield Cluster(ray.get_runtime_context().gcs_address, running is None, nodes())
    finally:
        ray.shutdown()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def nodes() -> tuple[Node, ...]:
    """List the living nodes of the connected cluster, the head first."""
    found = [
        Node(
            host=str(node["NodeManagerHostname"]),
            cpus=node["Resources"].get("CPU", 0.0),
            gpus=node["Resources"].get("GPU", 0.0),
            memory_bytes=node["Resources"].get("memory", 0.0),
            is_head="node:__internal_head__" in node["Resources"],
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    return tuple(sorted(found, key=lambda node: (not node.is_head, node.host)))


def autoscaled() -> bool:
    """Tell whether an autoscaler manages the cluster: what does not fit now may fit later."""
    return bool(ray_internals.node_types())
