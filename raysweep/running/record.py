"""What an invocation writes of itself: what was asked, with what, on what."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from raysweep.cluster.capacity import Node
from raysweep.planning.plan import Plan


def sweep_record(
    plan: Plan, nodes: Sequence[Node], command: Sequence[str], started: str
) -> dict[str, Any]:
    """This invocation's entry in sweeps/, but its trials: what was asked, with what, on what."""
    packages = ("raysweep", "torch", "ray", "polars", "pyarrow", "numpy")
    return {
        "spec": plan.spec.model_dump(mode="json"),
        "versions": {name: metadata.version(name) for name in packages}
        | {"python": sys.version.split()[0]},
        "git_commit": _git_commit(),
        "hardware": {"nodes": [node._asdict() for node in nodes]},
        "command": list(command),
        "started_at": started,
    }


def _git_commit() -> str | None:
    """The commit of the folder that the sweep was started in, if it is a git checkout."""
    found = (
        subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        if shutil.which("git")
        else None
    )
    return found.stdout.strip() or None if found else None
