"""A store in S3, against a server on loopback: whole, resumable, and without a word of a secret."""

import itertools
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import fs

from analysis import analyze
from raysweep import recipes
from raysweep.errors import InputError, RaysweepError, StorageError
from raysweep.recording.recorder import Recorder
from raysweep.store import folder, object_store
from raysweep.store.done import done_trials
from raysweep.store.files import Store, StoreWriter
from raysweep.store.folder import Folder
from raysweep.store.record import SweepRecord
from raysweep.store.schema import packed
from tests.store.test_lease import holders
from tests.support.commands import free_port, run, started, wait_for
from tests.support.flaky_proxy import FlakyProxy
from tests.support.interrupted import attempts, live_rows, rows_alone
from tests.support.process_tree import alive, below, command_line
from tests.support.simulated import Curve, Sweep, spec
from tests.support.stored_rows import epochs, finished, keys

SECRET = "a-secret-that-must-stand-nowhere"
HERE = Path(__file__).parents[1] / "support"
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def moto():
    """The port of an S3 server."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: answers(port), server)
        yield port
    finally:
        server.kill()
        server.wait()


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def proxy(moto):
    with FlakyProxy(moto) as server:
        yield server
        server.shutdown()


@pytest.fixture
def bucket(proxy, monkeypatch, tmp_path):
    """The URI of an empty bucket, with the environment that leads there."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = f"bucket-{next(NUMBERS)}"
    system = fs.S3FileSystem(
        endpoint_override=proxy.url, region="us-east-1", allow_bucket_creation=True
    )
    system.create_dir(name)
    return f"s3://{name}"


def listed(uri):
    """The file system of a bucket, and the paths of its objects."""
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    system = fs.S3FileSystem(endpoint_override=endpoint, region="us-east-1")
    infos = system.get_file_info(fs.FileSelector(uri.removeprefix("s3://"), recursive=True))
    return system, [info.path for info in infos if info.type == fs.FileType.File]


def objects(uri):
    """Every object of a bucket: path -> content."""
    system, paths = listed(uri)
    return {path: system.open_input_file(path).read() for path in paths}


def test_a_folder_in_s3_does_what_a_local_one_does(bucket, tmp_path):
    for place in (Folder(tmp_path / "here"), Folder(f"{bucket}/there")):
        place.make("sub")
        assert place.names("sub") == []
        place.write_new("sub/b", b"one")
        place.write_new("sub/a", b"")
        with pytest.raises(FileExistsError):
            place.write_new("sub/b", b"two")
        place.replace("sub/b", b"three")
        assert place.names("sub") == ["a", "b"]
        assert place.read("sub/b") == b"three"
        with place.open("sub/b") as file:
            assert (file.size(), file.read()) == (5, b"three")
        assert place.exists("sub/a")
        assert not place.exists("sub")
        assert place.holds("sub")
        assert not place.holds("sub/a")
        place.remove("sub/a")
        place.remove("sub/a")
        assert not place.exists("sub/a")
        with pytest.raises(FileNotFoundError):
            place.read("sub/a")


def test_a_shaky_connection_loses_nothing_and_doubles_nothing(bucket, proxy):
    store = Store(f"{bucket}/store")
    turns = itertools.count(1)
    fault = itertools.cycle(("503", "lost", "cut"))
    proxy.fault = lambda method: next(fault) if next(turns) % 9 == 0 else None
    writer = StoreWriter(store)
    writer.add_sweep(SweepRecord())
    for trial in ("a", "b"):
        writer.append("epochs", epochs(trial, 1, 2))
        writer.append("trials", finished(trial))
        writer.flush()
    writer.compact()
    writer = StoreWriter(store)
    assert keys(store) == [(trial, epoch) for trial in "ab" for epoch in (1, 2)]
    assert len(proxy.faults) > 5
    assert {kind for _, kind in proxy.faults} == {"503", "lost", "cut"}
    assert store.damaged() == []


def test_of_many_takers_at_the_same_moment_one_holds_the_lease(bucket):
    assert holders(Folder(f"{bucket}/store"), takers=8, rounds=10) == [1] * 10


def test_a_file_whose_answer_was_lost_is_written_once_and_is_its_writers(bucket, proxy):
    place, faults = Folder(f"{bucket}/store"), iter(["lost"])
    proxy.fault = lambda method: next(faults, None) if method == "PUT" else None
    place.write_new("a", b"one")
    assert proxy.faults == [("PUT", "lost")]
    with pytest.raises(FileExistsError):
        place.write_new("a", b"two")
    assert place.read("a") == b"one"


def test_a_server_that_ignores_the_condition_of_a_new_file_is_refused(bucket, proxy):
    place = Folder(f"{bucket}/store")
    place.check(exclusive=True)
    proxy.ignores = ("if-none-match",)
    place.check()
    with pytest.raises(InputError, match="ignores the condition `If-None-Match"):
        place.check(exclusive=True)
    assert place.names("lease") == []


def test_an_address_says_where_its_server_is_before_the_environment_does(bucket, monkeypatch):
    there = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    place = Folder(f"{bucket}/store?endpoint_override={there}&scheme=http")
    place.write_new("a", b"one")
    assert place.read("a") == b"one"


def test_keys_of_a_profile_are_found_and_the_environment_comes_first(bucket, monkeypatch, tmp_path):
    (tmp_path / "keys").write_text(
        "[work]\naws_access_key_id = of%work\naws_secret_access_key = x\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "keys"))
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert object_store._keys_at_home() == {}
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert object_store._keys_at_home()["aws_access_key_id"] == "of%work"
    Folder(f"{bucket}/store").check(exclusive=True)
    (tmp_path / "keys").write_text(SECRET)
    with pytest.raises(InputError, match="can't be read as profiles") as refused:
        Folder(f"{bucket}/store").check()
    assert SECRET not in str(refused.value)


def test_a_process_that_has_read_a_store_in_s3_ends_as_it_should(bucket):
    # One in seven aborted at its end while Arrow's threads held memory of Python's.
    uri = f"{bucket}/store"
    writer = StoreWriter(Store(uri))
    for trial in ("a", "b", "c"):
        writer.append("epochs", epochs(trial, 1, 2))
        writer.append("trials", finished(trial))
        writer.flush()
    code = f"from raysweep.store.files import Store; Store({uri!r}).read('trials')"
    ended = [subprocess.run([sys.executable, "-c", code], check=False) for _ in range(6)]
    assert {process.returncode for process in ended} == {0}


def test_a_server_that_stays_away_is_one_storage_error_and_the_log_keeps_the_rows(
    bucket, proxy, monkeypatch
):
    monkeypatch.setattr(folder, "PATIENT", 2)
    uri = f"{bucket}/store"
    recorder = Recorder(uri, SweepRecord(), [], {})
    recorder.claim("a")
    recorder.append(packed(epochs("a", 1).to_pylist()))  # the first rows become a segment at once
    recorder.append(packed(epochs("a", 2).to_pylist()))
    proxy.fault = lambda method: "503"
    with pytest.raises(
        StorageError, match=f"{uri}/generations can't be reached: .* run the same command again"
    ):
        recorder.flush()
    assert "run the same command again" in (recorder.progress().storage_error or "")
    with pytest.raises(StorageError):
        recorder.append(packed(epochs("a", 3).to_pylist()))
    with pytest.raises(RaysweepError, match="can't be reached"):
        Store.existing(uri)
    proxy.fault = lambda method: None
    recorder.lease.end()
    StoreWriter(Store(uri))
    assert keys(Store(uri)) == [("a", 1), ("a", 2)]


@pytest.mark.parametrize(
    ("change", "uri", "words"),
    [
        ({}, "s3://no-such-bucket/x", "there is no bucket 'no-such-bucket'"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "s3://b/x", "look at AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "http://no.invalid"}, "s3://b/x", "look at AWS_ENDPOINT_URL"),
    ],
)
def test_a_place_that_does_not_let_us_in_is_refused(bucket, monkeypatch, change, uri, words):
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=words):
        Store.existing(uri)


def test_a_denied_access_names_the_credentials(bucket, proxy, monkeypatch):
    # moto checks no signature; this is what AWS answers to a key that may not look.
    proxy.fault = lambda method: "403"
    with pytest.raises(InputError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        Store.existing(f"{bucket}/store")


def test_a_report_comes_straight_from_s3(bucket, tmp_path):
    sweep = Sweep(spec("s", axes={"learning_rate": [0.1, 0.2]}, epochs=20, seeds=2))
    sweep.write(tmp_path / "here", lambda trial: Curve())
    sweep.write(f"{bucket}/there", lambda trial: Curve())
    here, there = analyze(tmp_path / "here"), analyze(f"{bucket}/there")
    assert there.trials.equals(here.trials)
    assert there.epochs.equals(here.epochs)


SWEEP = """
name: small
task: odd_tasks:late
base: {epochs: 6, batch_size: 20}
axes: {width: [8]}
seeds: 1
checkpoints: {every_epochs: 1, every_minutes: null, folder: %s}
"""


def test_a_killed_sweep_in_s3_goes_on_from_its_checkpoint_reports_and_keeps_its_secret(
    own_ray, bucket, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOLD", str(tmp_path / "hold"))
    (tmp_path / "hold").touch()  # the trial waits in epoch 5
    uri = f"{bucket}/results/small"
    file = tmp_path / "small.yaml"
    file.write_text(SWEEP % f"{bucket}/checkpoints")
    (tmp_path / "odd_tasks.py").write_bytes((HERE / "odd_tasks.py").read_bytes())
    train = "run", "small.yaml", "--keep-going", *own_ray, "--store", uri

    def kept():
        return [Path(name) for name in listed(bucket)[1] if name.endswith(".pt")]

    with started(*train, cwd=tmp_path) as process:
        wait_for(lambda: [path for path in kept() if path.stem.endswith("-4")], process)
        left = below(process.pid)
        process.kill()
    wait_for(lambda: not any(alive(pid) for pid in left if not command_line(pid).endswith("Agent")))
    assert all("checkpoints" in path.parts for path in kept())
    (tmp_path / "hold").unlink()

    said = ""
    for words in (train, ("status", uri), ("report", uri)):
        done = run(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
    assert f"trained 1 trial; {uri} holds 1 of 1" in said
    assert "1 trials planned: 1 completed" in said
    assert said.count(f"report: {tmp_path / 'report.html'}") == 3

    assert [(attempt, start) for _, attempt, start in attempts(uri)] == [(1, 1), (2, 5)]
    sweep = recipes.read(str(file), [], None)
    assert live_rows(uri).equals(rows_alone(sweep), null_equal=True)
    assert not kept()  # of trials that have ended
    assert len(done_trials(Store(uri))) == 1
    assert not list((tmp_path / "cache").rglob("*.sqlite*"))
    page = (tmp_path / "report.html").read_text()
    stored = b"".join(objects(bucket).values())
    assert b"batch_size" in stored  # the record's spec: it was read
    assert SECRET not in said
    assert SECRET not in page
    assert SECRET.encode() not in stored
