"""What Ray has no public name for. A new release of Ray is checked here and nowhere else."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ray
from ray._common.utils import get_system_memory
from ray._private import auto_init_hook, services, state, utils, worker
from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray._private.worker import global_worker
from ray._raylet import PlacementGroupID
from ray.core.generated import autoscaler_pb2, gcs_pb2
from ray.experimental.internal_kv import _internal_kv_get
from ray.util.placement_group import PlacementGroup, remove_placement_group


def machine() -> tuple[float, float, float]:
    """Count the CPUs, the GPUs and the bytes of memory that a Ray started here would have."""
    gpus = NvidiaGPUAcceleratorManager.get_current_node_num_accelerators()
    return utils.get_num_cpus(), gpus, get_system_memory()


def noted_address() -> str | None:
    """Read the address that the last `ray start` on this machine has noted; it may be dead."""
    try:
        return services.find_bootstrap_address(None)
    except OSError:  # another user's note
        return None


def addresses_here() -> set[str]:
    """List the addresses of all Rays whose processes run on this machine."""
    return set(services.find_gcs_addresses())


def has_node_here() -> bool:
    """Tell whether a node of any Ray runs on this machine: a process attaches through one."""
    return bool(services.find_node_ids())


def canonical(address: str) -> str:
    """Write an address as other machines can use it: a loopback one becomes this machine's own."""
    return services.canonicalize_bootstrap_address(address) or address


def never_start_by_itself() -> None:
    """Make every call of Ray fail that comes without a connection: none starts a Ray."""
    auto_init_hook.enable_auto_connect = False


@contextlib.contextmanager
def without_its_signal_handler() -> Iterator[None]:
    """Keep Ray's start from putting a handler of SIGTERM in our place, which exits anywhere."""
    theirs = utils.set_sigterm_handler
    utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = theirs


def raylet_address() -> tuple[str, int] | None:
    """Find where the process of this machine's node listens, through which this one is attached."""
    node: Any = global_worker.node
    return (node.node_ip_address, node.node_manager_port) if node.node_manager_port else None


@contextlib.contextmanager
def errors_go_to(write: Callable[[str], None]) -> Iterator[None]:
    """Hand over the errors of the cluster that Ray would print meanwhile: text, of many lines."""
    theirs = worker.print_to_stdstream
    worker.print_to_stdstream = lambda data, ignore_prefix=False: write("\n".join(data["lines"]))
    try:
        yield
    finally:
        worker.print_to_stdstream = theirs


def living_actors() -> list[Mapping[str, Any]]:
    """List the actors of all programs on the cluster, with `JobID` and `ActorClassName`."""
    return list(state.actors(actor_state_name="ALIVE").values())


def jobs() -> list[Mapping[str, Any]]:
    """List the programs on the cluster, with `JobID`, `IsDead`, `Entrypoint` and process."""
    return state.state.job_table()


def free_resources() -> Mapping[str, Mapping[str, float]]:
    """Look up what every node has to give now: node id -> kind of resource -> amount."""
    return state.state.available_resources_per_node()


def node_types() -> set[str]:
    """List the types of nodes that the cluster's autoscaler manages.

    Ray's monitor reports from every head. Where nobody gave it a configuration, it knows no types
    of nodes and calls each by its id, node_<id>; those are left out.
    """
    kinds: set[str] = set()
    status = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)  # of the autoscaler's first version
    if status:
        report = json.loads(status).get("autoscaler_report") or {}
        kinds |= set(report.get("active_nodes", {}))
        kinds |= {kind for _, kind, *_ in report.get("pending_nodes", [])}
    client: Any = getattr(global_worker, "gcs_client")  # noqa: B009 - Ray's stubs lack it
    messages: Any = autoscaler_pb2
    reply = messages.GetClusterStatusReply.FromString(client.get_cluster_status(timeout_s=5))
    if reply.autoscaling_state.autoscaler_state_version:  # of the second
        kinds |= {node.ray_node_type_name for node in reply.cluster_resource_state.node_states}
    return {kind for kind in kinds if kind and not kind.startswith("node_")}


def orphaned_groups() -> list[str]:
    """List the placement groups, by id, whose creating actor has died.

    They are those of this program, and of programs that are over. Ray Train makes one before it
    tells anyone to remove it; a controller that is killed in between leaves it, with its CPUs.
    """
    mine = ray.get_runtime_context().get_job_id()
    over = {job["JobID"] for job in jobs() if job["IsDead"]}
    tables = state.state._connect_and_get_accessor().get_placement_group_table()
    message: Any = gcs_pb2
    groups = [message.PlacementGroupTableData.FromString(table) for table in tables]
    # Asked after the groups: each was made by an actor that lived.
    living = {actor["ActorID"] for actor in living_actors()}
    return [
        group.placement_group_id.hex()
        for group in groups
        if group.creator_actor_id.strip(b"\xff")
        and group.creator_actor_id.hex() not in living
        and not group.is_detached
        and group.creator_job_id.hex() in {mine, *over}
        and group.state != message.PlacementGroupTableData.REMOVED
    ]


def remove_group(placement_group: str) -> None:
    """Remove a placement group, named by its id; the processes of its workers end with it."""
    remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(placement_group)))
