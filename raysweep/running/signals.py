"""Signals that ask a sweep to stop: SIGINT, SIGTERM and SIGHUP."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from raysweep.cluster.ray_internals import without_its_signal_handler
from raysweep.errors import RaysweepError
from raysweep.store.files import Store

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InterruptedSweepError(RaysweepError):
    """A signal stopped the sweep; what it had finished is in the store."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class Signals:
    """Signals that ask to stop. They are collected, and looked at where a stop leaves nothing
    behind; only within `raised` they are errors at once.

    The start of Ray is no place for an error out of nowhere: in the middle of an import it leaves
    Python's import lock held, and in a finalizer it is swallowed. It takes seconds; whoever does
    not want to wait sends the signal once more.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.received: list[int] = []
        self._connecting = True
        self._raising = False
        # While Ray starts, what is written to standard error goes to a log; this does not.
        self._stderr = _standard_error()
        # What is ignored when a sweep starts stays so: `nohup` means it.
        self._numbers = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]

    def take(self) -> None:
        """Be told of them from now on. Ray's core takes SIGTERM when it starts: take it back."""
        if threading.current_thread() is threading.main_thread():
            for number in self._numbers:
                signal.signal(number, self.note)

    def close(self) -> None:
        """Give back what `note` writes with."""
        os.close(self._stderr)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self._connecting and number in self.received:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received.append(number)
        if self._connecting:
            os.write(
                self._stderr,
                b"raysweep: stops as soon as Ray has started; once more ends it at once\n",
            )
        elif self._raising and not _imports(frame):
            self.stop()

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        """Raise what came while Ray started, and whatever comes while this lasts."""
        self._connecting = False
        self.check()
        self._raising = True
        try:
            yield
        finally:
            self._raising = False

    def check(self) -> None:
        """Raises: InterruptedSweepError where a signal has come."""
        if self.received:
            self.stop()

    def stop(self) -> NoReturn:
        """Raises: InterruptedSweepError."""
        raise InterruptedSweepError(
            f"stopped by {signal.Signals(self.received[0]).name}; what is finished is in "
            f"{self._store.root}, and the same command goes on from there",
            self.received[0],
        )


def _standard_error() -> int:
    """A descriptor of its own for it, or for nothing where there is none."""
    try:
        return os.dup(2)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)


def _imports(frame: FrameType | None) -> bool:
    """Whether this frame, or a caller of it, is Python's import machinery."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def taken_over(store: Store) -> Iterator[Signals]:
    """Takes SIGNALS over; only the main thread may."""
    signals = Signals(store)
    if threading.current_thread() is not threading.main_thread():
        try:
            yield signals
        finally:
            signals.close()
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signals.take()
    try:
        with without_its_signal_handler():
            yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signals.close()
