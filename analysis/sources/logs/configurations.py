"""Runs of one log -> those that count, the settings that tell them apart, and their seeds."""

import math
from collections.abc import Sequence

from analysis.columns import estimates
from analysis.sources import names
from analysis.sources.columns import KNOWN
from analysis.sources.formats.parts import PRINTED
from analysis.sources.logs.roles import SCORE_ROLE, VALIDATION_ROLES
from analysis.sources.logs.runs import Options, Run
from analysis.sources.tidy import RESERVED
from raysweep.errors import InputError, shown

RUN = "run"  # the axis of runs of which nothing else is known
_FEWEST_VALUES = 4  # different ones, from which on equal curves are one run
_ROUNDED = 6e-4  # how far apart values of one curve are that two tools wrote
_MOST_CONSTANT = 12  # settings that are the same in all runs, kept to be shown
_KINDS = ("val_accuracy", SCORE_ROLE, "val_loss")


def counted(runs: Sequence[Run], options: Options, notes: list[str]) -> list[Run]:
    """Keep the runs that have the metric that the page is of, each once, with names that differ.

    Args: notes: takes what is left out.
    """
    kept = _of_one_kind(runs, options, notes)
    kept = _without_copies(kept, notes)
    seen: dict[str, int] = {}
    for run in kept:
        seen[run.name] = seen.get(run.name, 0) + 1
        if seen[run.name] > 1:
            run.name = f"{run.name} ({seen[run.name]})"
    return kept


def _of_one_kind(runs: Sequence[Run], options: Options, notes: list[str]) -> list[Run]:
    """Evaluations with accuracy, where any run has it; else with a score, else with a loss."""
    has = [
        role
        for role in _KINDS
        if any(role in one.values for run in runs for one in run.evaluations)
    ]
    if not has:
        return []
    kind = SCORE_ROLE if options.score is not None else has[0]
    kept = [run for run in runs if any(kind in one.values for one in run.evaluations)]
    if without := len(runs) - len(kept):
        notes.append(f"{without} run{'s' * (without > 1)} without {kind}: left out")
    for run in kept:
        evaluations = [one for one in run.evaluations if kind in one.values]
        first = evaluations[0].number - 1
        for one in evaluations:
            one.number -= first
        run.course.evaluations = evaluations
    return kept


def _without_copies(runs: Sequence[Run], notes: list[str]) -> list[Run]:
    """A run that two loggers wrote is one run; what was printed has the fewest digits."""
    kept: list[Run] = []
    for run in sorted(runs, key=lambda one: one.tool == PRINTED):
        twin = next((other for other in kept if _is_copy(run, other)), None)
        if twin is None:
            kept.append(run)
        else:
            notes.append(f"{run.name} ({run.tool}) is a copy of {twin.name}: left out")
    counted_ones = {id(run) for run in kept}
    return [run for run in runs if id(run) in counted_ones]


def _is_copy(run: Run, other: Run) -> bool:
    """Tell whether two tools tell the same curve and no other settings of it."""
    if run.tool == other.tool or len(run.evaluations) != len(other.evaluations):
        return False
    shared = other.settings.keys() & run.settings.keys()
    if run.seed != other.seed or any(run.settings[k] != other.settings[k] for k in shared):
        return False
    told = [
        (one.values[role], two.values[role])
        for one, two in zip(run.evaluations, other.evaluations, strict=True)
        for role in VALIDATION_ROLES
        if role in one.values and role in two.values
    ]
    different = {value for value, _ in told}
    return len(different) >= _FEWEST_VALUES and all(
        math.isclose(one, two, rel_tol=_ROUNDED, abs_tol=_ROUNDED) for one, two in told
    )


def settle(runs: Sequence[Run], options: Options, notes: list[str]) -> list[str]:
    """Find the settings that tell configurations apart, and write seeds into the runs.

    Runs of which nothing is known are configurations of their own, never seeds of one.

    Raises: InputError where an option names what is not there.
    """
    keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    keys = [key for key in keys if key not in options.ignore and _is_setting(key)]
    if options.config is not None:
        keys = [_named(name, keys) for name in options.config]
    _check_seed(runs, keys, options)
    varied = [key for key in keys if len({repr(run.settings.get(key)) for run in runs}) > 1]
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(repr([run.settings.get(key) for key in varied]), []).append(run)
    mixed = [group for group in groups.values() if not _has_seeds(group)]
    if mixed and options.config is None:
        for run in runs:
            run.settings[RUN] = run.name
        _drop_seeds(runs)
        return [RUN]
    for group in mixed:
        for number, run in enumerate(group):
            run.seed = number
    if mixed:
        notes.append("runs that are alike in all of --config are taken for seeds, and numbered")
    if all(len(group) == 1 for group in groups.values()) and any(r.seed is None for r in runs):
        _drop_seeds(runs)
    for run in runs:
        if run.seed is None and any(other.seed is not None for other in runs):
            run.seed = 0
    config = keys if len(keys) <= _MOST_CONSTANT else varied
    return [_renamed(key, runs) for key in config]


def _has_seeds(group: Sequence[Run]) -> bool:
    seeds = {str(run.seed) for run in group if run.seed is not None}
    return len(group) == 1 or len(seeds) == len(group)


def _drop_seeds(runs: Sequence[Run]) -> None:
    for run in runs:
        run.seed = None


def _check_seed(runs: Sequence[Run], keys: Sequence[str], options: Options) -> None:
    if options.seed == RUN:
        for number, run in enumerate(runs):
            run.seed = number
    elif options.seed is not None and all(run.seed is None for run in runs):
        raise InputError(
            f"--seed {shown(options.seed)}: there is no such column or setting. Settings: "
            f"{', '.join(keys) or 'none'}; --seed run makes every run a seed"
        )


def _is_setting(key: str) -> bool:
    result = {"metric", "best"} & set(names.words_of(key))
    if (names.is_machine(key) and key != RUN) or result:
        return False
    said = names.meaning(key)
    return said is None or said.quantity == names.RATE


def _named(name: str, keys: Sequence[str]) -> str:
    found = next((key for key in keys if names.plain(key) == names.plain(name)), None)
    if found is None:
        raise InputError(
            f"column {shown(name)} can't be a hyperparameter: it is not there, or it changes "
            f"within a run. Constant in every run: {', '.join(keys) or 'none'}"
        )
    return found


def _renamed(key: str, runs: Sequence[Run]) -> str:
    """A name that nothing has which the analysis makes or knows."""
    if key not in estimates() | RESERVED | {*KNOWN} - {"learning_rate"}:
        return key
    free = f"{key} (setting)"
    for run in runs:
        run.settings[free] = run.settings.get(key)
    return free


def numbered(runs: Sequence[Run]) -> dict[str, int | None]:
    """Turn seeds into whole numbers; those that are none are numbered as they appear."""
    told = [run.seed for run in runs if run.seed is not None]
    if all(isinstance(one, int) and not isinstance(one, bool) for one in told):
        return {run.name: run.seed for run in runs}
    distinct = {one: place for place, one in enumerate(dict.fromkeys(map(str, told)))}
    return {run.name: None if run.seed is None else distinct[str(run.seed)] for run in runs}
