"""What an invocation writes of itself: what was asked, with what, on what."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata

from raysweep.cluster.capacity import Node
from raysweep.planning.plan import Plan
from raysweep.store.record import SweepRecord


def sweep_record(
    plan: Plan, nodes: Sequence[Node], command: Sequence[str], started: str
) -> SweepRecord:
    """This invocation's record, but its trials."""
    packages = ("raysweep", "torch", "ray", "polars", "pyarrow", "numpy")
    versions = {name: metadata.version(name) for name in packages}
    return SweepRecord(
        spec=plan.spec.model_dump(mode="json"),
        versions=versions | {"python": sys.version.split()[0]},
        git_commit=_git_commit(),
        hardware={"nodes": [node._asdict() for node in nodes]},
        command=list(command),
        started_at=started,
    )


def _git_commit() -> str | None:
    """The commit of the folder that the sweep was started in, if it is a git checkout."""
    found = (
        subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        if shutil.which("git")
        else None
    )
    return found.stdout.strip() or None if found else None
