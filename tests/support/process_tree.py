"""Processes and what is below them, as /proc tells; nothing else is ever killed here."""

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path


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


def of_folder(folder: Path) -> list[int]:
    """Every process whose command line names a folder, whatever has become of its parent."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if str(folder) in command_line(pid)]


def command_line(pid: int) -> str:
    """What a process calls itself; empty if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").rstrip()
    return ""


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits for its parent does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def kill(pid: int) -> None:
    """SIGKILL, as the kernel sends it when memory runs out, if the process is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_all(pids: Iterable[int]) -> None:
    """The same for several; those below them are to be among them."""
    for pid in pids:
        kill(pid)
