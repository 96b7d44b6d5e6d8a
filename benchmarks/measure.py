"""How the benchmarks measure: whole processes, in turn, repeated; medians, spread, ratios."""

import argparse
import contextlib
import json
import logging
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


def machine() -> str:
    """One line on what this was measured on."""
    import torch  # seconds and memory that the processes of a benchmark need not have

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB, {gpu}, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def options(description: str | None) -> argparse.ArgumentParser:
    """What every benchmark's command line has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="tiny sizes: does the harness work?")
    parser.add_argument(
        "--address", default="local", help="of a Ray that runs; by default each starts its own"
    )
    return parser


@contextlib.contextmanager
def plain_ray(address: str, num_cpus: int, **settings: Any) -> Iterator[None]:
    """This process, connected to a Ray. Args: address: "local" starts one, with these settings."""
    import ray

    started = {"num_cpus": num_cpus, **settings} if address == "local" else {}
    ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **started)
    try:
        yield
    finally:
        ray.shutdown()


def wall_seconds(arguments: Sequence[str], *, timeout: float = 3600) -> float:
    """Wall time of one Python process, from its start to its exit, in a folder of its own.

    Raises: RuntimeError with what the process said, when it fails.
    """
    return _process(arguments, timeout)[0]


class Waited(NamedTuple):
    """Seconds from the start of a process."""

    durable: float  # until the newest Parquet file in its folder was written
    exit: float


def waited(arguments: Sequence[str], *, timeout: float = 3600) -> Waited:
    """As `wall_seconds`, with the time until the last row was on the disk.

    Raises: RuntimeError with what the process said, when it fails.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        started = time.time()
        seconds, _ = _process_in(folder, arguments, timeout)
        newest = max(path.stat().st_mtime for path in Path(folder).rglob("*.parquet"))
    return Waited(newest - started, seconds)


def reported(arguments: Sequence[str], *, timeout: float = 3600) -> dict[str, float]:
    """The figures that one Python process printed as JSON in its last line.

    Raises: RuntimeError with what the process said, when it fails.
    """
    figures: dict[str, float] = json.loads(_process(arguments, timeout)[1].splitlines()[-1])
    return figures


def _process(arguments: Sequence[str], timeout: float) -> tuple[float, str]:
    """Wall time and output."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        return _process_in(folder, arguments, timeout)


def _process_in(folder: str, arguments: Sequence[str], timeout: float) -> tuple[float, str]:
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}:\n{done.stdout}\n{done.stderr}")
    return seconds, done.stdout


def peak_mb() -> float:
    """The most memory that this process has held so far, in MB.

    Linux's own mark where there is one: getrusage counts the parent's memory at the fork too.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def in_turn(contenders: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Every contender once, then every contender again: drift of the machine hits all alike."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            figures[name].append(run())
    return figures


def table(
    title: str, figures: Mapping[str, Sequence[float]], reference: str, unit: str = "s"
) -> str:
    """A row per contender: median, spread, ratio of medians to the reference's."""
    base = statistics.median(figures[reference])
    lines = [
        f"\n### {title}\n",
        f"| | median {unit} | min - max | / {reference} |",
        "|---|---:|---:|---:|",
    ]
    for name, values in figures.items():
        middle = statistics.median(values)
        spread = f"{min(values):.3g} - {max(values):.3g}"
        lines.append(f"| {name} | {middle:.3g} | {spread} | {middle / base:.2f} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Median (min - max), to three digits."""
    if len(values) == 1:
        return plain(values[0])
    return f"{plain(statistics.median(values))} ({plain(min(values))} - {plain(max(values))})"


def plain(value: float) -> str:
    """Three digits, thousands in groups, never an exponent."""
    if abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.6f}"


def grid(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table of several columns; the first one names the row."""
    lines = [
        f"\n### {title}\n",
        "| " + " | ".join(head) + " |",
        "|---" + "|---:" * (len(head) - 1) + "|",
    ]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)
