"""The sweeps that ship, and how a sweep is read: a recipe's name or a file, plus settings."""

import itertools
import os
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from raysweep import claims
from raysweep.errors import InputError, did_you_mean, shown
from raysweep.plain_yaml import MAX_CHARACTERS, apply_setting, parse_yaml
from raysweep.spec import MAX_TRIALS, SweepSpec

_DEFAULT = "digits"
_WITH_OWN_FIELDS = ("varied_digits",)  # shipped tasks that add fields to a trial


def names() -> list[str]:
    """List the recipes, the default one first."""
    files = resources.files(__name__).iterdir()
    found = {file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")}
    return sorted(found, key=lambda name: (name != _DEFAULT, name))


def text(name: str) -> str:
    """Read a recipe's YAML with its comments. Raises: InputError naming the nearest recipe."""
    if name not in names():
        hint = did_you_mean(name, names())
        raise InputError(
            f"{shown(name)} is neither a recipe nor a file{hint} Recipes: {', '.join(names())}"
        )
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text()


def summary(name: str) -> list[str]:
    """List what a recipe puts to the test: its claims, or the question of its first comment."""
    content = parse_yaml(text(name), source=name)
    if said := [f"“{claim['says']}”" for claim in claims.listed(content.get("claim"))]:
        return said
    comment = itertools.takewhile(lambda line: line.startswith("#"), text(name).splitlines())
    return [" ".join(line.lstrip("# ") for line in comment)]


def read(target: str, settings: Sequence[str] = (), seeds: str | None = None) -> SweepSpec:
    """Read the sweep that a command line names.

    A task of one's own is imported, since it may add fields to a trial. One that can't be imported
    is told when it is needed; a mistake in the sweep file is told before that.

    Args:
        target: a recipe's name, or a file (*.yaml, *.yml, or any path that exists).
        settings: `dotted.path=value`, applied to the YAML in this order. An axis that they give
            takes the place of the same field of base; one of null is no axis any more. Claims about
            axes or levels that the sweep has no longer are left out.
        seeds: a number of seeds, or `+3` for three more than the sweep has.

    Raises: InputError.
    """
    path = Path(target)
    if path.suffix in (".yaml", ".yml") or os.path.isfile(target):
        folder, body = path.resolve().parent, _text_of(path)
    else:
        folder, body = None, text(target)
    content = parse_yaml(body, source=target)
    if isinstance(content, dict):
        for setting in settings:
            apply_setting(content, setting)
        if settings:
            _make_consistent(content, settings)
        if seeds is not None:
            content["seeds"] = _seeds(seeds, content.get("seeds", 3))
    task = content.get("task") if isinstance(content, dict) else None
    if not isinstance(task, str) or (":" not in task and task not in _WITH_OWN_FIELDS):
        return SweepSpec.from_mapping(content, folder=folder)
    from raysweep.tasks import find_task  # imports torch, which a list of recipes does not need

    try:
        kind = find_task(task, folder).task.hyperparameters
    except InputError as unfound:
        try:
            return SweepSpec.from_mapping(content, folder=folder)
        except InputError as error:
            raise InputError(
                f"{error} (Fields that the task adds are not known: {unfound})"
            ) from unfound
    return SweepSpec.from_mapping(content, folder=folder, hyperparameters=kind)


def _make_consistent(content: dict[str, Any], settings: Sequence[str]) -> None:
    """Take out of a sweep, in place, what contradicts the axes that settings gave it."""
    axes, base = content.get("axes"), content.get("base")
    if not isinstance(axes, dict):
        return
    given = [setting.partition("=")[0].strip().split(".") for setting in settings]
    for name in [path[1] for path in given if path[0] == "axes" and len(path) == 2]:
        if axes.get(name, ()) is None:
            del axes[name]
        elif isinstance(base, dict):
            base.pop(name, None)
    if ["axes"] in given and isinstance(base, dict):
        for name in axes:
            base.pop(name, None)
    content["claim"] = [
        claim
        for claim in claims.listed(content.get("claim"))
        if not (isinstance(claim, dict) and any(claims.misfits(claim, axes)))
    ]


def _text_of(path: Path) -> str:
    if not os.path.isfile(path):  # of a name that is too long too, where Path would raise
        missing = f"there is no file {path}"
        raise InputError(f"{path} is no file" if os.path.lexists(path) else missing)
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read as a sweep file: {error}") from error


def _seeds(wanted: str, present: object) -> object:
    if not re.fullmatch(r"\+?[0-9]{1,7}", wanted) or not 1 <= int(wanted) <= MAX_TRIALS:
        raise InputError(
            f"--seeds {shown(wanted)}: give a number of seeds, 5, or of further ones, +3"
        )
    if not wanted.startswith("+"):
        return int(wanted)
    if isinstance(present, int) and present <= MAX_TRIALS:
        present = list(range(present))
    if not isinstance(present, list):
        return present  # no seeds that can be added to: the sweep's own check says what is wrong
    taken = {repr(seed) for seed in present}
    further = (seed for seed in itertools.count() if repr(seed) not in taken)
    return [*present, *itertools.islice(further, int(wanted))]
