"""Which Ray a sweep runs on: the one that is named, the one that runs here, or none as yet."""

import os
import re
import socket
from typing import NamedTuple

import ray

from raysweep.cluster import ray_internals
from raysweep.errors import InputError, shown

_HOST_AND_PORT = re.compile(r"(?:\[(?P<v6>[^\[\]\s]+)\]|(?P<host>[^\[\]/:\s]+)):(?P<port>\d{1,5})")
_CONNECT_S, _ANSWER_S = 2.0, 5.0
# What opens a connection of HTTP/2 (RFC 9113, 3.4): its preface, and an empty SETTINGS frame. A
# server begins with SETTINGS, too; this is the place of a frame's kind in its head of nine bytes.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_KIND, _SETTINGS = 3, 4


class Found(NamedTuple):
    """A Ray that is to be attached to."""

    address: str
    named: bool
    """Whether somebody asked for this address; the other way is that it was found here."""


def running_address(address: str | None) -> str | None:
    """Find the cluster that `connect` would attach to; None where it would start one.

    Raises: InputError, as `find`.
    """
    if ray.is_initialized():
        return ray.get_runtime_context().gcs_address
    found = find(address)
    return found and found.address


def find(address: str | None) -> Found | None:
    """Find the cluster to attach to; None where a Ray is to be started.

    An address that is given wins over RAY_ADDRESS, and RAY_ADDRESS over what `ray start` left
    running on this machine. A Ray that another program started for itself does not count: it ends
    with that program. `local` starts one, and `auto` never does.

    Args: address: of the command line; None or an empty one is not given.

    Raises: InputError when nothing answers at an address that was asked for.
    """
    where = f"--address {address}"
    if address in (None, "", "auto"):
        from_environment = os.environ.get("RAY_ADDRESS")
        if from_environment:
            address, where = from_environment, f"RAY_ADDRESS={from_environment}"
    if address == "local":
        return None
    if address in (None, "", "auto"):
        noted = ray_internals.noted_address()
        if noted and answers(noted):
            return Found(noted, named=False)
        if address != "auto":
            return None  # where there is a note, a `ray start` that crashed has left it behind
        if other := next(filter(answers, sorted(ray_internals.addresses_here())), None):
            return Found(other, named=True)
        raise InputError(
            "no Ray runs on this machine, as --address auto asks for. Start one with `ray start "
            "--head`, or leave --address out: the sweep starts one"
        )
    assert address is not None
    _check_kind(address, where)
    if not answers(address):
        # Ray itself would try for minutes.
        raise InputError(
            f"no Ray cluster answers at {address}. Start one with `ray start --head`, name another "
            "by --address HOST:PORT, or use --address local to start one for this sweep alone"
        )
    return Found(address, named=True)


def _check_kind(address: str, where: str) -> None:
    """Raises: InputError for an address of another kind than HOST:PORT."""
    kind = address.partition("://")[0].lower()
    where = shown(where, 200)[1:-1]
    if kind in ("http", "https") and "://" in address:
        raise InputError(
            f"{where} is where a cluster takes jobs; a sweep attaches to the head's own HOST:PORT. "
            f"From here: ray job submit --address {shown(address)[1:-1]} -- raysweep run ..."
        )
    if "://" in address:
        client = " is for Ray Client, through which no sweep runs"
        raise InputError(
            f"{where}{client if kind == 'ray' else ' is no address of a Ray'}: on a machine of the "
            "cluster give the head's own HOST:PORT; from elsewhere use ray job submit --address "
            "http://HOST:8265 -- raysweep run ..."
        )
    if host_and_port(address) is None:
        raise InputError(
            f"no Ray cluster answers at {shown(address, 200)[1:-1]}: an address is HOST:PORT, the "
            "head's port being 6379 unless somebody chose another, or `local` or `auto`"
        )


def host_and_port(address: str) -> tuple[str, int] | None:
    """Take HOST:PORT or [HOST]:PORT apart; None for anything else."""
    match = _HOST_AND_PORT.fullmatch(address)
    if match is None or not 0 < int(match["port"]) < 2**16:
        return None
    return match["v6"] or match["host"], int(match["port"])


def answers(address: str) -> bool:
    """Look whether anything listens at an address."""
    place = host_and_port(address)
    if place is None:
        return False
    try:
        socket.create_connection(place, timeout=_CONNECT_S).close()
    except (OSError, ValueError):
        return False
    return True


def check_speaks(address: str) -> None:
    """Check that a server of Ray's protocol listens at an address: any other keeps Ray waiting.

    Raises: InputError.
    """
    place = host_and_port(address)
    if place is None or os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return
    head = b""
    try:
        with socket.create_connection(place, timeout=_ANSWER_S) as connection:
            connection.sendall(_PREFACE)
            head = connection.recv(9)
    except OSError:
        pass
    if len(head) <= _KIND or head[_KIND] != _SETTINGS:
        raise InputError(
            f"what listens at {address} does not answer as a Ray cluster does. The address is that "
            "of the head's own port, 6379 unless somebody chose another; `ray start` prints it"
        )
