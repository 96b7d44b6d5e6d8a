"""Which trials share a warm worker group: longest first, few enough that start-up vanishes."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from raysweep.planning.grid import Trial
from raysweep.spec import Hyperparameters

# A pack is worth its start when that takes at most this share of its time.
_MAX_START_SHARE = 0.05


class Speed(NamedTuple):
    """What a trial's time is made of, in seconds."""

    per_step: float
    per_example: Callable[[Hyperparameters], float]  # by the trial's model
    problem: str | None = None  # why it is not known of some model, which then counts nothing

    def seconds(self, fields: Hyperparameters, n_train: int) -> float:
        """Estimate the seconds that a whole trial takes."""
        steps = -(-n_train // fields.batch_size)
        an_epoch = steps * self.per_step + n_train * self.per_example(fields)
        return fields.epochs * an_epoch


def plan(
    trials: Sequence[Trial],
    seconds: Callable[[Trial], float],
    *,
    slots: int,
    start_s: float,
    longest_first: bool = True,
) -> list[list[Trial]]:
    """Divide trials into packs, in the order in which the packs are to start.

    Guided self-scheduling: each pack takes half of what every slot would still get, so the first
    packs are large, the last ones small, and all slots end together. No pack is so small that its
    start weighs more than _MAX_START_SHARE, unless slots would stay empty; a trial that is long
    enough by that rule is a pack of its own.

    Args: slots: packs that train at the same time; start_s: what a pack's start costs;
        longest_first: else in the order given.
    """
    ordered = sorted(trials, key=seconds, reverse=True) if longest_first else trials
    remaining = total = sum(map(seconds, ordered))
    worth_a_start = start_s / _MAX_START_SHARE
    packs: list[list[Trial]] = []
    size = target = 0.0
    for trial in ordered:
        cost = seconds(trial)
        if not packs or size >= target * (1 - 1e-9):
            packs.append([])
            half_of_what_is_left = remaining / (2 * slots)
            size, target = 0.0, max(half_of_what_is_left, min(worth_a_start, total / slots))
            if cost >= worth_a_start > 0:
                target = cost
        packs[-1].append(trial)
        size += cost
        remaining -= cost
    return packs


def done_within(
    packs: Sequence[Sequence[Trial]],
    seconds: Callable[[Trial], float],
    slots: int,
    limit_s: float,
) -> int:
    """Estimate the number of trials that have ended after `limit_s` seconds."""
    return sum(end <= limit_s for end in _ends(packs, seconds, slots))


def makespan(
    packs: Sequence[Sequence[Trial]], seconds: Callable[[Trial], float], slots: int
) -> float:
    """Estimate the wall time of all packs, in seconds."""
    return max(_ends(packs, seconds, slots), default=0.0)


def _ends(
    packs: Sequence[Sequence[Trial]], seconds: Callable[[Trial], float], slots: int
) -> Iterator[float]:
    """Estimate after how many seconds each trial ends; the first free slot takes a pack."""
    free = [0.0] * max(1, slots)
    for pack in packs:
        first = min(range(len(free)), key=free.__getitem__)
        for trial in pack:
            free[first] += seconds(trial)
            yield free[first]
