"""Which process on which machine, and whether it still lives."""

import os
from pathlib import Path
from typing import NamedTuple, Self


class Process(NamedTuple):
    """A process, told apart from every other one that ever had its number."""

    host: str
    pid: int
    machine: str  # host, boot and PID namespace: where the number means something; "" if unknown
    started: int  # in clock ticks since the boot

    @classmethod
    def this(cls) -> Self:
        """The calling process."""
        return cls(os.uname().nodename, os.getpid(), _machine(), _started(os.getpid()) or 0)

    def lives(self) -> bool | None:
        """Whether it runs; None for a process of another machine, where this one can't look."""
        if not self.machine or self.machine != _machine():
            return None
        return _started(self.pid) == self.started


def _machine() -> str:
    """Empty where the system tells nothing about processes (it is not Linux)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # Containers share a boot, and number their processes each for itself.
        namespace = os.readlink("/proc/self/ns/pid")
        if _started(os.getpid()) is None:
            return ""
    except OSError:
        return ""
    return f"{os.uname().nodename} {boot} {namespace}"


def _started(pid: int) -> int | None:
    """When a process started; None if it has ended, even if nobody has asked for its exit yet."""
    try:
        # The name in parentheses may hold anything, spaces and parentheses included.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
