"""A Ray cluster of several nodes in a process of its own, and what of it can be killed.

Only processes below that one are ever touched: others may run Ray on the same machine.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysweep.recording.recorder import SweepRecorder
from tests.support.commands import free_port
from tests.support.process_tree import alive, below, command_line, kill_all

ROOT = Path(__file__).parents[2]
TITLES = {
    "recorder": re.compile(rf"ray::{SweepRecorder.__name__}\b"),
    "trial": re.compile(r"ray::ImplicitFunc"),
    "worker": re.compile(r"ray::\w*TrainWorker"),
}
ANSWER = "answer: "  # Ray prints lines of its own


def serve_cluster() -> None:
    """A cluster in this process. A line of JSON on stdin adds or removes a node; the end of stdin
    stops it."""
    from ray.cluster_utils import Cluster

    # The head has no CPUs: trials train on nodes that can be killed.
    head = {"num_cpus": 0, "include_dashboard": True, "dashboard_port": free_port()}
    cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
    nodes: dict[str, Any] = {}
    print(ANSWER + json.dumps(cluster.address), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        answer = None
        if "remove" in asked:
            node = nodes.pop(asked["remove"])
            if node in cluster.worker_nodes:  # it may be dead already
                cluster.remove_node(node)
        elif "leave" in asked:
            nodes[asked["leave"]].kill_raylet()
        else:
            options: dict[str, Any] = asked["add"]
            with contextlib.chdir(options.pop("cwd", ".")):
                node = patiently(lambda options=options: cluster.add_node(**options))
            nodes[node.node_id] = node
            answer = node.node_id
        print(ANSWER + json.dumps(answer), flush=True)
    cluster.shutdown()


def patiently(start: Callable[[], Any]) -> Any:
    """What starts a node: Ray gives it 30 s, which a busy machine may not manage at once."""
    for _ in range(4):
        with contextlib.suppress(Exception):
            return start()
    raise RuntimeError("no node could be started")


@dataclass
class PrivateCluster:
    """The process that holds a cluster, and what is found below it in /proc."""

    process: subprocess.Popen
    address: str = ""
    nodes: list[str] = field(default_factory=list)  # ids of those that were added and not removed

    def add_node(self, num_cpus: int = 1, **options: Any) -> str:
        """One more node besides the head; returns its id when it is there.

        options: cwd, where its processes start; others as Ray's own `Cluster.add_node` takes them.
        """
        node: str = self._ask({"add": {"num_cpus": num_cpus, **options}})
        self.nodes.append(node)
        return node

    def remove_node(self, node: str) -> None:
        """A node goes with all its processes; Ray is told."""
        self.nodes.remove(node)
        self._ask({"remove": node})

    def let_leave(self, node: str) -> None:
        """A node's raylet dies, and Ray has not yet noticed."""
        self._ask({"leave": node})

    def _ask(self, what: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> Any:
        """The next one."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(ANSWER):
                return json.loads(line.removeprefix(ANSWER))
        raise RuntimeError("the process of the cluster has ended")

    def victims(self, driver: int) -> dict[str, list[list[int]]]:
        """What may be killed now, by kind: lists of pids that die together."""
        tree = below(self.process.pid)
        found: dict[str, list[list[int]]] = {"driver": [[driver]]} if alive(driver) else {}
        for pid in tree:
            title = command_line(pid)
            for kind, pattern in TITLES.items():
                if pattern.match(title):
                    found.setdefault(kind, []).append([pid])
        raylets = [pid for pid in tree if "/raylet/raylet" in command_line(pid).partition(" ")[0]]
        for raylet in raylets:
            if "node:__internal_head__" not in command_line(raylet):
                found.setdefault("node", []).append([raylet, *below(raylet)])
        return found


@contextlib.contextmanager
def private_cluster(folder: Path) -> Iterator[PrivateCluster]:
    """Starts one, of a head alone, and ends it with everything below it."""
    sockets = tempfile.mkdtemp(prefix="ray")  # they want a short path
    environment = {**os.environ, "RAY_TMPDIR": sockets, "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    with (folder / "cluster.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            cwd=folder,
        )
    started = PrivateCluster(process)
    try:
        try:
            started.address = started.answer()
        except RuntimeError as error:
            raise RuntimeError((folder / "cluster.log").read_text()[-2000:]) from error
        yield started
    finally:
        kill_all([process.pid, *below(process.pid)])
        process.communicate()
        shutil.rmtree(sockets, ignore_errors=True)


if __name__ == "__main__":
    serve_cluster()
