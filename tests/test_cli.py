"""The command line as people meet it: errors, exit codes, interruption, resumption."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from raysweep.cli import run_command_line
from raysweep.store import Store

HERE = Path(__file__).parent
MAIN = HERE.parent / "raysweep" / "main.py"
RAYSWEEP = Path(sys.executable).parent / "raysweep"


def run_here(capsys, *arguments):
    """(exit code, stdout, stderr) of a command in this process."""
    with pytest.raises(SystemExit) as exit_:
        run_command_line([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return exit_.value.code or 0, out, err


@pytest.fixture
def sweep_file(tmp_path):
    """Writes a sweep file beside a copy of the odd tasks."""
    shutil.copy(HERE / "odd_tasks.py", tmp_path)

    def write(text):
        file = tmp_path / "sweep.yaml"
        file.write_text(text)
        return file

    return write


@contextmanager
def started(*arguments, cwd):
    """A command as its own process; killed at the end if it still runs."""
    process = subprocess.Popen(
        [str(argument) for argument in arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run", "digts"], ["'digts'", "did you mean 'digits'?"]),
        (["run", "none.yaml"], ["no file none.yaml"]),
        (["run", "--set", "bse.epochs=3"], ["'bse'", "did you mean 'base'?"]),
        (["run", "--set", "base.epoch=3"], ["'base.epoch'", "did you mean 'epochs'?"]),
        (["run", "--set", "axes.dropuot=[0]"], ["axis 'dropuot'", "did you mean 'dropout'?"]),
        (["run", "--set", "axes.dropout=[]"], ["axis 'dropout' is empty"]),
        (["run", "--set", "base.momentum=2"], ["base.momentum = 2", "less than 1"]),
        (["run", "--set", "task=digitz"], ["task 'digitz' is unknown", "'digits'"]),
        (["run", "--set", "task=no.such:task"], ["no module 'no'"]),
        (["run", "--set", "task=raysweep.spec:task"], ["'task' is no task"]),
        (["run", "--set", "data=/no/such"], ["no folder /no/such"]),
        (["run", "--set", "resources.workers=64"], ["batch_size = 32", "workers, 64"]),
        (["run", "--set", "axes.batch_size=[2000]"], ["batch_size = 2000", "1000 examples"]),
        (
            ["run", "--set", "resources.cpus_per_worker=999", "--address", "local"],
            ["1 x (999 CPU)", "can never hold it"],
        ),
        (
            ["run", "--set", "task=fashion_mnist", "--set", "data=."],
            ["train-images-idx3-ubyte", "apt-get install dataset-fashion-mnist"],
        ),
        (["run", "--address", "127.0.0.1:1"], ["no Ray cluster answers at 127.0.0.1:1"]),
        (["status", "nowhere"], ["no store at nowhere"]),
        (["report", "nowhere"], ["no store at nowhere"]),
        (["recipes", "digts"], ["did you mean 'digits'?"]),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(
    capsys, tmp_path, monkeypatch, arguments, parts
):
    monkeypatch.chdir(tmp_path)
    begun = time.monotonic()
    code, _, err = run_here(capsys, *arguments)
    assert code == 2
    assert err.startswith("raysweep: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err
    assert list(tmp_path.iterdir()) == []
    assert time.monotonic() - begun < 60  # at once, no hang


def test_a_dry_run_says_everything_and_starts_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run_here(capsys, "run", "--dry-run", "--seeds", "2", "--address", "local")
    assert code == 0
    assert "36 configurations x 2 seeds = 72 trials" in out
    assert "batch_size: 32, 128, 512" in out
    assert "seeds: 0, 1" in out
    assert "72 to train, 0 done" in out
    assert re.search(r"trials at the same time: \d+", out)
    assert re.search(r"packs: \d+, of \d+ to \d+ trials", out)
    assert re.search(r"time: about \d+:\d\d", out)
    assert re.search(r"found with 80 % power", out)
    assert list(tmp_path.iterdir()) == []


def test_recipes_are_listed_and_printed(capsys):
    code, out, _ = run_here(capsys, "recipes")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()} == {
        "digits",
        "batch-size",
        "dropout",
        "early-stopping",
        "label-noise",
        "small-validation",
    }
    assert run_here(capsys, "recipes", "dropout")[1].startswith("# Claim under test")


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from raysweep.cli import run_command_line\n"
        "try: run_command_line(['run', '--help'])\n"
        "finally: print([m for m in ('torch', 'ray', 'polars') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_foreign_package_called_analysis_is_one_clear_error(tmp_path):
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "__init__.py").touch()
    code = "from raysweep.cli import run_command_line; run_command_line(['report', 'store'])"
    (tmp_path / "store" / "sweeps").mkdir(parents=True)
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert run.returncode == 2
    assert "another package called 'analysis'" in run.stderr
    assert run.stderr.count("\n") == 1


def test_curves_of_another_tool_get_a_report_and_their_errors_one_line(tmp_path):
    lines = "".join(f"{epoch},{80 + epoch % 3}\n" for epoch in range(20))
    (tmp_path / "log.csv").write_text("epoch,val_acc\n" + lines)
    command = [RAYSWEEP, "report", "log.csv", "--out", "page.html"]
    for more, code, words in (
        ([], 2, "the epochs start at 0"),
        (["--epoch-zero", "first", "--column", "val_acc"], 2, "OURS=THEIRS is expected"),
        (["--epoch-zero", "first"], 0, "val_accuracy is 'val_acc'"),
    ):
        run = subprocess.run(
            [*command, *more], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert run.returncode == code, run.stderr
        assert words in run.stdout + run.stderr
    assert (tmp_path / "page.html").stat().st_size > 100_000


SLOW = """
name: slow
task: odd_tasks:slow
base: {epochs: 20, batch_size: 100}
axes: {width: [4, 8, 16]}
seeds: 2
"""


def wait_for(condition, seconds=90.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)


@pytest.mark.ray
def test_a_killed_driver_loses_nothing_that_was_finished(sweep_file, tmp_path):
    file = sweep_file(SLOW)
    store = Store(tmp_path / "results" / "slow")
    command = [RAYSWEEP, "run", file, "--address", "local"]
    with started(*command, cwd=tmp_path) as process:
        # Segments come every 10 s: wait until the first trials are in one.
        wait_for(lambda: store.read("trials").num_rows)
        process.kill()
        process.wait()
    finished = set(store.read("trials")["trial_id"].to_pylist())
    assert 0 < len(finished) < 6
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    trials = Counter(store.read("trials")["trial_id"].to_pylist())
    assert len(trials) == 6
    assert set(trials.values()) == {1}  # no completed trial was trained twice
    rows = store.read("epochs", ["trial_id", "weights_kind", "epoch", "attempt"]).to_pylist()
    first = {row["trial_id"] for row in rows if row["attempt"] == 1}
    assert finished <= first
    assert {row["attempt"] for row in rows if row["trial_id"] in finished} == {1}

    from analysis import analyze

    epochs = analyze(store.root).epochs
    keys = epochs.select("trial_id", "weights_kind", "epoch")
    assert keys.height == keys.unique().height == 6 * 20


@pytest.mark.ray
def test_a_signal_stops_cleanly_and_says_how_to_go_on(sweep_file, tmp_path):
    file = sweep_file(SLOW)
    store = Store(tmp_path / "results" / "slow")
    with started(RAYSWEEP, "run", file, "--address", "local", cwd=tmp_path) as process:
        wait_for(lambda: list(store.wal_folder.glob("*-trials.arrows")))
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - begun < 10
    assert "stopped by SIGTERM" in out
    assert "the same command goes on from there" in out
    assert "Traceback" not in out
    assert store.read("trials").num_rows >= 1  # flushed, not only logged


@pytest.mark.ray
def test_failed_trials_are_one_line_per_distinct_error_and_exit_code_3(sweep_file, tmp_path):
    file = sweep_file(
        "{name: bad, task: 'odd_tasks:unlucky', base: {epochs: 20},"
        " axes: {width: [13, 16]}, seeds: 2}"
    )
    command = [RAYSWEEP, "run", file, "--address", "local"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 3
    assert run.stderr.count("\n") == 1
    assert "2 of 4 trials failed: ValueError: thirteen is unlucky" in run.stderr
    log = run.stderr.rpartition("log: ")[2].strip()
    assert "odd_tasks.py" in (tmp_path / log).read_text()
    assert (tmp_path / "results" / "bad" / "report.html").stat().st_size > 100_000


@pytest.fixture
def running_ray():
    """A Ray as `ray start --head` leaves it; ended by its own process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray = Path(sys.executable).parent / "ray"
    options = [f"--port={port}", "--num-cpus=2", "--dashboard-port=0", "--block"]
    process = subprocess.Popen(
        [str(ray), "start", "--head", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers():
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    wait_for(answers)
    time.sleep(3)
    yield port
    process.terminate()
    process.wait(timeout=30)


@pytest.mark.ray
@pytest.mark.usefixtures("running_ray")
def test_main_in_the_checkout_alone_and_the_command_all_attach_and_do_the_same(tmp_path):
    alone = tmp_path / "home"
    alone.mkdir()
    copy = shutil.copy(MAIN, alone)
    small = ["run", "digits", "--seeds", "1", "--set", "base.epochs=12"]
    small += ["--set", "axes={learning_rate: [0.01, 0.1]}"]
    found = []
    for command in ([sys.executable, MAIN], [sys.executable, copy], [RAYSWEEP]):
        where = tmp_path / f"{len(found)}"
        where.mkdir()
        run = subprocess.run(
            [str(part) for part in [*command, *small]],
            cwd=where,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        store = Store(where / "results" / "digits")
        assert store.report.exists()
        rows = store.read("epochs").drop(["wall_s", "train_s"])
        keys = ("trial_id", "epoch", "weights_kind")
        found.append(rows.sort_by([(key, "ascending") for key in keys]))
        (node,) = store.sweeps()[0]["hardware"]["nodes"]
        assert node["cpus"] == 2
    assert found[0].num_rows == 2 * 12 * 2  # raw and averaged weights
    assert found[0].equals(found[1])
    assert found[1].equals(found[2])


def test_main_without_arguments_runs_the_default_recipe(tmp_path):
    # A file where the results folder would be made: it gets as far as planning the recipe.
    (tmp_path / "results").touch()
    run = subprocess.run(
        [sys.executable, str(MAIN)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "digits: batch_size (3)" in run.stdout
    assert run.returncode == 2
    assert "results" in run.stderr
