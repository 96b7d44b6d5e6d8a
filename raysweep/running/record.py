"""What an invocation writes of itself: what was asked, with what, on what."""

from collections.abc import Sequence

from raysweep.cluster.capacity import Node
from raysweep.planning.plan import Plan
from raysweep.recording.origin import git_commit, versions
from raysweep.store.record import SweepRecord


def sweep_record(
    plan: Plan, nodes: Sequence[Node], command: Sequence[str], started: str
) -> SweepRecord:
    """This invocation's record, but its trials."""
    return SweepRecord(
        spec=plan.spec.model_dump(mode="json"),
        versions=versions(),
        git_commit=git_commit(),
        hardware={"nodes": [node._asdict() for node in nodes]},
        command=list(command),
        started_at=started,
    )
