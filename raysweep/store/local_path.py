"""A folder's path on this machine: read as people write it, and tried before anything starts."""

import errno
import os
import re
import tempfile
from pathlib import Path
from urllib.parse import unquote

from raysweep.errors import InputError, shown

_FILE = re.compile(r"file:(//(?P<host>[^/]*))?(?=/)", re.IGNORECASE)
# What a store adds to its own path: a table's folder, and the longest name of a file in it.
_LONGEST_INSIDE = 120


def local_path(text: str) -> Path | None:
    """Read a path: `~` is expanded, `file://` is decoded. None for a URI of another kind.

    Raises: InputError for what no folder of this machine can be called.
    """
    if any(ord(sign) < 32 or ord(sign) == 127 for sign in text) or not _is_text(text):
        raise InputError(f"{shown(text)} is no folder's name: it holds signs that are no text")
    if match := _FILE.match(text):
        if match["host"] not in (None, "", "localhost"):
            raise InputError(f"{text}: a folder of this machine is file:///folder, or /folder")
        return local_path(unquote(text[match.end() :]))
    if "://" in text:
        return None
    if not text:
        raise InputError("'' is no folder's name; '.' is the current folder")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        user = text.partition("/")[0]
        raise InputError(f"{text}: there is no home folder {user}; write the whole path") from None


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_readable(path: Path, what: str) -> None:
    """Look whether a path can be looked up; it may be missing.

    Raises: InputError where its name is too long, a folder on the way is closed, and the like.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise InputError(f"{what} can't be read: {error.strerror}") from error


def check_writable(folder: Path, what: str) -> None:
    """Try whether a folder can be made and written; nothing of that stays.

    Args: folder: absolute; what: the folder, in words.

    Raises: InputError naming what is in the way.
    """
    refused = f"{what} can't be written: "
    there = _nearest(folder, refused)
    if not there.is_dir():
        raise InputError(f"{refused}{there} is no folder")
    most = os.pathconf(there, "PC_NAME_MAX")
    for name in folder.relative_to(there).parts:
        if len(os.fsencode(name)) > most:
            raise InputError(
                f"{refused}the name {shown(name, 30)} has {len(os.fsencode(name))} bytes, and at "
                f"most {most} are allowed"
            )
    length = len(os.fsencode(folder)) + _LONGEST_INSIDE
    if length > (most := os.pathconf(there, "PC_PATH_MAX")):
        raise InputError(
            f"{refused}paths in it would have up to {length} bytes, and at most {most} are allowed"
        )
    try:
        insides = [place for place in there.iterdir() if place.is_dir()] if there == folder else []
        for place in (there, *insides):
            tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        where = error.filename or there
        raise InputError(f"{refused}{where}: {error.strerror}") from error


def _nearest(folder: Path, refused: str) -> Path:
    """The nearest place on the way to a folder that exists."""
    for place in (folder, *folder.parents):
        try:
            os.stat(place)
        except (FileNotFoundError, NotADirectoryError):
            if os.path.islink(place):
                raise InputError(f"{refused}{place} is a link to nothing") from None
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise InputError(f"{refused}{place}: {error.strerror}") from error
        else:
            return place
    raise AssertionError("the root exists")
