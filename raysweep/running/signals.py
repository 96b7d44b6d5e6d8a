"""Signals that ask a sweep to stop: SIGINT, SIGTERM and SIGHUP."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from raysweep.errors import RaysweepError
from raysweep.store.files import Store

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InterruptedSweepError(RaysweepError):
    """A signal stopped the sweep; what it had finished is in the store."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class Signals:
    """Signals that ask to stop: raised as an error while Ray starts, then only collected, since
    rows have to be flushed first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.received: list[int] = []
        self.raising = True

    def take(self) -> None:
        """Be told of them from now on. Ray takes SIGTERM when it starts: take it back."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self.note)

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        self.received.append(number)
        if self.raising:
            self.raising = False
            self.stop()

    def stop(self) -> NoReturn:
        """Raises: InterruptedSweepError."""
        raise InterruptedSweepError(
            f"stopped by {signal.Signals(self.received[0]).name}; what is finished is in "
            f"{self._store.root}, and the same command goes on from there",
            self.received[0],
        )


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
        yield signals
    except SystemExit as left:
        if left.code != signal.SIGTERM:
            raise
        # Ray's own handler, while Ray starts.
        signals.received.append(signal.SIGTERM)
        signals.stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
