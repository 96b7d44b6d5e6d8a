"""The lease: one writer at a time, from any machine; a dead one's runs out."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raysweep.errors import InputError
from raysweep.store import lease as lease_module
from raysweep.store.files import Store, StoreWriter
from raysweep.store.folder import Folder
from raysweep.store.lease import (
    BEAT_S,
    Holder,
    Invocation,
    Lease,
    SupersededError,
    newest_generation,
    wait_until_free,
)
from raysweep.store.processes import Process
from tests.support.commands import PATIENCE_S, wait_for

HELD = "another sweep is writing to"


def content():
    return {"files": {}}


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


@pytest.fixture
def dead():
    """A process of this machine that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stat = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    found = Process.this()._replace(pid=child.pid, started=int(stat[19]))
    assert found.lives()
    child.communicate(b"\n")
    return found


def far(process):
    """The same, seen from another machine."""
    return process._replace(host="elsewhere", machine="elsewhere")


def left_by(folder, driver, writer):
    """A lease whose holder did not say that it ended."""
    invocation = Invocation("token", driver, "2026-01-01T00:00:00+00:00")
    holder = Holder(invocation, writer)
    number = lease_module._open(folder, holder, content, lambda: newest_generation(folder))
    return Lease(folder, holder, number)


def test_a_process_is_told_from_a_later_one_with_its_number(dead):
    this = Process.this()
    assert this.lives()
    assert dead.lives() is False
    assert this._replace(started=this.started - 1).lives() is False
    assert far(this).lives() is None


def test_a_process_that_nobody_has_waited_for_is_dead():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stat = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    process = Process.this()._replace(pid=child.pid, started=int(stat[19]))
    child.kill()
    wait_for(lambda: process.lives() is False)
    child.communicate()


def test_a_living_holder_is_refused_with_its_host_pid_and_start(folder):
    held = Lease.take(folder, Invocation.begin(), content)
    this = held.holder.invocation
    with pytest.raises(InputError, match=f"{HELD} .*: pid {os.getpid()} on ") as refused:
        wait_until_free(folder)
    assert this.driver.host in str(refused.value)
    assert this.started_at in str(refused.value)
    with pytest.raises(InputError, match=HELD):
        Lease.take(folder, Invocation.begin(), content)
    held.end()
    Lease.take(folder, Invocation.begin(), content).end()


def test_the_writers_of_one_invocation_follow_each_other(folder):
    with Lease.take(folder, Invocation.begin(), content) as first:
        second = Lease.take(folder, first.holder.invocation, content)
        assert second.generation == first.generation + 1
        with pytest.raises(SupersededError):
            first.check()
        second.check()
        with pytest.raises(InputError, match=HELD):
            wait_until_free(folder)
    wait_until_free(folder)  # the first one's end is that of the invocation


def test_a_dead_holder_of_this_machine_is_taken_over_at_once(folder, dead):
    left_by(folder, dead, dead)
    said = []
    wait_until_free(folder, tell=said.append)
    taken = Lease.take(folder, Invocation.begin(), content)
    assert (taken.generation, said) == (2, [])
    taken.end()


def test_a_recorder_that_outlives_its_driver_is_waited_for(folder, dead, monkeypatch):
    monkeypatch.setattr(lease_module, "SILENT_S", 10 * PATIENCE_S)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stat = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    left_by(folder, dead, Process.this()._replace(pid=child.pid, started=int(stat[19])))
    said = []
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait_until_free, folder, tell=said.append)
        wait_for(lambda: said)
        assert not waiting.done()
        child.communicate(b"\n")
        waiting.result(PATIENCE_S)
    assert "did not say that it ended" in said[0]


def test_a_holder_elsewhere_that_is_silent_is_taken_over_after_a_while(folder, monkeypatch):
    monkeypatch.setattr(lease_module, "SILENT_S", 1.0)
    silent = left_by(folder, far(Process.this()), far(Process.this()))
    said = []
    began = time.monotonic()
    wait_until_free(folder, tell=said.append)
    assert time.monotonic() - began > 1
    taken = Lease.take(folder, Invocation.begin(), content)
    assert (taken.generation, len(said)) == (2, 1)
    with pytest.raises(
        SupersededError, match=f"another writer has taken over .*: pid {os.getpid()}"
    ):
        silent.check()
    taken.end()


def test_a_holder_elsewhere_whose_heart_beats_is_refused(folder):
    far_away = left_by(folder, far(Process.this()), far(Process.this()))
    beating = threading.Thread(target=far_away._beat_on, daemon=True)
    beating.start()
    with pytest.raises(InputError, match=f"{HELD} .*: pid .* on elsewhere"):
        wait_until_free(folder)
    far_away.end()
    beating.join(10 * BEAT_S)


def test_a_writer_whose_driver_has_died_stops(folder, dead):
    orphan = left_by(folder, dead, Process.this())
    orphan._beat_on()
    with pytest.raises(SupersededError, match="the sweep's own process ended"):
        orphan.assert_held()


def holders(folder, takers, rounds):
    """How many of so many takers at the same moment got the lease, by round."""

    def take(invocation):
        try:
            return Lease.take(folder, invocation, content)
        except InputError:
            return None

    found = []
    with ThreadPoolExecutor(takers) as pool:
        for _ in range(rounds):
            leases = [*pool.map(take, [Invocation.begin() for _ in range(takers)])]
            held = [lease for lease in leases if lease is not None]
            found.append(len(held))
            for lease in held:
                lease.check()
                lease.end()
    return found


def test_of_many_takers_at_the_same_moment_one_holds_the_lease(folder):
    assert holders(folder, takers=8, rounds=10) == [1] * 10
    assert newest_generation(folder) == 10


def test_many_at_once_never_open_the_same_generation(folder):
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: Lease.seize(folder, content).generation, range(24)))
    assert sorted(opened) == list(range(1, 25))


def _try(root, start, answers):
    start.wait()
    try:
        answers.put(Lease.take(Folder(root), Invocation.begin(), content).generation)
        time.sleep(3600)
    except InputError:
        answers.put(None)


def test_a_generation_that_opens_after_the_look_at_its_forerunner_is_looked_at_too(folder):
    looks = []

    def admit():
        looks.append(wait_until_free(folder))
        if len(looks) == 1:  # right after this look, somebody else is through
            Lease.take(folder, Invocation.begin(), content)
        return looks[-1]

    invocation = Invocation.begin()
    with pytest.raises(InputError, match=HELD):
        lease_module._open(folder, Holder(invocation, Process.this()), content, admit)
    assert (looks, folder.names("generations")) == ([0], ["000001.json"])


def test_of_many_processes_exactly_one_takes_a_free_store(tmp_path):
    context = multiprocessing.get_context("fork")
    start, answers = context.Event(), context.Queue()
    processes = [context.Process(target=_try, args=(tmp_path, start, answers)) for _ in range(6)]
    for process in processes:
        process.start()
    start.set()
    found = [answers.get(timeout=PATIENCE_S) for _ in processes]
    assert [number for number in found if number is not None] == [1]
    for process in processes:
        process.kill()
        process.join()
    Lease.take(Folder(tmp_path), Invocation.begin(), content).end()


def test_a_holder_that_was_asleep_finds_itself_superseded_and_writes_nothing_more(tmp_path):
    code = f"""
import sys, time
from raysweep.store import lease
from raysweep.store.lease import Invocation, Lease
from raysweep.store.files import Store
store = Store({str(tmp_path)!r})
held = Lease.take(store.folder, Invocation.begin(), store.live_record)
print("held", flush=True)
while held.lost is None:
    time.sleep(0.05)
print(held.lost, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    child.send_signal(signal.SIGSTOP)
    store = Store(tmp_path)
    new = StoreWriter(store)  # its silence has run out
    child.send_signal(signal.SIGCONT)
    out, _ = child.communicate(timeout=PATIENCE_S)
    assert "another writer has taken over" in out
    assert [int(n[:6]) for n in store.folder.names("lease") if n.endswith(".beat")] in ([], [1])
    assert newest_generation(store.folder) == new.generation == 2
