"""What a task's data take in memory while two trainers use them, beside one copy of the data.

    python benchmarks/memory.py [--megabytes 2000]

A process's own memory is RssAnon of /proc/PID/status. Ray's object store is RssShmem: its pages are
shared by all processes of a node.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measure

FEATURES = 4096
AIM = 1.2  # times the data, of each trainer's own memory
KINDS = ("arrays", "a transposed view", "tensors", "a dataset of tensors")
TITLES = {"trainer": "ray::ImplicitFunc", "recorder": "ray::SweepRecorder"}


def load(folder: Path | None) -> Any:
    """Zeros and ones: 90 % to train on, in the form that the folder's file asks for."""
    import numpy as np
    import torch
    from torch.utils.data import TensorDataset

    from raysweep.tasks import Arrays, Data

    assert folder is not None
    asked = json.loads((folder / "asked.json").read_text())
    total = max(20, int(asked["megabytes"] * 1e6) // (4 * FEATURES))
    made: list[Any] = []
    for n in (total - total // 10, total // 10):
        y = np.arange(n) % 2
        if asked["kind"] == "a transposed view":
            x = np.empty((FEATURES, n), np.float32)
            x[:] = y
            made.append(Arrays(x.T, y))
            continue
        x = np.empty((n, FEATURES), np.float32)
        x[:] = y[:, None]
        both = torch.from_numpy(x), torch.from_numpy(y)
        made.append(
            {
                "arrays": lambda x=x, y=y: Arrays(x, y),
                "tensors": lambda both=both: Arrays(*both),
                "a dataset of tensors": lambda both=both: TensorDataset(*both),
            }[asked["kind"]]()
        )
    return Data(made[0], made[1], num_classes=2, digest="zeros and ones")


def build(trial: Any, data: Any) -> Any:
    """One small layer."""
    from torch import nn

    return nn.Sequential(nn.Linear(FEATURES, 2))


def __getattr__(name: str) -> Any:
    # The task of the sweep below; made on demand, since this file is also the benchmark's script.
    if name == "task":
        from raysweep.tasks import Task

        return Task(load, build)
    raise AttributeError(name)


def own_and_shared_mb(pid: int) -> tuple[float, float]:
    """A process's own memory, and what it has mapped of shared memory; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0, 0.0
    kb = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    own, shared = (int(kb.get(name, 0)) * 1024 / 1e6 for name in ("RssAnon", "RssShmem"))
    return own, shared


def titled(title: str) -> list[int]:
    """Processes that call themselves so."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cmdline").read_bytes().startswith(title.encode()):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def peaks(kind: str, megabytes: float, address: str) -> dict[str, float]:
    """Run a sweep of two trials at a time. Returns: the most that each of its processes took."""
    before = {pid for title in TITLES.values() for pid in titled(title)}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        place = Path(folder)
        (place / "asked.json").write_text(json.dumps({"megabytes": megabytes, "kind": kind}))
        sweep = {
            "name": "memory",
            "task": "memory:task",
            "data": folder,
            "base": {"epochs": 2, "batch_size": 128},
            "axes": {"learning_rate": [0.01, 0.02, 0.03, 0.04]},
            "seeds": 1,
        }
        (place / "sweep.yaml").write_text(json.dumps(sweep))  # JSON is YAML
        paths = [str(Path(__file__).resolve().parent), os.environ.get("PYTHONPATH", "")]
        process = subprocess.Popen(
            [sys.executable, "-m", "raysweep.main", "run", "sweep.yaml", "--address", address],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        most: dict[str, float] = {"driver": 0.0}
        while process.poll() is None:
            most["driver"] = max(most["driver"], own_and_shared_mb(process.pid)[0])
            for name, title in TITLES.items():
                for pid in set(titled(title)) - before:
                    mine, shared = own_and_shared_mb(pid)
                    most[name] = max(most.get(name, 0.0), mine)
                    most[f"{name}, shared"] = max(most.get(f"{name}, shared", 0.0), shared)
            time.sleep(0.02)
        if process.returncode:
            raise RuntimeError(process.stderr.read() if process.stderr else "it failed")
    return most


def main() -> None:
    """A row per form of the data."""
    parser: argparse.ArgumentParser = measure.options(__doc__)
    parser.add_argument("--megabytes", type=float, default=2000)
    parser.add_argument("--only", nargs="+", default=KINDS, choices=KINDS, metavar="KIND")
    asked = parser.parse_args()
    megabytes = 20.0 if asked.short else asked.megabytes
    idle = peaks("arrays", 10.0, asked.address)
    rows = []
    for kind in asked.only:
        found = peaks(kind, megabytes, asked.address)
        times = found["trainer"] / megabytes
        rows.append(
            [
                kind,
                f"{found['trainer']:,.0f}",
                f"{times:.2f}",
                f"{found['trainer, shared']:,.0f}",
                f"{found['driver']:,.0f}",
                f"{found['recorder']:,.0f}",
            ]
        )
    head = ["data", "trainer, MB", "/ data", "shared, MB", "driver, MB", "recorder, MB"]
    print(measure.machine())
    print(measure.grid(f"{megabytes:,.0f} MB of data, two trainers (aim: {AIM} x)", head, rows))
    print(f"With 10 MB of data a trainer takes {idle['trainer']:,.0f} MB.")


if __name__ == "__main__":
    main()
