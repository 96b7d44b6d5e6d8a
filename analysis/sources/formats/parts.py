"""What one file holds of one run: rows of names and values, and what is fixed."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]
PRINTED = "printed output"  # the tool of what nobody wrote for a program to read
# Keys of a JSON object that hold settings, whatever stands in them.
_SETTINGS = ("config", "hparams", "params", "hyperparameters", "hyper_parameters", "args")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_SPELT = {
    "nan": math.nan,
    "inf": math.inf,
    "infinity": math.inf,
    "-inf": -math.inf,
    "-infinity": -math.inf,
    "+inf": math.inf,
}
_EMPTY = {"", "-", "–", "—", "none", "null", "n/a", "na", "<na>", "--"}
_DEEPEST = 8  # levels of nested names


@dataclass
class Part:
    """What one file holds of one run. Rows are in the order of writing."""

    tool: str
    name: str  # of the run, as far as the file tells
    rows: list[Row]
    settings: dict[str, Any] = field(default_factory=dict)
    num_val: int | None = None  # where the log says it
    stage: str | None = None  # of every name that has none of its own
    roles: dict[str, str] = field(default_factory=dict)  # name -> role, where the format says it
    is_piece: bool = False  # of a run whose files hold a metric or a stage each
    path: Path | None = None

    def names(self) -> list[str]:
        """List the names in the rows, in the order of appearance."""
        return list({name: None for row in self.rows for name in row})


def number(text: str) -> float | int | None:
    """Read a number as people print it; None where the text is none.

    A `%` behind it is left out: percent is judged by the values.
    """
    text = text.strip().removesuffix("%").rstrip()
    if _NUMBER.fullmatch(text):
        return int(text) if text.lstrip("+-").isdigit() and len(text) < 19 else float(text)
    return _SPELT.get(text.lower())


def cell(text: str) -> Any:
    """Read a cell of a table: a number, nothing, or text."""
    if text.strip().lower() in _EMPTY:
        return None
    found = number(text)
    return text.strip() if found is None else found


def plain_value(value: Any) -> Any:
    """Turn a value of a JSON document that spells a number as text into that number."""
    if isinstance(value, str):
        return _SPELT.get(value.lower(), _writable(value))
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        return float(value) if abs(value) < 10**300 else math.inf
    return value


def _writable(text: str) -> str:
    """A text without halves of characters, which no file and no column can hold."""
    return text.encode("utf-8", "replace").decode()


def flat(content: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the names and plain values of nested objects; a slash joins the levels."""
    for key, value in content.items():
        name = _writable(f"{prefix}{key}")
        if isinstance(value, Mapping):
            if depth < _DEEPEST:
                yield from flat(value, f"{name}/", depth + 1)
        else:
            yield name, plain_value(value)


def split_settings(content: Mapping[str, Any]) -> tuple[Row, dict[str, Any]]:
    """Split a row into its values and the settings that stand in it as an object of their own."""
    nested = {k: v for k, v in content.items() if k in _SETTINGS and isinstance(v, Mapping)}
    rest = {k: v for k, v in content.items() if k not in nested}
    settings = dict(one for inner in nested.values() for one in flat(inner))
    return dict(flat(rest)), settings


def scalars_only(settings: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Keep the settings that are plain values."""
    return {name: value for name, value in settings if isinstance(value, bool | int | float | str)}
