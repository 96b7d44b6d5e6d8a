"""How long a person waits: for --help, and for the first epoch row to be in a segment.

`python benchmarks/startup.py [--repeats 3]`
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure

from raysweep.store import Store

RAYSWEEP = Path(sys.executable).parent / "raysweep"


def first_row_seconds() -> float:
    """From the start of `raysweep run digits` to its first row in a segment."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        store = Store(Path(folder) / "store")
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(RAYSWEEP), "run", "digits", "--address", "local", "--store", str(store.root)],
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


def main() -> None:
    """Print the table."""
    asked = measure.options(__doc__).parse_args()
    print(measure.machine())
    figures = measure.in_turn(
        {
            "python -c pass": lambda: measure.wall_seconds(["-c", "pass"]),
            "raysweep --help": lambda: measure.wall_seconds([str(RAYSWEEP), "--help"]),
            "first row in a segment": first_row_seconds,
        },
        1 if asked.short else asked.repeats,
    )
    print(measure.table("Waiting", figures, "python -c pass"))


if __name__ == "__main__":
    main()
