"""What the recorder's actor is asked for, call by call: the type of its handle in Ray."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar

from ray import ObjectRef

from raysweep.recording.state import Progress

_P = ParamSpec("_P")
_Answer = TypeVar("_Answer")


class Call(Protocol[_P, _Answer]):
    """A method of an actor: `remote` sends the call and returns a reference to its answer."""

    def remote(self, *args: _P.args, **kwargs: _P.kwargs) -> "ObjectRef[_Answer]":
        """Send the call."""
        ...


class RecorderHandle(Protocol):
    """The methods of recorder.Recorder, as other processes call them."""

    todo: Call[[Sequence[str], Collection[str] | None], list[str]]
    claim: Call[[str, Collection[str], str, str], int]
    num_attempts: Call[[Sequence[str]], int]
    kept: Call[[Sequence[str]], list[str]]
    checkpoint: Call[[str], tuple[int, bytes] | None]
    save_checkpoint: Call[[str, int, int, bytes | None], None]
    drop_checkpoint: Call[[str, str], None]
    append: Call[[bytes], None]
    finish: Call[[str, int, bytes, Mapping[str, Any], float, bytes | None], None]
    stop: Call[[str, Mapping[str, Any]], str | None]
    blame: Call[[Sequence[str], str, str], bool]
    abandon: Call[[str], None]
    use: Call[[Sequence[str], str], None]
    groups: Call[[], set[str]]
    progress: Call[[], Progress]
    flush: Call[[], None]
    close: Call[[], None]
