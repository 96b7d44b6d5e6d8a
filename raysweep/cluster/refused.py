"""Why Ray did not start, or let this process in: whatever `ray.init` raises, in one line."""

import errno
import os
import re
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ray.exceptions import AuthenticationError

from raysweep.errors import InputError, RaysweepError, one_line

_NO_TOKEN = re.compile(r"unauthenticated|authentication token|InvalidAuthToken", re.IGNORECASE)
_VERSIONS = re.compile(
    r"Version mismatch.*?Ray: (?P<ray>\S+)\s+Python: (?P<python>\S+)"
    r".*?Ray: (?P<our_ray>\S+)\s+Python: (?P<our_python>\S+)",
    re.DOTALL,
)
_AGAIN = "Run the same command again, or free some of its cores"


def may_pass(error: Exception) -> bool:
    """Tell whether another start may well succeed: the machine was busy, or a port was taken."""
    said = "\n".join(map(str, _chain(error)))
    if _VERSIONS.search(said) or isinstance(error, AuthenticationError):
        return False
    return isinstance(error, ConnectionError | TimeoutError) or not isinstance(
        error, OSError | ValueError
    )


def in_words(error: Exception, running: str | None, where: str) -> RaysweepError:
    """Say what went wrong in one line, with what to do about it.

    Args: running: the address that was asked; None for a Ray that was to start here; where: the
        end of the sentence, which names the log.
    """
    said = "\n".join(map(str, _chain(error)))
    if versions := _VERSIONS.search(said):
        return InputError(
            f"the Ray at {running} is Ray {versions['ray']} on Python {versions['python']}, and "
            f"this process has Ray {versions['our_ray']} on Python {versions['our_python']}. "
            "Install the same, or use --address local to start one for this sweep alone"
        )
    if running and (isinstance(error, AuthenticationError) or _NO_TOKEN.search(said)):
        return InputError(
            f"the Ray cluster at {running} does not let this process in: it has token auth, which "
            "needs RAY_AUTH_MODE=token and the cluster's token here, in ~/.ray/auth_token or "
            f"RAY_AUTH_TOKEN{where}"
        )
    if running:
        return InputError(
            f"the Ray cluster at {running} can't be attached to: {_last_of(error)}. Use `ray "
            f"status` to see how it is, or --address local to start one for this sweep alone{where}"
        )
    number = next((e.errno for e in _chain(error) if isinstance(e, OSError) and e.errno), None)
    if cure := _cure(error, number, said):
        return RaysweepError(f"Ray can't start on this machine: {cure}{where}")
    if may_pass(error):
        return RaysweepError(
            f"Ray did not start on this machine, twice: {_last_of(error)}. It gives itself 30 s, "
            f"which a busy machine may not manage. {_AGAIN}{where}"
        )
    return RaysweepError(f"Ray can't start on this machine: {_last_of(error)}{where}")


def _cure(error: Exception, number: int | None, said: str) -> str | None:
    """What is in the way and what helps, for what is known of the machine's own limits."""
    name = str(getattr(error, "filename", None) or "")
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    token = Path.home() / ".ray" / "auth_token"
    if name and token.is_relative_to(name) and not Path(folder).is_relative_to(name):
        return (
            f"Ray keeps its token in HOME, {token}, and {name} can't be written "
            f"({os.strerror(number or errno.EIO)}). Set HOME to a folder that can, or "
            "RAY_AUTH_MODE=disabled"
        )
    if number == errno.ENOSPC or "No space left" in said:
        return f"there is no space left in {folder}. Make room, or set RAY_TMPDIR to another folder"
    if number == errno.EMFILE or "Too many open files" in said:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"a process may open {soft} files here, too few for Ray. Raise it: ulimit -n 8192"
    if number in (errno.EAGAIN, errno.ENOMEM) or "can't start new thread" in said:
        return f"{_last_of(error)}. Look at ulimit -u and at the memory that is free"
    if "AF_UNIX path length" in said:
        return f"sockets in {folder} would have too long a path. Set RAY_TMPDIR=/tmp, or shorter"
    if "/dev/shm" in said:  # noqa: S108 - Ray's words
        return f"{_last_of(error)}. A container gets more by --shm-size"
    if isinstance(error, OSError) and name and number:
        return f"{name}: {os.strerror(number)}. RAY_TMPDIR names another folder for Ray's files"
    return None


def _last_of(error: BaseException) -> str:
    """The error that began it, without what Ray quotes of its own logs and tracebacks."""
    first = list(_chain(error))[-1]
    before, traceback, quoted = str(first).partition("Traceback (most recent call last)")
    if not traceback:
        return one_line(first)
    return one_line(RuntimeError(f"{before.strip()} {quoted.strip().splitlines()[-1]}"))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and the ones that it was raised from."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
