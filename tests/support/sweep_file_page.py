"""docs/sweep-file.md: `python -m tests.support.sweep_file_page > docs/sweep-file.md` writes it."""

import json
import sys
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from raysweep.refusals import nested_model
from raysweep.spec import SweepSpec

_HEAD = """\
# The sweep file

A sweep file is YAML 1.2: `010` is ten, `1e-3` is a number, `no` is a word. No key stands twice, and
aliases are refused. `raysweep recipes digits` prints an example; `--set base.epochs=10` changes a
field on the command line.
This page is made from the descriptions of the fields, by `tests/support/sweep_file_page.py`.
"""
_KINDS = {
    "integer": "whole number",
    "boolean": "`true`, `false`",
    "string": "text",
    "object": "mapping",
    "null": "`null`",
}
_NO_LIMIT = 2**31 - 1  # what nobody reaches is not said
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join([_HEAD, *_section("The file", SweepSpec, "")])


def _section(title: str, model: type[BaseModel], prefix: str) -> Iterator[str]:
    """A model's fields as a table, then the sections of the models nested in it."""
    schema = model.model_json_schema()["properties"]
    yield f"## {title}\n\n{' '.join(str(model.__doc__).split())}\n"
    yield "| field | allowed | default | what it is |\n|---|---|---|---|"
    nested: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        inner = nested_model(field)
        if inner:
            nested.append((name, inner))
            anchor = f"{prefix}{name}".replace(".", "")  # as GitHub makes them
            allowed, default = f"[its fields](#{anchor})", "`null`" if field.default is None else ""
        else:
            allowed, value = _allowed(schema[name]), field.get_default(call_default_factory=True)
            default = "needed" if field.is_required() else f"`{json.dumps(value)}`"
        description = " ".join(str(field.description).split())
        yield f"| `{name}` | {allowed} | {default} | {description} |"
    yield ""
    for name, inner in nested:
        yield from _section(f"{prefix}{name}", inner, f"{prefix}{name}.")


def _allowed(schema: dict[str, Any]) -> str:
    """The values that a field takes, in words."""
    if "anyOf" in schema:
        return " or ".join(_allowed(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "type" not in schema:
        return "any values"
    if schema["type"] == "array":
        return f"list of {_allowed(schema['items'])}"
    limits = [(words, schema.get(key)) for key, words in _BOUNDS.items()]
    bounds = [f"{words} {n:,}" for words, n in limits if n is not None and n < _NO_LIMIT]
    return ", ".join([_KINDS.get(schema["type"], str(schema["type"])), *bounds])


if __name__ == "__main__":
    sys.stdout.write(page())
