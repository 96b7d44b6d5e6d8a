"""Short runs of every benchmark: the harness works and every contender has its row."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
ON_RAY = {
    "sweep_overhead": (
        ["--only", "pool", "raysweep", "tune, reused actors", "optuna + joblib"],
        ["| pool |", "| raysweep |", "| tune, reused actors |", "| optuna + joblib |"],
    ),
    "ddp_pack": (
        [],
        ["| one group start + pure training |", "| raysweep |", "| one fit() per trial"],
    ),
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
    "memory": (["--only", "arrays"], ["| arrays |", "a trainer takes"]),
    "plan_scale": ([], ["| 1,000 trials |", "| 2 trials: start-up |", "| 3 trials |"]),
}
ALONE = {
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
    "peers": (  # without what has to be installed
        ["--only", "ruler", "raysweep"],
        ["above its minimum by 10 % |", "| **raysweep: accuracy falls**", "or the loss rises**"],
    ),
    "gpu": ([], ["| fp32 |", "| bf16 |", "share"]),
    "gpu_steps": ([], ["| plain |"]),
    "log_reading": ([], ["| one curve |", "| event files |"]),
    "analysis_scale": ([], ["analyze, s", "write_report, s", "page, MB", "| 100 trials x 20"]),
}


def test_every_benchmark_has_a_short_run():
    modules = {path.stem for path in FOLDER.glob("*.py")} - {"measure", "problems", "chaos"}
    assert modules == ON_RAY.keys() | ALONE.keys()


def test_the_readme_tells_the_last_two_rows_of_the_comparison_with_peers():
    root = FOLDER.parent
    last = [
        line for line in (root / "docs/peers.md").read_text().splitlines() if "**raysweep" in line
    ]
    assert len(last) == 2
    assert all(line in (root / "README.md").read_text().splitlines() for line in last)


@pytest.mark.parametrize("name", ALONE)
def test_a_short_run_prints_a_row_per_contender(name, tmp_path):
    arguments, rows = ALONE[name]
    assert_prints(name, arguments, rows, tmp_path)


@pytest.mark.parametrize("name", ON_RAY)
def test_a_short_run_on_a_ray_prints_a_row_per_contender(shared_ray, name, tmp_path):
    arguments, rows = ON_RAY[name]
    assert_prints(name, ["--address", shared_ray.address, *arguments], rows, tmp_path)


def assert_prints(name, arguments, rows, folder):
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", "--short", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for row in rows:
        assert row in done.stdout, f"{row!r} is missing in\n{done.stdout}"
    assert "nan" not in done.stdout.lower()
