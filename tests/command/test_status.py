"""`raysweep status --watch`: it says what changes, and ends with the sweep."""

from raysweep.spec import SweepSpec
from tests.support.commands import run_here, started, wait_for
from tests.support.simulated import Curve, Sweep


def test_a_watched_sweep_is_told_until_its_last_trial_has_ended(tmp_path, capsys):
    content = {"name": "small", "task": "digits", "base": {"epochs": 12}, "seeds": 3}
    sweep = Sweep(SweepSpec.from_mapping(content))
    sweep.write(tmp_path / "store", lambda trial: Curve(), missing=[1, 2])
    with started("status", tmp_path / "store", "--watch", cwd=tmp_path) as process:
        assert process.stdout
        first = process.stdout.readline()
        assert "3 trials planned: 1 completed, 2 missing" in first
        sweep.write(tmp_path / "store", lambda trial: Curve(), missing=[0])
        wait_for(lambda: process.poll() is not None)
        rest = process.stdout.read()
    assert process.returncode == 0
    assert "3 trials planned: 3 completed\n" in rest
    assert run_here(capsys, "status", tmp_path / "store", "--watch")[0] == 0  # nothing to wait for
