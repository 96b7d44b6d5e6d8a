"""The store: every path in it, its writer and its reader.

A store is a folder, on a disk or in an object store. Files in it are whole or absent, and never
overwritten:

    sweeps/<n>-<digest>.json       one per invocation: the spec, its trial ids, versions, hardware
    epochs/<g>-<seq>.parquet       segments: one row per trial, attempt, epoch and kind of weights
    trials/<g>-<seq>.parquet       segments: one row per finished attempt at a trial
    epochs/compact-<g>.parquet     all that was live at the end of generation g, in one file
    generations/<g>.json           which files were live when writer number g took over
    lease/                         signs of who that is, and that it lives; see lease.py
    wal/log.sqlite                 rows on their way into a segment, and what the recorder knows of
                                   each trial; see log.py
    checkpoints/, logs/            best weights of early-stopped trials; tracebacks of failed ones
    resume/                        checkpoints of running trials, to go on from; see resume.py

Every writer opens a new generation. Live are the files that the newest generation lists and the
segments that carry its number; what a superseded writer still writes is therefore ignored. A live
file that is damaged is left out, named by `scan` and `damaged`, and never removed.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import pyarrow as pa

from raysweep.errors import InputError, RaysweepError, shown
from raysweep.store import segments
from raysweep.store.folder import Folder, storing
from raysweep.store.lease import Lease, generations
from raysweep.store.local_path import check_readable, check_writable, local_path
from raysweep.store.log import Log, Rows, is_shared
from raysweep.store.record import SweepRecord
from raysweep.store.schema import DONE, KEYS, SCHEMAS, TABLES, Table

_SEGMENT = re.compile(r"(\d{6,})-(\d{6,})\.parquet")
_COMPACT = re.compile(r"compact-(\d{6,})\.parquet")
_SWEEP = re.compile(r"(\d{4,})-([0-9a-f]{8})\.json")
_TORN = re.compile(r"\..*\.parquet\.[0-9a-f]+\.tmp")
_MAX_LISTINGS = 10


class Damaged(NamedTuple):
    """A file of a store that can't be used, and why."""

    path: str
    reason: str


class Scan(NamedTuple):
    """The rows of a table, and the files that could not be read."""

    rows: pa.Table
    damaged: list[Damaged]


class Store:
    """Names every path of a store, relative to its folder, and reads it. `StoreWriter` writes."""

    def __init__(self, root: Path | str) -> None:
        """Args: root: a folder's path, or a URI as folder.Folder takes it."""
        self.folder = Folder(root)
        self.root: Path | str = self.folder.shown  # for display

    @classmethod
    def existing(cls, root: Path | str) -> Self:
        """Raises: InputError when there is no store at `root`."""
        store = cls(root)
        if store.folder.local is not None:
            check_readable(
                store.folder.local / "sweeps", f"the store {shown(str(root), 200)[1:-1]}"
            )
        store.folder.check()
        if not store.folder.holds("sweeps"):
            raise InputError(f"no store at {store.root}: it has no folder 'sweeps'")
        return store

    def check_writable(self, *, exclusive: bool = False) -> None:
        """Try whether this store can be made and written; nothing of that stays.

        Args: exclusive: whether an object store is tried too, by writing to it.

        Raises: InputError, which says what is in the way.
        """
        if self.folder.local is not None:
            check_writable(self.folder.local, f"the store {shown(str(self.root), 200)[1:-1]}")
        else:
            self.folder.check(exclusive=exclusive)
        log = self.log_folder
        if log.parent != self.folder.local:
            check_writable(log, f"the folder {log} of the log")

    @property
    def report(self) -> Path:
        """Where the report is written by default: in the store, or here if that is no disk."""
        return (self.folder.local or self.folder.here) / "report.html"

    @property
    def log_folder(self) -> Path:
        """Where the writer logs rows first: on a disk of this machine, even when the store is not.

        The store itself has it, unless it is in an object store or on a file system that machines
        share.
        """
        if self.folder.local is not None and not is_shared(self.folder.local):
            return self.folder.local / "wal"
        cache = self.folder.here / (
            local_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") or ""
        )
        place = str(self.folder.local.resolve() if self.folder.local else self.folder.uri)
        return cache / "raysweep" / "wal" / _digest(place.encode())

    def segment(self, table: Table, generation: int, sequence: int) -> str:
        """The file of one segment."""
        return f"{table}/{generation:06d}-{sequence:06d}.parquet"

    def compacted(self, table: Table, generation: int) -> str:
        """The file that holds all that was live at the end of a generation."""
        return f"{table}/compact-{generation:06d}.parquet"

    def error_log(self, trial_id: str, attempt: int) -> str:
        """The traceback of a failed attempt."""
        return f"logs/{trial_id}-{attempt}.txt"

    def checkpoint_log(self, trial_id: str, attempt: int) -> str:
        """Why an attempt did not go on from a checkpoint that there was."""
        return f"logs/{trial_id}-{attempt}-checkpoint.txt"

    def checkpoint(self, trial_id: str, attempt: int) -> str:
        """The best weights of a trial with early stopping (a torch state dict)."""
        return f"checkpoints/{trial_id}-{attempt}.pt"

    def live_files(self, table: Table) -> list[str]:
        """The Parquet files that count, oldest first."""
        numbers = generations(self.folder)
        own = self._segments(table, numbers[-1]) if numbers else []
        return [f"{table}/{name}" for name in [*self._files_of(numbers)[table], *own]]

    def live_record(self) -> dict[str, Any]:
        """What a generation that opens now has to say of the files that count."""
        return _record_of({t: [Path(p).name for p in self.live_files(t)] for t in TABLES})

    def scan(
        self,
        table: Table,
        columns: Sequence[str] | None = None,
        *,
        trial_id: str | None = None,
        thorough: bool = False,
    ) -> Scan:
        """All live rows that can be read, or one trial's, in the order of writing.

        Of a damaged file, what `columns` need not may go unnoticed, unless `thorough` has all of it
        read, file by file; `damaged` looks at all.
        """
        schema = SCHEMAS[table]
        kept = schema.names if columns is None else list(columns)
        if not thorough:
            schema = pa.schema([schema.field(name) for name in kept])
        for _ in range(_MAX_LISTINGS):
            paths = self.live_files(table)
            parts, damaged, missing = [schema.empty_table().select(kept)], [], False
            for path in paths:
                try:
                    rows = segments.read(self.folder, path, schema, trial_id)
                    parts.append(rows.select(kept))
                except FileNotFoundError:
                    missing = True
                    damaged.append(Damaged(path, "it is not there"))
                except segments.DamagedError as error:
                    damaged.append(Damaged(path, str(error)))
            # A new writer removes what an older one had superseded: then list again.
            if not missing or paths == self.live_files(table):
                return Scan(pa.concat_tables(parts), damaged)
        raise RaysweepError(f"{self.root}: {table} vanish faster than they can be read")

    def read(self, table: Table, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of `scan`."""
        return self.scan(table, columns).rows

    def sweeps(self) -> list[SweepRecord]:
        """Every invocation's record that is whole, oldest first."""
        return self._scan_sweeps()[0]

    def damaged(self) -> list[Damaged]:
        """Every file that would count and can't be used; reads all that is live."""
        rows = [damaged for table in TABLES for damaged in self.scan(table).damaged]
        return self.damaged_records() + rows

    def damaged_records(self) -> list[Damaged]:
        """Those of sweeps and generations."""
        damaged = self._scan_sweeps()[1]
        for name in self.folder.names("generations")[-1:]:
            try:
                self._recorded(name)
            except ValueError as error:
                damaged.append(Damaged(f"generations/{name}", str(error)))
        return damaged

    def _scan_sweeps(self) -> tuple[list[SweepRecord], list[Damaged]]:
        records: list[tuple[int, SweepRecord]] = []
        damaged: list[Damaged] = []
        for name in self.folder.names("sweeps"):
            if name.startswith("."):
                continue
            try:
                if not (match := _SWEEP.fullmatch(name)):
                    raise ValueError("it has another name")
                body = self.folder.read(f"sweeps/{name}")
                if _digest(body) != match[2]:
                    raise ValueError("its content is not what was written")
                records.append((int(match[1]), SweepRecord.from_json(json.loads(body))))
            except (ValueError, RecursionError) as error:
                damaged.append(Damaged(f"sweeps/{name}", str(error)))
        return [record for _, record in sorted(records, key=lambda pair: pair[0])], damaged

    def _files_of(self, numbers: list[int]) -> dict[Table, list[str]]:
        """The files that the last of these generations lists, or would list if it could be read."""
        if not numbers:
            return {table: [] for table in TABLES}
        *earlier, last = numbers
        try:
            return self._recorded(f"{last:06d}.json")
        except ValueError:
            # It took over either what its forerunner had merged, or all that was live then.
            files = self._files_of(earlier)
            for table in TABLES:
                merged = self.compacted(table, earlier[-1] if earlier else 0)
                if self.folder.exists(merged):
                    files[table] = [merged.partition("/")[2]]
                elif earlier:
                    files[table] = [*files[table], *self._segments(table, earlier[-1])]
            return files

    def _recorded(self, name: str) -> dict[Table, list[str]]:
        """The files that a generation lists. Raises: ValueError when it is damaged."""
        try:
            record = json.loads(self.folder.read(f"generations/{name}"))
            files: dict[Table, list[str]] = {t: list(record["files"][t]) for t in TABLES}
        except (ValueError, LookupError, TypeError, RecursionError):
            raise ValueError("it is no list of files") from None
        names = [str(name) for listed in files.values() for name in listed]
        ours = all(_SEGMENT.fullmatch(name) or _COMPACT.fullmatch(name) for name in names)
        if not ours or record.get("digest") != _digest(json.dumps(files).encode()):
            raise ValueError("its content is not what was written")
        return files

    def _segments(self, table: Table, generation: int) -> list[str]:
        matches = map(_SEGMENT.fullmatch, self.folder.names(table))
        return [match[0] for match in matches if match and int(match[1]) == generation]


class StoreWriter:
    """The one writer of a store: rows go into the log, then into segments.

    Opening takes over whatever a dead writer's log still holds.
    """

    def __init__(self, store: Store, lease: Lease | None = None) -> None:
        """Args: lease: the right to write; without one, whoever has it is fenced out.

        Raises: StorageError, here and in whatever writes.
        """
        self.store = store
        with storing(store.folder.local or store.log_folder):
            store.folder.make(*TABLES, "sweeps", "generations", "logs", "checkpoints")
        self.lease = lease or Lease.seize(store.folder, store.live_record)
        self._remove_dead_files()
        self._sequence = 0
        self.log = Log(store.log_folder, self.lease.holder.invocation.token)
        if self.log.num_pending_rows:
            self._write({table: self._lacking(table) for table in TABLES})

    @property
    def generation(self) -> int:
        """The number that this writer's segments carry."""
        return self.lease.generation

    def add_sweep(self, record: SweepRecord) -> str:
        """Write one invocation's record under the next free number. Returns: its path."""
        body = json.dumps(record.to_json(), indent=1, allow_nan=False).encode()
        names = (re.match(r"(\d+)-", name) for name in self.store.folder.names("sweeps"))
        number = 1 + max((int(match[1]) for match in names if match), default=0)
        path = f"sweeps/{number:04d}-{_digest(body)}.json"
        self.store.folder.write_new(path, body)
        return path

    def append(self, table: Table, batch: pa.RecordBatch) -> None:
        """Log rows; they survive the death of this process from here on."""
        self.log.note(None, [Rows.of(table, batch)])

    def flush(self) -> None:
        """Turn what is pending into segments.

        Raises: SupersededError; what is pending stays in the log.
        """
        self._write({table: self.log.pending(table) for table in TABLES})

    def _write(self, rows: Mapping[Table, pa.Table]) -> None:
        """All that the log holds becomes segments: epochs first, so that a trial that stands in a
        segment has all its rows in segments too."""
        self.lease.check()
        for table in TABLES:
            if len(rows[table]):
                path = self.store.segment(table, self.generation, self._sequence)
                segments.write(self.store.folder, path, rows[table])
        self._sequence += 1
        self.log.clear()

    def _lacking(self, table: Table) -> pa.Table:
        """The pending rows that the store lacks.

        A writer that died while it wrote segments has left rows in the log that a segment holds. A
        trial that the store holds whole takes no more rows: they are those of a writer that was
        superseded.
        """
        rows = self.log.pending(table)
        ends = self.store.read("trials", ["trial_id", "status"]).to_pydict()
        ended = zip(ends["trial_id"], ends["status"], strict=True)
        whole = {trial_id for trial_id, status in ended if status in DONE}
        stored = set(_keys_of(self.store.read(table, KEYS[table])))
        fresh = [
            key not in stored and key[0] not in whole for key in _keys_of(rows.select(KEYS[table]))
        ]
        return rows.filter(pa.array(fresh, pa.bool_()))

    def compact(self) -> None:
        """Merge all segments into one file per table, under a new generation.

        The merged files stay on disk until the next writer opens, so that scans go on. Damaged
        ones stay listed: they may be mended, and are never removed.
        """
        self.flush()
        if all(len(self.store.live_files(table)) <= 1 for table in TABLES):
            return
        files: dict[Table, list[str]] = {}
        for table in TABLES:
            path = self.store.compacted(table, self.generation)
            rows, damaged = self.store.scan(table)
            order = ["trial_id", "attempt"] + (["epoch"] if table == "epochs" else [])
            rows = rows.sort_by([(name, "ascending") for name in order])
            segments.write(self.store.folder, path, rows)
            files[table] = [Path(name).name for name in (path, *(bad.path for bad in damaged))]
        self.lease.renumber(lambda: _record_of(files))
        self._sequence = 0

    def _remove_dead_files(self) -> None:
        """Remove what was already dead when the last writer closed, and what a superseded one
        wrote; what is not ours stays, and what a newer writer may just be making."""
        folder = self.store.folder
        for table in TABLES:
            names = folder.names(table)
            live = self.store.live_files(table)
            for name in names:
                ours = _SEGMENT.fullmatch(name) or _COMPACT.fullmatch(name)
                old = ours is not None and int(ours[1]) < self.generation
                path = f"{table}/{name}"
                if path not in live and (old or _TORN.fullmatch(name)):
                    folder.remove(path)


def _keys_of(rows: pa.Table) -> Iterator[tuple[object, ...]]:
    return zip(*rows.to_pydict().values(), strict=True)


def _record_of(files: Mapping[Table, list[str]]) -> dict[str, Any]:
    return {"files": files, "digest": _digest(json.dumps(files).encode())}


def _digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=4).hexdigest()
