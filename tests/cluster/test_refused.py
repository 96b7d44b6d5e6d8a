"""Whatever the start of Ray raises is one line that says what to do, and the rest is in a log."""

import json
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]

from raysweep.cluster import refused
from raysweep.errors import InputError
from tests.support.commands import RAYSWEEP, run
from tests.support.shared_ray import start_ray

KEY = b"CLUSTER_METADATA", b"cluster"
SMALL = ["run", "digits", "--max-trials", "1"]


def the_line(done):
    """The one line that a command has to say of an error."""
    assert done.returncode in (1, 2), done.stdout
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("raysweep: ")
    return done.stderr


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"HOME": "/proc/nohome", "RAY_AUTH_MODE": ""}, "Set HOME to a folder that can"),
        ({"RAY_TMPDIR": "/proc/nothing"}, "/proc/nothing: No such file"),
        ({"RAY_TMPDIR": "a file"}, "Not a directory"),
        ({"RAY_TMPDIR": "long" * 30}, "too long a path. Set RAY_TMPDIR="),
    ],
    ids=["home", "temp", "file", "socket"],
)
def test_a_folder_that_ray_can_not_use_is_one_line(own_ray, tmp_path, environment, words):
    (tmp_path / "a file").touch()
    if not environment.get("RAY_TMPDIR", "/").startswith("/"):
        environment = {"RAY_TMPDIR": str(tmp_path / environment["RAY_TMPDIR"])}
    settings = {name: value for name, value in {**os.environ, **environment}.items() if value}
    assert words in the_line(run(*SMALL, *own_ray, cwd=tmp_path, env=settings))


@pytest.mark.skipif(
    not shutil.which("unshare")
    or subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode
    != 0,
    reason="no mount of its own",
)
@pytest.mark.usefixtures("own_ray")
def test_a_full_disk_is_one_line(tmp_path):
    (tmp_path / "small").mkdir()
    script = 'mount -t tmpfs -o size=16k,nr_inodes=6 none small && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", RAYSWEEP, *SMALL, "--address", "local"],
        cwd=tmp_path,
        env={**os.environ, "RAY_TMPDIR": str(tmp_path / "small")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "no space left in" in the_line(done)


def test_another_ray_is_named_with_both_versions(shared_ray, tmp_path):
    client = GcsClient(address=shared_ray.address)
    before = client.internal_kv_get(*KEY)
    older = {**json.loads(before), "ray_version": "2.9.3"}
    client.internal_kv_put(KEY[0], json.dumps(older).encode(), True, KEY[1])
    try:
        for more in (["--dry-run"], ["--store", "s"]):
            done = run(*SMALL, *more, "--address", shared_ray.address, cwd=tmp_path)
            assert re.search(r"is Ray 2\.9\.3 on Python .* has Ray 2\.60\.\d", the_line(done))
    finally:
        client.internal_kv_put(KEY[0], before, True, KEY[1])


@pytest.mark.usefixtures("own_ray")
def test_a_missing_or_wrong_token_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 2}
    strangers = ({"RAY_AUTH_MODE": "disabled"}, {**token, "RAY_AUTH_TOKEN": "f" * 32})
    # Side by side, since Ray tries for 20 s.
    with start_ray(**token) as head, ThreadPoolExecutor() as beside:
        asked = [*SMALL, "--dry-run", "--address", head.address]
        for done in beside.map(
            lambda own: run(*asked, cwd=tmp_path, env={**head.environment, **token, **own}),
            strangers,
        ):
            line = the_line(done)
            assert "does not let this process in" in line
            log = Path(line.rpartition("what Ray said: ")[2].strip())
            assert log.stat().st_size > 0
            log.unlink()


def from_ray(text, cause=None):
    error = Exception(text)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "again", "words"),
    [
        (
            from_ray("The current node timed out during startup. This could happen because"),
            True,
            "Ray did not start on this machine, twice: Exception: The current node timed out",
        ),
        (TimeoutError("Timed out after 30 seconds"), True, "twice: TimeoutError: Timed out after"),
        (
            RuntimeError("Failed to start GCS.\n a\n b\n"),
            True,
            "RuntimeError: Failed to start GCS.",
        ),
        (OSError(24, "Too many open files"), False, "Raise it: ulimit -n 8192"),
        (RuntimeError("can't start new thread"), True, "ulimit -u"),
        (ValueError("exceeds /dev/shm size (0.1 GB)"), False, "by --shm-size"),
        (PermissionError(13, "no", "/some/where"), False, "/some/where: Permission denied"),
        (KeyError("x" * 10_000), True, "(10,002 characters)"),
        (
            from_ray(
                "short",
                RuntimeError("Failed. Last error: Traceback (most recent call last):\n x\nE: y"),
            ),
            True,
            "RuntimeError: Failed. Last error: E: y",
        ),
    ],
)
def test_what_ray_raises_is_in_words_and_bounded(error, again, words):
    assert refused.may_pass(error) is again
    line = str(refused.in_words(error, None, ""))
    assert words in line
    assert "\n" not in line
    assert len(line) < 1000
    attached = refused.in_words(error, "head:6379", "; what Ray said: log")
    assert isinstance(attached, InputError)
    assert str(attached).startswith("the Ray cluster at head:6379 can't be attached to")
