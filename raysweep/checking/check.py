"""Check a sweep: its task is tried in a child process, and what is found becomes lines."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from raysweep.checking.examples import SAID, WARNING
from raysweep.checking.trying import try_sweep
from raysweep.tasks.child import ERROR, ChildDiedError, ChildSilentError, heard


class Checked(NamedTuple):
    """What a check found, a line each."""

    errors: list[str]  # that make the sweep worthless
    warnings: list[str]  # suspicions
    said: list[str]  # what was seen


class _Line(NamedTuple):
    kind: str
    text: str
    model: str | None  # of the grid; None where the line is about no model


def check(
    target: str,
    settings: Sequence[str] = (),
    seeds: str | None = None,
    *,
    folder: Path | None = None,
) -> Checked:
    """Try one batch of each distinct model of a sweep, in a child process.

    Args: target, settings, seeds: of the command line; see `recipes.read`; folder: where it was
        typed, by default the current one. A task that was imported may have changed that.
    """
    lines: list[_Line] = []
    model: str | None = None
    num_models, tried = 0, ""
    try:
        for kind, *rest in heard(try_sweep, target, list(settings), seeds, folder=folder):
            if kind == "model":
                model = rest[0]
            elif kind == "models":
                tried, num_models = rest
            elif kind in (ERROR, WARNING, SAID):
                lines.append(_Line(kind, rest[0], model))
    except ChildDiedError as error:
        kind = WARNING if isinstance(error, ChildSilentError) else ERROR
        lines.append(_Line(kind, str(error), model))
    found = {kind: _grouped(lines, kind, num_models) for kind in (ERROR, WARNING, SAID)}
    models = [f"models: {tried} tried, one batch each"] if num_models > 1 else []
    return Checked(found[ERROR], found[WARNING], models + found[SAID])


def _grouped(lines: Iterable[_Line], kind: str, num_models: int) -> list[str]:
    """What is true of several models is one line. Of what was seen the first model's is enough."""
    models: dict[str, list[str | None]] = {}
    first = next((line.model for line in lines if line.model is not None), None)
    for line in lines:
        if line.kind == kind and not (kind == SAID and line.model not in (None, first)):
            models.setdefault(line.text, []).append(line.model)
    return [_named(text, names, num_models) for text, names in models.items()]


def _named(text: str, names: Sequence[str | None], num_models: int) -> str:
    named = [name for name in dict.fromkeys(names) if name]
    if not named or len(named) == num_models:
        return text
    more = f" and {len(named) - 1} more models" if len(named) > 1 else ""
    return f"{named[0]}{more}: {text}"
