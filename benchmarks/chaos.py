"""Chaos: a sweep whose processes are killed at random and that is run again until it is done.

    python benchmarks/chaos.py --kills 50 --seed 0

Each round trains one sweep into a fresh store, on a private Ray cluster of three nodes, while
SIGKILL strikes its driver, its recorder, a trial's process, a Ray Train worker or a whole node. It
ends with the comparison: an undisturbed run of the same sweep holds the same trials with the same
values, every row that was ever seen in the store (its log included) is still there or
was replaced by an equal one, and no key stands twice. Only processes of that cluster are killed.
"""

import argparse
import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from raysweep.store.files import Store
from tests.support.private_cluster import PrivateCluster, private_cluster
from tests.support.process_tree import kill
from tests.support.store_watch import Watcher, differences

ROOT = Path(__file__).parents[1]
KINDS = ("driver", "recorder", "trial", "worker", "node")
RUN_SECONDS = 600  # a run that takes longer hangs
MAX_RUNS = 40  # of one round


def sweep_file(folder: Path, workers: int, epochs: int) -> Path:
    """A sweep of digits, with early stopping in half of its trials."""
    axes = "{early_stopping: [null, {patience: 2}]%s}" % (
        "" if workers > 1 else ", learning_rate: [0.05, 0.2]"
    )
    path = folder / f"chaos-{workers}.yaml"
    path.write_text(
        f"name: chaos-{workers}\ntask: odd_tasks:patient\n"
        f"base: {{epochs: {epochs}, batch_size: 50, momentum: 0.9"
        f"{', learning_rate: 0.1' if workers > 1 else ''}, dropout: 0.2}}\n"
        f"axes: {axes}\nseeds: 2\nprobes: {{ema_half_life: 1.0}}\n"
        f"resources: {{workers: {workers}, cpus_per_worker: 1}}\n"
        "checkpoints: {every_epochs: 1}\nretries: 20\n"
    )
    shutil.copy(ROOT / "tests" / "support" / "odd_tasks.py", folder)
    return path


@dataclass
class Tally:
    """What happened in all rounds."""

    kills: Counter = field(default_factory=Counter)
    kills_by_sweep: Counter = field(default_factory=Counter)
    exits: Counter = field(default_factory=Counter)
    wrong: Counter = field(default_factory=Counter)
    rounds: int = 0
    runs: int = 0
    rows_seen: int = 0
    looks: int = 0
    hangs: int = 0


@contextlib.contextmanager
def started(file: Path, store: Path, address: str, log: Path) -> Iterator[subprocess.Popen]:
    """`raysweep run` as its own process, which does not outlive the block."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    command = ["run", str(file), "--keep-going", "--store", str(store), "--address", address]
    with (
        log.open("a") as out,
        subprocess.Popen(
            [sys.executable, "-m", "raysweep.main", *command],
            cwd=file.parent,
            stdout=out,
            stderr=out,
            env=environment,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def calm_run(file: Path, store: Path, address: str, log: Path) -> float:
    """Undisturbed. Returns: how long it took."""
    begun = time.monotonic()
    with started(file, store, address, log) as driver:
        code = driver.wait(timeout=2 * RUN_SECONDS)
    assert code == 0, f"the undisturbed run failed: {log.read_text()[-2000:]}"
    return time.monotonic() - begun


def next_kind(rng: random.Random, kinds: Sequence[str], workers: int, tally: Tally) -> str:
    """What is struck next: one of the kinds that were struck least."""
    possible = [kind for kind in kinds if kind != "worker" or workers > 1]
    fewest = min(tally.kills[kind] for kind in possible)
    return rng.choice([kind for kind in possible if tally.kills[kind] == fewest])


def disturbed_round(
    cluster: PrivateCluster,
    file: Path,
    store: Path,
    log: Path,
    rng: random.Random,
    tally: Tally,
    *,
    kills: int,
    kinds: Sequence[str],
    workers: int,
    pause: float,
) -> Watcher:
    """One sweep from an empty store to its end, with up to so many kills."""
    watcher, left = Watcher(Store(store)), kills
    kind = next_kind(rng, kinds, workers, tally)
    with watcher.watching():
        for _ in range(MAX_RUNS):
            with started(file, store, cluster.address, log) as driver:
                tally.runs += 1
                begun = time.monotonic()
                strike_at = begun + rng.uniform(0, pause)
                while driver.poll() is None:
                    time.sleep(0.05)
                    now = time.monotonic()
                    if now - begun > RUN_SECONDS:
                        tally.hangs += 1
                        print("  the run hangs; it is killed", flush=True)
                        kill(driver.pid)
                        driver.wait()
                    elif left and now > strike_at and (store / "sweeps").is_dir():
                        there = cluster.victims(driver.pid).get(kind)
                        if not there:
                            continue  # as soon as there is one
                        for pid in rng.choice(there):
                            kill(pid)
                        print(f"  {now - begun:5.1f} s: {kind}", flush=True)
                        left -= 1
                        tally.kills[kind] += 1
                        tally.kills_by_sweep[file.stem] += 1
                        if kind == "node":
                            cluster.add_node()
                        kind = next_kind(rng, kinds, workers, tally)
                        strike_at = time.monotonic() + rng.uniform(0, pause)
            tally.exits[driver.returncode] += 1
            if driver.returncode == 0:
                watcher.look()
                return watcher
            time.sleep(1)  # what the dead driver left behind ends by itself
    raise AssertionError(f"not done after {MAX_RUNS} runs: {log.read_text()[-2000:]}")


def run(
    cluster: PrivateCluster,
    kills: int,
    seed: int,
    folder: Path,
    *,
    kinds: Sequence[str] = KINDS,
    sweeps: Sequence[int] = (1, 2),
    epochs: int = 16,
    pause: float = 25.0,
    per_round: int = 8,
) -> Tally:
    """Rounds until so many kills have struck. Args: cluster: of two nodes and a head; sweeps: world
    sizes, in turn; epochs: of a trial; pause: the longest time between kills, in seconds."""
    rng, tally = random.Random(seed), Tally()
    files = {workers: sweep_file(folder, workers, epochs) for workers in sweeps}
    idle = 0
    for workers, file in files.items():
        calm = folder / f"calm-{workers}"
        took = calm_run(file, calm, cluster.address, folder / "calm.log")
        print(f"undisturbed, {workers} worker(s) a trial: {took:.0f} s", flush=True)
    while sum(tally.kills.values()) < kills:
        workers = sweeps[tally.rounds % len(sweeps)]
        struck = sum(tally.kills.values())
        left = kills - struck
        print(f"round {tally.rounds}, {workers} worker(s) a trial:", flush=True)
        store = folder / f"round-{tally.rounds}"
        watcher = disturbed_round(
            cluster,
            files[workers],
            store,
            folder / "runs.log",
            rng,
            tally,
            kills=min(left, per_round),
            kinds=kinds,
            workers=workers,
            pause=pause,
        )
        idle = 0 if sum(tally.kills.values()) > struck else idle + 1
        if idle == 3:
            raise AssertionError(f"three rounds without a kill: is one of {kinds} not found?")
        found = differences(Store(store), Store(folder / f"calm-{workers}"), watcher)
        tally.wrong.update(found)
        tally.rounds += 1
        tally.rows_seen += len(watcher.epochs)
        tally.looks += watcher.looks
        print(f"  {found}", flush=True)
    return tally


def table(tally: Tally, command: str) -> str:
    """Markdown."""
    lines = ["| | |", "|---|---:|"]
    lines += [f"| kills of a {kind} | {tally.kills[kind]} |" for kind in KINDS]
    lines += [f"| kills in all | {sum(tally.kills.values())} |"]
    lines += [f"| of them in {name} | {n} |" for name, n in sorted(tally.kills_by_sweep.items())]
    lines += [f"| rounds, each a sweep from an empty store | {tally.rounds} |"]
    lines += [f"| runs | {tally.runs} |", f"| runs that hung | {tally.hangs} |"]
    lines += [f"| looks at the stores | {tally.looks} |"]
    lines += [f"| rows seen in them | {tally.rows_seen} |"]
    lines += [f"| {name} | {number} |" for name, number in tally.wrong.items()]
    exits = ", ".join(f"{code}: {n}" for code, n in sorted(tally.exits.items()))
    return "\n".join([f"`{command}`; exit codes of the runs: {exits}.", "", *lines])


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--sweeps", nargs="+", type=int, default=[1, 2], help="world sizes")
    parser.add_argument("--pause", type=float, default=25.0, help="longest time between kills, s")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    with private_cluster(folder) as cluster:
        for _ in range(2):
            cluster.add_node()
        tally = run(
            cluster,
            asked.kills,
            asked.seed,
            folder,
            kinds=asked.kinds,
            sweeps=asked.sweeps,
            pause=asked.pause,
        )
    print(table(tally, " ".join(["python", "benchmarks/chaos.py", *sys.argv[1:]])))
    if any(tally.wrong.values()) or tally.hangs:
        sys.exit(f"the stores and logs are in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
