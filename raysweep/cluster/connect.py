"""The Ray cluster a sweep runs on: attach to a running one, or start one on this machine."""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError
from ray.util import get_node_ip_address

from raysweep.cluster import ray_internals
from raysweep.cluster.address import Found, check_speaks, find, running_address
from raysweep.cluster.capacity import Node
from raysweep.cluster.ray_output import RayLog
from raysweep.cluster.refused import in_words, may_pass
from raysweep.errors import InputError, RayDiedError, RaysweepError, one_line

__all__ = ["Cluster", "autoscaled", "connect", "local_node", "nodes", "running_address"]

# Ray reads these where trials and workers run. Train polls for errors this often, in seconds.
_WORKER_ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A group waits for its nodes as long as it takes: the watchdog says for what, and when to stop.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "1000000",
    # Trials train in threads, for each of which glibc keeps an arena of its own; batches, which are
    # aligned, leave holes there that it never fills again, and the process grows with each epoch.
    "MALLOC_ARENA_MAX": "1",
}
_END_S = 5.0  # for the end of a connection to a Ray that died


class Cluster(NamedTuple):
    """A Ray cluster that this process is connected to."""

    address: str
    started_here: bool
    nodes: tuple[Node, ...]
    log: RayLog
    """What Ray says meanwhile."""


def local_node() -> Node:
    """Look at this machine as a Ray started on it would; nothing is started."""
    return Node(os.uname().nodename, *ray_internals.machine(), is_head=True)


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

    Raises: InputError when the cluster can't be reached; RaysweepError when Ray does not start.
    """
    if ray.is_initialized():
        yield Cluster(ray.get_runtime_context().gcs_address, False, nodes(), RayLog())
        return
    # While a sweep is being stopped, what is left of Tune must fail rather than start Ray again.
    ray_internals.never_start_by_itself()
    found = find(address)
    if found:
        check_speaks(found.address)
    # What was asked for is settled: nothing that is started or asked here may find another one.
    log = RayLog()
    with _without("RAY_ADDRESS"), ray_internals.errors_go_to(log.write):
        try:
            yield _attach(found, modules, log) if found else _start(modules, log, groups=groups)
        except RayDiedError:
            # The end would wait for what has died. It may have to be left behind.
            end = threading.Thread(target=ray.shutdown, daemon=True)
            end.start()
            end.join(_END_S)
            raise
        except BaseException:
            ray.shutdown()
            raise
        else:
            ray.shutdown()
        finally:
            log.remove()


def _attach(found: Found, modules: Sequence[Path], log: RayLog) -> Cluster:
    """Attach to a cluster that runs."""
    if not ray_internals.has_node_here():
        raise InputError(
            f"the Ray cluster at {found.address} has no node on this machine, through which the "
            f"sweep would attach: run `ray start --address={found.address}` here first, or run the "
            "sweep on a machine of the cluster"
        )
    environment = _environment(modules)
    address = ray_internals.canonical(found.address)
    environment["env_vars"] = _WORKER_ENVIRONMENT | {"RAY_ADDRESS": address}
    try:
        # Found by Ray itself, a cluster's token is too; an address switches token auth off. Where
        # the cluster dies later, this process's C++ would write a line of each call in flight.
        with log.takes_stderr(), _with_default("RAY_BACKEND_LOG_LEVEL", "fatal"):
            _init(found.address if found.named else None, environment)
            cluster = Cluster(ray.get_runtime_context().gcs_address, False, nodes(), log)
    except Exception as error:
        raise in_words(error, found.address, log.kept()) from error
    log.show_and_remove()
    return cluster


def _start(modules: Sequence[Path], log: RayLog, *, groups: bool) -> Cluster:
    """Start a Ray on this machine, once more where the first try may have failed by chance."""
    # The processes of a Ray that starts here inherit these, which saves each the second that
    # a runtime environment takes; the dashboard takes another, and a share of the cores.
    os.environ.update(_WORKER_ENVIRONMENT)
    environment = _environment(modules)
    for last_try in (False, True):
        if groups:
            port = _free_port()
            os.environ["RAY_GCS_SERVER_PORT"] = str(port)
            environment["env_vars"] = {"RAY_ADDRESS": f"{get_node_ip_address()}:{port}"}
        try:
            with log.takes_stderr():
                _init("local", environment, include_dashboard=groups)
                cluster = Cluster(ray.get_runtime_context().gcs_address, True, nodes(), log)
        except Exception as error:
            if last_try or not may_pass(error):
                raise in_words(error, None, log.kept()) from error
            ray.shutdown()
        else:
            log.show_and_remove()
            return cluster
        finally:
            os.environ.pop("RAY_GCS_SERVER_PORT", None)
    raise AssertionError("the last try returns or raises")


def _init(address: str | None, environment: dict[str, object], **more: object) -> None:
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, **more}
    if environment:
        settings["runtime_env"] = environment
    ray.init(address=address, **settings)


def _environment(modules: Sequence[Path]) -> dict[str, object]:
    return {"py_modules": [str(path) for path in modules]} if modules else {}


@contextlib.contextmanager
def _with_default(name: str, value: str) -> Iterator[None]:
    """Give this process's environment a variable for a while, unless it has it."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


@contextlib.contextmanager
def _without(name: str) -> Iterator[None]:
    """Take a variable out of this process's environment for a while."""
    value = os.environ.pop(name, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[name] = value


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
    """Tell whether an autoscaler manages the cluster: what does not fit now may fit later.

    Raises: RaysweepError when the cluster does not say.
    """
    try:
        return bool(ray_internals.node_types())
    except RayError as error:
        raise RaysweepError(f"the Ray cluster does not answer: {one_line(error)}") from error
