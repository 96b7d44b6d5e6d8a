"""YAML that holds plain values and nothing else, whoever wrote it, and settings of parts of it."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any, ClassVar

import yaml

from raysweep.errors import InputError, shown

MAX_CHARACTERS = 1_000_000


class _Loader(yaml.SafeLoader):
    """Plain values by YAML 1.2's core schema: 010 is ten, 1e-3 a number, `no` a word.

    PyYAML follows YAML 1.1, where 010 is eight, 12:30 is 750, 1e-3 a word and `no` is false.
    """

    bool_values: ClassVar[dict[str, bool]] = {"true": True, "false": False}

    def _integer(self, node: Any) -> int:
        """Read an integer as it is written: decimal, 0o10 or 0x1f."""
        text = str(self.construct_scalar(node))
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


_CORE = {
    "null": r"null|Null|NULL|~|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
}
_Loader.yaml_implicit_resolvers = {}
for _name, _rule in _CORE.items():  # the first rule that fits counts, so 10 is an integer
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_rule})$"), None)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader._integer)
_SCALARS = tuple(f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "str"))


class _Strict(_Loader):
    """Without aliases and silent duplicate keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        # Ten lines of aliases of aliases can stand for more values than memory holds.
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            line = event.start_mark.line + 1
            raise InputError(f"the alias *{event.anchor}, line {line}: write the value out instead")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            try:
                twice = key in seen
                seen.add(key)
            except TypeError:
                break  # a list or a mapping as a key: SafeLoader says so, and where
            if twice:
                line = node.start_mark.line + 1
                raise InputError(f"the key {shown(key)} stands twice, line {line}")
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, *, source: str) -> Any:
    """Parse YAML. Raises: InputError with the place of the mistake."""
    with _mistakes_in(text, source):
        # A subclass of SafeLoader: it builds plain values and nothing else.
        return yaml.load(text, Loader=_Strict)


def parse_scalars(text: str, *, source: str) -> dict[str, bool | int | float | str]:
    """Read the plain values of a mapping that another tool wrote, and pass over all else.

    Nothing nested is built, so aliases and other tools' tags do no harm there.

    Raises: InputError when it is not YAML.
    """
    with _mistakes_in(text, source):
        loader = _Loader(text)
        root = loader.get_single_node()
        pairs = root.value if isinstance(root, yaml.MappingNode) else []
        return {
            str(key.value): loader.construct_object(value)
            for key, value in pairs
            if isinstance(key, yaml.ScalarNode)
            if isinstance(value, yaml.ScalarNode) and value.tag in _SCALARS
        }


@contextlib.contextmanager
def _mistakes_in(text: str, source: str) -> Iterator[None]:
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"{source} has {len(text):,} characters; at most {MAX_CHARACTERS:,}")
    try:
        yield
    except yaml.YAMLError as error:
        raise InputError(f"{source} is not YAML: {' '.join(str(error).split())}") from None
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except RecursionError:
        raise InputError(f"{source} is nested too deeply") from None
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        # PyYAML lets these through where a value contradicts its tag: `!!int x`, `!!bool 3`.
        raise InputError(f"{source} holds a value that can't be read: {shown(error)}") from None


def apply_setting(content: dict[str, Any], setting: str) -> None:
    """Write `dotted.path=value` (a YAML value) into parsed YAML, in place."""
    path, equals, text = setting.partition("=")
    option = f"--set {shown(setting)}"
    if not equals or not path.strip():
        raise InputError(f"{option}: write it as path=value, base.epochs=10 for instance")
    *parents, last = path.strip().split(".")
    place = content
    for parent in parents:
        inner = place.setdefault(parent, {})
        if inner is None:
            inner = place[parent] = {}
        if not isinstance(inner, dict):
            raise InputError(f"{option}: {shown(parent)} holds {shown(inner)}, not a mapping")
        place = inner
    place[last] = parse_yaml(text, source=option)
