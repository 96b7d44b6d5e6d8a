"""Whatever lies in the folder of a store: results, or one clear line. Never a traceback, and
nothing outside the folder is read, written or removed."""

import json
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import analyze
from analysis.sources.store import read_store
from raysweep.cli import run_command_line
from raysweep.store.done import done_trials, last_attempts
from raysweep.store.files import Store, StoreWriter
from raysweep.store.record import SweepRecord
from raysweep.store.schema import EPOCHS
from tests.support.fuzzing import TEXTS, VALUES, cases, damaged, outcome
from tests.support.simulated import Curve, Sweep, spec
from tests.support.stored_rows import epochs


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small store with two segments per table, a compacted one before, and logs: as files."""
    root = tmp_path_factory.mktemp("whole") / "store"
    sweep = Sweep(
        spec("s", axes={"learning_rate": [0.1, 0.2]}, epochs=8, seeds=2), num_val=60, num_train=60
    )
    sweep.write(root, lambda trial: Curve())
    StoreWriter(Store(root)).compact()
    writer = StoreWriter(Store(root))
    writer.add_sweep(SweepRecord.from_json(sweep.record()))
    writer.append("epochs", epochs("logged", 1, 2))
    return {
        path.relative_to(root): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("place")


def laid_out(root, files):
    """The store on disk, as its files say."""
    shutil.rmtree(root, ignore_errors=True)
    for folder in ("epochs", "trials", "sweeps", "generations", "wal", "logs", "checkpoints"):
        (root / folder).mkdir(parents=True)
    for path, body in files.items():
        (root / path).write_bytes(body)
    return Store(root)


def used(root):
    """All that reads a store. Each part on its own: one that refuses must not hide another."""
    outcome(lambda: Store.existing(root).sweeps())
    outcome(lambda: done_trials(Store(root)))
    outcome(lambda: last_attempts(Store(root)))
    outcome(lambda: read_store(Store(root)))
    with pytest.raises(SystemExit) as left:
        run_command_line(["status", str(root)])
    assert (left.value.code or 0) in (0, 1, 2)


def altered(draw, value):
    """JSON with one value, somewhere in it, replaced or removed."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 4)) == 0:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: altered(draw, value[key])}
    if isinstance(value, list) and value and draw(st.booleans()):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], altered(draw, value[place]), *value[place + 1 :]]
    return draw(st.one_of(VALUES, st.sampled_from([["../../secret.parquet"], {}, [], "x", [[]]])))


@st.composite
def harm(draw, files):
    """The files of a store, some of them damaged, exchanged, foreign or missing."""
    files = dict(files)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(sorted(files)))
        kind = draw(st.sampled_from(["damage", "json", "swap", "empty", "remove", "any", "name"]))
        if kind == "damage":
            files[path] = draw(damaged(files[path]))
        elif kind == "json":
            path = draw(st.sampled_from(sorted(p for p in files if p.suffix == ".json") or [path]))
            try:
                content = json.loads(files[path])
            except (ValueError, RecursionError):
                continue
            changed = altered(draw, content)
            if "0" * 400 not in repr(changed):
                files[path] = json.dumps(changed).encode()
        elif kind == "swap":
            files[path] = files[draw(st.sampled_from(sorted(files)))]
        elif kind == "empty":
            files[path] = b""
        elif kind == "remove":
            del files[path]
            if not files:
                break
        elif kind == "any":
            files[path] = draw(
                st.one_of(
                    st.binary(max_size=40),
                    TEXTS.map(lambda t: t.encode("utf-8", "surrogatepass")),
                    st.just(b"[" * 5000),
                )
            )
        else:
            names = [
                "x.json",
                "0001.json",
                "000009-x.json",
                "log.sqlite",
                ".DS_Store",
                "000001-000000.parquet",
                "compact-000001.parquet",
                "99999999999999.json",
                "log.sqlite-wal",
                "log.sqlite-journal",
            ]
            files[path.with_name(draw(st.sampled_from(names)))] = files[path]
    return files


@given(data=st.data())
@cases(short=20, long=1200)
def test_a_damaged_store_is_read_or_refused(whole, place, data):
    root = place / "store"
    laid_out(root, data.draw(harm(whole)))
    used(root)


@given(data=st.data())
@cases(short=8, long=300)
def test_a_damaged_store_is_opened_for_writing_or_refused(whole, place, data):
    store = laid_out(place / "store", data.draw(harm(whole)))
    beside = place / "secret.parquet"
    beside.write_bytes(b"mine")
    outcome(lambda: StoreWriter(store).compact())
    assert beside.read_bytes() == b"mine"
    assert {path.name for path in place.iterdir()} <= {"store", "secret.parquet"}


@given(data=st.data())
@cases(short=2, long=40)
def test_what_is_accepted_can_be_analyzed(whole, place, data):
    store = laid_out(place / "store", data.draw(harm(whole)))
    outcome(lambda: analyze(store))


@pytest.mark.parametrize("listed", [["../../secret.parquet"], ["/etc/passwd"], [3], "abc", None])
def test_a_generation_that_lists_files_elsewhere_is_not_followed(whole, place, listed):
    root = place / "store"
    newest = max(path for path in whole if path.parts[0] == "generations")
    content = json.loads(whole[newest])
    content["files"]["epochs"] = listed
    store = laid_out(root, {**whole, newest: json.dumps(content).encode()})
    foreign = pa.RecordBatch.from_pylist([{"trial_id": "secret", "attempt": 1}], EPOCHS)
    pq.write_table(pa.Table.from_batches([foreign]), place / "secret.parquet")
    assert "secret" not in store.read("epochs", ["trial_id"])["trial_id"].to_pylist()
    outcome(lambda: StoreWriter(store).compact())
    assert "secret" not in store.read("epochs", ["trial_id"])["trial_id"].to_pylist()
    assert (place / "secret.parquet").exists()


def test_a_pipe_in_a_store_is_never_waited_for(whole, place):
    root = place / "store"
    laid_out(root, whole)
    for name in (
        "sweeps/0009-abc.json",
        "generations/000009.json",
        "epochs/000009-000000.parquet",
        "wal/log.sqlite",
    ):
        (root / name).unlink(missing_ok=True)
        os.mkfifo(root / name)
        used(root)
        if name.startswith("wal"):
            outcome(lambda: StoreWriter(Store(root)))
        (root / name).unlink()
