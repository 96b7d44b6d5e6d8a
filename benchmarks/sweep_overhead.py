"""What scheduling costs: the same small trials by a hand-written pool, raysweep, Tune, Optuna.

Whole wall time from the start of a process until its last row is on the disk, and until its exit.
`python benchmarks/sweep_overhead.py [--trials 12 96 480] [--repeats 3]`
"""

import itertools
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import measure

AT_A_TIME = 2
RATES, SIZES = (0.01, 0.03, 0.1, 0.3), (32, 128, 512)
# One nested fit() per trial takes tens of seconds: few are run, and their cost per trial counts.
DOCUMENTED_TRIALS = 4


Point = tuple[float, int, int]  # learning rate, batch size, seed


class Asked(NamedTuple):
    """What every contender is asked for."""

    trials: int
    epochs: int
    address: str  # of a Ray; "local" starts one


def grid(num_trials: int) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Learning rates and batch sizes of a sweep; a small one is a whole grid too."""
    return RATES[:num_trials], SIZES if num_trials >= len(RATES) * len(SIZES) else SIZES[:1]


def points(num_trials: int) -> list[Point]:
    """The trials of a sweep of that size."""
    all_of_them = itertools.product(range(num_trials), RATES, SIZES)
    return [(rate, size, seed) for seed, rate, size in itertools.islice(all_of_them, num_trials)]


_DIGITS: dict[str, Any] = {}


def digits() -> tuple[Any, Any, Any]:
    """(task, data, the data on the CPU): once per process."""
    import torch

    from raysweep.tasks import find_task, load_data
    from raysweep.training.splits import place

    if not _DIGITS:
        torch.set_num_threads(1)
        source = find_task("digits")
        data = load_data(source, None)
        _DIGITS["all"] = source.task, data, place(data, torch.device("cpu"))
    return _DIGITS["all"]


def train_in_process(point: Point, epochs: int) -> list[dict[str, Any]]:
    """raysweep's own training loop, without raysweep around it."""
    from raysweep.spec import Hyperparameters
    from raysweep.training.train import Training, train

    rows: list[dict[str, Any]] = []
    rate, size, seed = point
    fields = Hyperparameters(epochs=epochs, learning_rate=rate, batch_size=size)
    train(Training(fields, seed, *digits()), rows.append)
    return rows


def write(rows: list[dict[str, Any]]) -> None:
    """The rows of a contender that has no store."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from raysweep.store.schema import EPOCHS as SCHEMA

    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), "rows.parquet")


def pool(asked: Asked) -> None:
    """A hand-written process pool."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(AT_A_TIME, mp_context=get_context("spawn")) as executor:
        chosen = points(asked.trials)
        found = list(executor.map(train_in_process, chosen, itertools.repeat(asked.epochs)))
    write([row for rows in found for row in rows])


def raysweep(asked: Asked) -> None:
    """`run_sweep`, which starts a Ray where there is none."""
    from raysweep import SweepSpec, run_sweep

    rates, sizes = grid(asked.trials)
    spec = SweepSpec.from_mapping(
        {
            "name": "bench",
            "task": "digits",
            "base": {"epochs": asked.epochs},
            "axes": {"learning_rate": list(rates), "batch_size": list(sizes)},
            "seeds": -(-asked.trials // (len(rates) * len(sizes))),
        }
    )
    run_sweep(spec, "store", address=asked.address)


def tune_plain(asked: Asked, *, reuse: bool) -> None:
    """Ray Tune as documented, one function trial per trial, a report per epoch."""
    from ray import tune

    def trainable(config: dict[str, Any]) -> None:
        for row in train_in_process(config["point"], asked.epochs):
            tune.report({"val_correct": row["val_correct"], "row": row})

    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    with measure.plain_ray(asked.address, AT_A_TIME):
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"CPU": 1}),
            param_space={"point": tune.grid_search(points(asked.trials))},
            tune_config=tune.TuneConfig(max_concurrent_trials=AT_A_TIME, reuse_actors=reuse),
            run_config=tune.RunConfig(storage_path=os.getcwd(), name="tune", verbose=0),
        )
        found = tuner.fit()
        assert not found.errors
        # Tune keeps the last row of each trial; the others it wrote to its own JSON files.
        write([result.metrics["row"] for result in found if result.metrics])


def documented(asked: Asked) -> None:
    """The documented way to train with Ray Train under Ray Tune: a nested fit() per trial."""
    from ray import train as ray_train
    from ray import tune
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    def loop(config: dict[str, Any]) -> None:
        for row in train_in_process(config["point"], asked.epochs):
            ray_train.report({"val_correct": row["val_correct"]})

    def driver(config: dict[str, Any]) -> None:
        TorchTrainer(
            loop,
            train_loop_config=config,
            scaling_config=ScalingConfig(num_workers=1),
            run_config=ray_train.RunConfig(storage_path=f"{folder}/train"),
        ).fit()

    folder = os.getcwd()
    # One CPU more, for the drivers that wait: they must not take what their workers need.
    with measure.plain_ray(asked.address, AT_A_TIME + 1):
        tuner = tune.Tuner(
            tune.with_resources(driver, {"CPU": 0.01}),
            param_space={"point": tune.grid_search(points(asked.trials))},
            tune_config=tune.TuneConfig(max_concurrent_trials=AT_A_TIME),
            run_config=tune.RunConfig(storage_path=folder, name="tune", verbose=0),
        )
        assert not tuner.fit().errors


def optuna_joblib(asked: Asked) -> None:
    """Optuna's grid sampler in two processes that share a journal, started by joblib."""
    from joblib import Parallel, delayed

    create_study(asked.trials)
    shares = [asked.trials // AT_A_TIME + (i < asked.trials % AT_A_TIME) for i in range(AT_A_TIME)]
    found = Parallel(n_jobs=AT_A_TIME)(delayed(optuna_share)(asked, n) for n in shares)
    write([row for rows in found for row in rows or []])


def create_study(num_trials: int) -> Any:
    """The study in its journal, made or loaded."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(
        study_name="bench",
        storage=JournalStorage(JournalFileBackend("journal.log")),
        sampler=optuna.samplers.GridSampler({"index": list(range(num_trials))}),
        direction="maximize",
        load_if_exists=True,
    )


def optuna_share(asked: Asked, share: int) -> list[dict[str, Any]]:
    """One process's share of the study."""
    rows: list[dict[str, Any]] = []
    chosen = points(asked.trials)

    def objective(trial: Any) -> float:
        number = trial.suggest_categorical("index", range(asked.trials))
        found = train_in_process(chosen[number], asked.epochs)
        rows.extend(found)
        return found[-1]["val_correct"]

    create_study(asked.trials).optimize(objective, n_trials=share)
    return rows


CONTENDERS: dict[str, Callable[[Asked], None]] = {
    "pool": pool,
    "raysweep": raysweep,
    "tune, reused actors": lambda asked: tune_plain(asked, reuse=True),
    "tune": lambda asked: tune_plain(asked, reuse=False),
    "documented nested fit()": documented,
    "optuna + joblib": optuna_joblib,
}


def main() -> None:
    """Print the tables."""
    parser = measure.options(__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[12, 96, 480])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--one", nargs=2, metavar=("CONTENDER", "TRIALS"), help="run it, no table")
    asked = parser.parse_args()
    if asked.one:
        name, trials = asked.one
        CONTENDERS[name](Asked(int(trials), asked.epochs, asked.address))
        return
    repeats = asked.repeats
    if asked.short:
        repeats, asked.trials, asked.epochs = 1, [1], 1
    print(measure.machine(), f"{asked.epochs} epochs a trial, {AT_A_TIME} at a time", sep="; ")

    def words(name: str, trials: int) -> list[str]:
        chosen = ["--epochs", str(asked.epochs), "--address", asked.address]
        return [os.path.abspath(__file__), *chosen, "--one", name, str(trials)]

    def run(name: str, trials: int) -> Callable[[], float]:
        def waited() -> float:
            found = measure.waited(words(name, trials))
            exits.setdefault(f"{trials} {name}", []).append(found.exit)
            return found.durable

        return waited

    exits: dict[str, list[float]] = {}

    per_trial: list[float] = []
    if "documented nested fit()" in asked.only:
        few = 1 if asked.short else DOCUMENTED_TRIALS
        # The cost of a trial is what more trials add; start-up is in both runs.
        name = "documented nested fit()"
        few_s, more_s = (measure.wall_seconds(words(name, n)) for n in (few, 3 * few))
        per_trial = [(more_s - few_s) / (2 * few)]
        print(f"documented recipe: {per_trial[0]:.1f} s a trial, from {few} and {3 * few} trials")
    for trials in asked.trials:
        chosen = {n: run(n, trials) for n in asked.only if n != "documented nested fit()"}
        figures = measure.in_turn(chosen, repeats)
        if per_trial:
            label = f"documented nested fit(), extrapolated from {3 * DOCUMENTED_TRIALS} trials"
            figures[label] = [trials * per_trial[0]]
        title = f"{trials} trials, to the last row on the disk"
        print(measure.table(title, figures, next(iter(figures))))
        whole = {name: exits[f"{trials} {name}"] for name in chosen}
        title = f"{trials} trials, to the exit"
        print(measure.table(title, whole, next(iter(whole))), flush=True)


if __name__ == "__main__":
    sys.exit(main())
