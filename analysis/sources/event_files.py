"""TensorBoard's event files -> scalars, without TensorBoard.

An event file is a row of records: length (8 bytes), its checksum (4), a protocol buffer `Event`,
its checksum (4). Only the fields that hold scalars are read:
Event {2: step, 5: Summary {1: Value {1: tag, 2: simple_value, 8: TensorProto {4: tensor_content,
5: float_val}}}}.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from raysweep.errors import InputError


class Scalar(NamedTuple):
    """One logged number."""

    tag: str
    step: int
    value: float


def scalars(path: Path) -> Iterator[Scalar]:
    """Every scalar of a file up to a torn tail. Raises: InputError when it is no event file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error}") from error
    try:
        for record in _records(content):
            yield from _scalars_of(record)
    except (IndexError, ValueError, struct.error) as error:
        raise InputError(f"{path} is not an event file of TensorBoard: {error}") from error


def _records(content: bytes) -> Iterator[bytes]:
    place = 0
    while place + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        if place + 16 + length > len(content):
            return  # still being written
        yield content[place + 12 : place + 12 + length]
        place += 16 + length


def _scalars_of(event: bytes) -> Iterator[Scalar]:
    fields = list(_fields(event))
    step = next((value for number, value in fields if number == 2 and isinstance(value, int)), 0)
    if step >= 2**63:
        raise ValueError(f"step {step} is no number of 64 bits with a sign")
    for number, summary in fields:
        if number != 5 or not isinstance(summary, bytes):
            continue
        for inner, value in _fields(summary):
            if inner != 1 or not isinstance(value, bytes):
                continue
            parts = dict(_fields(value))
            tag, simple, tensor = parts.get(1), parts.get(2), parts.get(8)
            if isinstance(tensor, bytes):
                of_tensor = dict(_fields(tensor))
                simple = of_tensor.get(4) or of_tensor.get(5)
            if isinstance(tag, bytes) and isinstance(simple, bytes) and len(simple) == 4:
                yield Scalar(tag.decode(), step, struct.unpack("<f", simple)[0])


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a protocol buffer; fixed-size values as their bytes."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        if kind == 2:
            length, place = _varint(message, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return value, place
    raise ValueError("no number has more than 10 bytes")
