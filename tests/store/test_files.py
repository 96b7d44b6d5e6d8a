"""The store: nothing acknowledged is lost, nothing counts twice, a scan always succeeds."""

import signal
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysweep.errors import InputError
from raysweep.store import segments
from raysweep.store.files import EPOCHS, Store, StoreWriter
from raysweep.store.lease import SupersededError
from tests.support.stored_rows import epochs, finished, keys


def test_rows_are_readable_after_a_flush_and_after_compaction(tmp_path):
    store = Store(tmp_path)
    writer = StoreWriter(store)
    for trial in ("b", "a"):
        writer.append("epochs", epochs(trial, 1, 2))
        writer.append("trials", finished(trial))
        writer.flush()
    before = keys(store)
    assert len(store.live_files("epochs")) == 2
    writer.compact()
    assert len(store.live_files("epochs")) == 1
    assert keys(store) == before == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]


def test_files_read_before_a_compaction_stay_until_the_next_writer_opens(tmp_path):
    store = Store(tmp_path)
    writer = StoreWriter(store)
    for epoch in (1, 2):
        writer.append("epochs", epochs("a", epoch))
        writer.flush()
    listed = store.live_files("epochs")
    writer.compact()
    assert all((tmp_path / path).exists() for path in listed)
    StoreWriter(store)
    assert not any((tmp_path / path).exists() for path in listed)
    assert keys(store) == [("a", 1), ("a", 2)]


def test_rows_logged_by_a_killed_writer_are_recovered_once(tmp_path):
    code = f"""
import os, signal
from raysweep.store.files import Store, StoreWriter
from tests.support.stored_rows import epochs, finished
writer = StoreWriter(Store({str(tmp_path)!r}))
writer.append("epochs", epochs("a", 1)); writer.flush()
writer.append("epochs", epochs("a", 2)); writer.append("trials", finished("a"))
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], check=False)
    assert killed.returncode == -signal.SIGKILL
    store = Store(tmp_path)
    assert keys(store) == [("a", 1)]
    StoreWriter(store)
    StoreWriter(store)
    assert keys(store) == [("a", 1), ("a", 2)]
    assert store.read("trials").num_rows == 1


def test_a_log_whose_segment_is_on_disk_is_not_replayed(tmp_path):
    store = Store(tmp_path)
    writer = StoreWriter(store)
    writer.append("epochs", epochs("a", 1))
    log = store.wal("epochs", writer.generation, 0)
    kept = log.read_bytes()
    writer.flush()
    log.write_bytes(kept)  # as if the writer had died between the segment and its log's removal
    StoreWriter(store)
    assert keys(store) == [("a", 1)]


def test_a_torn_log_gives_what_is_whole(tmp_path):
    store = Store(tmp_path)
    writer = StoreWriter(store)
    writer.append("epochs", epochs("a", 1))
    writer.append("epochs", epochs("a", 2))
    log = store.wal("epochs", writer.generation, 0)
    log.write_bytes(log.read_bytes()[:-100])
    StoreWriter(store)
    assert keys(store) == [("a", 1)]


def test_a_superseded_writer_is_ignored(tmp_path):
    store = Store(tmp_path)
    old = StoreWriter(store)
    new = StoreWriter(store)
    old.append("epochs", epochs("zombie", 1))
    with pytest.raises(SupersededError, match="another writer has taken over"):
        old.flush()
    # It had looked just before the other one opened.
    rows = pa.Table.from_batches([epochs("zombie", 2)])
    segments.write(store.folder, store.segment("epochs", old.generation, 9), rows)
    new.append("epochs", epochs("a", 1))
    new.flush()
    assert keys(store) == [("a", 1)]


def test_what_a_superseded_writer_leaves_goes_and_what_a_newer_one_makes_stays(tmp_path):
    store = Store(tmp_path)
    old = StoreWriter(store)
    old.append("epochs", epochs("a", 1))
    old.flush()
    new = StoreWriter(store)
    rows = pa.Table.from_batches([epochs("zombie", 2)])
    segments.write(store.folder, store.segment("epochs", old.generation, 9), rows)
    segments.write(store.folder, store.compacted("epochs", new.generation), rows)
    old._remove_dead_files()
    assert keys(store) == [("a", 1)]
    assert store.folder.exists(store.compacted("epochs", new.generation))
    StoreWriter(store)
    assert not store.folder.exists(store.segment("epochs", old.generation, 9))
    assert keys(store) == [("a", 1)]


def test_a_writer_that_dies_while_it_recovers_leaves_no_row_twice(tmp_path):
    store = Store(tmp_path)
    writer = StoreWriter(store)
    writer.append("epochs", epochs("a", 1, 2))
    log = store.wal("epochs", writer.generation, 0)
    kept = log.read_bytes()
    StoreWriter(store)
    log.write_bytes(kept)  # its segment is written, and the log that it came from not removed
    second = StoreWriter(store)
    log.write_bytes(kept)
    second.append("epochs", epochs("a", 2, 3))
    StoreWriter(store)
    assert keys(store) == [("a", 1), ("a", 2), ("a", 3)]


def test_a_trial_that_is_whole_takes_no_rows_of_a_log(tmp_path):
    store = Store(tmp_path)
    writer = StoreWriter(store)
    writer.append("epochs", epochs("a", 1))
    writer.append("trials", finished("a"))
    writer.flush()
    stray = pa.RecordBatch.from_pylist([{"trial_id": "a", "attempt": 2, "epoch": 1}], EPOCHS)
    writer.append("epochs", stray)
    StoreWriter(store)
    assert keys(store) == [("a", 1)]


def test_a_column_that_an_older_store_lacks_reads_as_null(tmp_path):
    store = Store(tmp_path)
    writer = StoreWriter(store)
    rows = epochs("a", 1).drop_columns(["ece"])
    path = tmp_path / store.segment("epochs", writer.generation, 0)
    pq.write_table(pa.Table.from_batches([rows]), path)
    assert store.read("epochs")["ece"].to_pylist() == [None]


def test_sweep_records_are_numbered_and_never_overwritten(tmp_path):
    writer = StoreWriter(Store(tmp_path))
    first = writer.add_sweep({"trial_ids": ["a"]})
    second = writer.add_sweep({"trial_ids": ["a"]})
    assert [path[:11] for path in (first, second)] == ["sweeps/0001", "sweeps/0002"]
    assert [sweep["trial_ids"] for sweep in Store(tmp_path).sweeps()] == [["a"], ["a"]]


def test_a_folder_without_sweeps_is_no_store(tmp_path):
    with pytest.raises(InputError, match="no store at"):
        Store.existing(tmp_path / "nothing")
