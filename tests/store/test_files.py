"""The store: nothing acknowledged is lost, nothing counts twice, a scan always succeeds."""

import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysweep.errors import InputError, StorageError
from raysweep.store import segments
from raysweep.store.files import Store, StoreWriter
from raysweep.store.lease import SupersededError
from raysweep.store.log import Entry, Log, Rows, is_shared
from raysweep.store.record import PlannedTrial, SweepRecord
from raysweep.store.schema import EPOCHS
from tests.support.stored_rows import epochs, finished, keys


def logged(store):
    """The files of the log, as they are now."""
    return {path.name: path.read_bytes() for path in store.log_folder.iterdir()}


def put_back(store, files):
    """The log as it was."""
    for path in store.log_folder.iterdir():
        path.unlink()
    for name, body in files.items():
        if not name.endswith("-shm"):
            (store.log_folder / name).write_bytes(body)


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


def test_rows_that_are_in_a_segment_and_still_in_the_log_count_once(tmp_path):
    store = Store(tmp_path)
    writer = StoreWriter(store)
    writer.append("epochs", epochs("a", 1))
    kept = logged(store)
    writer.flush()
    writer.append("epochs", epochs("a", 2))
    del writer
    put_back(store, kept)  # as if the writer had died between the segment and the log
    StoreWriter(store)
    assert keys(store) == [("a", 1)]


def test_a_transaction_that_was_cut_off_takes_nothing_with_it(tmp_path):
    store = Store(tmp_path)
    writer = StoreWriter(store)
    writer.append("epochs", epochs("a", 1))
    writer.append("epochs", epochs("a", 2))
    files = logged(store)
    (log,) = (name for name in files if name.endswith("-wal"))
    put_back(store, {**files, log: files[log][:-100]})
    StoreWriter(store)
    assert keys(store) == [("a", 1)]


def test_a_damaged_log_is_one_clear_error_and_stays(tmp_path):
    store = Store(tmp_path)
    StoreWriter(store).append("epochs", epochs("a", 1))
    log = store.log_folder / "log.sqlite"
    put_back(store, {log.name: b"no database at all" * 1000})
    for _ in range(2):
        with pytest.raises(StorageError, match=r"log\.sqlite can't be written: .*move it away"):
            StoreWriter(store)
    log.unlink()
    StoreWriter(store)


def test_a_log_of_a_raysweep_with_other_columns_is_taken_in(tmp_path):
    store, names = Store(tmp_path), [name for name in EPOCHS.names if name != "ece"]
    StoreWriter(store).append("epochs", epochs("a", 1).select(names))
    writer = StoreWriter(store)
    writer.append("epochs", epochs("a", 2))
    writer.flush()
    assert keys(store) == [("a", 1), ("a", 2)]


def test_an_entry_that_comes_again_changes_nothing(tmp_path):
    log = Log(tmp_path, "one")
    rows = [Rows.of("epochs", epochs("a", 1, 2))]
    assert log.note(Entry("a", 1, "rows 1"), rows)
    assert not log.note(Entry("a", 1, "rows 1"), rows)
    assert log.note(Entry("a", 1, "finished", {"x": 1}))
    assert log.num_pending_rows == len(log.pending("epochs")) == 2
    log.clear()
    assert not log.note(Entry("a", 1, "rows 1"), rows)
    assert log.note(Entry("a", 1, "failed", {}), last=True)
    ends = [Entry("a", 1, "finished", {"x": 1}), Entry("a", 1, "failed", {})]
    again = Log(tmp_path, "one")
    assert (again.resumed, again.entries()) == (True, ends)
    with pytest.raises(SupersededError):
        log.note(Entry("a", 2, "rows 1"), rows)
    other = Log(tmp_path, "two")
    assert (other.resumed, other.entries(), other.num_pending_rows) == (False, [], 0)


def test_file_systems_that_machines_share_are_told_from_disks(monkeypatch):
    mounts = "/dev/a / ext4 rw\nhost:/x /shared nfs4 rw\n/dev/b /shared/here ext4 rw\n"
    monkeypatch.setattr(Path, "read_text", lambda self: mounts)
    places = "/tmp/x", "/shared/x", "/shared/here/x"
    assert [is_shared(Path(place)) for place in places] == [False, True, False]


def test_a_superseded_writer_is_ignored(tmp_path):
    store = Store(tmp_path)
    old = StoreWriter(store)
    new = StoreWriter(store)
    with pytest.raises(SupersededError, match="another writer has taken over"):
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
    kept = logged(store)
    del writer
    put_back(store, kept)
    StoreWriter(store)
    put_back(store, kept)  # its segment is written, and what it came from is still there
    second = StoreWriter(store)
    second.append("epochs", epochs("a", 3))
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
    record = SweepRecord(spec={"name": "s"}, trials=(PlannedTrial("a", "c", 0),))
    first = writer.add_sweep(record)
    second = writer.add_sweep(record)
    assert [path[:11] for path in (first, second)] == ["sweeps/0001", "sweeps/0002"]
    assert Store(tmp_path).sweeps() == [record, record]


def test_a_folder_without_sweeps_is_no_store(tmp_path):
    with pytest.raises(InputError, match="no store at"):
        Store.existing(tmp_path / "nothing")
