"""Damaged files of a store: left out, named with the reason, trained again, and never removed."""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import analyze
from analysis.page.report import render
from raysweep.errors import InputError
from raysweep.recording.recorder import Recorder
from raysweep.store.done import done_trials
from raysweep.store.files import Store, StoreWriter
from raysweep.store.folder import Folder, inside
from raysweep.store.lease import newest_generation
from raysweep.store.record import PlannedTrial, SweepRecord
from raysweep.store.schema import EPOCHS
from tests.recording.test_recorder import finish
from tests.support.commands import run_here
from tests.support.simulated import Curve, Sweep, spec
from tests.support.stored_rows import epochs, finished, keys


@pytest.fixture
def store(tmp_path):
    """Two segments per table: trial a in the first, trial b in the second."""
    store = Store(tmp_path)
    writer = StoreWriter(store)
    writer.add_sweep(SweepRecord())
    for trial in ("a", "b"):
        writer.append("epochs", epochs(trial, 1, 2))
        writer.append("trials", finished(trial))
        writer.flush()
    return store


def truncated(path):
    path.write_bytes(path.read_bytes()[:-50])


def emptied(path):
    path.write_bytes(b"")


def flipped(path):
    body = bytearray(path.read_bytes())
    body[len(body) // 4] ^= 1
    path.write_bytes(body)


def foreign(path):
    path.unlink()
    pq.write_table(pa.table({"city": ["Rome"], "epoch": [1]}), path)


def gone(path):
    path.unlink()


DAMAGES = {
    truncated: "",
    emptied: "it is empty",
    flipped: "",
    foreign: "no column 'trial_id'",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_segment_is_named_kept_and_what_it_held_is_to_do_again(store, damage):
    first, second = store.live_files("epochs")
    damage(store.root / first)
    (found,) = store.damaged()
    assert found.path == first
    assert DAMAGES[damage] in found.reason
    assert store.read("epochs")["trial_id"].to_pylist() == ["b", "b"]
    assert done_trials(store) == {"b"}
    for _ in range(3):  # neither a merge nor the writers that come after it remove it
        writer = StoreWriter(store)
        writer.append("epochs", epochs("c", 1))
        writer.flush()
        writer.compact()
    assert (store.root / first).exists()
    assert [bad.path for bad in store.damaged()] == [first]
    assert not (store.root / second).exists()
    assert set(store.read("epochs")["trial_id"].to_pylist()) == {"b", "c"}


def test_a_segment_that_is_gone_is_named(store):
    first = store.live_files("epochs")[0]
    writer = StoreWriter(store)  # lists it
    gone(store.root / first)
    assert store.damaged() == [(first, "it is not there")]
    writer.append("epochs", epochs("c", 1))
    writer.flush()
    assert len(keys(store)) == 3


def test_every_flipped_bit_is_noticed_or_harmless(store):
    path = store.root / store.live_files("epochs")[0]
    whole, rows = path.read_bytes(), store.read("epochs").to_pylist()
    rest = [row for row in rows if row["trial_id"] == "b"]
    rng = random.Random(1)
    num_noticed = 0
    for _ in range(500):
        body = bytearray(whole)
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
        path.write_bytes(body)
        found = store.scan("epochs")
        assert found.rows.to_pylist() == (rest if found.damaged else rows)
        num_noticed += bool(found.damaged)
    assert num_noticed > 50


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"files": 1}',
        b"\xff\x00",
        b"null",
        json.dumps({"files": {"epochs": ["../../x"], "trials": []}}).encode(),
        json.dumps({"files": {"epochs": [], "trials": []}, "digest": "0"}).encode(),
    ],
)
@pytest.mark.parametrize("compacted", [False, True])
def test_a_damaged_generation_is_made_out_from_its_forerunner(store, body, compacted):
    writer = StoreWriter(store)
    writer.append("epochs", epochs("c", 1))
    writer.flush()
    if compacted:
        writer.compact()
    before = keys(store), store.live_files("epochs")
    newest = store.root / f"generations/{newest_generation(store.folder):06d}.json"
    newest.write_bytes(body)
    assert (keys(store), store.live_files("epochs")) == before
    assert [bad.path for bad in store.damaged()] == [f"generations/{newest.name}"]
    StoreWriter(store)
    assert keys(store) == before[0]
    assert newest.exists()


def test_a_damaged_record_of_a_sweep_is_left_out(store):
    writer = StoreWriter(store)
    second = writer.add_sweep(SweepRecord(trials=(PlannedTrial("a", "a", 0),)))
    body = (store.root / second).read_bytes()
    (store.root / second).write_bytes(body.replace(b"0", b"1"))
    (store.root / "sweeps" / "notes.json").write_text("{}")
    assert store.sweeps() == [SweepRecord()]
    assert [bad.path for bad in store.damaged()] == [second, "sweeps/notes.json"]
    assert writer.add_sweep(SweepRecord()).startswith("sweeps/0003-")


def test_a_recorder_trains_again_what_was_lost(make_spec, expand_digits, tmp_path):
    trials = expand_digits(make_spec())
    ids = [trial.trial_id for trial in trials]

    def start():
        return Recorder(tmp_path / "store", SweepRecord(), trials, {})

    recorder = start()
    finish(recorder, ids[0])
    recorder.flush()
    finish(recorder, ids[1])
    recorder.flush()
    store = Store(tmp_path / "store")
    bad = store.live_files("epochs")[1]
    flipped(tmp_path / "store" / bad)
    recorder.lease.end()
    again = start()
    assert again.todo(ids) == ids[1:]
    finish(again, ids[1])
    again.close()
    assert done_trials(store) == set(ids[:2])
    assert [damaged.path for damaged in store.damaged()] == [bad]


def test_status_and_the_page_name_damaged_files(tmp_path, capsys):
    sweep = Sweep(spec("s", axes={"learning_rate": [0.1, 0.2]}, epochs=20, seeds=2))
    store = sweep.write(tmp_path, lambda trial: Curve())
    number = newest_generation(store.folder)
    foreign_name = f"epochs/{number:06d}-000042.parquet"
    pq.write_table(pa.table({"city": ["Rome"]}), tmp_path / foreign_name)
    record = next((tmp_path / "sweeps").iterdir())
    (tmp_path / "sweeps" / record.name.replace("0001", "0002")).write_text("{}")
    _, said, _ = run_here(capsys, "status", tmp_path)
    assert f"{foreign_name} can't be used: it is no file of a store" in said
    assert "sweeps/0002" in said
    analysis = analyze(tmp_path)
    (line,) = [row for row in analysis.quality.rows() if row[0] == "files that can't be read"]
    assert line[1] == 2
    assert foreign_name in line[2]
    assert "sweeps/0002" in line[2]
    assert foreign_name in render(analysis)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a\\..\\x", "a\0b"])
def test_a_name_can_not_leave_its_folder(path, tmp_path):
    for act in (Folder(tmp_path).read, Folder(tmp_path).exists, Folder(tmp_path).remove, inside):
        with pytest.raises(InputError, match="is no name inside"):
            act(path)
    with pytest.raises(InputError, match="is no name inside"):
        Folder(tmp_path).write_new(path, b"")


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("ftp://host/x", "'ftp' is no known kind of place"),
        ("s3:///x", "names no bucket"),
        ("s3://b/../c", "means nothing in an object store"),
        ("s3:/bucket/x", "write s3://"),
        ("s3://b/x?colour=red", "not 'colour'"),
    ],
)
def test_a_place_that_is_none_is_one_clear_error(uri, words):
    with pytest.raises(InputError, match=words):
        Store(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://me:TOPSECRET@b/x",
        "s3://TOPSECRET@b/x",
        "gs://me:TOPSECRET@b/x",
        "x://me:TOPSECRET@b",
        "s3://b/x?secret_key=TOPSECRET",
        "s3://b/x?endpoint_override=http://me:TOPSECRET@host",
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(uri, capsys):
    for command in (["status", uri], ["report", uri], ["run", "digits", "--store", uri]):
        code, out, err = run_here(capsys, *command)
        assert code == 2
        assert "TOPSECRET" not in out + err


def test_a_column_of_another_version_reads_as_null(store):
    path = store.root / store.live_files("epochs")[0]
    rows = pq.read_table(path).drop_columns(["ece"]).replace_schema_metadata(None)
    pq.write_table(rows, path)
    assert store.damaged() == []
    assert "ece" in EPOCHS.names
    assert len(keys(store)) == 4
