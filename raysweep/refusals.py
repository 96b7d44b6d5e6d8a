"""What a model refuses, as one sentence: the thing, the value, what is allowed."""

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from raysweep.errors import did_you_mean, shown

_OWNERS = {"": "a sweep", "base": "a trial"}


class Frozen(BaseModel):
    """A value that exists is valid: strict types, no unknown keys, no changes."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True
    )


def nested_model(field: FieldInfo) -> type[BaseModel] | None:
    """Find the model that a field holds, or holds unless it is null; None for a plain value."""
    options = [field.annotation, *get_args(field.annotation)]
    models = [kind for kind in options if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return models[0] if models else None


def unknown(what: str, name: object, model: type[BaseModel], owner: str) -> str:
    """Write the sentence for a name that a model lacks, with the nearest one that exists."""
    fields = list(model.model_fields)
    hint = did_you_mean(name, fields)
    return f"{what} is not a field of {owner}{hint} Fields: {', '.join(fields)}"


def explain(error: Any, root: type[BaseModel]) -> str:
    """Write one of pydantic's errors as one sentence.

    Args: root: the model that was validated.
    """
    keys = error["loc"]
    path = shown(".".join(str(key) for key in keys))[1:-1]  # a key may hold anything
    if error["type"] == "extra_forbidden":
        model, owner = root, ""
        for key in (key for key in keys[:-1] if isinstance(key, str)):  # no places in a list
            model, owner = nested_model(model.model_fields[key]) or model, key
        return unknown(f"'{path}'", keys[-1], model, _OWNERS.get(owner, owner))
    if error["type"] == "missing":
        return f"'{path}' is missing: every sweep needs it"
    message = error["msg"].removeprefix("Value error, ")
    if not path or (error["type"] == "value_error" and path == "axes"):
        return message
    message = message.removeprefix("Input should be ")
    return f"{path} = {shown(error['input'])} is not allowed: it should be {message}"
