"""What a recorder knows beside rows: its claims, deaths and endings, one line of JSON each.

A recorder that Ray starts again reads them, and stands where the dead one stood.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

from raysweep.store.folder import storing


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
        self._write(b"")  # ends a line that was torn

    def entries(self) -> list[dict[str, Any]]:
        """What was noted whole."""
        found = []
        for line in self._path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def note(self, **entry: Any) -> None:
        """Write one entry; it survives this process from here on."""
        self._write(json.dumps(entry).encode())

    def remove(self) -> None:
        """The invocation is over."""
        self._path.unlink(missing_ok=True)

    def _write(self, line: bytes) -> None:
        with storing(self._path.parent, len(line)), open(self._path, "ab", buffering=0) as file:
            file.write(line + b"\n")
