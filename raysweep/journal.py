"""What a recorder knows beside rows: its claims, deaths and endings, one line of JSON each.

A recorder that Ray starts again reads them, and stands where the dead one stood.
"""

import contextlib
import json
from pathlib import Path
from typing import Any


class Journal:
    """Lines that survive the death of the process that wrote them."""

    def __init__(self, path: Path) -> None:
        """Opens the journal of one invocation, and removes those of others, which are over."""
        for other in path.parent.glob("*.journal"):
            if other != path:
                other.unlink(missing_ok=True)
        self._path = path
        self.resumed = path.exists()
        """Whether a recorder of this invocation has been here before."""
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - it stays open
        self._file.write(b"\n")  # after a line that was torn

    def entries(self) -> list[dict[str, Any]]:
        """What was noted whole."""
        found = []
        for line in self._path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def note(self, **entry: Any) -> None:
        """Write one entry; it survives this process from here on."""
        self._file.write(json.dumps(entry).encode() + b"\n")

    def remove(self) -> None:
        """The invocation is over."""
        self._file.close()
        self._path.unlink(missing_ok=True)
