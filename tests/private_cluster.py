"""A Ray cluster of several nodes in a process of its own, and what of it can be killed.

Only processes below that one are ever touched: others may run Ray on the same machine.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep.recorder import SweepRecorder

HERE = Path(__file__).parent
TITLES = {
    "recorder": re.compile(rf"ray::{SweepRecorder.__name__}\b"),
    "trial": re.compile(r"ray::ImplicitFunc"),
    "worker": re.compile(r"ray::\w*TrainWorker"),
}
NUM_NODES = 2  # besides the head, which is not killed


def serve_cluster() -> None:
    """A cluster of several nodes in this process; a line on stdin adds one, the end stops it."""
    from ray.cluster_utils import Cluster

    # The head has no CPUs: trials train on nodes that can be killed.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = {"num_cpus": 0, "include_dashboard": True, "dashboard_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(NUM_NODES):
        add_patiently(cluster)
    print(cluster.address, flush=True)
    for _ in sys.stdin:
        add_patiently(cluster)
        print("added", flush=True)
    cluster.shutdown()


def add_patiently(cluster: Any) -> None:
    """Ray gives a node 30 s to start, which a busy machine may not manage at once."""
    for _ in range(4):
        with contextlib.suppress(Exception):
            cluster.add_node(num_cpus=1)
            return
    raise RuntimeError("no node could be added")


@dataclass
class PrivateCluster:
    """The process that holds a cluster, and what is found below it in /proc."""

    process: subprocess.Popen
    address: str

    def add_node(self) -> None:
        """One more, in place of a killed one; returns when it is there."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("add\n")
        self.process.stdin.flush()
        self.process.stdout.readline()

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
    """Starts one, and ends it with everything below it."""
    sockets = tempfile.mkdtemp(prefix="ray")  # they want a short path
    environment = {**os.environ, "RAY_TMPDIR": sockets, "PYTHONPATH": str(HERE.parent)}
    environment.pop("RAY_ADDRESS", None)
    with (folder / "cluster.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        lines = iter(process.stdout.readline, "")
        found = (line.strip() for line in lines if re.fullmatch(r"[\d.]+:\d+\s*", line))
        address = next(found, None)
        assert address is not None, (folder / "cluster.log").read_text()[-2000:]
        yield PrivateCluster(process, address)
    finally:
        tree = below(process.pid)
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
        for pid in {*tree, *below(process.pid)}:
            kill(pid)
        process.kill()
        process.wait()
        process.stdout.close()
        shutil.rmtree(sockets, ignore_errors=True)


def below(pid: int) -> list[int]:
    """Every process below one, at any depth."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                children.setdefault(int(parent), []).append(int(entry.name))
    found, ahead = [], [pid]
    while ahead:
        inner = children.get(ahead.pop(), [])
        found += inner
        ahead += inner
    return found


def command_line(pid: int) -> str:
    """What a process calls itself; empty if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits for its parent does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def kill(pid: int) -> None:
    """SIGKILL, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    serve_cluster()
