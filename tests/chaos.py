"""Chaos: a sweep whose processes are killed at random and that is run again until it is done.

    python tests/chaos.py --kills 50 --seed 0

Each round trains one sweep into a fresh store, on a private Ray cluster of three nodes, while
SIGKILL strikes its driver, its recorder, a trial's process, a Ray Train worker or a whole node. It
ends with the comparison: an undisturbed run of the same sweep holds the same trials with the same
values, every row that was ever seen in the store (the write-ahead log included) is still there or
was replaced by an equal one, and no key stands twice. Only processes of that cluster are killed.
"""

import argparse
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from raysweep.spec import SweepSpec
from raysweep.store import EPOCHS, TRIALS, Store

HERE = Path(__file__).parent
KINDS = ("driver", "recorder", "trial", "worker", "node")
TITLES = {
    "recorder": re.compile(r"ray::Recorder"),
    "trial": re.compile(r"ray::ImplicitFunc"),
    "worker": re.compile(r"ray::\w*TrainWorker"),
}
KEY = ("trial_id", "weights_kind", "epoch")
# What may differ between two trainings of a trial: when, where, in which attempt.
CIRCUMSTANCES = ("attempt", "start_epoch", "wall_s", "train_s", "seconds", "node", "checkpoint",
                 "error", "error_log", "cause")  # fmt: skip
RUN_SECONDS = 600  # a run that takes longer hangs
NUM_NODES = 2  # besides the head, which is not killed


def sweep_file(folder: Path, workers: int) -> Path:
    """A sweep that takes about half a minute: digits, early stopping in half of its trials."""
    extra = "checkpoints: {every_epochs: 1}\nretries: 20\n"
    known = "checkpoints" in SweepSpec.model_fields
    axes = "{early_stopping: [null, {patience: 2}]%s}" % (
        "" if workers > 1 else ", learning_rate: [0.05, 0.2]"
    )
    path = folder / f"chaos-{workers}.yaml"
    path.write_text(
        f"name: chaos-{workers}\ntask: odd_tasks:patient\n"
        "base: {epochs: 16, batch_size: 50, momentum: 0.9"
        f"{', learning_rate: 0.1' if workers > 1 else ''}, dropout: 0.2}}\n"
        f"axes: {axes}\nseeds: 2\nprobes: {{ema_half_life: 1.0}}\n"
        f"resources: {{workers: {workers}, cpus_per_worker: 1}}\n" + (extra if known else "")
    )
    (folder / "odd_tasks.py").write_bytes((HERE / "odd_tasks.py").read_bytes())
    return path


# ---------------------------------------------------------------- the cluster


def serve_cluster() -> None:
    """A cluster of several nodes in this process; a line on stdin adds one, the end stops it."""
    from ray.cluster_utils import Cluster

    # The head has no CPUs: trials train on nodes that can be killed.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = {"num_cpus": 0, "include_dashboard": True, "dashboard_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(NUM_NODES):
        add_patiently(cluster)
    print(cluster.address, flush=True)
    for _ in sys.stdin:
        add_patiently(cluster)
        print("added", flush=True)
    cluster.shutdown()


def add_patiently(cluster: Any) -> None:
    """Ray gives a node 30 s to start, which a busy machine may not manage at once."""
    for _ in range(4):
        with contextlib.suppress(Exception):
            cluster.add_node(num_cpus=1)
            return
    raise RuntimeError("no node could be added")


@dataclass
class PrivateCluster:
    """The process that holds a cluster, and what is found below it in /proc."""

    process: subprocess.Popen
    address: str

    def add_node(self) -> None:
        """One more, in place of a killed one; returns when it is there."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("add\n")
        self.process.stdin.flush()
        self.process.stdout.readline()

    def victims(self, driver: int) -> dict[str, list[list[int]]]:
        """What may be killed now, by kind: lists of pids that die together."""
        tree = below(self.process.pid)
        found: dict[str, list[list[int]]] = {"driver": [[driver]]} if alive(driver) else {}
        for pid in tree:
            title = command_line(pid)
            for kind, pattern in TITLES.items():
                if pattern.match(title):
                    found.setdefault(kind, []).append([pid])
        raylets = [pid for pid in tree if "/raylet/raylet" in command_line(pid).partition(" ")[0]]
        for raylet in raylets:
            if "node:__internal_head__" not in command_line(raylet):
                found.setdefault("node", []).append([raylet, *below(raylet)])
        return found


@contextlib.contextmanager
def private_cluster(folder: Path) -> Iterator[PrivateCluster]:
    """Starts one, and ends it with everything below it."""
    environment = {**os.environ, "RAY_TMPDIR": str(folder), "PYTHONPATH": str(HERE.parent)}
    environment.pop("RAY_ADDRESS", None)
    with (folder / "cluster.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        lines = iter(process.stdout.readline, "")
        found = (line.strip() for line in lines if re.fullmatch(r"[\d.]+:\d+\s*", line))
        address = next(found, None)
        assert address is not None, (folder / "cluster.log").read_text()[-2000:]
        yield PrivateCluster(process, address)
    finally:
        tree = below(process.pid)
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
        for pid in {*tree, *below(process.pid)}:
            kill(pid)
        process.kill()
        process.wait()
        process.stdout.close()


def below(pid: int) -> list[int]:
    """Every process below one, at any depth."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                children.setdefault(int(parent), []).append(int(entry.name))
    found, ahead = [], [pid]
    while ahead:
        inner = children.get(ahead.pop(), [])
        found += inner
        ahead += inner
    return found


def command_line(pid: int) -> str:
    """What a process calls itself; empty if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits for its parent does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def kill(pid: int) -> None:
    """SIGKILL, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


# ---------------------------------------------------------------- what the store holds


def comparable(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows without what may differ between two trainings of one trial."""
    return rows.drop(CIRCUMSTANCES, strict=False)


def live(rows: pl.DataFrame) -> pl.DataFrame:
    """The rule of the store, once more: a later attempt's start_epoch ends an earlier one's."""
    later = rows.select("trial_id", pl.col("attempt").alias("later"), "start_epoch").unique()
    dead = (
        rows.join(later.rename({"start_epoch": "from"}), on="trial_id")
        .filter((pl.col("later") > pl.col("attempt")) & (pl.col("from") <= pl.col("epoch")))
        .select(*KEY, "attempt")
        .unique()
    )
    return rows.join(dead, on=[*KEY, "attempt"], how="anti")


def epochs_in(store: Store) -> pl.DataFrame:
    """Epoch rows of live segments."""
    rows = pl.from_arrow(store.read("epochs"))
    assert isinstance(rows, pl.DataFrame)
    return rows


def results_in(store: Store) -> pl.DataFrame:
    """The last result of every trial."""
    rows = pl.from_arrow(store.read("trials"))
    assert isinstance(rows, pl.DataFrame)
    return rows.sort("attempt").unique("trial_id", keep="last").sort("trial_id")


@dataclass
class Watcher:
    """Looks at a store again and again, and keeps every row that it has seen in it or its log."""

    store: Store
    epochs: dict[tuple, tuple] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    changed: list[tuple] = field(default_factory=list)
    looks: int = 0

    def look(self) -> None:
        """Once. A row that says something else than it said before is noted."""
        with contextlib.suppress(OSError, pa.ArrowException, ValueError):
            # The log first: its rows are in a segment by the time that it is removed.
            logged = [rows for _, rows in self._logged()]
            for rows in (*logged, epochs_in(self.store)):
                self._take(rows)
            done = results_in(self.store).filter(pl.col("status").is_in(["completed", "diverged"]))
            self.finished |= set(done["trial_id"])
            self.looks += 1

    def _take(self, rows: pl.DataFrame) -> None:
        for row in comparable(rows).iter_rows(named=True):
            key = tuple(row[name] for name in KEY)
            value = repr(row)
            if self.epochs.setdefault(key, value) != value:
                self.changed.append(key)

    def _logged(self):
        for path in sorted(self.store.root.glob("wal/*epochs*")):
            for batch in whole_batches(path):
                if set(KEY) <= set(batch.schema.names):
                    rows = pl.from_arrow(batch)
                    assert isinstance(rows, pl.DataFrame)
                    yield path, rows

    @contextlib.contextmanager
    def watching(self, every: float = 0.5):
        """In a thread."""
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(every):
                self.look()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()


def whole_batches(path: Path) -> list[pa.RecordBatch]:
    """Batches of an Arrow stream up to its torn tail."""
    found: list[pa.RecordBatch] = []
    with contextlib.suppress(pa.ArrowInvalid, OSError), pa.OSFile(str(path)) as file:
        found.extend(pa.ipc.open_stream(file))
    return found


def differences(store: Store, undisturbed: Store, seen: Watcher) -> dict[str, int]:
    """What must all be 0."""
    rows, wanted = live(epochs_in(store)), live(epochs_in(undisturbed))
    keys = rows.select(KEY)
    final = {
        tuple(row[name] for name in KEY): repr(row)
        for row in comparable(rows).iter_rows(named=True)
    }
    same = comparable(rows).sort(KEY).equals(comparable(wanted).sort(KEY), null_equal=True)
    results, expected = comparable(results_in(store)), comparable(results_in(undisturbed))
    return {
        "rows lost": sum(key not in final for key in seen.epochs),
        "rows changed": len(seen.changed)
        + sum(final.get(key, value) != value for key, value in seen.epochs.items()),
        "finished trials lost": len(seen.finished - set(results["trial_id"])),
        "keys that stand twice": keys.height - keys.unique().height,
        "rows unlike the undisturbed run's": int(not same),
        "trials unlike the undisturbed run's": int(not results.equals(expected, null_equal=True)),
    }


# ---------------------------------------------------------------- runs and rounds


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


def start(file: Path, store: Path, address: str, log: Path) -> subprocess.Popen:
    """`raysweep run` as its own process."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    environment.pop("RAY_ADDRESS", None)
    command = ["run", str(file), "--store", str(store), "--address", address]
    with log.open("a") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "raysweep.main", *command],
            cwd=file.parent,
            stdout=out,
            stderr=out,
            env=environment,
        )


def calm_run(file: Path, store: Path, address: str, log: Path) -> float:
    """Undisturbed. Returns: how long it took."""
    begun = time.monotonic()
    code = start(file, store, address, log).wait(timeout=2 * RUN_SECONDS)
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
        while True:
            driver = start(file, store, cluster.address, log)
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


def run(
    kills: int,
    seed: int,
    folder: Path,
    *,
    kinds: Sequence[str] = KINDS,
    sweeps: Sequence[int] = (1, 2),
    pause: float = 25.0,
    per_round: int = 8,
) -> Tally:
    """Rounds until so many kills have struck; sweeps: world sizes, in turn."""
    rng, tally = random.Random(seed), Tally()
    files = {workers: sweep_file(folder, workers) for workers in sweeps}
    with private_cluster(folder) as cluster:
        for workers, file in files.items():
            calm = folder / f"calm-{workers}"
            took = calm_run(file, calm, cluster.address, folder / "calm.log")
            print(f"undisturbed, {workers} worker(s) a trial: {took:.0f} s", flush=True)
        while sum(tally.kills.values()) < kills:
            workers = sweeps[tally.rounds % len(sweeps)]
            left = kills - sum(tally.kills.values())
            print(f"round {tally.rounds}, {workers} worker(s) a trial:", flush=True)
            store = folder / f"round-{tally.rounds}"
            watcher = disturbed_round(
                cluster, files[workers], store, folder / "runs.log", rng, tally,
                kills=min(left, per_round), kinds=kinds, workers=workers, pause=pause,
            )  # fmt: skip
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
    parser.add_argument("--serve", action="store_true", help="hold a cluster (internal)")
    asked = parser.parse_args()
    if asked.serve:
        serve_cluster()
        return
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    tally = run(
        asked.kills, asked.seed, folder, kinds=asked.kinds, sweeps=asked.sweeps, pause=asked.pause
    )
    print(table(tally, " ".join(["python", "tests/chaos.py", *sys.argv[1:]])))
    if any(tally.wrong.values()) or tally.hangs:
        sys.exit(f"the stores and logs are in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
