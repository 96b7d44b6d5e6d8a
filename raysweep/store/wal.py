"""The write-ahead log: rows that had arrived at a writer that died before they were in a segment.

Logs are Arrow streams beside the segments that they become, named `<g>-<seq>-<table>.arrows`.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.ipc

from raysweep.store.schema import DONE

if TYPE_CHECKING:
    from raysweep.store.files import Store
    from raysweep.store.schema import Table

# No two live rows of a table have the same.
KEYS: "dict[Table, list[str]]" = {
    "epochs": ["trial_id", "attempt", "epoch", "weights_kind"],
    "trials": ["trial_id", "attempt"],
}


def logs(store: "Store") -> list[Path]:
    """Every log that is there, in the order of writing."""
    return sorted(store.wal_folder.glob("*.arrows"))


def lost_rows(store: "Store", logs: Sequence[Path]) -> "list[tuple[Table, pa.RecordBatch]]":
    """The rows in logs that the store lacks.

    A writer that died while it took rows in has left them in two logs, or in a log and a segment:
    a key enters once. A trial that the store holds whole takes no more rows: they are those of a
    writer that was superseded.
    """
    live = {path for table in KEYS for path in store.live_files(table)}
    found: dict[Table, list[pa.RecordBatch]] = {table: [] for table in KEYS}
    for path in logs:
        generation, sequence, name = path.stem.split("-")
        table: Table = "trials" if name == "trials" else "epochs"
        # With its segment on disk, a log is only what its writer had no time to remove.
        if store.segment(table, int(generation), int(sequence)) not in live:
            found[table] += _whole_batches(path)
    if not any(found.values()):
        return []
    ends = store.read("trials", ["trial_id", "status"]).to_pydict()
    ended = zip(ends["trial_id"], ends["status"], strict=True)
    whole = {trial_id for trial_id, status in ended if status in DONE}
    return [
        (table, batch)
        for table, batches in found.items()
        for batch in _unknown(batches, KEYS[table], store.read(table, KEYS[table]), whole)
    ]


def _unknown(
    batches: Iterable[pa.RecordBatch], key: list[str], known: pa.Table, whole: set[str]
) -> Iterator[pa.RecordBatch]:
    seen = set(_rows(known))
    for batch in batches:
        fresh: list[bool] = []
        for row in _rows(batch.select(key)):
            fresh.append(row not in seen and row[0] not in whole)
            seen.add(row)
        if any(fresh):
            yield batch.filter(pa.array(fresh))


def _rows(table: pa.Table | pa.RecordBatch) -> Iterator[tuple[object, ...]]:
    return zip(*table.to_pydict().values(), strict=True)


def _whole_batches(path: Path) -> Iterable[pa.RecordBatch]:
    """Every batch of an Arrow stream up to its torn tail, if it has one."""
    with contextlib.suppress(pa.ArrowInvalid, OSError), pa.OSFile(str(path)) as file:
        yield from pa.ipc.open_stream(file)
