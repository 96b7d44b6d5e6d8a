"""A folder on a disk or in an object store; a file in it is whole or absent at every moment.

Places are a path, or a URI: `s3://bucket/prefix`, `gs://bucket/prefix`, `abfs://...`. A URI may say
`?region=`, `?scheme=` and `?endpoint_override=`. Credentials come from the environment or the
machine (AWS_*, ~/.aws/credentials, instance roles) and never stand in a URI: it is written into
logs. Object stores are reached through obstore, which can create a file only if it is not there;
pyarrow can't (apache/arrow#44281).
"""

import contextlib
import errno
import os
import re
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

import obstore
import pyarrow as pa
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore

from raysweep.errors import InputError, StorageError
from raysweep.store.local_path import local_path
from raysweep.store.object_store import PATIENT, QUICK, cause, check_uri, connected

AGAIN = "run the same command again; what was recorded before is kept"
_Answer = TypeVar("_Answer")


class Folder:
    """Reads and writes files by their POSIX paths relative to it; nothing outside can be named."""

    def __init__(self, location: Path | str) -> None:
        """A relative path is seen from the current folder of now, whatever that will be later.

        Raises: InputError for a URI that can't be a folder, or that holds a secret.
        """
        text = os.fspath(location)
        path = local_path(text)
        self.here = _here()
        """The folder that relative paths are seen from."""
        self.local: Path | None = None if path is None else self.here / path
        self.uri = text if self.local is None else str(self.local)
        self.shown: Path | str = text if path is None else path
        """What people are told: as it was written."""
        if self.local is None:
            check_uri(text)
        elif match := re.match(r"([a-z][a-z0-9]+):/", str(path)):
            scheme = match[1]
            raise InputError(f"{text} is no folder: write {scheme}://..., as text and no Path")

    def __str__(self) -> str:
        return str(self.shown)

    def __reduce__(self) -> tuple[type["Folder"], tuple[str]]:
        return Folder, (self.uri,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Folder) and self.uri == other.uri

    def __hash__(self) -> int:
        return hash(self.uri)

    def check(self, *, exclusive: bool = False) -> None:
        """Look whether an object store lets us in.

        Args: exclusive: whether to try, too, that a file is created only where there is none.

        Raises: InputError within seconds, with a cure.
        """
        if self.local is not None:
            return
        probe = Folder(self.uri)
        try:
            probe._system = connected(self.uri, QUICK)
            probe._listed("")
            if exclusive:
                probe._check_exclusive()
        except StorageError as error:
            if "NoSuchBucket" in str(error):
                bucket = urlsplit(self.uri).netloc
                raise InputError(f"{self}: there is no bucket {bucket!r}; make it first") from error
            raise InputError(str(error)) from error
        except (OSError, BaseError) as error:
            raise InputError(f"{self} can't be reached: {cause(error)}") from error

    def _check_exclusive(self) -> None:
        path = f"lease/{uuid.uuid4().hex}.probe"
        self.write_new(path, b"first")
        try:
            self.write_new(path, b"second")
        except FileExistsError:
            return
        finally:
            self.remove(path)
        raise InputError(
            f"{self} ignores the condition `If-None-Match: *`, so that two sweeps could write to "
            "it at once: update that server, or name a store on a disk, in AWS S3, in Google "
            "Cloud or in Azure"
        )

    def holds(self, sub: str) -> bool:
        """Whether there is such a folder; in an object store, one with anything in it."""
        if self.local is not None:
            return os.path.isdir(self._path(sub))
        return any(self._listed(inside(sub)).values())

    def names(self, sub: str) -> list[str]:
        """Sorted names of the files that lie in `sub` itself; none if there is no such folder."""
        if self.local is not None:
            try:
                return sorted(e.name for e in os.scandir(self._path(sub)) if e.is_file())
            except (FileNotFoundError, NotADirectoryError):
                return []
        paths = (file["path"] for file in self._listed(inside(sub))["objects"])
        return sorted(PurePosixPath(path).name for path in paths)

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        if self.local is not None:
            return self._path(path).is_file()
        try:
            self._answer(path, lambda: obstore.head(self._system, inside(path)))
        except FileNotFoundError:
            return False
        return True

    def read(self, path: str) -> bytes:
        """All of a file.

        Raises: FileNotFoundError; OSError of a disk; StorageError when an object store fails.
        """
        if self.local is not None:
            return self._path(path).read_bytes()
        return self._answer(path, lambda: bytes(obstore.get(self._system, inside(path)).bytes()))

    def open(self, path: str) -> pa.NativeFile:
        """A file to read here and there; an object is fetched whole, which is one request.

        Raises: as `read`.
        """
        if self.local is not None:
            return pa.OSFile(str(self._path(path)))
        # This is Arrow's own memory: a thread of Arrow's that lets go of Python's while the process
        # ends aborts it.
        memory = pa.BufferOutputStream()
        memory.write(self.read(path))
        return pa.BufferReader(memory.getvalue())

    def make(self, *subs: str) -> None:
        """Make folders where they have to be made: object stores know none."""
        for sub in subs:
            if self.local is not None:
                self._path(sub).mkdir(parents=True, exist_ok=True)

    def write_new(self, path: str, body: Any) -> None:
        """Write a file that must not exist yet: whole and durable, or not there. Of many writers at
        the same moment, one gets through.

        Raises: FileExistsError; StorageError when there is no room, or no answer.
        """
        if self.local is None:
            content = bytes(body)
            try:
                with storing(self.uri, len(content)):
                    obstore.put(self._system, inside(path), content, mode="create")
            except AlreadyExistsError:
                # A request whose answer was lost is repeated, and then meets what it wrote.
                if self.read(path) != content:
                    raise FileExistsError(f"{self}/{path}") from None
            return
        target = self._path(path)
        with storing(self.local, memoryview(body).nbytes):
            beside = _write_beside(target, body)
            try:
                os.link(beside, target)
            finally:
                beside.unlink()
            _sync_folder(target.parent)

    def replace(self, path: str, body: Any) -> None:
        """Write a file over an older one, if there is one: at every moment one of them is whole.

        Raises: StorageError when there is no room, or no answer.
        """
        if self.local is None:
            with storing(self.uri):
                obstore.put(self._system, inside(path), bytes(body))
            return
        target = self._path(path)
        with storing(self.local, memoryview(body).nbytes):
            _write_beside(target, body).replace(target)
            _sync_folder(target.parent)

    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""
        if self.local is not None:
            self._path(path).unlink(missing_ok=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                self._answer(path, lambda: obstore.delete(self._system, inside(path)))

    def _listed(self, sub: str) -> Any:
        return self._answer(sub, lambda: obstore.list_with_delimiter(self._system, sub or None))

    def _answer(self, path: str, ask: Callable[[], _Answer]) -> _Answer:
        """What an object store answers. obstore repeats a request, but for an answer that was cut
        off in its midst."""
        for left in reversed(range(PATIENT)):
            try:
                return ask()
            except FileNotFoundError:
                raise
            except (OSError, BaseError) as error:
                if left and "body" in str(error).partition("\n")[0]:
                    time.sleep(0.1)
                    continue
                raise StorageError(
                    f"{self}/{path} can't be reached: {cause(error)}. Mend that, then {AGAIN}"
                ) from error
        raise AssertionError("the last try returns or raises")

    def _path(self, path: str) -> Path:
        assert self.local is not None
        return self.local / inside(path)

    @cached_property
    def _system(self) -> ObjectStore:
        try:
            return connected(self.uri, PATIENT)
        except (OSError, BaseError) as error:
            raise InputError(f"{self} can't be reached: {cause(error)}") from error


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise InputError("the current folder is gone; change to one that exists") from None


def inside(path: str) -> str:
    """The path itself. Raises: InputError when it could name something outside its folder."""
    pure = PurePosixPath(path)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or re.search(r"[\\\0]", path):
        raise InputError(f"{path!r} is no name inside a folder")
    return path


@contextlib.contextmanager
def storing(place: Path | str, num_bytes: int = 0) -> Iterator[None]:
    """Turns what goes wrong while writing to `place` into a StorageError that says what to do.

    Args: num_bytes: that are to be written.
    """
    try:
        yield
    except (FileExistsError, AlreadyExistsError):
        raise
    except (OSError, BaseError, sqlite3.Error, pa.ArrowException) as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        full = full or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        if full and isinstance(place, Path):
            there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
            room = (
                f"no space left on the device: {num_bytes:,} bytes needed, "
                f"{shutil.disk_usage(there).free:,} free. Make room"
            )
        else:
            room = f"{cause(error)}. Mend that"
        raise StorageError(f"{place} can't be written: {room}, then {AGAIN}") from error


def _write_beside(target: Path, body: Any) -> Path:
    """A temporary file in the target's folder with this content, on the disk."""
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(beside, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    return beside


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
