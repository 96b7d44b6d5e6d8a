"""What a built model is, as a text that enters its trial's id: its state, its layers, its settings.

A file that `build` reads changes an id in this way, which no look at the source could tell.
"""

import hashlib
import re
from typing import Any

from torch import nn

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def signature(model: nn.Module, again: nn.Module) -> str | None:
    """Digest what a model is made of, its numbers aside.

    Args: again: the same model, built a second time. What differs between the two, a random draw
        for instance, is no part of the signature.

    Returns: 16 hexadecimal digits; None where even the two models' state differs.
    """
    parts = [part for part in (_state, _layers, _settings) if part(model) == part(again)]
    if _state not in parts:
        return None
    text = "\n".join(part(model) for part in parts)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _state(model: nn.Module) -> str:
    """Names, shapes and types of what the model keeps, and what of it is trained."""
    kept = model.state_dict() | dict(model.named_buffers())
    state = [
        f"{name} {list(getattr(value, 'shape', []))} {getattr(value, 'dtype', type(value))}"
        for name, value in kept.items()
    ]
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return "\n".join([*state, *trained])


def _layers(model: nn.Module) -> str:
    return _ADDRESS.sub("", repr(model))


def _settings(model: nn.Module) -> str:
    """Plain values that modules of the user's own keep: a scale, a rate, a list of sizes."""
    return "\n".join(
        f"{path}.{name} = {value!r}"
        for path, module in model.named_modules()
        if not type(module).__module__.startswith("torch.")
        for name, value in sorted(vars(module).items())
        if not name.startswith("_") and name != "training" and _is_plain(value)
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(_is_plain(item) for pair in value.items() for item in pair)
    return type(value) in _PLAIN
