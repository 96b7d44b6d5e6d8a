"""What Ray prints goes to a log instead of the terminal; people are told where that is."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# A line of Ray's C++: [2026-01-31 12:00:00,123 I 77 77] logging.cc:303: ...
_FROM_RAY = re.compile(
    rb"^\[\d{4}-\d\d-\d\d [^]]*\] (\([^)]*\) )?\w+\.(cc|h):\d+: .*\n?", re.MULTILINE
)
_LAST_WORDS = """
read -r word || echo "raysweep: Ray ended this process while it connected; what Ray said: $1" >&2
"""


class RayLog:
    """A file that takes what Ray prints. It exists from the first word on."""

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._path = Path()

    def write(self, text: str) -> None:
        """Add a line."""
        with contextlib.suppress(OSError):
            if self._opened():
                os.write(self._opened().fileno(), text.encode(errors="replace") + b"\n")

    @contextlib.contextmanager
    def takes_stderr(self) -> Iterator[None]:
        """Take all that this process writes to its standard error, Ray's C++ included.

        Ray's C++ may end this process at once. So a small process waits for the end, and says where
        the log is if that comes without a word.
        """
        try:
            file, saved = self._opened(), os.dup(2)
        except OSError:  # no room for a log, or no standard error
            yield
            return
        _flush()
        told = ["sh", "-c", _LAST_WORDS, "sh", str(self._path)]
        with subprocess.Popen(
            told, stdin=subprocess.PIPE, stdout=saved, stderr=saved, start_new_session=True
        ) as waiting:
            os.dup2(file.fileno(), 2)
            try:
                yield
            finally:
                _flush()
                os.dup2(saved, 2)
                os.close(saved)
                waiting.communicate(b"here\n")

    def where(self) -> str:
        """End a sentence: say where the log is, if there is anything in it."""
        with contextlib.suppress(OSError):
            if self._file is not None and self._path.stat().st_size:
                return f"; what Ray said: {self._path}"
        return ""

    def kept(self) -> str:
        """The same, of a log that stays where it is, unless there is nothing in it."""
        where = self.where()
        if not where:
            self.remove()
        elif self._file is not None:
            self._file.close()
            self._file = None
        return where

    def show_and_remove(self) -> None:
        """Print what the log holds after a success, but Ray's own lines, and remove it."""
        with contextlib.suppress(OSError):
            if self._file is not None and (said := _FROM_RAY.sub(b"", self._path.read_bytes())):
                os.write(2, said)
        self.remove()

    def remove(self) -> None:
        """Remove the log, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._path.unlink(missing_ok=True)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            descriptor, name = tempfile.mkstemp(prefix="raysweep-ray-", suffix=".log")
            self._file, self._path = os.fdopen(descriptor, "ab", buffering=0), Path(name)
        return self._file


def _flush() -> None:
    with contextlib.suppress(Exception):  # there may be no standard error
        sys.stderr.flush()
