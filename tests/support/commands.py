"""What tests of the command line share: commands as processes, and waiting for what they do."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest

from raysweep.cli import run_command_line

RAYSWEEP = Path(sys.executable).parent / "raysweep"
PATIENCE_S = 240.0  # ten times what anything here takes on a quiet machine


def wait_for(condition, process=None, said: Callable[[], str] = str, seconds=PATIENCE_S):
    """Return when a condition holds.

    process: one that makes it true, and that must not end before; said: what it has printed.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, f"it ended too early: {said()}"
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain: {said()}"
        time.sleep(0.05)


def free_port():
    """A port on loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(*arguments, cwd, **environment):
    """`raysweep` with these arguments, to its end."""
    return subprocess.run(
        [str(part) for part in (RAYSWEEP, *arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        **environment,
    )


@contextmanager
def started(*arguments, cwd):
    """`raysweep` with these arguments as a process; killed at the end if it still runs."""
    process = subprocess.Popen(
        [str(part) for part in (RAYSWEEP, *arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def run_here(capsys, *arguments):
    """(exit code, stdout, stderr) of a command in this process."""
    with pytest.raises(SystemExit) as exit_:
        run_command_line([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return exit_.value.code or 0, out, err
