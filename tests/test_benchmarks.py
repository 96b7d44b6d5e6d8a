"""Short runs of every benchmark: the harness works and every contender has its row."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent.parent / "benchmarks"
CASES = {
    "sweep_overhead": (
        ["--only", "pool", "raysweep", "tune, reused actors", "optuna + joblib"],
        ["| pool |", "| raysweep |", "| tune, reused actors |", "| optuna + joblib |"],
    ),
    "ddp_pack": (
        [],
        ["| one group start + pure training |", "| raysweep |", "| one fit() per trial"],
    ),
    "step_cost": (
        [],
        [
            *(f"digits, batch {size}" for size in (32, 128, 512)),
            *("| bare loop |", "| bare loop, running metrics |", "| train_epoch |"),
            *("| bare training |", "| train |", "evidence / training pass"),
            *("| no probe |", "| averaged weights |", "| defaults |", "| everything |"),
        ],
    ),
    "data_path": (
        [],
        [
            *("| tensors |", "| DatasetSplit |", "| DataLoader, workers=0 |"),
            *("| tensors (train_epoch) |", "| DataLoader, workers=0, bare loop |"),
        ],
    ),
    "gpu": ([], ["| fp32 |", "| bf16 |", "share"]),
    "gpu_steps": ([], ["| plain |"]),
    "recorder": (
        [],
        [
            *("| in one process, without Ray |", "| fast disk |", "| slow disk |"),
            *("| 1 sender, batches", "| 8 senders, batches", "| slow disk, no bound |"),
            *("| 1 sender, `Sender`", "| 8 senders, `Sender`"),
        ],
    ),
    "startup": (
        [],
        [
            *("| python -c pass |", "| raysweep --help |", "| first row in a segment |"),
            *("| start of Ray |", "until both train |", "| shutdown of Ray |"),
        ],
    ),
    "plan_scale": ([], ["| 1,000 trials |", "| 2 trials: start-up |", "| 20 trials |"]),
    "analysis_scale": ([], ["analyze, s", "write_report, s", "page, MB", "| 100 trials x 20"]),
}


START_RAY = {"sweep_overhead", "ddp_pack", "recorder", "startup", "plan_scale"}


def test_every_benchmark_has_a_short_run():
    assert {path.stem for path in FOLDER.glob("*.py")} - {"measure", "problems"} == CASES.keys()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.ray] if name in START_RAY else []) for name in CASES],
)
def test_a_short_run_prints_a_row_per_contender(name, tmp_path):
    arguments, rows = CASES[name]
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", "--short", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for row in rows:
        assert row in done.stdout, f"{row!r} is missing in\n{done.stdout}"
    assert "nan" not in done.stdout.lower()
