"""The wire format of protocol buffers: (number of the field, value), and nothing of what it means.

TensorBoard's event files and the offline runs of Weights & Biases are rows of such messages.
"""

from collections.abc import Iterator


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield every field of a message; values of a fixed size come as their bytes.

    Raises: IndexError or ValueError where it is no message.
    """
    place = 0
    while place < len(message):
        key, place = varint(message, place)
        kind = key & 7
        if kind == 0:
            value, place = varint(message, place)
            yield key >> 3, value
            continue
        if kind == 2:
            length, place = varint(message, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        yield key >> 3, message[place : place + length]
        place += length


def varint(message: bytes, place: int) -> tuple[int, int]:
    """Read a number of variable length at a place. Returns: it, and the place behind it."""
    byte = message[place]
    if byte < 128:
        return byte, place + 1
    value = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return value, place
    raise ValueError("no number has more than 10 bytes")
