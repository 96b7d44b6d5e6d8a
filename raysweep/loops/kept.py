"""What a loop may keep in a checkpoint: tensors and plain values, checked before they are kept."""

from collections.abc import Mapping
from typing import Any

import torch

from raysweep.errors import InputError

_PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.Size, torch.dtype, torch.device)


def check_kept(value: Any, name: str) -> None:
    """Check that a checkpoint can be read back: its bytes are loaded without running any code.

    Raises: InputError naming the first value that can't.
    """
    if isinstance(value, torch.Tensor) or type(value) in _PLAIN:
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            check_kept(key, f"a key of {name}")
            check_kept(inner, f"{name}[{key!r}]")
    elif type(value) in (list, tuple):
        for place, inner in enumerate(value):
            check_kept(inner, f"{name}[{place}]")
    else:
        kind = type(value)
        raise InputError(
            f"report(checkpoint=): {name} is a {kind.__module__}.{kind.__name__}; tensors, "
            "numbers, texts, and lists, tuples and dicts of them can be kept. Of a NumPy array "
            "make torch.from_numpy(array), of a NumPy number number.item()"
        )
