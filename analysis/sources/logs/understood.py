"""What was understood of a log, as one table with the log's own names, and as notes."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from analysis.sources.logs.roles import SCORE_ROLE, STEP, TRIAL, VALIDATION_ROLES, Roles
from analysis.sources.logs.runs import Run
from raysweep.errors import shown

_WORDS = {
    "val_accuracy": "validation accuracy",
    "val_loss": "validation loss",
    SCORE_ROLE: "validation score",
    "val_refined_loss": "refined loss",
    "train_accuracy": "training accuracy",
    "train_accuracy_running": "training accuracy",
    "train_loss": "training loss",
    "train_loss_running": "training loss",
    "learning_rate": "learning rate",
    "epoch": "epoch",
    STEP: "step",
    TRIAL: "run",
}
_RUNNING = ", as accumulated while training"
_MOST = 8  # names in a line
_WRONG = (
    "wrong? --column val_accuracy=NAME  --config A,B  --seed NAME  --trial NAME  --ignore NAME  "
    "--percent  --fraction"
)


@dataclass
class Understood:
    """Lines of the table: (what, the log's name for it and its values), under one heading.

    names: the first name that has each role; every_name: all names of the log
    """

    heading: str
    lines: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tool: str = ""
    names: dict[str, str] = field(default_factory=dict)  # role -> the log's name for it
    every_name: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The table as it is printed."""
        width = max((len(what) for what, _ in self.lines), default=0)
        body = [f"  {what:{width}}  {told}".rstrip() for what, told in self.lines]
        notes = [f"  - {note}" for note in self.notes]
        return "\n".join([self.heading, *body, *notes, _WRONG])


def understood(
    where: str,
    tools: Sequence[str],
    runs: Sequence[Run],
    roles: Sequence[Roles],
    every_name: Sequence[str],
    config: Sequence[str],
    notes: Sequence[str],
) -> Understood:
    """Make the table of a log that was read, or could not be.

    Args: roles: of each part; every_name: all names of the log; config: the settings that tell
        configurations apart.
    """
    tool = " and ".join(dict.fromkeys(tools)) or "nothing that is known"
    used = _used(roles)
    table = Understood(
        f"{where}: {tool}, {_counts(runs)}",
        notes=list(notes),
        tool=tool,
        names={role: names[0] for role, names in used.items()},
        every_name=tuple(every_name),
    )
    for role, told in used.items():
        if role in _WORDS:
            table.lines.append((_WORDS[role], _told(role, told, runs)))
    for role in ("val_accuracy", "val_loss"):
        unsettled = [name for one in roles for name in one.unsettled.get(role, [])]
        if unsettled and not used.keys() & {*VALIDATION_ROLES}:
            some = ", ".join(dict.fromkeys(map(_quoted, unsettled)))
            table.lines.append((_WORDS[role], f"{some}? --column {role}=NAME says which"))
    if runs:
        table.lines.append(("settings", _settings(runs, config)))
        table.lines.append(("seeds", _seeds(runs)))
        table.lines.append(("validation examples", _examples(runs)))
    taken = {name for names in used.values() for name in names} | set(config)
    scores = [score.name for one in roles for score in one.scores if score.name not in taken]
    if scores:
        table.lines.append(("other scores", f"{_listed(scores)}: --score NAME takes one"))
    rest = [name for name in every_name if name not in taken and name not in scores]
    if rest:
        table.lines.append(("not used", _listed(rest)))
    return table


def _counts(runs: Sequence[Run]) -> str:
    if not runs:
        return "no run with a validation metric"
    lengths = list(dict.fromkeys(len(run.evaluations) for run in runs))
    many = f"{len(runs)} run{'s' * (len(runs) > 1)} of "
    if len(lengths) > 6:
        return f"{many}{min(lengths)} to {max(lengths)} evaluations"
    if len(lengths) > 1:
        lengths = [len(run.evaluations) for run in runs[:12]]
    more = ", ..." if len(lengths) > 1 and len(runs) > 12 else ""
    only_one = lengths == [1]
    return f"{many}{', '.join(map(str, lengths))}{more} evaluation{'' if only_one else 's'}"


def _used(roles: Sequence[Roles]) -> dict[str, list[str]]:
    """role -> the names that have it, in the order of the table."""
    used: dict[str, list[str]] = {}
    for role in _WORDS:
        told = [one.of[role] for one in roles if role in one.of]
        if told:
            used[role] = list(dict.fromkeys(told))
    for one in roles:
        for role, name in one.of.items():
            if role not in _WORDS:
                used.setdefault(role, [name])
    return used


def _quoted(name: str) -> str:
    return shown(name, 60)[1:-1] or "(a column without a name)"


def _listed(some: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(some))
    more = f" (and {len(distinct) - _MOST} more)" if len(distinct) > _MOST else ""
    return ", ".join(map(_quoted, distinct[:_MOST])) + more


def _told(role: str, told: Sequence[str], runs: Sequence[Run]) -> str:
    text = _listed(told)
    if role.endswith("_running"):
        return text + _RUNNING
    if role not in ("val_accuracy", "val_loss", SCORE_ROLE):
        return text
    key = "logged_val_accuracy" if role == "val_accuracy" else role
    values = [
        float(one.values[key])
        for run in runs
        for one in run.evaluations
        if isinstance(one.values.get(key), int | float) and math.isfinite(one.values[key])
    ]
    if not values:
        return text
    text += f"   {min(values):.4g} .. {max(values):.4g}"
    if role == "val_accuracy":
        units = Counter("percent" if run.is_percent else "fraction" for run in runs)
        text += ", " + " and ".join(
            unit if len(units) == 1 else f"{unit} in {count}" for unit, count in units.items()
        )
        if any(run.roles.errors for run in runs):
            text += ", share of wrong answers"
    if role == SCORE_ROLE:
        score = next(score for run in runs for score in run.roles.scores if score.name in told)
        text += f", {'lower' if score.lower_is_better else 'higher'} is better"
    if role == "val_loss" and len(runs) == 1:
        text += _lowest(runs[0])
    return text


def _lowest(run: Run) -> str:
    """Where the validation loss is lowest, and where it ends."""
    told = [one for one in run.evaluations if _is_finite(one.values.get("val_loss"))]
    if len(told) < 2:
        return ""
    least = min(told, key=lambda one: one.values["val_loss"])
    if least is told[-1]:
        return ", lowest in the last evaluation"
    return f", lowest in evaluation {least.number}, {told[-1].values['val_loss']:.4g} in the last"


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _settings(runs: Sequence[Run], config: Sequence[str]) -> str:
    own = [name for name in config if name != "run"]
    if own:
        return _listed(own)
    if "run" in config:
        return "none that tells the runs apart: each is a configuration of its own"
    return "none found"


def _seeds(runs: Sequence[Run]) -> str:
    seeds = list(dict.fromkeys(str(run.seed) for run in runs if run.seed is not None))
    if seeds:
        return f"{_listed(seeds)}"
    if len(runs) == 1:
        return "one run"
    return "none named: --seed run says that the runs are seeds of one configuration"


def _examples(runs: Sequence[Run]) -> str:
    said = {run.num_val for run in runs} - {None}
    if said:
        return ", ".join(f"{one:,}" for one in sorted(said, key=lambda n: n or 0)[:_MOST])
    found = Counter(run.proposed_num_val for run in runs if run.proposed_num_val)
    if not found:
        return "not known: --num-val N"
    first = found.most_common(1)[0][0]
    if len(found) == 1:
        return f"{first} would fit all accuracies: --num-val {first}"
    some = ", ".join(f"{size} in {count}" for size, count in found.most_common(4))
    return f"{some} would fit the accuracies: --num-val N"
