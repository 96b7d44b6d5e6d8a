"""How much of a sweep one invocation may train, and what comes first where that is not all."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from raysweep.errors import InputError
from raysweep.planning.grid import Trial


class Budget(NamedTuple):
    """Limits of one invocation; none by default."""

    max_hours: float | None = None  # from the start of the command; the report comes after
    max_trials: int | None = None

    def check(self) -> None:
        """Refuse a limit that is none. Raises: InputError naming it."""
        if self.max_hours is not None and not 0 < self.max_hours < math.inf:
            raise InputError(f"--max-hours {self.max_hours:g}: a number of hours above 0 is needed")
        if self.max_trials is not None and self.max_trials < 1:
            raise InputError(f"--max-trials {self.max_trials}: at least one trial is needed")

    @property
    def seconds(self) -> float:
        """The time limit; infinite where there is none."""
        return math.inf if self.max_hours is None else 3600 * self.max_hours

    def waves(self, left: Sequence[Trial], seeds: Sequence[int]) -> list[list[Trial]]:
        """List the trials that may be trained, those of one wave before those of the next.

        Args: left: in the order of the grid; seeds: of the sweep, in their order.
        """
        if self == Budget():
            return [list(left)]
        most = len(left) if self.max_trials is None else self.max_trials
        chosen: list[list[Trial]] = []
        for wave in by_seed(left, seeds):
            chosen.append(wave[: most - sum(map(len, chosen))])
        return [wave for wave in chosen if wave]


def by_seed(trials: Sequence[Trial], seeds: Sequence[int]) -> list[list[Trial]]:
    """Group trials by seed: one seed of every configuration comes before the next seed of any, so
    that whatever part gets trained can be analysed.

    Within a seed the order is that of the ids, which are digests: a part of the grid then holds
    levels of every axis.
    """
    of_seed: dict[int, list[Trial]] = {seed: [] for seed in seeds}
    for trial in sorted(trials, key=lambda trial: trial.trial_id):
        of_seed[trial.seed].append(trial)
    return list(of_seed.values())
