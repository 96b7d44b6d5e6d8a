"""The Ray that all tests of tier ray share: started as a person does, in a folder of its own."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.commands import free_port, wait_for
from tests.support.process_tree import below, kill_all, of_folder


class SharedRay(NamedTuple):
    """A Ray that runs on this machine."""

    address: str
    environment: dict[str, str]
    """In which a process finds it without an address."""
    hold: Path
    """While there is a file, the odd tasks wait that look for it."""


@contextmanager
def start_ray(**settings: str) -> Iterator[SharedRay]:
    """`ray start --head` with two CPUs; ended by its own process id.

    settings: variables of its environment.
    """
    # Not where other programs look for a Ray that runs here; and sockets want a short path.
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    # Without this Ray asks for a token, where this machine has one.
    environment = {**os.environ, "RAY_TMPDIR": str(folder), "RAY_AUTH_MODE": "disabled"} | settings
    environment["HOLD"] = str(folder / "hold")
    environment.pop("RAY_ADDRESS", None)
    process = _started(folder / "start.log", environment)
    try:
        yield SharedRay(_noted(folder).strip(), environment, folder / "hold")
    finally:
        _end(process, folder)
        shutil.rmtree(folder, ignore_errors=True)


def _started(log: Path, environment: dict[str, str]) -> subprocess.Popen:
    """The process that holds it, once it is there. Ray gives its own processes 30 s to start, which
    a busy machine may not manage at once."""
    for _ in range(4):
        command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block"]
        command += ["--port=0", "--dashboard-port=0", f"--ray-client-server-port={free_port()}"]
        command += ["--num-cpus=2", "--object-store-memory=500000000", "--disable-usage-stats"]
        with log.open("w") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment
            )
        try:
            # It says that it runs before it notes where.
            wait_for(lambda: _noted(log.parent), process, log.read_text)
            return process
        except AssertionError:
            _end(process, log.parent)
    raise RuntimeError(f"Ray does not start: {log.read_text()[-2000:]}")


def _noted(folder: Path) -> str:
    """The address that `ray start` has written down, if it has."""
    note = folder / "ray" / "ray_current_cluster"
    return note.read_text() if note.exists() else ""


def _end(process: subprocess.Popen, folder: Path) -> None:
    # Asked to end, it would wait half a minute for an actor of Ray's own; and where it failed to
    # start, it has left what it had started.
    kill_all([process.pid, *below(process.pid), *of_folder(folder)])
    process.wait()
