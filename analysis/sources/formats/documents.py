"""JSON documents and lines -> rows: whatever shape a tool gave them."""

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from analysis.sources import names
from analysis.sources.formats import optuna, tables
from analysis.sources.formats.parts import (
    Part,
    Row,
    flat,
    plain_value,
    scalars_only,
    split_settings,
)

STATE = "Hugging Face's trainer state"
_MOST_CHARACTERS = 50_000  # of a line that Python printed: its parser is slow


def parts_of_json(text: str, name: str) -> list[Part] | None:
    """Read the runs in a JSON document or JSON lines. Returns: None where the text is neither."""
    try:
        document = json.loads(text)
    except ValueError:
        rows = _lines(text)
        return None if rows is None else _of_rows("JSON lines", name, rows)
    return of_document(document, name)


def of_document(document: Any, name: str) -> list[Part]:
    """Find the runs in what a JSON document holds."""
    if isinstance(document, Mapping):
        for shape in (_trainer_state, _keyed_rows, _lists, _runs):
            if found := shape(document, name):
                return found
        row, settings = split_settings(document)
        return [Part("JSON", name, [row], scalars_only(settings.items()))]
    if isinstance(document, list) and document:
        if all(isinstance(one, Mapping) for one in document):
            return _of_rows("JSON", name, document)
        if all(isinstance(one, list) and len(one) == 3 for one in document):
            return [tables.download([(one[1], plain_value(one[2])) for one in document], name)]
        if all(isinstance(one, int | float) for one in document):
            return [Part("JSON", name, [{name: plain_value(one)} for one in document])]
    return []


def literal(line: str) -> Any:
    """Read a dict of numbers or lists that Python printed. Returns: None where a line is none."""
    line = line.strip()
    if not line.startswith("{") or not line.endswith("}") or len(line) > _MOST_CHARACTERS:
        return None
    plain = re.sub(r"\b(?:np\.)?(?:float|int)(?:16|32|64)\(([^()]*)\)", r"\1", line)
    plain = re.sub(r"(?<![\w'\"])(nan|-?inf)(?![\w'\"])", r"'\1'", plain)
    try:
        found = ast.literal_eval(plain)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    return found if isinstance(found, dict) and all(isinstance(k, str) for k in found) else None


def _lines(text: str) -> list[Row] | None:
    """One JSON object a line, a torn last one left out; None where a line is something else."""
    rows: list[Row] = []
    lines = [line for line in text.split("\n") if line.strip()]
    for place, line in enumerate(lines):
        try:
            row = json.loads(line)
        except ValueError:
            if place and place == len(lines) - 1:
                break
            return None
        if not isinstance(row, Mapping):
            return None
        rows.append(dict(row))
    return rows or None


def _of_rows(tool: str, name: str, rows: list[Any]) -> list[Part]:
    """An object a row; objects of settings among them belong to the run."""
    if all("op_code" in row for row in rows):
        return optuna.parts_of_journal(rows)
    split = [split_settings(row) for row in rows]
    settings = dict(one for _, some in split for one in some.items())
    return [Part(tool, name, [row for row, _ in split], scalars_only(settings.items()))]


def _trainer_state(document: Mapping[str, Any], name: str) -> list[Part]:
    """Hugging Face's trainer_state.json."""
    history = document.get("log_history")
    if not isinstance(history, list):
        return []
    rows = [dict(flat(row)) for row in history if isinstance(row, Mapping)]
    return [Part(STATE, name, rows)]


def _keyed_rows(document: Mapping[str, Any], name: str) -> list[Part]:
    """`{"1": {...}, "2": {...}}`: a row an epoch, by its number."""
    numbers = {key: re.fullmatch(r"(?:epoch|step)?[ _-]*(\d+)", key, re.I) for key in document}
    if len(numbers) < 2 or not all(numbers.values()):
        return []
    if not all(isinstance(row, Mapping) for row in document.values()):
        return []
    rows = [
        {"epoch": int(match[1])} | dict(flat(document[key]))
        for key, match in numbers.items()
        if match
    ]
    return [Part("JSON", name, rows)]


def _lists(document: Mapping[str, Any], name: str) -> list[Part]:
    """An object of lists of one length: a list a metric, as Keras' History has them."""
    flattened = dict(flat(_with_lists(document)))
    lists = {key: value for key, value in flattened.items() if isinstance(value, list)}
    lists = {
        key: [plain_value(one) for one in value]
        for key, value in lists.items()
        if len(value) > 1 and all(isinstance(one, int | float | str | None) for one in value)
    }
    if not lists:
        return []
    groups = _same_lists(lists)
    if len(groups) > 1:
        return [one for run, part in groups.items() for one in _listed(part, run)]
    settings = {k: v for k, v in flattened.items() if not isinstance(v, list)}
    return _listed(lists, name, scalars_only(settings.items()))


def _same_lists(lists: Mapping[str, list[Any]]) -> dict[str, dict[str, list[Any]]]:
    """Lists by run, where the first level of their names holds runs and no stages."""
    groups: dict[str, dict[str, list[Any]]] = {}
    for key, value in lists.items():
        run, sign, rest = key.partition("/")
        groups.setdefault(run, {})[rest if sign else ""] = value
    metrics = [set(group) for group in groups.values()]
    apart = all(metrics[0] == one and "" not in one for one in metrics)
    if apart and not any(names.stage_of(run) or names.meaning(run) for run in groups):
        return groups
    return {}


def _listed(
    lists: Mapping[str, list[Any]], name: str, settings: dict[str, Any] | None = None
) -> list[Part]:
    """Rows of the lists that are as long as those of most metrics."""
    lengths = [len(value) for key, value in lists.items() if names.meaning(key)]
    lengths = lengths or [len(value) for value in lists.values()]
    length = max(set(lengths), key=lambda one: (lengths.count(one), -one))
    kept = {key: value for key, value in lists.items() if len(value) == length}
    rows = [{key: value[place] for key, value in kept.items()} for place in range(length)]
    return [Part("a history of lists", name, rows, settings or {})]


def _with_lists(value: Any, depth: int = 0) -> Any:
    """The same document with `{"0": a, "1": b}` as the list that pandas wrote so."""
    if not isinstance(value, Mapping) or depth > 6:
        return value
    keys = list(value)
    if len(keys) > 1 and keys == [str(place) for place in range(len(keys))]:
        return list(value.values())
    if len(keys) == 1 and keys[0] in ("history", "model_history", "log"):
        return _with_lists(value[keys[0]], depth + 1)
    return {key: _with_lists(one, depth + 1) for key, one in value.items()}


def _runs(document: Mapping[str, Any], name: str) -> list[Part]:
    """Rows under a key: `{"metrics": [{...}, ...]}`; the longest such list is the log."""
    lists = {
        key: value
        for key, value in document.items()
        if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value)
    }
    if not lists:
        return []
    key = max(lists, key=lambda one: len(lists[one]))
    rest = {k: v for k, v in document.items() if k != key}
    row, settings = split_settings(rest)
    found = _of_rows("JSON", name, lists[key])
    for part in found:
        part.settings |= scalars_only([*row.items(), *settings.items()])
    return found
