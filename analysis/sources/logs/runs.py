"""Parts -> runs: which rows are one run, its settings, its seed, its unit, its first epoch."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from analysis.sources import names
from analysis.sources.formats.parts import Part, Row, cell
from analysis.sources.logs import num_val
from analysis.sources.logs.clock import Course, Evaluation, courses
from analysis.sources.logs.roles import SCORE_ROLE, STEP, TRIAL, Roles, assign

EpochZero: TypeAlias = Literal["first", "untrained"]
_ACCURACIES = ("val_accuracy", "train_accuracy", "train_accuracy_running")
_PERCENT = 1.5  # an accuracy above it is no fraction
_IN_NAMES = re.compile(r"(?P<key>[A-Za-z][A-Za-z_.\-]*)=(?P<value>[^,;/\s]+)")
_SHORT = re.compile(
    r"(?<![A-Za-z])(?P<key>seed|lr|bs|batch|batch_size|wd|dropout)[_\-]?"
    r"(?P<value>\d[\d.]*(?:e-?\d+)?)(?![A-Za-z\d])"
)
_LONG = {"key", "metric", "name", "tag", "variable", "metric_name"}
_STARTS = 10  # steps between evaluations from which on step 0 is before training


@dataclass
class Options:
    """What a person says of a log."""

    columns: Mapping[str, str] = field(default_factory=dict)  # role -> name
    config: Sequence[str] | None = None
    seed: str | None = None
    trial: str | None = None
    ignore: Collection[str] = ()
    percent: bool | None = None  # None: judged for each run
    num_val: int | None = None
    epoch_zero: EpochZero | None = None
    score: str | None = None
    lower_is_better: bool | None = None


@dataclass
class Run:
    """One training, as a log tells it."""

    name: str
    tool: str
    roles: Roles
    course: Course
    settings: dict[str, Any]
    seed: Any = None
    num_val: int | None = None  # said, or logged
    proposed_num_val: int | None = None  # by the accuracies
    is_percent: bool = False
    initial_train_loss: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def evaluations(self) -> list[Evaluation]:
        """Return what was measured, in order."""
        return self.course.evaluations


def shaped(part: Part) -> Part:
    """Give each metric of each stage a name, where columns say the metric or the stage."""
    return _staged(_melted(part))


def runs_of(part: Part, options: Options) -> tuple[list[Run], Roles]:
    """Find the runs in a shaped part, and what its names are, also where there is no run."""
    asked = {role: name for role, name in options.columns.items() if name in part.names()}
    if options.trial in part.names():
        asked[TRIAL] = str(options.trial)
    if options.seed in part.names():
        asked["seed"] = str(options.seed)
    roles = assign(part, asked, options.ignore, options.score)
    found: list[Run] = []
    for name, rows, settings in _grouped(part, roles, options):
        several = courses(rows, roles)
        for number, course in enumerate(several, 1):
            run = name if len(several) == 1 else f"{name} ({number})"
            if course.evaluations:
                found.append(_run(part, run, rows, course, roles, settings, options))
    return found, roles


def _melted(part: Part) -> Part:
    """Rows of a metric's name and its value, as rows with that name."""
    first = part.rows[0]
    keys = [name for name in first if names.plain(name) in _LONG and isinstance(first[name], str)]
    values = [name for name in first if names.plain(name) in ("value", "metric_value")]
    if len(keys) != 1 or len(values) != 1:
        return part
    key, value = keys[0], values[0]
    rows = [
        {n: v for n, v in row.items() if n not in (key, value)} | {str(row.get(key)): row[value]}
        for row in part.rows
        if value in row
    ]
    return replace(part, rows=rows)


def _staged(part: Part) -> Part:
    """With the stage that a column says before the names of its row."""
    for mode in [name for name in part.names() if names.is_mode(name)]:
        told = {row.get(mode) for row in part.rows} - {None}
        if not told or not all(isinstance(one, str) and names.is_stage(one) for one in told):
            continue
        rows: list[Row] = []
        for row in part.rows:
            stage = row.get(mode)
            rows.append(
                {
                    f"{stage}/{n}" if stage and _unstaged(n) else n: v
                    for n, v in row.items()
                    if n != mode
                }
            )
        return replace(part, rows=rows)
    return part


def _unstaged(name: str) -> bool:
    said = names.meaning(name)
    return bool(said) and said.stage is None and said.quantity != names.RATE


def _grouped(
    part: Part, roles: Roles, options: Options
) -> Iterable[tuple[str, list[Row], dict[str, Any]]]:
    """(name, rows, settings) of every run that columns tell apart."""
    by = [roles.of[role] for role in (TRIAL, "seed") if role in roles.of]
    candidates = _candidates(part, roles, options)
    if TRIAL not in roles.of:
        by += _telling(part, roles, [*candidates, *_rate(roles)], by)
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in part.rows:
        groups.setdefault(tuple(_known(row.get(name)) for name in by), []).append(row)
    if len(groups) > 1 and TRIAL not in roles.of:
        # A row without any of them (a summary, a header) is of no run.
        groups = {key: rows for key, rows in groups.items() if any(v is not None for v in key)}
    for key, rows in groups.items():
        told = ", ".join(str(value) for value in key if value is not None)
        name = part.name if len(groups) == 1 and TRIAL not in roles.of else told or part.name
        if TRIAL in roles.of and len(by) > 1 and not _several(groups, 0):
            name = str(key[0])
        constant = {n: v for n in candidates if (v := _constant(rows, n)) is not None}
        chosen = {n: v for n in by if (v := _constant(rows, n)) is not None and n in candidates}
        yield name, rows, {**part.settings, **constant, **chosen}


def _several(groups: Mapping[tuple[Any, ...], Any], place: int) -> bool:
    """Tell whether groups share a value at a place of their keys."""
    return len({key[place] for key in groups}) < len(groups)


def _known(value: Any) -> Any:
    return value if isinstance(value, int | float | str | bool) else None


def _rate(roles: Roles) -> list[str]:
    return [roles.of["learning_rate"]] if "learning_rate" in roles.of else []


def _candidates(part: Part, roles: Roles, options: Options) -> list[str]:
    """Columns that may be settings: no metric, no clock, nothing of the machine."""
    if options.config is not None:
        wanted = {names.plain(name) for name in options.config}
        return [name for name in part.names() if names.plain(name) in wanted]
    return [
        name
        for name in part.names()
        if name not in options.ignore and not roles.roles_of(name) and _may_be_setting(name, roles)
    ]


def _may_be_setting(name: str, roles: Roles) -> bool:
    if _is_size_of_batch(name):
        return True
    measured = name in roles.metrics or names.stage_of(name) is not None
    return bool(name) and not measured and not names.is_machine(name)


def _is_size_of_batch(name: str) -> bool:
    words = set(names.words_of(name))
    return {"batch", "size"} <= words or words == {"batchsize"}


def _constant(rows: Sequence[Row], name: str) -> Any:
    """The one value that a column has in these rows; None where it has several, or none."""
    told = {_known(value) for row in rows if (value := row.get(name)) is not None}
    return next(iter(told)) if len(told) == 1 and len(rows) > 1 else None


def _telling(part: Part, roles: Roles, candidates: Sequence[str], by: Sequence[str]) -> list[str]:
    """The columns that tell runs apart where the clock alone doesn't: each group is a whole run."""
    clock = roles.of.get("epoch") or roles.of.get(STEP)
    validation = [roles.of[r] for r in ("val_accuracy", "val_loss", SCORE_ROLE) if r in roles.of]
    rows = [row for row in part.rows if any(row.get(name) is not None for name in validation)]
    if clock is None or _unique(rows, [*by, clock]):
        return []
    some = [n for n in candidates if len({_known(row.get(n)) for row in rows}) > 1]
    for chosen in (some[:-1] if some and some[-1] in _rate(roles) else some, some):
        groups: dict[tuple[Any, ...], list[Any]] = {}
        for row in rows:
            key = tuple(_known(row.get(name)) for name in [*by, *chosen])
            groups.setdefault(key, []).append(row.get(clock))
        whole = all(len(ticks) > 1 and len(set(ticks)) == len(ticks) for ticks in groups.values())
        starts = {min(ticks, key=_order) for ticks in groups.values()}
        if chosen and whole and len(starts) == 1:
            return list(chosen)
    return []


def _order(value: Any) -> tuple[bool, Any]:
    return (not isinstance(value, int | float), value if isinstance(value, int | float) else 0)


def _unique(rows: Sequence[Row], some: Sequence[str]) -> bool:
    keys = [tuple(_known(row.get(name)) for name in some) for row in rows]
    return len(set(keys)) == len(keys)


def _run(
    part: Part,
    name: str,
    rows: Sequence[Row],
    course: Course,
    roles: Roles,
    settings: Mapping[str, Any],
    options: Options,
) -> Run:
    evaluations = course.evaluations
    own = dict(settings)
    own |= {} if own or part.tool == "Optuna" else _from_name(name)
    rates = {rate for one in evaluations for rate in one.rates}
    if len(rates) == 1 and not any(names.plain(n) in ("lr", "learning_rate") for n in own):
        own["learning_rate"] = rates.pop()
    run = Run(name, part.tool, roles, course, own, notes=[*course.notes])
    run.seed = _seed(run, options)
    logged = {_known(one.values.get("num_val")) for one in evaluations} - {None}
    logged_size = next(iter(logged)) if len(logged) == 1 else None
    run.num_val = options.num_val or logged_size or part.num_val or _by_speed(rows)
    _judge_unit(run, options)
    missing = sum("val_loss" not in one.values for one in evaluations)
    if 0 < missing < len(evaluations):
        run.notes.append(
            f"{missing} of {len(evaluations)} evaluations have no validation loss: its rise is not "
            "told (pandas writes NaN as an empty cell)"
        )
    _drop_what_is_empty(run)
    _first_epoch(run, options)
    logged_values = [one.values.get("logged_val_accuracy") for one in run.evaluations]
    values = [v for one in logged_values if (v := _finite(one)) is not None]
    if run.num_val is None and "val_accuracy" not in roles.errors:
        run.proposed_num_val = num_val.proposed(values)
        if run.proposed_num_val and num_val.is_of_batches(run.proposed_num_val):
            run.notes.append(
                f"{run.proposed_num_val} examples would fit, but so does a mean over batches of 64 "
                "or more: ask the data set"
            )
        if num_val.is_averaged(values):
            run.notes.append(
                f"the accuracies are k of n for no n up to 200,000: {roles.of['val_accuracy']!r} "
                "may be a mean over batches, in which a short last batch counts too much"
            )
    _constant_metric(run)
    return run


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and value == value else None


def _from_name(name: str) -> dict[str, Any]:
    """Settings that a name spells: `lr=0.1,seed=3`, `net_seed3`; and the rest of the name."""
    found: dict[str, Any] = {}
    rest = name
    for pattern in (_IN_NAMES, _SHORT):
        for match in pattern.finditer(rest):
            key = _known_key(match["key"].strip("_-."))
            found.setdefault(key, cell(match["value"]))
            rest = rest.replace(f"{key}{match[0][len(match['key']) :]}", "")
        rest = pattern.sub("", rest) if pattern is _SHORT else rest
    rest = rest.strip(" _-,./")
    return {**found, "run": rest} if found and rest else found


def _known_key(key: str) -> str:
    """What a key ends with that is known as a setting: `lr` of `net_lr`; else the whole key."""
    words = key.split("_")
    ends = ("_".join(words[place:]) for place in range(len(words)))
    return next((end for end in ends if end.lower() in names.words("setting")), key)


def _seed(run: Run, options: Options) -> Any:
    for key in [key for key in run.settings if names.is_seed(key) or key == options.seed]:
        run.seed = run.settings.pop(key)
    told = {_known(one.values.get("seed")) for one in run.evaluations} - {None}
    return next(iter(told)) if len(told) == 1 else run.seed


def _by_speed(rows: Sequence[Row]) -> int | None:
    """Examples by Hugging Face's runtime and samples per second, where all evaluations agree."""
    found: set[int] = set()
    for row in rows:
        speed, runtime = row.get("eval_samples_per_second"), row.get("eval_runtime")
        if isinstance(speed, int | float) and isinstance(runtime, int | float):
            found.add(round(speed * runtime))
    return max(found) if found and max(found) - min(found) <= 0.002 * max(found) else None


def _judge_unit(run: Run, options: Options) -> None:
    """Percent or fraction: by the largest of all accuracies of this run together."""
    said = [run.roles.of[role] for role in _ACCURACIES if role in run.roles.of]
    values = [
        number
        for one in run.evaluations
        for some in ([one.values.get("val_accuracy")], *map(one.training.get, _ACCURACIES))
        for value in some or []
        if (number := _finite(value)) is not None
    ]
    named = any("(%)" in name or "%" in name for name in said)
    above = max((v for v in values if v != float("inf")), default=0.0) > _PERCENT
    run.is_percent = options.percent if options.percent is not None else named or above
    scale = 100.0 if run.is_percent else 1.0

    def fraction(role: str) -> Callable[[float], float]:
        wrong = run.roles.of.get(role) in run.roles.errors
        return lambda value: 1 - value / scale if wrong else value / scale

    for one in run.evaluations:
        for role in _ACCURACIES:
            convert = fraction(role)
            if _finite(one.values.get(role)) is not None:
                one.values[f"logged_{role}"] = one.values[role]
                one.values[role] = convert(one.values[role])
            if role in one.training:
                one.training[role] = [convert(value) for value in one.training[role]]


def _drop_what_is_empty(run: Run) -> None:
    """A metric that is NaN in every evaluation was not measured; it is no divergence."""
    for role in ("val_loss", SCORE_ROLE, "val_accuracy"):
        values = [one.values[role] for one in run.evaluations if role in one.values]
        if values and not any(_finite(value) is not None for value in values):
            for one in run.evaluations:
                one.values.pop(role, None)
            run.notes.append(f"{run.roles.of[role]!r} is nan throughout: left out")
    for role in ("train_loss_running", "train_accuracy_running"):
        told = [value for one in run.evaluations for value in one.training.get(role, [])]
        if told and not any(_finite(value) is not None for value in told):
            for one in run.evaluations:
                one.training.pop(role, None)
            run.notes.append(f"{run.roles.of[role]!r} is nan throughout: left out")


def _first_epoch(run: Run, options: Options) -> None:
    """Tell whether an evaluation at 0 is of the first epoch, or of the untrained network."""
    first, rest = run.evaluations[0], run.evaluations[1:]
    tick = first.epoch if run.course.clock == "epoch" else first.step
    if tick != 0 or run.course.clock == "order":
        if tick and run.course.clock == "epoch" and run.course.every == 1 and tick > 1:
            run.notes.append(f"the first evaluation is of epoch {tick:g}, and counts as the first")
        return
    clock = run.course.clock
    if options.epoch_zero is not None:
        untrained = options.epoch_zero == "untrained"
        why = "as you say"
    elif first.training:
        untrained, why = False, "a training metric stands beside it"
    elif first.step:
        untrained, why = False, f"it comes after step {first.step:g}"
    elif rest and sum(bool(one.training) for one in rest) > 0.8 * len(rest):
        untrained, why = True, "all others have a training metric, and it has none"
    elif clock == STEP and run.course.every >= _STARTS:
        untrained, why = True, f"the next one comes after {run.course.every:g} steps"
    else:
        untrained = False
        why = "nothing tells otherwise; if it is the untrained network: --epoch-zero untrained"
    if not untrained or not rest:
        run.notes.append(f"{clock} 0 is taken for the first {clock}: {why}")
        return
    run.notes.append(f"{clock} 0 is the untrained network ({why}), and left out")
    run.initial_train_loss = next(iter(first.training.get("train_loss", [])), None)
    run.course.evaluations = rest
    for one in rest:
        one.number -= rest[0].number - 1 if one is not rest[0] else 0
    rest[0].number = 1


def _constant_metric(run: Run) -> None:
    values = [one.values["val_accuracy"] for one in run.evaluations if "val_accuracy" in one.values]
    if len(values) > 2 and len(set(values)) == 1:
        run.notes.append(
            f"the accuracy is {values[0]:g} in every one of {len(values)} evaluations: the metric "
            "is broken, or the validation set has one class"
        )
