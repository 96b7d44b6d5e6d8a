"""The packs of one invocation: what is left to train, within the budget and for these slots."""

from collections.abc import Callable, Sequence

from raysweep.planning import packs
from raysweep.planning.budget import Budget, by_seed
from raysweep.planning.grid import Identity, Trial
from raysweep.planning.plan import Plan
from raysweep.spec import Resources
from raysweep.tasks import Loop

# What a pack's start costs, in seconds: a reused actor, or a group of Ray Train workers.
_INLINE_START_S, _GROUP_START_S = 0.02, 10.0
# On a cluster that grows, packs are small enough for this many at the same time.
_GROWN_SLOTS = 16


def plan_packs(
    plan: Plan,
    budget: Budget,
    seconds: Callable[[Trial], float],
    slots: int,
    *,
    growing: bool,
) -> list[list[Trial]]:
    """The packs of one invocation, in the order in which they are to start.

    Args: seconds: that a trial takes; slots, growing: of the cluster.
    """
    seeds, of_loop = plan.spec.seeds, isinstance(plan.source.task, Loop)  # of unknown cost
    if plan.spec.scheduler:
        # One trial a pack: what Tune stops is a Tune trial.
        unlimited = budget == Budget()
        waves = by_seed(plan.left, seeds) if unlimited else budget.waves(plan.left, seeds)
        return [[trial] for wave in waves for trial in wave]
    return [
        pack
        for wave in budget.waves(plan.left, seeds)
        for pack in packs.plan(
            wave,
            seconds,
            slots=max(slots, _GROWN_SLOTS) if growing else slots,
            start_s=0.0 if of_loop else _start_seconds(plan.spec.resources),
            longest_first=budget == Budget(),
        )
    ]


def first_trials(planned: Sequence[Sequence[Trial]], identity: Identity) -> set[str]:
    """Choose the first trial of each distinct model. Returns: their ids."""
    found: dict[tuple[str, ...], str] = {}
    for pack in planned:
        for trial in pack:
            found.setdefault(identity.key(trial.hyperparameters), trial.trial_id)
    return set(found.values())


def firsts_first(
    planned: Sequence[Sequence[Trial]], identity: Identity, slots: int
) -> list[list[Trial]]:
    """Let one trial of each distinct model come before all others, so that a model that can't be
    trained is found when the sweep has cost little.

    They are dealt out to the packs that start at the same time, where they come first.
    """
    first = first_trials(planned, identity)
    chosen = [trial for pack in planned for trial in pack if trial.trial_id in first]
    rest = [[trial for trial in pack if trial.trial_id not in first] for pack in planned]
    if max(map(len, planned), default=1) == 1:  # packs of one trial stay such
        return [[trial] for trial in chosen] + [pack for pack in rest if pack]
    at_once = max(1, min(slots, len(planned)))
    for place, trial in enumerate(chosen):
        rest[place % at_once].insert(place // at_once, trial)
    return [pack for pack in rest if pack]


def _start_seconds(resources: Resources) -> float:
    return _INLINE_START_S if resources.workers == 1 else _GROUP_START_S
