"""The rows of one run -> its evaluations: the k-th one is evaluation k, and its label is kept."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.sources.formats.parts import Row
from analysis.sources.logs.roles import STEP, VALIDATION_ROLES, Roles

_TRAINING = ("train_loss_running", "train_accuracy_running", "train_loss", "train_accuracy")
_CLOCKS = ("epoch", STEP, TRIAL := "trial_id")
_REGULAR = 0.75  # share of equal distances from which on the others are gaps
_LONGEST_GAP = 50  # evaluations


@dataclass
class Evaluation:
    """What was measured at one moment: role -> value, and where in the log it stands."""

    values: Row
    epoch: float | None = None
    step: float | None = None
    training: dict[str, list[float]] = field(default_factory=dict)  # since the one before
    rates: list[float] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)  # every score, by the log's name
    number: int = 0  # 1, 2, ...; a number that is left out is an evaluation that is missing


@dataclass
class Course:
    """One run's evaluations, and what was odd about them."""

    evaluations: list[Evaluation]
    notes: list[str]
    clock: str  # what orders them: epoch, step or order
    every: float = 1.0  # epochs or steps from one evaluation to the next


def courses(rows: Sequence[Row], roles: Roles) -> list[Course]:
    """Find the runs in rows that stand in the order of writing: a clock that falls back to its
    beginning starts another run."""
    found = _evaluations(rows, roles)
    found, repeats = _without_repeats(found)
    clock = _clock(found)
    runs, resumed = _restarts(found, clock)
    return [_course(run, clock, repeats if n == 0 else 0, resumed) for n, run in enumerate(runs)]


def _value(row: Row, roles: Roles, role: str) -> Any:
    return row.get(roles.of[role]) if role in roles.of else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def _evaluations(rows: Sequence[Row], roles: Roles) -> list[Evaluation]:
    """Rows with a validation metric; those at one moment are one evaluation, and what was logged
    while training goes to the evaluation that follows it, or that has its epoch."""
    found: list[Evaluation] = []
    waiting = Evaluation({})
    last: Evaluation | None = None
    others = [role for role in roles.of if role not in (*_TRAINING, *_CLOCKS, "learning_rate")]
    for row in rows:
        epoch, step = (_number(_value(row, roles, role)) for role in ("epoch", STEP))
        values = {role: value for role in others if (value := _value(row, roles, role)) is not None}
        training = {
            role: value
            for role in _TRAINING
            if (value := _number(_value(row, roles, role))) is not None
        }
        rate = _number(_value(row, roles, "learning_rate"))
        scores = {
            score.name: value
            for score in roles.scores
            if (value := _number(row.get(score.name))) is not None
        }
        judged = any(_number(values.get(role)) is not None for role in VALIDATION_ROLES)
        same = last is not None and _at_one_moment(last, epoch, step)
        if judged:
            fits = same and last and not (values.keys() & last.values.keys() & {*VALIDATION_ROLES})
            if fits and last and not waiting.training:
                last.values |= values
            else:
                last = Evaluation(values, epoch, step, waiting.training, waiting.rates)
                found.append(last)
                waiting = Evaluation({})
            target = last
        elif same and last and not (training.keys() & last.training.keys()):
            target = last  # some tools write an epoch's training metrics behind its validation
            last.values = values | last.values
        else:
            target = waiting
            if epoch is not None and waiting.epoch is not None and epoch > waiting.epoch:
                waiting.training = {}  # the mean is of the evaluation's own epoch
            waiting.epoch = epoch if _whole(epoch) else None
        assert target is not None
        for role, value in training.items():
            target.training.setdefault(role, []).append(value)
        target.scores |= scores
        if rate is not None:
            target.rates.append(rate)
    return found


def _whole(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value == int(value)


def _at_one_moment(last: Evaluation, epoch: float | None, step: float | None) -> bool:
    same_epoch = epoch is None or last.epoch is None or epoch == last.epoch
    if step is not None and last.step is not None:
        return step == last.step and same_epoch
    return epoch is not None and epoch == last.epoch


def _without_repeats(found: list[Evaluation]) -> tuple[list[Evaluation], int]:
    """An evaluation with no training since the last one is not another one: the first counts."""
    kept: list[Evaluation] = []
    num_repeats = 0
    for one in found:
        before = kept[-1] if kept else None
        told = one.epoch is not None or one.step is not None
        still = before and told and (one.epoch, one.step) == (before.epoch, before.step)
        trained = before and any(
            values != before.training.get(role) for role, values in one.training.items()
        )
        if still and not trained:
            num_repeats += 1
        else:
            kept.append(one)
    return kept, num_repeats


def _clock(found: Sequence[Evaluation]) -> str:
    """What orders the evaluations: epochs, unless several fall into one; then steps."""
    epochs = [one.epoch for one in found if one.epoch is not None]
    steps = [one.step for one in found if one.step is not None]
    enough = len(found)
    if len(epochs) == enough and not _crowded(epochs):
        return "epoch"
    if len(steps) == enough and not _crowded(steps):
        return STEP
    return "order"


def _crowded(values: Sequence[float]) -> bool:
    """Whether neighbours are often equal: several evaluations between two ticks of the clock."""
    equal = sum(a == b for a, b in itertools.pairwise(values))
    return equal > 0.3 * max(len(values) - 1, 1) and len(values) > 2


def _tick(one: Evaluation, clock: str) -> float:
    value = one.epoch if clock == "epoch" else one.step
    assert value is not None
    return value


def _restarts(found: list[Evaluation], clock: str) -> tuple[list[list[Evaluation]], int]:
    """Runs by where the clock falls, and how many evaluations a resumed run has made again."""
    if clock == "order":
        return [found], 0
    ticks = [_tick(one, clock) for one in found]
    if len(set(ticks)) == len(ticks):
        return [sorted(found, key=lambda one: _tick(one, clock))], 0
    runs: list[list[Evaluation]] = []
    resumed = 0
    for one, tick in zip(found, ticks, strict=True):
        first = _tick(runs[-1][0], clock) if runs else math.inf
        last = _tick(runs[-1][-1], clock) if runs else math.inf
        if not runs or (tick <= last and tick <= first):
            runs.append([one])
            continue
        if tick <= last:  # from a checkpoint: what was made again counts
            kept = [other for other in runs[-1] if _tick(other, clock) < tick]
            resumed += len(runs[-1]) - len(kept)
            runs[-1] = kept
        runs[-1].append(one)
    return runs, resumed


def _course(run: list[Evaluation], clock: str, repeats: int, resumed: int) -> Course:
    """Numbers for the evaluations of one run: regular distances show what is missing."""
    notes: list[str] = []
    if repeats:
        times = "one evaluation was" if repeats == 1 else f"{repeats} evaluations were"
        notes.append(
            f"{times} repeated with no training in between (a last check, of the best weights "
            "perhaps): the first one counts"
        )
    if resumed:
        notes.append(
            f"training was resumed from an earlier {clock}: {resumed} evaluations were made again, "
            "and the later ones count"
        )
    if clock == "order" or len(run) < 2:
        for number, one in enumerate(run, 1):
            one.number = number
        return Course(run, notes, clock)
    ticks = [_tick(one, clock) for one in run]
    apart = [round(b - a, 6) for a, b in itertools.pairwise(ticks)]
    every, times = Counter(apart).most_common(1)[0]
    multiples = [distance / every for distance in apart]
    regular = times >= _REGULAR * len(apart) and all(
        abs(m - round(m)) < 1e-6 and round(m) <= _LONGEST_GAP for m in multiples
    )
    place = 1
    for number, one in enumerate(run):
        one.number = number + 1 if not regular else place
        if regular and number < len(multiples):
            place += round(multiples[number])
    missing = run[-1].number - len(run)
    if missing:
        many = "evaluation is" if missing == 1 else "evaluations are"
        notes.append(
            f"{missing} {many} missing between {clock} {ticks[0]:g} and {ticks[-1]:g}: what would "
            "need more than there is, is left out"
        )
    if not regular:
        notes.append(
            f"the {clock}s of the evaluations are not evenly spaced ({ticks[0]:g}, {ticks[1]:g}, "
            f"... {ticks[-1]:g}): the k-th one counts as evaluation k"
        )
    return Course(run, notes, clock, every if regular else 1.0)
