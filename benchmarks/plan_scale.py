"""What planning costs up to a million trials, and scheduling up to ten thousand.

Planning: one process per size. Scheduling: real sweeps on one local Ray, of trials that train
next to nothing; what a sweep of two trials takes is subtracted.
`python benchmarks/plan_scale.py [--repeats 3]`
"""

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measure

SEEDS = 5
# How many values each axis has; their product and the seeds make the number of trials.
AXES = ("learning_rate", "batch_size", "dropout", "weight_decay")
SHAPES = {
    100: (5, 2, 2, 1),
    1_000: (10, 5, 2, 2),
    10_000: (20, 10, 5, 2),
    100_000: (50, 20, 5, 4),
    1_000_000: (100, 20, 10, 10),
}
SLOTS = 2


def sweep(num_trials: int) -> dict[str, Any]:
    """A sweep of digits with that many trials."""
    rates, sizes, drops, decays = SHAPES[num_trials]
    values = (
        [round(1e-3 * 1.05**i, 9) for i in range(rates)],
        [8 * (i + 1) for i in range(sizes)],
        [i / (drops + 1) for i in range(drops)],
        [i * 1e-5 for i in range(decays)],
    )
    axes = dict(zip(AXES, values, strict=True))
    return {"name": "bench", "task": "digits", "axes": axes, "seeds": SEEDS}


def plan(num_trials: int) -> None:
    """Plan, and print what each stage took, as JSON."""
    started = time.perf_counter()
    from raysweep.planning import packs
    from raysweep.planning.plan import make_plan, speed_of
    from raysweep.spec import SweepSpec
    from raysweep.store.files import Store

    imported = time.perf_counter()
    make_plan(SweepSpec.from_mapping(sweep(100)), Store("none"))  # loads the task and its data
    loaded, at_rest = time.perf_counter(), measure.peak_mb()
    made = make_plan(SweepSpec.from_mapping(sweep(num_trials)), Store("none"))
    expanded = time.perf_counter()
    assert len(made.trials) == num_trials
    speed = speed_of(made)
    judged = time.perf_counter()
    left = made.left
    packed = packs.plan(
        left,
        lambda trial: speed.seconds(trial.hyperparameters, made.n_train),
        slots=SLOTS,
        start_s=0.2,
    )
    assert sum(map(len, packed)) == num_trials
    figures = {
        "imports, s": imported - started,
        "task and data, s": loaded - imported,
        "expand and identify, s": expanded - loaded,
        "judge the model, s": judged - expanded,
        "pack, s": time.perf_counter() - judged,
        "memory before, MB": at_rest,
        "peak memory, MB": measure.peak_mb(),
    }
    print(json.dumps(figures))


def planning(sizes: list[int], repeats: int) -> str:
    """A row per number of trials: each stage, a whole dry run, memory."""
    script = os.path.abspath(__file__)
    rows = []
    names: list[str] = []
    for size in sizes:
        found = [measure.reported([script, "--plan", str(size)]) for _ in range(repeats)]
        names = list(found[0])
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            file = Path(folder) / "sweep.yaml"
            file.write_text(json.dumps(sweep(size)))  # JSON is YAML
            command = ["-m", "raysweep.main", "run", str(file), "--dry-run", "--address", "local"]
            dry = [measure.wall_seconds(command) for _ in range(repeats)]
        cells = [measure.spread([one[name] for one in found]) for name in names]
        rows.append([f"{size:,} trials", *cells, measure.spread(dry)])
    head = ["", *names, "whole `--dry-run`, s"]
    return measure.grid("Planning", head, rows)


def tiny_load(folder: Path | None) -> Any:
    """Two examples to train on and two to validate on."""
    import numpy as np

    from raysweep.tasks import Arrays, Data

    split = Arrays(np.eye(2, dtype=np.float32), np.array([0, 1]))
    return Data(split, split, num_classes=2)


def tiny_build(trial: Any, data: Any) -> Any:
    """One small layer."""
    from torch import nn

    return nn.Linear(2, 2)


def __getattr__(name: str) -> Any:
    # The task of the sweeps below; made on demand, since this file is also the benchmark's script.
    if name == "task":
        from raysweep.tasks import Task

        return Task(tiny_load, tiny_build)
    raise AttributeError(name)


def tiny_sweep(num_trials: int) -> dict[str, Any]:
    """A sweep whose trials train one step of one small layer."""
    seeds = min(num_trials, 10)
    return {
        "name": "tiny",
        "task": "plan_scale:task",
        "base": {"epochs": 1, "batch_size": 2},
        "axes": {"learning_rate": [0.01 + 1e-5 * i for i in range(num_trials // seeds)]},
        "seeds": seeds,
    }


def scheduling(sizes: list[int], repeats: int, address: str) -> str:
    """A row per number of trials: the sweep, and what a trial adds to one of two trials."""
    from raysweep import SweepSpec, run_sweep
    from raysweep.cluster import connect

    def run(num_trials: int) -> float:
        spec = SweepSpec.from_mapping(
            tiny_sweep(num_trials), folder=Path(__file__).resolve().parent
        )
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            started = time.perf_counter()
            result = run_sweep(spec, Path(folder) / "store")
            assert result.trained == num_trials, result
            return time.perf_counter() - started

    figures: dict[int, list[float]] = {size: [] for size in (*sizes, 2)}
    with connect.connect(address, modules=[Path(__file__).resolve()]):
        if repeats > 1:
            run(2)  # starts the processes that the next sweeps find warm
        for _ in range(repeats):
            for size, found in figures.items():
                found.append(run(size))
    start = statistics.median(figures[2])
    per_trial = {
        size: [1e3 * (seconds - start) / (size - 2) for seconds in figures[size]] for size in sizes
    }
    first = statistics.median(per_trial[sizes[0]])
    rows = [["2 trials: start-up", measure.spread(figures[2]), "", ""]]
    rows += [
        [
            f"{size:,} trials",
            measure.spread(figures[size]),
            measure.spread(per_trial[size]),
            f"{statistics.median(per_trial[size]) / first:.2f}",
        ]
        for size in sizes
    ]
    head = ["", "sweep, s", "per trial without start-up, ms", f"/ {sizes[0]:,} trials"]
    return measure.grid("Scheduling, with next to no training", head, rows)


def main() -> None:
    """Print the tables."""
    parser = measure.options(__doc__)
    parser.add_argument("--plan", type=int, metavar="TRIALS", help="plan them, no table")
    asked = parser.parse_args()
    if asked.plan:
        plan(asked.plan)
        return
    repeats = 1 if asked.short else asked.repeats
    print(measure.machine(), flush=True)
    print(planning([1_000] if asked.short else [1_000, 100_000, 1_000_000], repeats), flush=True)
    print(scheduling([3] if asked.short else [100, 1_000, 10_000], repeats, asked.address))


if __name__ == "__main__":
    sys.exit(main())
