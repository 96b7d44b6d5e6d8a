"""One Parquet file of a store: written with checksums, and read whole or named as damaged."""

import hashlib
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysweep.store.folder import Folder

# Parquet's own checksums cover a page's data and not the footer, so the names of the columns, by
# which a reader finds them, have one of ours.
NAMES_KEY = b"raysweep_names"


class DamagedError(Exception):
    """A file that is not what was written; the message says how it shows."""


def write(folder: Folder, path: str, rows: pa.Table) -> None:
    """Write rows as a new file. Raises: FileExistsError, StorageError."""
    metadata = {NAMES_KEY: _digest_of(rows.schema)}
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows.replace_schema_metadata(metadata), sink, compression="zstd", write_page_checksum=True
    )
    folder.write_new(path, sink.getvalue())


def read(folder: Folder, path: str, schema: pa.Schema, trial_id: str | None = None) -> pa.Table:
    """Columns of a file; those that it lacks are null.

    Args: trial_id: of the only trial whose rows are wanted.

    Raises: FileNotFoundError; DamagedError; StorageError when an object store fails.
    """
    try:
        with folder.open(path) as file:
            return _read(file, schema, trial_id)
    except FileNotFoundError:
        raise
    # A damaged length makes Arrow ask for any amount of memory.
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise DamagedError(" ".join(str(error).split())[:200] or type(error).__name__) from error


def _read(file: Any, schema: pa.Schema, trial_id: str | None) -> pa.Table:
    if not file.size():
        raise DamagedError("it is empty")
    parquet = pq.ParquetFile(file, page_checksum_verification=True)
    there = parquet.schema_arrow
    if "trial_id" not in there.names:
        raise DamagedError("it is no file of a store: it has no column 'trial_id'")
    known = (there.metadata or {}).get(NAMES_KEY)
    if known is not None and known != _digest_of(there):
        raise DamagedError("its columns are not what was written")
    present = [name for name in schema.names if name in there.names]
    if trial_id is None:
        rows = parquet.read(columns=present)
    else:
        rows = _rows_of(parquet, present, trial_id)
    for field in schema:
        if field.name not in present:
            rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    return rows.select(schema.names).cast(schema)


def _rows_of(parquet: pq.ParquetFile, columns: list[str], trial_id: str) -> pa.Table:
    parts = [parquet.schema_arrow.empty_table().select(columns)]
    for group in range(parquet.num_row_groups):
        ids = parquet.read_row_group(group, ["trial_id"])["trial_id"].to_numpy()
        wanted = ids == trial_id
        if wanted.any():
            parts.append(parquet.read_row_group(group, columns).filter(pa.array(wanted)))
    return pa.concat_tables(parts)


def _digest_of(schema: pa.Schema) -> bytes:
    return hashlib.blake2b("|".join(schema.names).encode(), digest_size=8).hexdigest().encode()
