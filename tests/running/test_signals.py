"""Signals: they wait while Ray starts, and are an error at once where nothing is half done."""

import _imp
import importlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from raysweep.running.signals import SIGNALS, InterruptedSweepError, taken_over
from raysweep.store.files import Store

STRUCK = """
import os, signal
os.kill(os.getpid(), signal.SIGHUP)
for _ in range(1000):
    pass  # the handler runs in here
WHOLE = True
"""


@pytest.fixture(autouse=True)
def not_ignored():
    """Under `nohup`, SIGHUP is ignored in here, too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_signal_waits_while_ray_starts_and_is_an_error_after_that(tmp_path, capfd):
    with taken_over(Store(tmp_path)) as signals:
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(InterruptedSweepError, match="stopped by SIGHUP"), signals.raised():
            pass
    assert "once more ends it at once" in capfd.readouterr().err


def test_once_more_ends_a_start_at_once(tmp_path):
    code = f"""
import signal
from raysweep.running.signals import taken_over
from raysweep.store import Store
with taken_over(Store({str(tmp_path)!r})):
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
"""
    ended = subprocess.run([sys.executable, "-c", code], check=False)
    assert ended.returncode == -signal.SIGTERM


def test_a_signal_is_an_error_at_once_where_nothing_is_half_done(tmp_path):
    def wait():
        with taken_over(Store(tmp_path)) as signals, signals.raised():
            signal.raise_signal(signal.SIGHUP)
            time.sleep(60)

    with pytest.raises(InterruptedSweepError, match="stopped by SIGHUP"):
        wait()


def test_a_signal_that_strikes_an_import_is_looked_at_after_it(tmp_path, monkeypatch):
    (tmp_path / "struck.py").write_text(STRUCK)
    (tmp_path / "later.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with taken_over(Store(tmp_path)) as signals:
        with signals.raised():
            importlib.import_module("struck")
        with pytest.raises(InterruptedSweepError):
            signals.check()
    assert sys.modules["struck"].WHOLE
    assert not _imp.lock_held()  # pyright: ignore[reportAttributeAccessIssue]
    imports = threading.Thread(target=__import__, args=["later"], daemon=True)
    imports.start()
    imports.join(60)
    assert not imports.is_alive()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_was_ignored_before_stays_ignored(tmp_path, number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with taken_over(Store(tmp_path)) as signals:
            signal.raise_signal(number)
            signals.take()  # as after the start of Ray
            signal.raise_signal(number)
            assert signals.received == []
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_ray_takes_no_signal_over_while_it_starts(tmp_path):
    from ray._private import utils

    before = signal.getsignal(signal.SIGTERM)
    with taken_over(Store(tmp_path)) as signals:
        utils.set_sigterm_handler(lambda number, frame: None)
        assert signal.getsignal(signal.SIGTERM) == signals.note
    assert signal.getsignal(signal.SIGTERM) == before
