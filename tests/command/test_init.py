"""`raysweep init`: what it writes is a sweep that a check finds nothing wrong with."""

import importlib.util

import pytest

from raysweep.checking.check import check
from raysweep.cli.init import kinds
from tests.support.commands import run_here


def test_the_kinds_are_those_that_the_help_names(capsys):
    said = " ".join(run_here(capsys, "init", "--help")[1].split())
    for kind in kinds():
        assert kind in said


@pytest.mark.parametrize("kind", kinds())
def test_what_is_written_can_be_trained_as_it_is(capsys, tmp_path, kind):
    if kind == "huggingface" and not importlib.util.find_spec("transformers"):
        pytest.skip("transformers is not installed")
    code, out, _ = run_here(capsys, "init", tmp_path / "new", "--kind", kind)
    assert code == 0
    assert f"raysweep check {tmp_path / 'new' / 'my_sweep.yaml'}" in out
    for name in ("my_sweep.yaml", "my_task.py"):
        assert "{name}" not in (tmp_path / "new" / name).read_text()
    found = check(str(tmp_path / "new" / "my_sweep.yaml"))
    assert (found.errors, found.warnings) == ([], [])


def test_nothing_is_written_over_and_an_unknown_kind_is_one_line(capsys, tmp_path):
    (tmp_path / "my_task.py").write_text("mine")
    code, _, err = run_here(capsys, "init", tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert "my_task.py exists, and is not written over" in err
    assert (tmp_path / "my_task.py").read_text() == "mine"
    assert not (tmp_path / "my_sweep.yaml").exists()
    code, _, err = run_here(capsys, "init", tmp_path / "new", "--kind", "regresion")
    assert (code, err.count("\n")) == (2, 1)
    assert "did you mean 'regression'?" in err
    assert not (tmp_path / "new").exists()
    code, _, err = run_here(capsys, "init", tmp_path / "my_task.py" / "new")
    assert (code, err.count("\n")) == (2, 1)
    assert "can't be written to" in err
