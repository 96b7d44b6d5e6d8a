"""The errors that people see: one clear line each, and the exit code that goes with it."""

import difflib
import functools
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable

_MOST_OF_A_MESSAGE = 500  # characters


class RaysweepError(Exception):
    """Something failed while running; the message names the thing and where to look."""

    exit_code = 1
    leaves_threads = False  # something may still run inside Ray


class InputError(RaysweepError):
    """What was asked for can't be done: the message names the thing, the value, what is allowed."""

    exit_code = 2


class StorageError(RaysweepError):
    """The store, or the log of what is on its way there, is full or away. No trial's fault."""

    leaves_threads = True


class RayDiedError(RaysweepError):
    """Ray itself has died under a sweep, and calls of it may wait for ever; the store is whole."""

    leaves_threads = True


def shown(value: object, most: int = 120) -> str:
    """Write a value as an error quotes it: on one line, of a bounded length."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python refuses to write out numbers of 4,300 digits
        text = f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= most else text[:most] + "..."


def did_you_mean(name: object, known: Iterable[str], *, likeness: float = 0.5) -> str:
    """End a sentence about an unknown name: ask for the nearest known one, or put a full stop.

    Args: likeness: how alike the two must be, from 0 to 1.
    """
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=likeness)
    return f"; did you mean {near[0]!r}?" if near else "."


def one_line(error: BaseException, where: str = "") -> str:
    """Write an error as people read it: its kind, its message, where it happened.

    The line has a bounded length, whatever the error says; a traceback in a log holds the rest.
    """
    try:
        message = " ".join(str(error).split())
    except Exception:  # a user's own error may fail to write itself
        message = ""
    if len(message) > _MOST_OF_A_MESSAGE:
        message = f"{message[:_MOST_OF_A_MESSAGE]}... ({len(message):,} characters)"
    said = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return f"{said} ({where})" if where else said


def place_of(error: BaseException) -> str:
    """Tell where an error arose: the last line of the user's own code that led to it.

    Returns: `my_task.py, line 12`, with the path below its folder on sys.path; the innermost line
        where no code of the user's was involved; nothing for an error that was never raised.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_below_path(error.filename)}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_foreign(frame.filename)]
    for frame in reversed(own or frames):
        return f"{_below_path(frame.filename)}, line {frame.lineno}"
    return ""


def _is_foreign(file: str) -> bool:
    """Whether a file is installed, Python's own, or raysweep's."""
    return file.startswith(("<", _package(), *_installed()))


@functools.cache
def _installed() -> tuple[str, ...]:
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple({f"{sysconfig.get_path(kind)}{os.sep}" for kind in kinds})


@functools.cache
def _package() -> str:
    return f"{os.path.dirname(os.path.abspath(__file__))}{os.sep}"


def _below_path(file: str) -> str:
    """Shorten a path to what lies below its folder on sys.path."""
    folders = [f"{folder}{os.sep}" for folder in sys.path if folder]
    inside = max((f for f in folders if file.startswith(f)), key=len, default="")
    return file.removeprefix(inside)
