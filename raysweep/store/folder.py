"""A folder on a disk or in an object store; a file in it is whole or absent at every moment.

Places are a path, or a URI that pyarrow knows: `s3://bucket/prefix`, `gs://bucket/prefix`, ...
A URI may say `?region=`, `?scheme=` and `?endpoint_override=` (`project_id=` for gs). Credentials
come from the environment or the machine (AWS_*, ~/.aws, instance roles) and never stand in a URI:
it is written into logs.
"""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
from pyarrow import fs

from raysweep.errors import InputError, StorageError

SCHEMES = ("s3", "gs", "abfs", "abfss", "hdfs")
SETTINGS = ("region", "scheme", "endpoint_override", "project_id")
# Tries of a request to S3, with the AWS SDK's own back-off between them: about half a minute of an
# outage is bridged, a longer one is an error. The first look at a place gives up sooner.
PATIENT, QUICK = 7, 2
PATIENT_S, QUICK_S = 30, 3
CONNECT_S = 3.0
AGAIN = "run the same command again; what was recorded before is kept"
# What people do about what the AWS SDK says.
CURES = {
    "ACCESS_DENIED": "access is denied; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give "
    "this machine a role that may list, read and write there",
    "INVALID_ACCESS_KEY_ID": "the key in AWS_ACCESS_KEY_ID is not known there",
    "SIGNATURE_DOES_NOT_MATCH": "AWS_SECRET_ACCESS_KEY does not fit AWS_ACCESS_KEY_ID",
    "NO_SUCH_BUCKET": "there is no such bucket; make it first",
    "NETWORK_CONNECTION": "nothing answers; look at AWS_ENDPOINT_URL, AWS_REGION and the network",
    "OAuth2": "no credentials; set GOOGLE_APPLICATION_CREDENTIALS",
}


class Folder:
    """Reads and writes files by their POSIX paths relative to it; nothing outside can be named."""

    def __init__(self, location: Path | str) -> None:
        """Raises: InputError for a URI that can't be a folder, or that holds a secret."""
        text = os.fspath(location)
        if text.startswith("file://"):
            text = text.removeprefix("file://")
        self.local: Path | None = None if "://" in text else Path(text)
        self.uri = text if self.local is None else str(self.local)
        if self.local is None:
            _check_uri(text)
        elif found := re.match(r"([a-z][a-z0-9]+):/", text):
            scheme = found[1]
            raise InputError(f"{text} is no folder: write {scheme}://..., as text and no Path")

    def __str__(self) -> str:
        return self.uri

    def __reduce__(self) -> tuple[type["Folder"], tuple[str]]:
        return Folder, (self.uri,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Folder) and self.uri == other.uri

    def __hash__(self) -> int:
        return hash(self.uri)

    def check(self) -> None:
        """Look whether an object store lets us in. Raises: InputError within seconds, with a
        cure."""
        if self.local is not None:
            return
        try:
            system, base = _connected(self.uri, QUICK)
            root = base.partition("/")[0]
            if system.get_file_info(root).type == fs.FileType.NotFound:
                raise InputError(f"{self}: there is no bucket {root!r}; make it first")
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{self} can't be reached: {_cause(error)}") from error

    def holds(self, sub: str) -> bool:
        """Whether there is such a folder; in an object store, one with anything in it."""
        if self.local is not None:
            return self._path(sub).is_dir()
        with self._reading(sub):
            info = self._system.get_file_info(self._key(sub))
        return info.type == fs.FileType.Directory

    def names(self, sub: str) -> list[str]:
        """Sorted names of the files that lie in `sub` itself; none if there is no such folder."""
        if self.local is not None:
            try:
                return sorted(e.name for e in os.scandir(self._path(sub)) if e.is_file())
            except (FileNotFoundError, NotADirectoryError):
                return []
        with self._reading(sub):
            where = fs.FileSelector(self._key(sub), allow_not_found=True)
            found = self._system.get_file_info(where)
        return sorted(info.base_name for info in found if info.type == fs.FileType.File)

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        if self.local is not None:
            return self._path(path).is_file()
        with self._reading(path):
            return self._system.get_file_info(self._key(path)).type == fs.FileType.File

    def read(self, path: str) -> bytes:
        """All of a file.

        Raises: FileNotFoundError; OSError of a disk; StorageError when an object store fails.
        """
        if self.local is not None:
            return self._path(path).read_bytes()
        with (
            self._reading(path),
            self._system.open_input_stream(self._key(path), compression=None) as file,
        ):
            return file.read()

    def open(self, path: str) -> pa.NativeFile:
        """A file to read here and there; an object is fetched whole, which is one request.

        Raises: as `read`.
        """
        if self.local is not None:
            return pa.OSFile(str(self._path(path)))
        # Of Arrow's own memory: a thread of Arrow's that lets go of Python's while the process ends
        # aborts it.
        memory = pa.BufferOutputStream()
        memory.write(self.read(path))
        return pa.BufferReader(memory.getvalue())

    def make(self, *subs: str) -> None:
        """Make folders where they have to be made: object stores know none."""
        for sub in subs:
            if self.local is not None:
                self._path(sub).mkdir(parents=True, exist_ok=True)

    def write_new(self, path: str, body: Any) -> None:
        """Write a file that must not exist yet: whole and durable, or not there.

        An object store has no such operation for all: there, a file that is found is refused, and
        two writers at the same moment are the lease's business.

        Raises: FileExistsError; StorageError when there is no room, or no answer.
        """
        if self.local is None:
            with storing(self.uri, body):
                if self._system.get_file_info(self._key(path)).type != fs.FileType.NotFound:
                    raise FileExistsError(f"{self}/{path}")
            self._put(path, body)
            return
        target = self._path(path)
        with storing(self.local, body):
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
            self._put(path, body)
            return
        target = self._path(path)
        with storing(self.local, body):
            _write_beside(target, body).replace(target)
            _sync_folder(target.parent)

    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""
        if self.local is not None:
            self._path(path).unlink(missing_ok=True)
        elif self.exists(path):
            with self._reading(path):
                self._system.delete_file(self._key(path))

    @contextlib.contextmanager
    def _reading(self, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise StorageError(
                f"{self}/{path} can't be reached: {_cause(error)}. Mend that, then {AGAIN}"
            ) from error

    def _put(self, path: str, body: Any) -> None:
        with (
            storing(self.uri, body),
            self._system.open_output_stream(self._key(path), compression=None) as file,
        ):
            file.write(body)

    def _path(self, path: str) -> Path:
        assert self.local is not None
        return self.local / inside(path)

    def _key(self, path: str) -> str:
        return f"{self._remote[1]}/{inside(path)}"

    @property
    def _system(self) -> fs.FileSystem:
        return self._remote[0]

    @cached_property
    def _remote(self) -> tuple[fs.FileSystem, str]:
        try:
            return _connected(self.uri, PATIENT)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{self} can't be reached: {_cause(error)}") from error


def inside(path: str) -> str:
    """The path itself. Raises: InputError when it could name something outside its folder."""
    pure = PurePosixPath(path)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or re.search(r"[\\\0]", path):
        raise InputError(f"{path!r} is no name inside a folder")
    return path


def _check_uri(uri: str) -> None:
    parts = urlsplit(uri)
    user, _, _ = parts.netloc.rpartition("@")
    if ":" in user or (user and parts.scheme == "s3") or "@" in parts.query:
        # Said without the URI: this message goes into logs too.
        raise InputError(
            f"a {parts.scheme}:// address holds a user or a password, which would be written into "
            "the log: leave them out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
        )
    settings = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    unknown = [name for name in settings if name not in SETTINGS]
    place = f"{parts.scheme}://{parts.netloc}{parts.path}"
    if unknown or parts.fragment:
        wrong = ", ".join(map(repr, unknown)) or "'#'"
        raise InputError(f"{place}: after '?' may stand {', '.join(SETTINGS)}; not {wrong}")
    if parts.scheme not in SCHEMES:
        raise InputError(
            f"{place}: {parts.scheme!r} is no known kind of place; a folder's path is, and "
            f"{', '.join(f'{scheme}://' for scheme in SCHEMES)}"
        )
    if not parts.netloc:
        raise InputError(f"{place}: it names no bucket; {parts.scheme}://BUCKET/PREFIX does")
    if ".." in parts.path.split("/"):
        raise InputError(f"{place}: '..' means nothing in an object store")


def _connected(uri: str, tries: int) -> tuple[fs.FileSystem, str]:
    """The file system of a URI, and the folder's path in it."""
    parts = urlsplit(uri)
    if parts.scheme != "s3":
        if parts.scheme == "gs":
            # Its own default is 15 minutes.
            limit = f"retry_limit_seconds={QUICK_S if tries == QUICK else PATIENT_S}"
            uri += ("&" if parts.query else "?") + limit
        system, base = fs.FileSystem.from_uri(uri)
        return system, base.strip("/")
    settings = dict(parse_qsl(parts.query))
    here = os.environ
    endpoint = (
        settings.get("endpoint_override")
        or here.get("AWS_ENDPOINT_URL_S3")
        or here.get("AWS_ENDPOINT_URL")
    )
    region = settings.get("region") or here.get("AWS_REGION") or here.get("AWS_DEFAULT_REGION")
    scheme, sign, host = (endpoint or "").rpartition("://")
    system = fs.S3FileSystem(
        # Another maker's S3 has no regions; in AWS, the bucket's is looked up.
        region=region or ("us-east-1" if endpoint else fs.resolve_s3_region(parts.netloc)),
        scheme=settings.get("scheme") or (scheme if sign else "https"),
        endpoint_override=host.rstrip("/") or None,
        connect_timeout=CONNECT_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=tries),
        background_writes=False,  # a file is sent, or the call raises
        allow_delayed_open=True,  # so that a small file is one request
    )
    return system, f"{parts.netloc}{parts.path}".strip("/")


@contextlib.contextmanager
def storing(place: Path | str, body: Any = b"") -> Iterator[None]:
    """Turns what goes wrong while writing to `place` into a StorageError that says what to do.

    Args: body: what is to be written: its size is needed only then.
    """
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and isinstance(place, Path):
            there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
            needed = body.nbytes if hasattr(body, "nbytes") else memoryview(body).nbytes
            room = (
                f"no space left on the device: {needed:,} bytes needed, "
                f"{shutil.disk_usage(there).free:,} free. Make room"
            )
        else:
            room = f"{_cause(error)}. Mend that"
        raise StorageError(f"{place} can't be written: {room}, then {AGAIN}") from error


def _write_beside(target: Path, body: Any) -> Path:
    """A temporary file in the target's folder with this content, on the disk."""
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
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


def _cause(error: BaseException) -> str:
    """What pyarrow says, as one line, with what to do about the usual reasons."""
    said = " ".join(str(error).split())
    said = said if len(said) <= 300 else f"{said[:300]}..."
    for sign, cure in CURES.items():
        if sign in said:
            return f"{cure} ({said})"
    return said
