"""How often each running trial sends its rows, and which one has stopped sending them."""

from collections.abc import Mapping
from typing import NamedTuple

# A trial stands still when its rows have been missing for so many of its usual epochs, and for so
# long at least; where no epoch of the sweep is known yet, for the longer time.
STILL_EPOCHS, STILL_S, FIRST_ROW_S = 20, 60.0, 600.0


class Standing(NamedTuple):
    """A trial that stands still."""

    trial_id: str
    where: str  # its process, in words
    seconds: float  # since its last row, or its start
    usual_s: float | None  # what an epoch takes; None: no epoch of this sweep is known


class _Trial:
    def __init__(self, now: float) -> None:
        self.began = self.heard = now
        self.epochs = 0

    def usual_s(self) -> float | None:
        return (self.heard - self.began) / self.epochs if self.epochs else None


class Pace:
    """Is told what happens to trials, by a clock of the caller's."""

    def __init__(self) -> None:
        self._trials: dict[str, _Trial] = {}
        self._slowest: float | None = None  # usual epoch of the trials that have ended

    def begin(self, trial_id: str, now: float) -> None:
        """A trial was claimed."""
        self._trials[trial_id] = _Trial(now)

    def hear(self, trial_id: str, num_epochs: int, now: float) -> None:
        """Rows of so many epochs came."""
        trial = self._trials.setdefault(trial_id, _Trial(now))
        trial.epochs += num_epochs
        trial.heard = now

    def end(self, trial_id: str) -> None:
        """A trial trains no more."""
        trial = self._trials.pop(trial_id, None)
        usual = trial and trial.usual_s()
        if usual is not None:
            self._slowest = max(usual, self._slowest or 0.0)

    def standing(self, where: Mapping[str, str], now: float) -> tuple[Standing, ...]:
        """List the trials that stand still.

        Args: where: trial id -> process, of all that are claimed.
        """
        known = [trial.usual_s() for trial in self._trials.values()]
        slowest = max((s for s in (*known, self._slowest) if s is not None), default=None)
        found: list[Standing] = []
        for trial_id, process in where.items():
            # One that an earlier recorder heard of counts from now on.
            trial = self._trials.setdefault(trial_id, _Trial(now))
            own = trial.usual_s()
            usual = slowest if own is None else own
            limit = FIRST_ROW_S if usual is None else max(STILL_S, STILL_EPOCHS * usual)
            if now - trial.heard > limit:
                found.append(Standing(trial_id, process, now - trial.heard, usual))
        return tuple(found)
