"""TensorBoard's event files -> scalars, without TensorBoard.

An event file is a row of records: length (8 bytes), its checksum (4), a protocol buffer `Event`,
its checksum (4). Only the fields that hold scalars and hyperparameters are read:
Event {2: step, 5: Summary {1: Value {1: tag, 2: simple_value, 8: TensorProto {1: type,
4: tensor_content, 5: float_val, 6: double_val}, 9: SummaryMetadata {1: PluginData {2: content}}}}}.
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from analysis.sources.formats.parts import Part, Row
from analysis.sources.formats.protobuf import fields, varint

_LARGEST = 200  # bytes of a tensor that holds one number
_TYPES = {1: "<f", 2: "<d", 3: "<i", 9: "<q"}  # of TensorProto
_HPARAMS = "_hparams_/session_start_info"


class Scalar(NamedTuple):
    """One logged number."""

    tag: str
    step: int
    value: float


def part_of_events(content: bytes, name: str) -> Part:
    """Read the scalars of one run; those of one step that follow each other are one row.

    Raises: IndexError, ValueError or struct.error where the bytes are no event file.
    """
    rows: list[Row] = []
    settings: dict[str, Any] = {}
    step: int | None = None
    for found in scalars(content, settings):
        if found.step != step or found.tag in rows[-1]:
            step = found.step
            rows.append({"step": step})
        # A tag called step or epoch is a metric, and not the clock.
        rows[-1][found.tag if found.tag != "step" else "step (tag)"] = found.value
    return Part("TensorBoard", name, rows, settings, is_piece=True)


def scalars(content: bytes, settings: dict[str, Any] | None = None) -> Iterator[Scalar]:
    """Yield every scalar up to a torn tail, in the order of writing.

    Args: settings: takes the hyperparameters that `add_hparams` wrote.
    Raises: IndexError, ValueError or struct.error where the bytes are no event file.
    """
    place, end = 0, len(content)
    while place + 12 <= end:
        (length,) = struct.unpack_from("<Q", content, place)
        if place + 16 + length > end:
            return  # still being written
        yield from _scalars_of(content[place + 12 : place + 12 + length], settings)
        place += 16 + length


def _scalars_of(event: bytes, settings: dict[str, Any] | None) -> Iterator[Scalar]:
    step, summaries = 0, []
    for number, value in fields(event):
        if number == 2 and isinstance(value, int):
            step = value
        elif number == 5 and isinstance(value, bytes):
            summaries.append(value)
    if step >= 2**63:
        raise ValueError(f"step {step} is no number of 64 bits with a sign")
    for summary in summaries:
        for inner, value in fields(summary):
            if inner == 1 and isinstance(value, bytes):
                found = _scalar(value, settings)
                if found:
                    yield Scalar(found[0], step, found[1])


def _scalar(value: bytes, settings: dict[str, Any] | None) -> tuple[str, float] | None:
    """The tag and the number of a summary's value."""
    tag, place, end = "", 0, len(value)
    while place < end:
        key, place = varint(value, place)
        if key == 0x15:  # simple_value
            return tag, struct.unpack_from("<f", value, place)[0]
        if key & 7 != 2:
            return None
        length, place = varint(value, place)
        if key == 0x0A:
            tag = value[place : place + length].decode()
        elif key == 0x42:
            return _of_tensor(tag, value[place : place + length])
        elif key == 0x4A and tag == _HPARAMS and settings is not None:
            settings |= _hyperparameters(value[place : place + length])
        elif key != 0x4A:
            return None  # a histogram, an image or sound
        place += length
    return None


def _of_tensor(tag: str, tensor: bytes) -> tuple[str, float] | None:
    if len(tensor) > _LARGEST:
        return None
    parts = dict(fields(tensor))
    kind = _TYPES.get(parts.get(1, 0)) if isinstance(parts.get(1, 0), int) else None  # pyright: ignore[reportArgumentType]
    number = parts.get(4) or parts.get(5) or parts.get(6)
    if kind is None or not isinstance(number, bytes) or len(number) != struct.calcsize(kind):
        return None
    return tag, struct.unpack(kind, number)[0]


def _hyperparameters(metadata: bytes) -> dict[str, Any]:
    """PluginData {2: HParamsPluginData {3: SessionStartInfo {1: {1: name, 2: Value {2: number,
    3: text, 4: truth}}}}}."""
    found: dict[str, Any] = {}
    messages = [metadata]
    for number in (1, 2, 3, 1):
        messages = [
            inner
            for message in messages
            for field, inner in fields(message)
            if field == number and isinstance(inner, bytes)
        ]
    for entry in messages:
        parts = dict(fields(entry))
        name, value = parts.get(1), parts.get(2)
        if isinstance(name, bytes) and isinstance(value, bytes):
            for kind, one in fields(value):
                if kind == 2 and isinstance(one, bytes):
                    found[name.decode()] = struct.unpack("<d", one)[0]
                elif kind == 3 and isinstance(one, bytes):
                    found[name.decode()] = one.decode()
                elif kind == 4:
                    found[name.decode()] = bool(one)
    return found
