"""Which Ray a sweep runs on: the flag wins over RAY_ADDRESS; what does not answer is refused."""

import os
import shutil
import socket
import threading
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from raysweep.cluster import address as addresses
from raysweep.cluster import running_address
from raysweep.errors import InputError
from tests.support.commands import free_port, run

HERE = Path(__file__).parents[1] / "support"


@contextmanager
def listening():
    """An address at which something listens, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def dead():
    """An address at which nothing listens."""
    yield f"127.0.0.1:{free_port()}"


@pytest.fixture
def places(monkeypatch, tmp_path):
    """Makes (RAY_ADDRESS, an address for the flag), each of them dead or alive."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where no `ray start` has left a note
    with ExitStack() as stack:

        def make(in_environment, by_flag):
            made = [
                stack.enter_context(listening() if alive else dead())
                for alive in (in_environment, by_flag)
            ]
            monkeypatch.setenv("RAY_ADDRESS", made[0])
            return made

        yield make


@pytest.mark.parametrize("in_environment", [False, True], ids=["dead", "alive"])
@pytest.mark.parametrize("by_flag", [False, True], ids=["dead", "alive"])
def test_the_flag_wins_over_the_environment(places, in_environment, by_flag):
    a, b = places(in_environment, by_flag)
    for alive, given, asked in (
        (by_flag, b, b),
        (in_environment, None, a),
        (in_environment, "", a),
    ):
        if alive:
            assert running_address(given) == asked
        else:
            with pytest.raises(InputError, match=f"no Ray cluster answers at {asked}"):
                running_address(given)
    assert running_address("local") is None
    os.environ["RAY_ADDRESS"] = "local"
    assert running_address(None) is None


@pytest.mark.parametrize("in_environment", [False, True], ids=["dead", "alive"])
@pytest.mark.parametrize("by_flag", [False, True], ids=["dead", "alive"])
def test_a_dry_run_asks_the_flags_cluster(shared_ray, tmp_path, in_environment, by_flag):
    with listening() as quiet, dead() as gone:
        asked = shared_ray.address if by_flag else gone
        environment = {**shared_ray.environment, "RAY_ADDRESS": quiet if in_environment else gone}
        words = ["run", "digits", "--dry-run", "--address", asked]
        done = run(*words, cwd=tmp_path, env=environment)
    if by_flag:
        assert f"cluster at {asked}:" in done.stdout, done.stderr
        assert done.returncode == 0
    else:
        assert done.returncode == 2
        assert f"no Ray cluster answers at {asked}" in done.stderr
        assert done.stderr.count("\n") == 1


def telling_sweep(folder):
    """A sweep whose trial fails, and says which address its process has."""
    shutil.copy(HERE / "odd_tasks.py", folder)
    sweep = "{name: odd, task: 'odd_tasks:telling', base: {epochs: 1}, seeds: 1}"
    (folder / "odd.yaml").write_text(sweep)


def test_processes_that_train_are_told_of_the_flags_cluster(shared_ray, tmp_path):
    telling_sweep(tmp_path)
    with dead() as gone:
        environment = {**shared_ray.environment, "RAY_ADDRESS": gone}
        words = ["run", "odd.yaml", "--keep-going", "--address", shared_ray.address]
        done = run(*words, cwd=tmp_path, env=environment)
    assert done.returncode == 3, done.stderr
    assert f"ValueError: RAY_ADDRESS is {shared_ray.address} " in done.stderr


def test_processes_of_a_ray_that_the_sweep_starts_are_told_of_no_other(own_ray, tmp_path):
    telling_sweep(tmp_path)
    with dead() as gone:
        done = run(
            "run",
            "odd.yaml",
            "--keep-going",
            *own_ray,
            cwd=tmp_path,
            env={**os.environ, "RAY_ADDRESS": gone},
        )
    assert done.returncode == 3, done.stderr
    assert "ValueError: RAY_ADDRESS is None " in done.stderr


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("ray://head:10001", "--address ray://head:10001 is for Ray Client"),
        ("http://head:8265", "ray job submit --address http://head:8265"),
        ("https://head", "ray job submit --address https://head"),
        ("s3://head", "s3://head is no address of a Ray"),
        ("head", "at head: an address is HOST:PORT"),
        ("head:", "at head:: an address is HOST:PORT"),
        ("head:0", "HOST:PORT"),
        ("head:99999", "HOST:PORT"),
        (":6379", "HOST:PORT"),
        ("a b:6379", "HOST:PORT"),
        ("head:6379/x", "HOST:PORT"),
        (f"{'a' * 80}.b:6379", "no Ray cluster answers"),  # no name of a host is that long
        ("[::1]:1", "no Ray cluster answers"),
        ("auto", "no Ray runs on this machine"),
    ],
)
@pytest.mark.parametrize("place", ["flag", "environment"])
def test_an_address_of_another_kind_is_refused_in_words(given, words, place, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(addresses.ray_internals, "addresses_here", set)
    flag = given
    if place == "environment" and given != "auto":
        monkeypatch.setenv("RAY_ADDRESS", given)
        flag, words = None, words.replace("--address ray", "RAY_ADDRESS=ray")
    with pytest.raises(InputError) as refused:
        running_address(flag)
    assert words in str(refused.value)


class NoRay(BaseHTTPRequestHandler):
    """A server of web pages."""

    def log_message(self, format, *args):  # noqa: A002
        pass


def test_a_server_of_another_kind_is_refused_within_seconds(shared_ray, monkeypatch):
    monkeypatch.setattr(addresses, "_ANSWER_S", 0.5)
    with listening() as quiet, HTTPServer(("127.0.0.1", 0), NoRay) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for address in (quiet, f"127.0.0.1:{server.server_port}"):
            with pytest.raises(InputError, match=f"what listens at {address} does not answer"):
                addresses.check_speaks(address)
        server.shutdown()
    addresses.check_speaks(shared_ray.address)
