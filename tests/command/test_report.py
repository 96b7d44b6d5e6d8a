"""`raysweep report` answers where the command was typed: the answer, JSON, exit codes, a pipe."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.support.commands import run_here

TIME = np.arange(60)
LEARNS = 0.9 - 0.4 * np.exp(-TIME / 4) + 0.002 * np.sin(7.3 * TIME**1.5)
FALLS = LEARNS - 0.08 * np.clip(TIME - 15, 0, None) / 45


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with logs of a run that learns, of one that falls, of one that is short."""
    monkeypatch.chdir(tmp_path)
    for name, values in (("learns", LEARNS), ("falls", FALLS), ("short", LEARNS[:4])):
        rows = "".join(f"{k},{v:.5f}\n" for k, v in enumerate(values, 1))
        (tmp_path / f"{name}.csv").write_text("epoch,val_accuracy\n" + rows)
    return tmp_path


def test_the_answer_stands_before_the_page(capsys, here):
    code, out, _ = run_here(capsys, "report", "falls.csv", "--num-val", "1000")
    assert code == 0
    lines = out.splitlines()
    order = [
        next(n for n, line in enumerate(lines) if words in line)
        for words in ("1 run of 60", "▇", "It ends worse", "Keep epoch", "What to do", "report: ")
    ]
    assert order == sorted(order)
    assert lines[-1] == f"report: {here / 'report.html'}"


def test_json_is_alone_on_standard_output_and_writes_no_page(capsys, here):
    code, out, _ = run_here(capsys, "report", "falls.csv", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["version"] == 1
    assert "overfitting" in told["findings"]
    assert not (here / "report.html").exists()
    _, out, err = run_here(capsys, "report", "falls.csv", "--json", "--out", "page.html")
    assert json.loads(out) == told
    assert "report: " in err
    assert (here / "page.html").exists()


@pytest.mark.parametrize(
    ("log", "names", "expected"),
    [
        ("falls.csv", "overfitting", 1),
        ("falls.csv", "diverged,overfitting", 1),
        ("falls.csv", "diverged", 0),
        ("learns.csv", "overfitting,diverged", 0),
        ("short.csv", "overfitting", 4),
        ("short.csv", "diverged", 0),
        ("falls.csv", "overfiting", 2),
    ],
)
def test_fail_on_is_1_where_it_is_found_and_4_where_it_cannot_be_judged(
    capsys, here, log, names, expected
):
    code, _, err = run_here(capsys, "report", log, "--json", "--fail-on", names)
    assert code == expected
    if expected == 2:
        assert "did you mean 'overfitting'?" in err
    assert list(here.glob("*.html")) == []


def test_what_comes_through_a_pipe_goes_on_and_is_answered_after_it(here):
    printed = "".join(f"epoch {k}: val_acc {v:.4f}\n" for k, v in enumerate(FALLS, 1))
    command = [sys.executable, "-m", "raysweep.main", "report", "-"]
    done = subprocess.run(command, input=printed, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(printed)
    assert "It ends worse" in done.stdout[len(printed) :]
    alone = subprocess.run(
        [*command, "--json"], input=printed, capture_output=True, text=True, check=True
    )
    assert "overfitting" in json.loads(alone.stdout)["findings"]


def test_an_answer_imports_neither_ray_nor_torch_nor_what_draws_the_page(here):
    code = (
        "import sys\n"
        "from raysweep.cli import run_command_line\n"
        "try: run_command_line(['report', 'falls.csv', '--json'])\n"
        "finally: print([m for m in ('ray', 'torch', 'altair', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
