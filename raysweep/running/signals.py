"""Signals that ask a sweep to stop: SIGINT, SIGTERM and SIGHUP."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from raysweep.cluster.ray_internals import without_its_signal_handler
from raysweep.errors import RaysweepError
from raysweep.store.files import Store

AGAIN_S = 0.05
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InterruptedSweepError(RaysweepError):
    """A signal stopped the sweep; what it had finished is in the store."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class Signals:
    """Signals that ask to stop. They are raised as an error while Ray starts, and only collected
    from then on, since rows have to be flushed first.

    An error that is raised in the middle of an import can leave Python's import lock held, or be
    swallowed there: then every later import waits for ever. So a signal that strikes there is
    raised a moment later.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.received: list[int] = []
        self.raising = True
        # What is ignored when a sweep starts stays so: `nohup` means it.
        self._numbers = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]

    def take(self) -> None:
        """Be told of them from now on. Ray's core takes SIGTERM when it starts: take it back."""
        if threading.current_thread() is threading.main_thread():
            for number in self._numbers:
                signal.signal(number, self.note)

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        self.received.append(number)
        if not self.raising:
            return
        if _imports(frame):
            main = threading.main_thread().ident
            again = threading.Timer(AGAIN_S, signal.pthread_kill, (main, number))
            again.daemon = True
            again.start()
            return
        self.raising = False
        self.stop()

    def check(self) -> None:
        """Raises: InterruptedSweepError where a signal has come, whoever swallowed its error."""
        if self.received:
            self.stop()

    def stop(self) -> NoReturn:
        """Raises: InterruptedSweepError."""
        raise InterruptedSweepError(
            f"stopped by {signal.Signals(self.received[0]).name}; what is finished is in "
            f"{self._store.root}, and the same command goes on from there",
            self.received[0],
        )


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
        yield signals
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signals.take()
    try:
        with without_its_signal_handler():
            yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
