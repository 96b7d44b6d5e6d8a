"""Scratch folders of processes that were killed go with the next sweep, and no other ones."""

import json
import subprocess
import sys
import tempfile

import pytest

from raysweep.errors import StorageError
from raysweep.running.scratch import make_scratch

KILLED = """
import os, signal
from raysweep.running.scratch import make_scratch
print(make_scratch(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_folder_of_a_killed_process_is_removed_by_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    command = [sys.executable, "-c", KILLED]
    killed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    living = make_scratch()
    elsewhere = tmp_path / "raysweep-elsewhere"
    odd = tmp_path / "raysweep-odd"
    for folder in (elsewhere, odd):
        folder.mkdir()
    owner = json.loads((living / "owner.json").read_text())
    (elsewhere / "owner.json").write_text(json.dumps({**owner, "machine": "another", "pid": 1}))
    (odd / "owner.json").write_text("[1, 2")
    (tmp_path / "raysweep-file").touch()
    assert killed.startswith(str(tmp_path))
    newest = make_scratch()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {living.name, newest.name, elsewhere.name, odd.name, "raysweep-file"}


def test_no_room_for_a_folder_is_said_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(StorageError, match="gone can't be written"):
        make_scratch()
