"""How long a person waits: for --help, for the first epoch row to be in a segment, and for what.

`python benchmarks/startup.py [--repeats 3]`
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure

from raysweep.store.files import Store

RAYSWEEP = Path(sys.executable).parent / "raysweep"


def first_row_seconds(address: str) -> float:
    """From the start of `raysweep run digits` to its first row in a segment."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        store = Store(Path(folder) / "store")
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(RAYSWEEP), "run", "digits", "--address", address, "--store", str(store.root)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not store.live_files("epochs"):
                if process.poll() is not None:
                    raise RuntimeError("the sweep ended without a row")
                time.sleep(0.02)
            return time.perf_counter() - started
        finally:
            process.terminate()
            process.wait()


def stages(num_seeds: int, address: str) -> None:
    """A sweep step by step, each waited for; print the seconds of each as JSON.

    `run_sweep` by itself does some of them at the same time.
    """
    marks = [("", time.perf_counter())]

    def mark(name: str) -> None:
        marks.append((name, time.perf_counter()))

    from raysweep import SweepSpec
    from raysweep.cluster import connect
    from raysweep.planning.plan import make_plan
    from raysweep.running import sweep

    mark("imports of torch, Ray and raysweep")
    spec = SweepSpec.from_mapping(
        {"name": "bench", "task": "digits", "base": {"epochs": 20}, "seeds": num_seeds}
    )
    store = Store("store")
    plan = make_plan(spec, store)
    mark("task, data and plan")
    with connect.connect(address):
        mark("start of Ray")
        sweep.POLL_S = 0.05
        seen: list[float] = []

        def show(progress: sweep.Progress) -> None:
            if progress.running == min(2, num_seeds) and not seen:
                seen.append(time.perf_counter())

        sweep.run_sweep(spec, store, plan=plan, show=show)
        ended = time.perf_counter()
        marks.append(("Tune, recorder and two processes, until both train", seen[0]))
        marks.append((f"training of {num_seeds} trials, last row on the disk", ended))
    mark("shutdown of Ray")
    taken = {name: at - before for (_, before), (name, at) in itertools.pairwise(marks)}
    print(json.dumps(taken))


def main() -> None:
    """Print the tables."""
    parser = measure.options(__doc__)
    parser.add_argument("--stages", type=int, metavar="TRIALS", help="run them, no table")
    asked = parser.parse_args()
    if asked.stages:
        stages(asked.stages, asked.address)
        return
    print(measure.machine())
    figures = measure.in_turn(
        {
            "python -c pass": lambda: measure.wall_seconds(["-c", "pass"]),
            "raysweep --help": lambda: measure.wall_seconds([str(RAYSWEEP), "--help"]),
            "first row in a segment": lambda: first_row_seconds(asked.address),
        },
        1 if asked.short else asked.repeats,
    )
    print(measure.table("Waiting", figures, "python -c pass"))
    number, repeats = ("1", 1) if asked.short else ("12", asked.repeats)
    words = [os.path.abspath(__file__), "--address", asked.address, "--stages", number]
    found = [measure.reported(words) for _ in range(repeats)]
    rows = [[name, measure.spread([one[name] for one in found])] for name in found[0]]
    print(measure.grid("A sweep step by step", ["", "s"], rows))


if __name__ == "__main__":
    main()
