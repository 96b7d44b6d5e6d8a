"""What an answer takes: of one curve, of many TensorBoard event files. CPU seconds of processes.

The logs are written first: event files by TensorBoard's own writer. The command is
`raysweep report LOG --json`, the answer without its page.
`python benchmarks/log_reading.py [--short]`
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

FILES, EVENTS = 51, 21_000  # about 53 MB
AIMS = {"one curve": 3.0, "event files": 15.0}


def write_events(folder: Path, files: int, events: int) -> None:
    """Write a run for each file: a training loss at every step, an evaluation every hundredth."""
    from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore
    from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    for number in range(files):
        run = folder / f"run_{number}"
        writer = EventFileWriter(str(run))
        for step in range(events):
            values = [Summary.Value(tag="train/loss", simple_value=2.0 / (1 + step / events))]
            if step % 100 == 99:
                accuracy = 0.5 + 0.4 * step / events + 0.002 * ((step // 100 + number) % 3)
                values.append(Summary.Value(tag="val/accuracy", simple_value=accuracy))
            event = Event(step=step, wall_time=float(step), summary=Summary(value=values))
            writer.add_event(event)
        writer.close()


def cpu_seconds(log: Path) -> float:
    """Run the command on a log. Returns: its user and system time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "raysweep.main", "report", str(log), "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Write the logs, read them, and print a row for each kind."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true", help="few and small files")
    short = parser.parse_args().short
    print("| log | MB | CPU, s | aim, s |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as root:
        curve = Path(root) / "curve.csv"
        rows = [f"{k},{0.9 - 0.4 * 0.9**k + 0.003 * (k % 3):.4f}" for k in range(1, 101)]
        curve.write_text("\n".join(["epoch,val_accuracy", *rows]) + "\n")
        events = Path(root) / "events"
        write_events(events, 2 if short else FILES, 400 if short else EVENTS)
        for name, log in {"one curve": curve, "event files": events}.items():
            files = [log] if log.is_file() else [one for one in log.rglob("*") if one.is_file()]
            size = sum(one.stat().st_size for one in files) / 1e6
            print(f"| {name} | {size:.1f} | {cpu_seconds(log):.1f} | {AIMS[name]:g} |")


if __name__ == "__main__":
    main()
