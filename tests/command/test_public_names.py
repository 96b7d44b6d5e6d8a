"""The public names: what `help` shows, whose `analysis` they are, and what works without torch."""

import inspect
import os
import pydoc
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import analysis
import raysweep
from tests.support.commands import run_here

ROOT = Path(__file__).parents[2]
CURVES = "epoch,val_acc\n" + "".join(f"{epoch},{80 + epoch % 3}\n" for epoch in range(1, 21))
MAIN = "from raysweep.main import main; import sys; main(sys.argv[1:])"
# As if the packages of `raysweep[run]` were not there.
WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "ray", "sklearn"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
"""


def python(code, *arguments, cwd):
    """A Python whose first place to look for modules is `cwd`, as of a script there."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": f"{cwd}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(params=["analysis.py", "analysis/__init__.py"])
def foreign(request, tmp_path):
    """A module of the user's with the name of ours, and curves beside it."""
    path = tmp_path / request.param
    path.parent.mkdir(exist_ok=True)
    path.write_text("def analyze(curves): raise SystemExit('the wrong analysis')\n")
    (tmp_path / "curves.csv").write_text(CURVES)
    return path


@pytest.mark.parametrize("package", [raysweep, analysis])
def test_help_names_every_public_function_with_arguments_returns_and_errors(package):
    shown = pydoc.plain(pydoc.render_doc(package))
    for name in package.__all__:
        public = getattr(package, name)
        assert f" {name}" in shown
        assert public.__doc__.splitlines()[0] in shown
        if inspect.isfunction(public):
            for part in ("Args:", "Returns:", "Raises:"):
                assert part in str(public.__doc__), name
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'analyse'"):
        package.analyse  # noqa: B018


def test_the_version_is_said(capsys):
    code, out, _ = run_here(capsys, "--version")
    assert (code, out) == (0, f"raysweep {raysweep.__version__}\n")


def test_a_script_beside_a_foreign_analysis_gets_ours(foreign, tmp_path):
    script = """
from raysweep import analyze, read_curves, write_report
curves = read_curves("curves.csv")
print(curves)
print(write_report(analyze(curves), "report.html"))
"""
    done = python(script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search("validation accuracy +val_acc ", done.stdout)
    assert "<svg" in (tmp_path / "report.html").read_text()


def test_the_commands_beside_a_foreign_analysis_use_ours(foreign, tmp_path):
    done = python(MAIN, "report", "curves.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # Beside the sweep file and its task, which are elsewhere than the working folder.
    task = "from raysweep.tasks.digits import task"
    (tmp_path / "my_task.py").write_text(task)
    (tmp_path / "sweep.yaml").write_text("{name: mine, task: 'my_task:task', base: {epochs: 20}}")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    sweep = ["run", "../sweep.yaml", "--dry-run", "--address", "local"]
    done = python(MAIN, *sweep, cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert "power:" in done.stdout
    # Only a task that imports it is in the way of the statement about power.
    (tmp_path / "my_task.py").write_text(f"import analysis\n{task}")
    done = python(MAIN, "run", "sweep.yaml", "--dry-run", "--address", "local", cwd=tmp_path)
    assert done.returncode == 2
    assert str(foreign) in done.stderr
    assert done.stderr.count("\n") == 1


def test_workers_and_the_report_of_a_sweep_pass_a_foreign_analysis_by(shared_ray, tmp_path):
    (tmp_path / "analysis.py").write_text("raise SystemExit('the wrong analysis')")
    (tmp_path / "my_task.py").write_text("from raysweep.tasks.digits import task")
    (tmp_path / "sweep.yaml").write_text(
        "{name: mine, task: 'my_task:task', base: {epochs: 12}, seeds: 1}"
    )
    done = python(MAIN, "run", "sweep.yaml", "--address", shared_ray.address, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "trained 1 trial" in done.stdout
    assert (tmp_path / "results" / "mine" / "report.html").exists()


def test_a_foreign_analysis_that_is_imported_is_named_with_what_to_do(foreign, tmp_path):
    done = python("import analysis\nfrom raysweep import analyze", cwd=tmp_path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("raysweep.errors.InputError: ")
    assert str(foreign) in last
    assert "rename that file or folder" in last


def test_logs_are_read_and_reported_without_torch_and_ray(tmp_path):
    (tmp_path / "curves.csv").write_text(CURVES)
    done = python(WITHOUT_TORCH + MAIN, "report", "curves.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "<svg" in (tmp_path / "report.html").read_text()
    for command in (["recipes"], ["--version"], ["--help"]):
        assert python(WITHOUT_TORCH + MAIN, *command, cwd=tmp_path).returncode == 0
    done = python(WITHOUT_TORCH + MAIN, "run", "digits", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "raysweep: raysweep run needs ray, which is not installed: pip install 'raysweep[run]'\n"
    )
    done = python(WITHOUT_TORCH + "from raysweep import Task", cwd=tmp_path)
    assert "raysweep.Task needs torch" in done.stderr.splitlines()[-1]


def test_the_packages_that_train_are_an_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base, extra = project["dependencies"], project["optional-dependencies"]
    names = {line.partition(">")[0].partition("[")[0] for line in extra["run"]}
    assert names == {"torch", "ray", "scikit-learn"}
    assert not [line for line in base if line.startswith(tuple(names))]
    assert "raysweep[run]" in extra["dev"]
