"""Who may write to a store: one writer at a time, from any machine.

Every writer opens a *generation*, and its lease is the right to write under that number:

    generations/<n>.json     what was live when writer n took over, and who that is
    lease/<n>.beat           its heartbeat, replaced every BEAT_S
    lease/<n>.end            it has ended: the next writer need not wait

Only the newest generation counts. Whoever wants to write looks at its holder first. On the same
machine the holder's processes are looked up: alive is refused, dead is taken over at once. On
another one, its heartbeat is watched: one that advances is refused, one that stands still for
SILENT_S is taken over. Two readings are compared, never two clocks.

Who may take over generation n creates file n + 1, which works only where there is none. So of many
that want to take over, one does; the others look again, and find it.

A holder that slept through SILENT_S and was superseded sees the newer generation at its next beat
or flush and stops; what it wrote in between carries an old number, which readers ignore.
"""

import contextlib
import datetime
import json
import re
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple, Self

from raysweep.errors import InputError, RaysweepError
from raysweep.store.folder import Folder
from raysweep.store.processes import Process

BEAT_S = 2.0
SILENT_S = 30.0  # a heartbeat that stood still for so long is that of a dead writer
LOOK_S = 0.5
_GENERATION = re.compile(r"(\d{6,})\.json")
_SIGN = re.compile(r"(\d{6,})\.(beat|end)")

# What the file of a generation that opens now says of the files that count.
Content = Callable[[], dict[str, Any]]


class Invocation(NamedTuple):
    """One run of a sweep: the process that a person started, and can stop."""

    token: str
    driver: Process
    started_at: str

    @classmethod
    def begin(cls) -> Self:
        """This process's own."""
        now = datetime.datetime.now(datetime.UTC)
        return cls(uuid.uuid4().hex[:12], Process.this(), now.isoformat(timespec="seconds"))

    def describe(self) -> str:
        """As people read it."""
        return f"pid {self.driver.pid} on {self.driver.host}, started {self.started_at}"


class Holder(NamedTuple):
    """Who wrote a generation: an invocation, and the process of it that writes."""

    invocation: Invocation
    writer: Process


class SupersededError(RaysweepError):
    """Another writer has taken over; nothing more may be written."""


class Lease:
    """The right to write under a generation's number, renewed by a thread until it ends.

    As a context manager it ends with its block, also where another process of the same invocation
    has gone on under newer numbers.
    """

    def __init__(self, folder: Folder, holder: Holder, generation: int) -> None:
        self.folder = folder
        self.holder = holder
        self.generation = generation
        self.lost: str | None = None  # why nothing may be written any more
        self._beats = 0
        self._stop = threading.Event()
        self._beating = threading.Lock()  # one of: a beat, the change to the next number, the end

    @classmethod
    def take(cls, folder: Folder, invocation: Invocation, content: Content) -> "Lease":
        """Open the next generation, and keep it. Raises: InputError when another writer lives."""
        holder = Holder(invocation, Process.this())
        number = _open(folder, holder, content, lambda: wait_until_free(folder, invocation))
        lease = cls(folder, holder, number)
        threading.Thread(target=lease._beat_on, name="lease", daemon=True).start()
        return lease

    @classmethod
    def seize(cls, folder: Folder, content: Content) -> "Lease":
        """Open the next generation whoever holds this one, which is fenced out."""
        holder = Holder(Invocation.begin(), Process.this())
        number = _open(folder, holder, content, lambda: newest_generation(folder))
        return cls(folder, holder, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError, RaysweepError):  # this process's end says the same
            self.end()

    def check(self) -> int:
        """Look whether this is still the newest generation. Returns: its number.

        Raises: SupersededError.
        """
        newest = newest_generation(self.folder)
        if newest > self.generation and self.lost is None:
            holder = _holder(self.folder, newest)
            who = f": {holder.invocation.describe()}" if holder else ""
            self.lost = (
                f"another writer has taken over {self.folder}{who}; this one was silent for too "
                "long, and has stopped. What it had finished is there"
            )
        self.assert_held()
        return self.generation

    def assert_held(self) -> None:
        """The same from what is known, without looking. Raises: SupersededError."""
        if self.lost is not None:
            raise SupersededError(self.lost)

    def renumber(self, content: Content) -> None:
        """Go on under the next generation, which says something else of the files."""
        with self._beating:
            self.generation = _open(self.folder, self.holder, content, self.check)

    def end(self) -> None:
        """Let the next writer in at once."""
        self._stop.set()
        with self._beating:
            newest = newest_generation(self.folder)
            holder = _holder(self.folder, newest)
            if holder is not None and holder.invocation.token == self.holder.invocation.token:
                self.folder.replace(_path(newest, "end"), b"")

    def _beat_on(self) -> None:
        while not self._stop.wait(BEAT_S):
            with self._beating:
                # Out of reach for a while, a store is not lost yet: whoever takes over meanwhile
                # is found at the next beat.
                if not self._stop.is_set() and not self._beat():
                    return

    def _beat(self) -> bool:
        """Returns: whether to go on."""
        try:
            self.check()
            self._beats += 1
            self.folder.replace(_path(self.generation, "beat"), str(self._beats).encode())
        except SupersededError:
            return False
        except (OSError, RaysweepError):
            return True
        if self.holder.invocation.driver.lives() is False:
            self.lost = f"the sweep's own process ended ({self.holder.invocation.describe()})"
        return self.lost is None


def wait_until_free(
    folder: Folder,
    ours: Invocation | None = None,
    *,
    tell: Callable[[str], None] = lambda line: None,
) -> int:
    """Wait until nobody writes to a store; see the head of this file.

    Args:
        ours: an invocation whose writers don't count.
        tell: takes one line if there is something to wait for.

    Returns: the generation that is nobody's any more; 0 before the first.

    Raises: InputError naming a writer that lives.
    """
    watched, heard_since, told_at = (0, b""), 0.0, None
    while (number := newest_generation(folder)) > 0:
        holder = _holder(folder, number)
        if holder is None or (ours is not None and holder.invocation.token == ours.token):
            return number
        driver, writer = holder.invocation.driver.lives(), holder.writer.lives()
        if (driver is False and writer is False) or folder.exists(_path(number, "end")):
            return number
        heard, now = (number, _beat_of(folder, number)), time.monotonic()
        moved = heard != watched
        if driver or (driver is None and moved and watched[0] == number):
            raise InputError(
                f"another sweep is writing to {folder}: {holder.invocation.describe()}. Wait for "
                "its end, stop it there (kill -TERM), or name another store"
            )
        if moved:
            watched, heard_since = heard, now
        if now - heard_since > SILENT_S:
            return number
        if told_at is None:
            told_at = now
            tell(
                f"the last writer of {folder} ({holder.invocation.describe()}) did not say that "
                f"it ended: listening for {SILENT_S:.0f} s at most whether it still lives"
            )
        if now - told_at > 2 * SILENT_S:
            # Its driver is dead, and Ray has not ended it.
            raise InputError(
                f"the recorder of a sweep that has ended ({holder.invocation.describe()}) still "
                f"writes to {folder}: end it, pid {holder.writer.pid}, or name another store"
            )
        time.sleep(LOOK_S)
    return 0


def _open(folder: Folder, holder: Holder, content: Content, admit: Callable[[], int]) -> int:
    """Open the next generation for a holder.

    Args: admit: returns the generation that may be superseded, or raises.
    """
    folder.make("generations", "lease")
    while True:
        number = admit() + 1
        body = {**content(), "holder": _as_json(holder), "nonce": uuid.uuid4().hex}
        try:
            folder.write_new(_path(number, "json"), json.dumps(body, indent=1).encode())
        except FileExistsError:
            continue  # somebody has opened it since the look
        for name in folder.names("lease"):
            if (sign := _SIGN.fullmatch(name)) and int(sign[1]) < number:
                folder.remove(f"lease/{name}")
        return number


def generations(folder: Folder) -> list[int]:
    """The numbers of all generations, ascending."""
    matches = map(_GENERATION.fullmatch, folder.names("generations"))
    return sorted(int(match[1]) for match in matches if match)


def newest_generation(folder: Folder) -> int:
    """The number of the newest generation; 0 before the first."""
    return max(generations(folder), default=0)


def _path(number: int, kind: str) -> str:
    return f"{'generations' if kind == 'json' else 'lease'}/{number:06d}.{kind}"


def _beat_of(folder: Folder, number: int) -> bytes:
    try:
        return folder.read(_path(number, "beat"))
    except FileNotFoundError:
        return b""


def _as_json(holder: Holder) -> dict[str, Any]:
    invocation = holder.invocation
    return {
        "token": invocation.token,
        "started_at": invocation.started_at,
        "driver": invocation.driver._asdict(),
        "writer": holder.writer._asdict(),
    }


def _holder(folder: Folder, number: int) -> Holder | None:
    """None before the first writer, and where the file is damaged, which the store lists."""
    if number == 0:
        return None
    try:
        holder: Any = json.loads(folder.read(_path(number, "json")))["holder"]
        driver, writer = Process(**holder["driver"]), Process(**holder["writer"])
        return Holder(Invocation(holder["token"], driver, holder["started_at"]), writer)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
