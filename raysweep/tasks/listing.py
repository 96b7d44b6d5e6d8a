"""A digest of a folder of data by the names, sizes and times of its files: none of them is read."""

import hashlib
import os
from pathlib import Path

PREFIX = "files "  # of such a digest
_STORE = "sweeps"  # a folder that holds this one is a store of results


def listing_digest(folder: Path) -> str:
    """Digest a folder without opening a file: what is added, removed, or written again changes it.

    Hidden files, Python's caches and stores of results do not count.
    """
    content = hashlib.blake2b(digest_size=8)
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith((".", "__pycache__"))
            and not os.path.isdir(os.path.join(place, name, _STORE))
        )
        for name in sorted(files):
            path = os.path.join(place, name)
            if name.startswith(".") or not os.path.isfile(path):
                continue
            status = os.stat(path)
            inside = os.path.relpath(path, folder)
            line = f"{inside}\0{status.st_size} {status.st_mtime_ns}\n"
            content.update(line.encode(errors="surrogateescape"))
    return f"{PREFIX}{content.hexdigest()}"


def is_listing(digest: str | None) -> bool:
    """Tell whether a digest of data is one of a folder's files."""
    return digest is not None and digest.startswith(PREFIX)


WHAT_IT_MEANS = (
    "the data are known by the names, sizes and times of the files in their folder, since load() "
    "gives no digest: a copy with other times has other ids"
)
