"""What has arrived and is in no segment yet, and what became of each trial: a SQLite database.

What a call has noted survives this process when the call returns. Every entry has a key, so a call
that comes again changes nothing: Ray repeats what a dead recorder had not answered.
"""

import json
import re
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from raysweep.store.folder import storing
from raysweep.store.lease import SupersededError
from raysweep.store.schema import SCHEMAS, Table, packed_batch, unpacked

_TABLES = """
CREATE TABLE IF NOT EXISTS writer (invocation TEXT NOT NULL, token TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY,
    trial_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    what TEXT NOT NULL,
    details TEXT,
    UNIQUE (trial_id, attempt, what)
);
CREATE TABLE IF NOT EXISTS pending (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    num_rows INTEGER NOT NULL,
    body BLOB NOT NULL
);
"""
_FILE = "log.sqlite"
# File systems that machines share: SQLite needs locks that they do not all keep.
_SHARED = re.compile(r"nfs4?|cifs|smb3|lustre|gpfs|beegfs|ceph|glusterfs|afs|fuse\.(?!.*overlay).*")


class Rows(NamedTuple):
    """Rows of one table, packed."""

    table: Table
    num_rows: int
    body: bytes

    @classmethod
    def of(cls, table: Table, batch: pa.RecordBatch) -> "Rows":
        """The rows of a batch."""
        return cls(table, len(batch), packed_batch(batch))


class Entry(NamedTuple):
    """What became of an attempt at a trial. There is one of the same trial, attempt and `what`."""

    trial_id: str
    attempt: int
    what: str
    details: dict[str, Any] | None = None  # None: what has no meaning but that it has come


class Log:
    """The log of one store. Only the writer that opened it last may change it."""

    def __init__(self, folder: Path, invocation: str) -> None:
        """Opens the log in a folder of a disk.

        Args: invocation: whose entries are kept; those of an earlier one are removed. Rows are
            kept, whose ever they are.

        Raises: StorageError.
        """
        self._path = folder / _FILE
        self._token = uuid.uuid4().hex
        with storing(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False
            )
            # So a commit is one write, and no sudden end of the machine damages the file.
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute("PRAGMA trusted_schema = OFF")
            self._database.executescript(_TABLES)
            with self._database as database:
                database.execute("BEGIN IMMEDIATE")
                before = database.execute("SELECT invocation FROM writer").fetchall()
                self.resumed = before == [(invocation,)]
                """Whether a recorder of this invocation has been here before."""
                if not self.resumed:
                    database.execute("DELETE FROM entries")
                database.execute("DELETE FROM writer")
                database.execute("INSERT INTO writer VALUES (?, ?)", (invocation, self._token))
                count = database.execute("SELECT coalesce(sum(num_rows), 0) FROM pending")
                self.num_pending_rows: int = count.fetchone()[0]

    def note(self, entry: Entry | None, rows: Sequence[Rows] = (), *, last: bool = False) -> bool:
        """Take an entry, and rows with it: all of that, or nothing of it.

        Args: last: the trial takes no more entries without details: those go.

        Returns: whether the entry is new; nothing is changed if it has come before.
        """
        with self._changing(sum(len(part.body) for part in rows)) as database:
            if entry is not None:
                details = None if entry.details is None else json.dumps(entry.details)
                added = database.execute(
                    "INSERT OR IGNORE INTO entries (trial_id, attempt, what, details) "
                    "VALUES (?, ?, ?, ?)",
                    (*entry[:3], details),
                )
                if not added.rowcount:
                    return False
                if last:
                    database.execute(
                        "DELETE FROM entries WHERE trial_id = ? AND details IS NULL", entry[:1]
                    )
            database.executemany(
                "INSERT INTO pending (name, num_rows, body) VALUES (?, ?, ?)", rows
            )
        self.num_pending_rows += sum(part.num_rows for part in rows)
        return True

    def entries(self) -> list[Entry]:
        """Those with details, in the order of their coming."""
        with storing(self._path):
            rows = self._database.execute(
                "SELECT trial_id, attempt, what, details FROM entries "
                "WHERE details IS NOT NULL ORDER BY id"
            ).fetchall()
        return [
            Entry(trial_id, attempt, what, json.loads(details))
            for trial_id, attempt, what, details in rows
        ]

    def pending(self, table: Table) -> pa.Table:
        """The rows of a table that wait to be in a segment, in the order of their coming."""
        return read_pending(self._database, table, self._path)

    def clear(self) -> None:
        """What was pending is in segments."""
        with self._changing() as database:
            database.execute("DELETE FROM pending")
        self.num_pending_rows = 0

    def remove(self) -> None:
        """The invocation is over, and nothing is pending."""
        self._database.close()
        for path in self._path.parent.glob(f"{_FILE}*"):
            path.unlink(missing_ok=True)

    @contextmanager
    def _changing(self, num_bytes: int = 0) -> Iterator[sqlite3.Connection]:
        with storing(self._path, num_bytes), self._database as database:
            database.execute("BEGIN IMMEDIATE")
            if database.execute("SELECT token FROM writer").fetchall() != [(self._token,)]:
                raise SupersededError(
                    f"another writer has taken over {self._path}; this one has stopped. What it "
                    "had finished is there"
                )
            yield database


def read_pending(database: sqlite3.Connection, table: Table, path: Path) -> pa.Table:
    """The pending rows of a table, with the columns of the raysweep that logged them.

    Raises: StorageError when the database is damaged.
    """
    with storing(path):
        query = "SELECT body FROM pending WHERE name = ? ORDER BY id"
        batches = [unpacked(body) for (body,) in database.execute(query, (table,))]
        rows = pa.Table.from_batches(batches) if batches else SCHEMAS[table].empty_table()
        rows.validate(full=True)
        return rows


def is_shared(folder: Path) -> bool:
    """Whether a folder lies on a file system that machines share, as far as can be known."""
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return False
    kinds = {point: kind for _, point, kind, *_ in map(str.split, mounts)}
    places = map(str, (folder.resolve(), *folder.resolve().parents))
    kind = next((kinds[place] for place in places if place in kinds), "")
    return _SHARED.fullmatch(kind) is not None
