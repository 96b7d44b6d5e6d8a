"""Several Ray nodes on this machine, for tests in which nodes differ, come and go."""

import shutil
import tempfile
from contextlib import contextmanager

import pytest
import ray
from ray.cluster_utils import Cluster


@contextmanager
def ray_nodes(head_cpus):
    """A cluster of its own, of processes on this machine: `add_node`, `remove_node`."""
    # Not where other programs look for a Ray that runs here; and sockets want a short path.
    folder = tempfile.mkdtemp(prefix="ray")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_TMPDIR", folder)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": head_cpus})
        try:
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)
