"""Which fields of a trial a task reads: a stand-in for the trial that takes notes."""

from types import FunctionType, MethodType
from typing import Any

from pydantic import BaseModel

from raysweep.spec import Hyperparameters


class WatchedTrial:
    """Stands in for a trial's hyperparameters, and notes the names of the fields that are read.

    Whoever takes the fields as a whole, by `model_dump` for instance, reads all of them.
    """

    def __init__(self, fields: Hyperparameters, read: set[str]) -> None:
        """Args: read: gets the names."""
        self._fields, self._read = fields, read

    @property
    def __class__(self) -> type[Hyperparameters]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Pass for the trial's own class where a task asks with `isinstance`."""
        return type(self._fields)

    def __getattr__(self, name: str) -> Any:
        kind, known = type(self._fields), type(self._fields).model_fields
        if name in known:
            self._read.add(name)
            return getattr(self._fields, name)
        # A method or property of the trial reads fields of this stand-in, so that those count.
        owner = next((base for base in kind.__mro__ if name in vars(base)), BaseModel)
        held = vars(owner).get(name)
        if isinstance(held, property) and held.fget and not issubclass(BaseModel, owner):
            return held.fget(self)
        if isinstance(held, FunctionType) and not issubclass(BaseModel, owner):
            return MethodType(held, self)
        if hasattr(self._fields, name):
            self._read.update(known)
        return getattr(self._fields, name)

    def __iter__(self) -> Any:
        self._read.update(type(self._fields).model_fields)
        return iter(self._fields)

    def __repr__(self) -> str:
        self._read.update(type(self._fields).model_fields)
        return repr(self._fields)

    def __eq__(self, other: object) -> bool:
        self._read.update(type(self._fields).model_fields)
        return self._fields == other

    def __hash__(self) -> int:
        self._read.update(type(self._fields).model_fields)
        return hash(self._fields)
