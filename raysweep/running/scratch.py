"""A folder for the passing files of Ray Tune and Ray Train; it goes with the next sweep at last."""

import contextlib
import json
import shutil
import tempfile
from pathlib import Path

from raysweep.store.folder import storing
from raysweep.store.processes import Process

_PREFIX, _OWNER = "raysweep-", "owner.json"


def make_scratch() -> Path:
    """Make a folder of this process, and remove those of processes that were killed.

    Raises: StorageError when there is no room for one.
    """
    temporary = Path(tempfile.gettempdir())
    for folder in temporary.glob(f"{_PREFIX}*"):
        if _is_left_behind(folder):
            shutil.rmtree(folder, ignore_errors=True)
    with storing(temporary):
        made = Path(tempfile.mkdtemp(prefix=_PREFIX))
        (made / _OWNER).write_text(json.dumps(Process.this()._asdict()))
    return made


def _is_left_behind(folder: Path) -> bool:
    """Whether the process that made a folder has ended; False for whatever can't be known."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        owner = Process(**json.loads((folder / _OWNER).read_text()))
        return owner.lives() is False
    return False
