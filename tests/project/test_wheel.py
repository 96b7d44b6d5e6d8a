"""The wheel is whole: far from the checkout it plans a sweep and writes a report."""

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


def run(*command, cwd, **environment):
    """What a command prints."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel; without hatchling here, pip fetches it to build with."""
    folder = tmp_path_factory.mktemp("wheel")
    alone = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    run(*PIP, "wheel", "--no-deps", *alone, "--wheel-dir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_both_packages(wheel):
    tracked = run("git", "ls-files", "raysweep", "analysis", cwd=ROOT).split()
    assert {Path(name).suffix for name in tracked} > {".yaml", ".css", ".js", ".json", ".j2"}
    assert set(tracked) <= set(zipfile.ZipFile(wheel).namelist())


def test_the_installed_wheel_plans_a_sweep_and_writes_a_report(wheel, tmp_path):
    site, folder = tmp_path / "site", tmp_path / "far" / "away"
    folder.mkdir(parents=True)
    run(*PIP, "install", "--no-deps", "--target", site, wheel, cwd=tmp_path)
    rows = "".join(f"{epoch},{80 + epoch % 3}\n" for epoch in range(1, 21))
    (folder / "curves.csv").write_text(f"epoch,val_acc\n{rows}")

    def raysweep(*arguments):
        return run(sys.executable, site / "bin/raysweep", *arguments, cwd=folder, PYTHONPATH=site)

    where = "import analysis, raysweep; print(raysweep.__file__, analysis.__file__)"
    found = run(sys.executable, "-c", where, cwd=folder, PYTHONPATH=site).split()
    assert [Path(place).parents[1] for place in found] == [site, site]
    assert "= 108 trials" in raysweep("run", "digits", "--dry-run", "--address", "local")
    raysweep("report", "curves.csv")
    assert "<svg" in (folder / "report.html").read_text()
