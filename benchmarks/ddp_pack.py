"""What a pack of two-worker trials costs, against one group start and one fit() per trial.

Whole wall time from the start of a process to its exit, the last row being on the disk by then.
`python benchmarks/ddp_pack.py [--trials 12] [--repeats 3]`
"""

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import measure
from sweep_overhead import Point, grid, points

WORKERS = 2
# One fit() per trial takes long: few are run, and what each of them takes counts.
FEW = 3


def raysweep(num_trials: int, epochs: int) -> None:
    """`run_sweep` on a Ray that it starts, or on the one that this process is connected to."""
    from raysweep import SweepSpec, run_sweep

    rates, sizes = grid(num_trials)
    seeds = -(-num_trials // (len(rates) * len(sizes)))
    spec = SweepSpec.from_mapping(
        {
            "name": "bench",
            "task": "digits",
            "base": {"epochs": epochs},
            "axes": {"learning_rate": list(rates), "batch_size": list(sizes)},
            "seeds": seeds,
            "resources": {"workers": WORKERS},
        }
    )
    result = run_sweep(spec, "store", address="local")
    assert result.trained == num_trials, result


def worker_loop(config: dict[str, Any]) -> None:
    """One worker: the trials one after another by raysweep's own training loop, nothing else."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch
    from ray import train as ray_train
    from ray.train.torch import get_device, prepare_model

    from raysweep.spec import Hyperparameters
    from raysweep.store.schema import EPOCHS
    from raysweep.tasks import find_task
    from raysweep.training.group import Group
    from raysweep.training.splits import place
    from raysweep.training.train import Training, train

    torch.set_num_threads(1)
    context = ray_train.get_context()
    group = Group(context.get_world_rank(), context.get_world_size(), get_device())
    task, data = find_task("digits").task, config["data"]
    placed = place(data, group.device)
    rows: list[dict[str, Any]] = []

    for rate, size, seed in config["points"]:
        fields = Hyperparameters(epochs=config["epochs"], learning_rate=rate, batch_size=size)
        train(
            Training(fields, seed, task, data, placed, group=group, wrap=prepare_model), rows.append
        )
        # A report waits for every worker's, and `emit` is for rank 0 alone: so all report after
        # the trial, as often as it has epochs.
        for epoch in range(config["epochs"] if config["report"] else 0):
            ray_train.report({"epoch": epoch})
    if group.rank == 0:
        name = f"{config['folder']}/rows-{time.time_ns()}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, EPOCHS), name)


@contextlib.contextmanager
def ray_started(*, tuned: bool, address: str = "local") -> Iterator[None]:
    """A Ray on this machine. tuned: started as raysweep starts it, else as its own pages say."""
    from raysweep.cluster.connect import connect

    with connect(address, groups=True) if tuned else measure.plain_ray(address, WORKERS):
        yield


def fit(chosen: list[Point], epochs: int, *, report: bool) -> float:
    """One TorchTrainer over these trials. Returns: the seconds that its fit() took."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from raysweep.tasks import find_task, load_data

    config = {
        "data": load_data(find_task("digits"), None),
        "points": chosen,
        "epochs": epochs,
        "folder": os.getcwd(),
        "report": report,
    }
    trainer = TorchTrainer(
        worker_loop,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=WORKERS),
        torch_config=TorchConfig(backend="gloo"),
        run_config=RunConfig(storage_path=f"{os.getcwd()}/train"),
    )
    started = time.perf_counter()
    trainer.fit()
    return time.perf_counter() - started


def one_group(num_trials: int, epochs: int) -> None:
    """One group start, then nothing but training."""
    with ray_started(tuned=True):  # or as this process is connected
        fit(points(num_trials), epochs, report=False)


def fit_per_trial(num_trials: int, epochs: int, *, documented: bool) -> list[float]:
    """A fit() per trial, one after another. documented: Ray's own settings, a report per epoch.

    Returns: seconds of each fit().
    """
    with ray_started(tuned=not documented):
        return [fit([point], epochs, report=documented) for point in points(num_trials)]


def print_fits(num_trials: int, epochs: int, *, documented: bool) -> None:
    """Median seconds of a fit(), as JSON."""
    taken = sorted(fit_per_trial(num_trials, epochs, documented=documented))
    print(json.dumps({"seconds": taken[len(taken) // 2]}))


WHOLE: dict[str, Callable[[int, int], None]] = {
    "one group start + pure training": one_group,
    "raysweep": raysweep,
}
PER_TRIAL: dict[str, Callable[[int, int], None]] = {
    "one fit() per trial": lambda n, e: print_fits(n, e, documented=False),
    "one fit() per trial, reports": lambda n, e: print_fits(n, e, documented=True),
}


def in_one_process(epochs: int, address: str) -> dict[str, list[float]]:
    """For --short: one trial on one Ray, so that Ray starts once at most.

    For one trial, one group start and one fit() per trial are the same thing: it is run once.
    """
    figures: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        contextlib.chdir(folder),
        ray_started(tuned=True, address=address),
    ):
        for name, run in WHOLE.items():
            started = time.perf_counter()
            run(1, epochs)
            figures[name] = [time.perf_counter() - started]
    figures[f"{next(iter(PER_TRIAL))}, which is one group start"] = figures[next(iter(WHOLE))]
    return figures


def in_processes(trials: int, epochs: int, repeats: int) -> dict[str, list[float]]:
    """Every contender as a process of its own."""
    script = os.path.abspath(__file__)
    numbers = [str(trials), str(epochs)]

    def run(name: str) -> Callable[[], float]:
        return lambda: measure.wall_seconds([script, "--one", name, *numbers])

    figures = measure.in_turn({name: run(name) for name in WHOLE}, repeats)
    for name in PER_TRIAL:
        found = measure.reported([script, "--one", name, str(FEW), str(epochs)])
        label = f"{name}, extrapolated from {FEW} trials, without Ray's start"
        figures[label] = [trials * found["seconds"]]
    return figures


def main() -> None:
    """Print the table."""
    parser = measure.options(__doc__)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--one", nargs=3, metavar=("CONTENDER", "TRIALS", "EPOCHS"))
    asked = parser.parse_args()
    if asked.one:
        (WHOLE | PER_TRIAL)[asked.one[0]](int(asked.one[1]), int(asked.one[2]))
        return
    trials, epochs = (1, 1) if asked.short else (asked.trials, asked.epochs)
    print(measure.machine(), f"{epochs} epochs a trial, {WORKERS} workers", sep="; ")
    few = asked.short
    figures = (
        in_one_process(epochs, asked.address)
        if few
        else in_processes(trials, epochs, asked.repeats)
    )
    print(measure.table(f"{trials} trials of {WORKERS} workers", figures, next(iter(WHOLE))))


if __name__ == "__main__":
    sys.exit(main())
