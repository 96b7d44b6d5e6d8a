"""The command line as people meet it: errors, exit codes, interruption, resumption."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from raysweep import recipes
from raysweep.store.files import Store
from tests.support.commands import RAYSWEEP, run, run_here

HERE = Path(__file__).parents[1] / "support"
MAIN = Path(__file__).parents[2] / "raysweep" / "main.py"


@pytest.fixture
def sweep_file(tmp_path):
    """Writes a sweep file beside a copy of the odd tasks."""
    shutil.copy(HERE / "odd_tasks.py", tmp_path)

    def write(text):
        file = tmp_path / "sweep.yaml"
        file.write_text(text)
        return file

    return write


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
    code, _, err = run_here(capsys, *arguments)
    assert code == 2
    assert err.startswith("raysweep: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err
    assert list(tmp_path.iterdir()) == []


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
    listed = [line for line in out.splitlines() if not line.startswith(" ")]
    assert [line.split()[0] for line in listed] == recipes.names()
    assert "“dropout adds jitter”" in out
    assert re.search(r"108 trials, about \d+:\d\d of training here", out)
    assert run_here(capsys, "recipes", "dropout")[1].startswith("# Does dropout add jitter")


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from raysweep.cli import run_command_line\n"
        "try: run_command_line(['run', '--help'])\n"
        "finally: print([m for m in ('torch', 'ray', 'polars') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_log_of_another_tool_gets_a_report_and_its_errors_one_line(tmp_path):
    lines = "".join(f"{epoch},{80 + epoch % 3}\n" for epoch in range(20))
    (tmp_path / "log.csv").write_text("epoch,val_acc\n" + lines)
    for more, code, words in (
        (["--column", "val_acc"], 2, "ROLE=NAME is expected"),
        (["--epoch-zero", "0"], 2, "it is first or untrained"),
        (["--epoch-zero", "untrained"], 0, "1 run of 19 evaluations"),
        ([], 0, "1 run of 20 evaluations"),
    ):
        done = run("report", "log.csv", "--out", "page.html", *more, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        assert words in done.stdout + done.stderr
    assert "<svg" in (tmp_path / "page.html").read_text()


def test_failed_trials_are_one_line_per_distinct_error_and_exit_code_3(
    shared_ray, sweep_file, tmp_path
):
    file = sweep_file(
        "{name: bad, task: 'odd_tasks:unlucky', base: {epochs: 20},"
        " axes: {width: [13, 16]}, seeds: 2}"
    )
    done = run("run", file, "--keep-going", "--address", shared_ray.address, cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "2 of 4 trials failed: ValueError: thirteen is unlucky" in done.stderr
    log = done.stderr.rpartition("log: ")[2].strip()
    assert "odd_tasks.py" in (tmp_path / log).read_text()
    assert (tmp_path / "results" / "bad" / "report.html").stat().st_size > 100_000


LATE_TYPO = """
from torch import nn
from raysweep.tasks import Task
from raysweep.tasks.digits import load

class Net(nn.Linear):
    steps = 0
    def forward(self, x):
        self.steps += self.training
        if self.steps > 40:  # too late for a check of one batch
            return self.no_such_layer(x)
        return super().forward(x)

task = Task(load, lambda trial, data: Net(64, 10))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_six_trials_with_one_late_typo_cost_one_start(shared_ray, tmp_path, workers):
    (tmp_path / "late_typo.py").write_text(LATE_TYPO)
    (tmp_path / "sweep.yaml").write_text(
        f"{{name: late, task: 'late_typo:task', seeds: 6, resources: {{workers: {workers}}}}}"
    )
    done = run("run", "sweep.yaml", "--address", shared_ray.address, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    first, *more = done.stderr.splitlines()
    assert "'Net' object has no attribute 'no_such_layer' (late_typo.py, line 11, " in first
    if workers > 1:  # each trial would need a start of its own
        assert "1 of 6 trials failed" in first
        assert more == [
            "the first trial of a model failed, so the sweep has stopped; 5 of 6 trials are left, "
            "and --keep-going trains them all the same"
        ]


def test_a_task_that_can_not_be_trained_is_refused_before_ray_is_asked(tmp_path):
    (tmp_path / "typo.py").write_text(LATE_TYPO.replace("> 40", "> 0"))
    (tmp_path / "sweep.yaml").write_text("{name: typo, task: 'typo:task', seeds: 6}")
    done = run("run", "sweep.yaml", "--address", "127.0.0.1:1", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no attribute 'no_such_layer' (typo.py, line 11)" in done.stderr


def test_a_task_that_changes_the_folder_leaves_the_results_where_the_command_was(
    shared_ray, tmp_path
):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "moves.py").write_text(
        "import os\n"
        f"os.chdir({str(tmp_path / 'elsewhere')!r})\n"
        "from raysweep.tasks.digits import task\n"
    )
    (tmp_path / "moves.yaml").write_text(
        "{name: moves, task: 'moves:task', base: {epochs: 3}, seeds: 1}"
    )
    done = run("run", "moves.yaml", "--address", shared_ray.address, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "results/moves holds 1 of 1" in done.stdout
    store = Store(tmp_path / "results" / "moves")
    assert store.report.exists()
    assert store.read("trials").num_rows == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_main_in_the_checkout_alone_and_the_command_do_the_same(shared_ray, tmp_path):
    # As `ray submit` leaves it on a head: one file alone, and a Ray that runs there.
    alone = tmp_path / "home"
    alone.mkdir()
    copy = shutil.copy(MAIN, alone)
    small = ["run", "digits", "--set", "base.epochs=12", "--set", "axes={}", "--seeds", "1"]

    def said(command, *more):
        done = subprocess.run(
            [str(part) for part in (*command, *small, *more)],
            cwd=tmp_path,
            env=shared_ray.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    plans = [said(command, "--dry-run") for command in ([sys.executable, MAIN], [RAYSWEEP])]
    assert "trained 1 trial" in said([sys.executable, copy])
    assert plans[0] == plans[1]
    store = Store(tmp_path / "results" / "digits")
    assert store.report.exists()
    assert store.read("epochs").num_rows == 12 * 2  # raw and averaged weights
    (node,) = store.sweeps()[0].hardware["nodes"]
    assert node["cpus"] == 2


def test_main_without_arguments_runs_the_default_recipe(tmp_path):
    # A file where the results folder would be made.
    (tmp_path / "results").touch()
    done = subprocess.run(
        [sys.executable, str(MAIN)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "the store results/digits can't be written" in done.stderr
