"""A disk that fills up stops a sweep with one clear error; what was acknowledged is kept."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from raysweep.errors import StorageError
from raysweep.recording.recorder import Recorder
from raysweep.store.files import Store
from raysweep.store.record import SweepRecord
from raysweep.store.schema import packed
from tests.support.commands import run, started, wait_for
from tests.support.store_watch import logged
from tests.support.stored_rows import epochs, keys

HERE = Path(__file__).parents[1] / "support"
MEGABYTES = 20


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 20 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid():
        pytest.skip("mounting a small file system needs root")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=False)


def fill(disk):
    """A file that takes all the room that is left."""
    with open(disk / "ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(b"\0" * 4096)
        except OSError:
            pass
    return disk / "ballast"


def test_a_recorder_on_a_full_disk_refuses_and_what_it_took_before_is_kept(small_disk):
    store = Store(small_disk / "store")
    recorder = Recorder(small_disk / "store", SweepRecord(), [], {})
    recorder.claim("a")
    recorder.append(packed(epochs("a", 1).to_pylist()))  # a segment at once
    recorder.append(packed(epochs("a", 2).to_pylist()))  # logged
    ballast = fill(small_disk)
    taken = 2

    def append_until_refused():
        nonlocal taken
        while taken < 1000:
            recorder.append(packed(epochs("a", taken + 1).to_pylist()))
            taken += 1

    with pytest.raises(StorageError, match=r"needed, 0 free\. Make room") as refused:
        append_until_refused()
    assert str(small_disk) in str(refused.value)
    assert recorder.progress().storage_error == str(refused.value)
    for call in (recorder.flush, recorder.close, lambda: recorder.claim("a")):
        with pytest.raises(StorageError):
            call()
    ballast.unlink()
    recorder.lease.end()
    Recorder(small_disk / "store", SweepRecord(), [], {}).close()
    assert keys(store) == [("a", epoch) for epoch in range(1, taken + 1)]
    assert store.damaged() == []


def test_a_flush_onto_a_full_disk_leaves_no_torn_file(small_disk):
    recorder = Recorder(small_disk / "store", SweepRecord(), [], {})
    recorder.claim("a")
    recorder.append(packed(epochs("a", 1).to_pylist()))
    recorder.append(packed(epochs("a", *range(2, 200)).to_pylist()))
    ballast = fill(small_disk)
    with pytest.raises(StorageError, match="no space left on the device"):
        recorder.flush()
    store = Store(small_disk / "store")
    assert keys(store) == [("a", 1)]
    assert not list(small_disk.rglob("*.tmp"))
    ballast.unlink()
    recorder.lease.end()
    Recorder(small_disk / "store", SweepRecord(), [], {}).close()
    assert len(keys(store)) == 199


SWEEP = """
name: small
task: odd_tasks:narrow
base: {epochs: 10, batch_size: 100}
axes: {width: [4, 400, 800]}
seeds: 2
"""


def test_a_sweep_stops_when_its_disk_is_full_and_goes_on_when_there_is_room(
    shared_ray, hold, small_disk, tmp_path
):
    shutil.copy(HERE / "odd_tasks.py", tmp_path)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    store = Store(small_disk / "store")
    words = [
        "run",
        "sweep.yaml",
        "--keep-going",
        "--address",
        shared_ray.address,
        "--store",
        store.root,
    ]
    with started(*words, cwd=tmp_path) as process:
        # Trials of width 4 wait; the others end, and are logged or in a segment.
        wait_for(lambda: logged(store, "trials").height or store.read("trials").num_rows, process)
        ballast = fill(small_disk)
        hold.unlink()
        said, _ = process.communicate()
    assert process.returncode == 1, said
    (error,) = [line for line in said.splitlines() if line.startswith("raysweep: ")]
    full = r"can't be written: no space left on the device: [\d,]+ bytes needed, [\d,]+ free\. Make"
    assert re.search(rf"{small_disk}.* {full} room", error)
    assert "Traceback" not in said
    assert store.damaged() == []

    ballast.unlink()
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = store.read("trials").to_pylist()
    assert len(rows) == len({row["trial_id"] for row in rows}) == 6
    assert {row["status"] for row in rows} == {"completed"}
    assert {row["attempt"] for row in rows} >= {1}  # some had finished before
