"""The sweeps that ship, and how a sweep is read: a recipe's name or a file, plus settings."""

import difflib
import itertools
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from raysweep.errors import InputError
from raysweep.spec import SweepSpec, apply_setting, parse_yaml

DEFAULT = "digits"


def names() -> list[str]:
    """The recipes, the default one first."""
    files = resources.files(__name__).iterdir()
    found = {file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")}
    return sorted(found, key=lambda name: (name != DEFAULT, name))


def text(name: str) -> str:
    """A recipe's YAML, comments included. Raises: InputError naming the nearest recipe."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise InputError(
            f"{name!r} is neither a recipe nor a file{hint} Recipes: {', '.join(names())}"
        )
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text()


def summary(name: str) -> str:
    """The first comment of a recipe: the question it answers."""
    comment = itertools.takewhile(lambda line: line.startswith("#"), text(name).splitlines())
    return " ".join(line.lstrip("# ") for line in comment)


def read(target: str, settings: Sequence[str] = (), seeds: str | None = None) -> SweepSpec:
    """The sweep that a command line names.

    Args:
        target: a recipe's name, or a file (*.yaml, *.yml, or any path that exists).
        settings: `dotted.path=value`, applied to the YAML in this order.
        seeds: a number of seeds, or `+3` for three more than the sweep has.

    Raises: InputError.
    """
    path = Path(target)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise InputError(f"there is no file {target}")
        folder, body = path.resolve().parent, path.read_text()
    else:
        folder, body = None, text(target)
    content = parse_yaml(body, source=target)
    if isinstance(content, dict):
        for setting in settings:
            apply_setting(content, setting)
        if seeds is not None:
            content["seeds"] = _seeds(seeds, content.get("seeds", 3))
    return SweepSpec.from_mapping(content, folder=folder)


def _seeds(wanted: str, present: object) -> object:
    if not re.fullmatch(r"\+?\d+", wanted) or int(wanted) < 1:
        raise InputError(f"--seeds {wanted!r}: give a number of seeds, 5, or of further ones, +3")
    if not wanted.startswith("+"):
        return int(wanted)
    seeds = list(range(present)) if isinstance(present, int) else list(present)  # pyright: ignore[reportArgumentType,reportCallIssue]
    further = (seed for seed in range(len(seeds) + int(wanted)) if seed not in seeds)
    return [*seeds, *list(further)[: int(wanted)]]
