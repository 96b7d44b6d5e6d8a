"""A store that is looked at while it is written, and compared with one that nothing disturbed."""

import contextlib
import sqlite3
import threading
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa

from raysweep.errors import RaysweepError, StorageError
from raysweep.store.files import Store
from raysweep.store.log import read_pending
from raysweep.store.schema import SCHEMAS, Table

KEY = ("trial_id", "weights_kind", "epoch")
# What may differ between two trainings of a trial: when, where, in which attempt.
CIRCUMSTANCES = (
    "attempt",
    "start_epoch",
    "wall_s",
    "train_s",
    "seconds",
    "node",
    "checkpoint",
    "error",
    "error_log",
)


def comparable(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows without what may differ between two trainings of one trial."""
    return rows.drop(CIRCUMSTANCES, strict=False)


def live(rows: pl.DataFrame) -> pl.DataFrame:
    """The rule of the store, once more: a later attempt's start_epoch ends an earlier one's."""
    later = rows.select("trial_id", pl.col("attempt").alias("later"), "start_epoch").unique()
    dead = (
        rows.join(later.rename({"start_epoch": "from"}), on="trial_id")
        .filter((pl.col("later") > pl.col("attempt")) & (pl.col("from") <= pl.col("epoch")))
        .select(*KEY, "attempt")
        .unique()
    )
    return rows.join(dead, on=[*KEY, "attempt"], how="anti")


def epochs_in(store: Store) -> pl.DataFrame:
    """Epoch rows of live segments."""
    rows = pl.from_arrow(store.read("epochs"))
    assert isinstance(rows, pl.DataFrame)
    return rows


def results_in(store: Store) -> pl.DataFrame:
    """The last result of every trial."""
    rows = pl.from_arrow(store.read("trials"))
    assert isinstance(rows, pl.DataFrame)
    return rows.sort("attempt").unique("trial_id", keep="last").sort("trial_id")


@dataclass
class Watcher:
    """Looks at a store again and again, and keeps every row that it has seen in it or its log."""

    store: Store
    epochs: dict[tuple, str] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    changed: list[tuple] = field(default_factory=list)
    ahead: list[str] = field(default_factory=list)  # checkpoints with no row of an epoch before
    looks: int = 0

    def look(self) -> None:
        """Once. A row that says something else than it said before is noted."""
        with contextlib.suppress(OSError, pa.ArrowException, ValueError, RaysweepError):
            # Checkpoints first: their rows are logged by the time that they are there. Then the
            # log: its rows are in a segment by the time that it is removed.
            checkpoints = [path.stem for path in Path(self.store.root).glob("resume/[!.]*.pt")]
            for rows in (logged(self.store, "epochs"), epochs_in(self.store)):
                self._take(rows)
            self.ahead += filter(self._lacks_rows, checkpoints)
            done = results_in(self.store).filter(pl.col("status").is_in(["completed", "diverged"]))
            self.finished |= set(done["trial_id"])
            self.looks += 1

    def _take(self, rows: pl.DataFrame) -> None:
        for row in comparable(rows).iter_rows(named=True):
            key = tuple(row[name] for name in KEY)
            value = repr(row)
            if self.epochs.setdefault(key, value) != value:
                self.changed.append(key)

    def _lacks_rows(self, checkpoint: str) -> bool:
        trial_id, _, last = checkpoint.split("-")
        seen = {epoch for trial, _, epoch in self.epochs if trial == trial_id}
        return not seen.issuperset(range(1, int(last) + 1))

    @contextlib.contextmanager
    def watching(self, every: float = 0.5):
        """In a thread."""
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(every):
                self.look()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()


def logged(store: Store, table: Table) -> pl.DataFrame:
    """Rows on their way into a segment."""
    log = store.log_folder / "log.sqlite"
    rows = SCHEMAS[table].empty_table()
    with contextlib.suppress(sqlite3.OperationalError, StorageError):  # none yet, or no longer
        database = sqlite3.connect(f"file:{log}?mode=ro", uri=True)
        with contextlib.closing(database):
            rows = read_pending(database, table, log)
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    return frame


def differences(store: Store, undisturbed: Store, seen: Watcher) -> dict[str, int]:
    """What must all be 0."""
    rows, wanted = live(epochs_in(store)), live(epochs_in(undisturbed))
    keys = rows.select(KEY)
    final = {
        tuple(row[name] for name in KEY): repr(row)
        for row in comparable(rows).iter_rows(named=True)
    }
    same = comparable(rows).sort(KEY).equals(comparable(wanted).sort(KEY), null_equal=True)
    results, expected = comparable(results_in(store)), comparable(results_in(undisturbed))
    return {
        "rows lost": sum(key not in final for key in seen.epochs),
        "rows changed": len(seen.changed)
        + sum(final.get(key, value) != value for key, value in seen.epochs.items()),
        "checkpoints ahead of their rows": len(seen.ahead),
        "finished trials lost": len(seen.finished - set(results["trial_id"])),
        "keys that stand twice": keys.height - keys.unique().height,
        "rows unlike the undisturbed run's": int(not same),
        "trials unlike the undisturbed run's": int(not results.equals(expected, null_equal=True)),
    }
