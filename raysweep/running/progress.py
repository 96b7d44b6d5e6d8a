"""Show a sweep's progress: one live block on a terminal, a plain line every 10 s elsewhere."""

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from raysweep.recording.state import Progress

PLAIN_SECONDS = 10.0


def duration(seconds: float) -> str:
    """Seconds as people read them: 0:42, 12:05, 3:12:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def describe_point(point: dict[str, Any] | Any) -> str:
    """A configuration as people read it: batch_size=32 learning_rate=0.1."""
    return " ".join(f"{name}={_short(value)}" for name, value in point.items()) or "the base trial"


def _short(value: Any) -> str:
    if hasattr(value, "model_dump"):
        return f"{value.metric}/{value.patience}"
    return f"{value:g}" if isinstance(value, float) else str(value)


class Display:
    """Give `show` every Progress; it writes what the console can take."""

    def __init__(
        self,
        console: Console,
        *,
        done_before: int,
        to_train: int | None = None,
        seconds: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: to_train: trials that the budget allows, where it is not all; seconds: of it."""
        self._console = console
        self._done_before = done_before
        self._to_train = to_train
        self._seconds = seconds
        self._clock = clock
        self._started = clock()
        self._first_done_at: float | None = None
        self._said_at = self._started
        self._notice: str | None = None
        # Whatever else prints while the block is live would tear it.
        self._live = Live(console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Write where the sweep stands, and once what it waits for."""
        if progress.notice != self._notice:
            self._notice = progress.notice
            if self._notice:
                self._console.print(self._notice, highlight=False, soft_wrap=True, markup=False)
        if self._live:
            total, done = progress.planned, progress.done + len(progress.failures)
            bar = ProgressBar(total=total, completed=done, width=40)
            lines = [Text(line) for line in self.lines(progress)]
            self._live.update(Group(bar, *lines), refresh=True)
        elif self._clock() - self._said_at >= PLAIN_SECONDS:
            self._said_at = self._clock()
            self._console.print("; ".join(self.lines(progress)), highlight=False, soft_wrap=True)

    def lines(self, progress: Progress) -> list[str]:
        """What is said: counts and time, then the best configuration so far."""
        counts = f"{progress.done} of {progress.planned} trials done, {progress.running} running"
        if progress.diverged:
            counts += f", {progress.diverged} diverged"
        if progress.stopped:
            counts += f", {progress.stopped} stopped by the scheduler"
        if progress.failures:
            counts += f", {len(progress.failures)} failed"
        counts += f"; {duration(self._clock() - self._started)}"
        left = self._time_left(progress)
        if left is not None:
            counts += f", about {duration(left)} left"
        if math.isfinite(self._seconds):
            budget = max(0.0, self._seconds - (self._clock() - self._started))
            counts += f"; the budget ends in {duration(budget)}"
        lines = [counts]
        if progress.best_point is not None:
            seeds = progress.best_num_seeds
            lines.append(
                f"best so far: {100 * progress.best_accuracy:.1f} % at the last epoch, mean of "
                f"{seeds} seed{'s' * (seeds > 1)}: {describe_point(progress.best_point)}"
            )
        return lines

    def _time_left(self, progress: Progress) -> float | None:
        """From the trials that this invocation has ended, at the speed they ended with."""
        ended = progress.done - self._done_before + len(progress.failures)
        if ended < 1:
            return None
        if self._first_done_at is None:
            self._first_done_at = self._clock()
        waiting = progress.planned - progress.done - len(progress.failures)
        if self._to_train is not None:
            waiting = min(waiting, self._to_train - ended)
        # Start-up took its time once; the pace is what came after it.
        elapsed = self._clock() - self._first_done_at
        return waiting * elapsed / (ended - 1) if ended > 1 and elapsed > 2 else None
