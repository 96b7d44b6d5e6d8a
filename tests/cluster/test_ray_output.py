"""What Ray prints while it starts is in a log, and nothing ends without a word."""

import os
import subprocess
import sys
from pathlib import Path

from raysweep.cluster.ray_output import RayLog


def test_what_is_said_meanwhile_is_in_the_log_and_shown_where_all_went_well(capfd):
    log = RayLog()
    assert log.where() == ""
    with log.takes_stderr():
        os.write(2, b"from below\n")
    assert capfd.readouterr().err == ""
    log.write("later")
    path = Path(log.where().rpartition(": ")[2])
    assert path.read_text() == "from below\nlater\n"
    log.write("[2026-11-28 12:16:09,325 I 4723 4723] logging.cc:303: Set ray log level")
    log.show_and_remove()
    assert capfd.readouterr().err == "from below\nlater\n"
    assert not path.exists()
    with log.takes_stderr():
        os.write(2, b"again\n")
    kept = Path(log.kept().rpartition(": ")[2])
    log.remove()
    assert kept.read_text() == "again\n"
    kept.unlink()
    with log.takes_stderr():
        pass
    empty = log._path
    assert log.kept() == ""
    assert not empty.exists()


def test_a_process_that_is_ended_from_below_leaves_one_line(tmp_path):
    code = (
        "import os\n"
        "from raysweep.cluster.ray_output import RayLog\n"
        "with RayLog().takes_stderr():\n"
        "    os.write(2, b'fatal: twenty lines')\n"
        "    os._exit(1)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    (log,) = tmp_path.iterdir()
    assert ended.stderr == (
        f"raysweep: Ray ended this process while it connected; what Ray said: {log}\n"
    )
    assert log.read_text() == "fatal: twenty lines"
