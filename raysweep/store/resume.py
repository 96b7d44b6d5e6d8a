"""Where the checkpoints of running trials lie: one of each, in a folder."""

import hashlib
import re
from collections.abc import Collection
from typing import Self

from raysweep.store.folder import Folder
from raysweep.store.local_path import local_path

_NAME = re.compile(r"([0-9a-f]+)-(\d+)-(\d+)\.pt")
_TORN = re.compile(r"\.[0-9a-f]+-\d+-\d+\.pt\.[0-9a-f]+\.tmp")


class ResumeFolder:
    """Files <trial>-<attempt>-<epoch>.pt. An older one goes when the newer one is durable."""

    def __init__(self, folder: Folder, sub: str) -> None:
        self.folder, self._sub = folder, sub
        self._names: dict[str, str] = {}  # the newest of each trial that is known here

    @classmethod
    def shared(cls, folder: str | None, store: Folder) -> Self | None:
        """A store's own part of a folder that all nodes share; None where there is none."""
        if folder is None:
            return None
        path = local_path(folder)
        place = folder if path is None else (store.here / path).resolve()
        owner = str(store.local.resolve()) if store.local else store.uri
        own = hashlib.blake2b(owner.encode(), digest_size=6).hexdigest()
        return cls(Folder(place), f"raysweep-{own}")

    def look(self, done: Collection[str] = (), *, others_write: bool = False) -> None:
        """Learn what lies there, and remove all but the newest of each trial.

        Args:
            done: trials that need none any more.
            others_write: workers may be writing right now; otherwise what is torn goes too.
        """
        self.folder.make(self._sub)
        names = self.folder.names(self._sub)
        for name in names:
            if _TORN.fullmatch(name) and not others_write:
                self.folder.remove(self._path(name))
        matches = [match for name in names if (match := _NAME.fullmatch(name))]
        for match in sorted(matches, key=lambda match: (int(match[2]), int(match[3]))):
            self.note(match[1], int(match[2]), int(match[3]))
        for trial_id in self._names.keys() & set(done):
            self.remove(trial_id)

    def __contains__(self, trial_id: str) -> bool:
        return trial_id in self._names

    def write(self, trial_id: str, attempt: int, epoch: int, body: bytes) -> None:
        """Put one there. Raises: StorageError."""
        self.folder.replace(self._path(_name(trial_id, attempt, epoch)), body)

    def note(self, trial_id: str, attempt: int, epoch: int) -> None:
        """One that was written is this trial's newest: the older one goes."""
        older, name = self._names.get(trial_id), _name(trial_id, attempt, epoch)
        self._names[trial_id] = name
        if older not in (None, name):
            self.folder.remove(self._path(older))

    def read(self, trial_id: str) -> tuple[int, bytes] | None:
        """(epoch, bytes) of a trial's newest; None where there is none."""
        match = _NAME.fullmatch(self._names.get(trial_id, ""))
        if match is None:
            return None
        try:
            return int(match[3]), self.folder.read(self._path(match[0]))
        except FileNotFoundError:
            return None

    def remove(self, trial_id: str) -> None:
        """A trial needs none any more."""
        if name := self._names.pop(trial_id, None):
            self.folder.remove(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._sub}/{name}"


def _name(trial_id: str, attempt: int, epoch: int) -> str:
    return f"{trial_id}-{attempt}-{epoch}.pt"
