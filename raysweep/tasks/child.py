"""Runs a function in a child process, and hears what it does, what it finds, and how it ends."""

import json
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from raysweep.errors import InputError, one_line, place_of

# What a child says: a kind, and what belongs to it. Two kinds mean something here: "doing", with
# what it begins to do and for how many seconds it may do that in silence, and "error".
Message = tuple[Any, ...]

DOING, ERROR = "doing", "error"
_ENDED = "ended"
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from raysweep.tasks.child import serve; serve(int(sys.argv[2]))"
)
_FIRST_S = 60.0  # for Python and torch to be imported


class ChildDiedError(Exception):
    """A child process that ended or fell silent before it was done; the message says how."""


class ChildSilentError(ChildDiedError):
    """A child process that was given up, because it took too long over one thing."""


def heard(
    function: Callable[..., Iterable[Message]], *arguments: Any, folder: Path | None = None
) -> Iterator[Message]:
    """Call a function in a new process, and pass on what it yields.

    Whatever it prints is thrown away. An error that it raises comes as its last message.

    Args: function: of a module, not nested; arguments: whatever can be pickled; folder: in which
        the process starts, by default this one's.
    Raises: ChildDiedError.
    """
    read, write = os.pipe()
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, json.dumps(sys.path), str(write)],
            stdin=subprocess.PIPE,
            stdout=printed,
            stderr=printed,
            pass_fds=[write],
            cwd=folder,
        )
        os.close(write)
        try:
            assert process.stdin is not None
            try:
                process.stdin.write(pickle.dumps((function, arguments)))
                process.stdin.close()
            except BrokenPipeError:
                pass  # it died at once, which is said below
            yield from _messages(read, process, printed)
        finally:
            process.kill()
            process.wait()
            os.close(read)
            if process.stdin:
                process.stdin.close()


def _messages(read: int, process: subprocess.Popen[bytes], printed: IO[bytes]) -> Iterator[Message]:
    doing, seconds, rest = "it was started", _FIRST_S, b""
    until = time.monotonic() + seconds
    while True:
        if not select.select([read], [], [], max(0.0, until - time.monotonic()))[0]:
            raise ChildSilentError(f"it was given up after {seconds:.0f} s, while {doing}")
        part = os.read(read, 65_536)
        if not part:
            raise ChildDiedError(f"{_how_it_ended(process.wait(), printed)}, while {doing}")
        *lines, rest = (rest + part).split(b"\n")
        for message in map(json.loads, lines):
            if message[0] == _ENDED:
                return
            if message[0] == DOING:
                doing, seconds = message[1:]
            until = time.monotonic() + seconds
            yield tuple(message)


def _how_it_ended(code: int, printed: IO[bytes]) -> str:
    if code < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"its process was ended by {names.get(-code, f'signal {-code}')}"
    printed.seek(max(0, printed.seek(0, os.SEEK_END) - 1_000))
    lines = printed.read().decode(errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"its process ended itself with exit code {code}" + (f" ({said})" if said else "")


def serve(pipe: int) -> None:
    """Do in a child process what its parent wants. Args: pipe: where messages go."""
    function, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301 - the parent's own bytes
    with os.fdopen(pipe, "w", buffering=1) as out:

        def say(*message: Any) -> None:
            out.write(json.dumps(message) + "\n")
            out.flush()

        try:
            for message in function(*arguments):
                say(*message)
        except InputError as error:
            say(ERROR, str(error))
        except BaseException as error:  # a task may call sys.exit
            say(ERROR, one_line(error, place_of(error)))
        say(_ENDED)
