"""How many rows a second become durable, from how many senders, and what a slow disk does.

Durable: in Parquet segments, after `flush`. A sender is a thread with a bound of its own on what
is in flight; senders share at most eight processes. A row is one of digits' epochs.
`python benchmarks/recorder.py [--repeats 3]`
"""

import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import measure
import pyarrow as pa

from raysweep.planning.grid import Trial
from raysweep.recording.client import Sender
from raysweep.recording.recorder import Recorder
from raysweep.spec import Hyperparameters
from raysweep.store.files import Store
from raysweep.store.record import SweepRecord
from raysweep.store.schema import EPOCHS, NUM_BLOCKS, packed_batch

MAX_PROCESSES = 8
UNBOUNDED = 1_000_000


class WatchedRecorder(Recorder):
    """A recorder that tells its own memory, on a disk as slow as asked."""

    def __init__(self, root: Path, trials: Sequence[Trial], slow_s: float) -> None:
        super().__init__(root, SweepRecord(), trials, {})
        self._slow_s = slow_s

    def flush(self) -> None:
        """Wait for the slow disk first."""
        time.sleep(self._slow_s if self.writer.log.num_pending_rows else 0.0)
        super().flush()

    def peak_mb(self) -> float:
        """The most memory that this process has held."""
        return measure.peak_mb()


class Load(NamedTuple):
    """What senders send."""

    senders: int
    batch_rows: int
    total_rows: int
    through_sender: bool = False  # rows one by one through `Sender`, or batches made before
    max_in_flight: int = Sender.MAX_IN_FLIGHT  # of batches made before
    slow_s: float = 0.0  # what a flush waits for

    @property
    def batches_each(self) -> int:
        """Batches of one sender."""
        return max(1, self.total_rows // (self.senders * self.batch_rows))

    @property
    def rows(self) -> int:
        """All rows, rounded to whole batches."""
        return self.senders * self.batches_each * self.batch_rows


class Measured(NamedTuple):
    """What came of it."""

    rows_per_s: float
    peak_mb: float  # of the recorder's process
    in_flight: int  # batches of one sender, at most


def epoch_row(epoch: int) -> dict[str, Any]:
    """What `train` emits for an epoch of digits."""
    return {
        "epoch": epoch,
        "weights_kind": "raw",
        "status": "ok",
        "global_step": 8 * epoch,
        "lr": 0.1,
        "batch_size": 128,
        "train_s": 0.006 + epoch * 1e-9,
        "train_n": 1_000,
        "train_loss": 1 / epoch,
        "train_accuracy": 1 - 0.1 / epoch,
        "train_eval_n": 1_000,
        "train_eval_correct": 1_000 - epoch % 90,
        "train_eval_loss_sum": 1_000 / epoch,
        "val_n": 797,
        "val_correct": 797 - epoch % 70,
        "val_loss_sum": 797 / epoch,
        "val_loss_sumsq": 900 / epoch,
        "val_block_n": [40] * NUM_BLOCKS,
        "val_block_correct": [40 - (epoch + i) % 5 for i in range(NUM_BLOCKS)],
        "val_block_loss_sum": [(40 + i) / epoch for i in range(NUM_BLOCKS)],
        "flip_to_wrong": epoch % 9,
        "flip_to_right": epoch % 11,
        "val_class_n": [80] * 10,
        "val_class_correct": [80 - (epoch + i) % 7 for i in range(10)],
        "grad_norm": 1.5 / epoch,
        "param_norm": 12.0 + epoch * 1e-4,
        "update_norm": 0.3 / epoch,
        "wall_s": 0.009 + epoch * 1e-9,
    }


def batch_of(trial_id: str, num_rows: int) -> pa.RecordBatch:
    """One batch of rows."""
    keys = {"trial_id": trial_id, "attempt": 1, "start_epoch": 1}
    return pa.RecordBatch.from_pylist([epoch_row(i + 1) | keys for i in range(num_rows)], EPOCHS)


def later(batch: pa.RecordBatch, number: int) -> bytes:
    """The same rows as the epochs of the n-th batch, packed: a row that comes twice counts once."""
    first = number * len(batch) + 1
    epochs = pa.array(range(first, first + len(batch)), pa.int32())
    moved = batch.set_column(EPOCHS.get_field_index("epoch"), "epoch", epochs)
    return packed_batch(moved)


def some_trials(count: int) -> list[Trial]:
    """Trials to claim."""
    fields = Hyperparameters()
    return [Trial(f"{i:012x}", f"{i // 5:012x}", {}, fields, i % 5) for i in range(count)]


class SenderProcess:
    """Several senders in one process, each a thread."""

    _recorder: Any
    _load: Load
    _batches: dict[str, pa.RecordBatch]  # by trial, made before

    def prepare(self, recorder: Any, load: Load, trial_ids: list[str]) -> None:
        """Take what `send` sends."""
        self._recorder, self._load = recorder, load
        self._batches = {t: batch_of(t, load.batch_rows) for t in trial_ids}
        if not load.through_sender:
            import ray

            ray.get([recorder.claim.remote(t) for t in trial_ids])

    def send(self) -> int:
        """Send everything, and wait until it is logged. Returns: most batches in flight."""
        one = self._through_sender if self._load.through_sender else self._send_batches
        with ThreadPoolExecutor(len(self._batches)) as threads:
            return max(threads.map(one, self._batches))

    def _send_batches(self, trial_id: str) -> int:
        import ray

        in_flight: deque[Any] = deque()
        most = 0
        for number in range(self._load.batches_each):
            batch = later(self._batches[trial_id], number)
            in_flight.append(self._recorder.append.remote(batch))
            most = max(most, len(in_flight))
            while len(in_flight) > self._load.max_in_flight:
                ray.get(in_flight.popleft())
        ray.get(list(in_flight))
        return most

    def _through_sender(self, trial_id: str) -> int:
        rows = 0

        def clock() -> float:
            """Time in which a batch takes as long as a sender waits for one."""
            return rows / self._load.batch_rows * Sender.SECONDS

        sender = Sender(self._recorder, clock)
        sender.start(trial_id)
        most = 0
        for rows in range(1, self._load.batches_each * self._load.batch_rows + 1):
            sender.emit(epoch_row(rows))
            most = max(most, len(sender._in_flight))
        sender.finish({"status": "completed", "seconds": 1.0, "epochs_run": rows}, None)
        sender.drain()
        return most


def start_processes(count: int) -> list[Any]:
    """Processes for senders, kept from load to load; needs a running Ray."""
    import ray

    actor: Any = ray.remote(SenderProcess)
    return [actor.options(num_cpus=0).remote() for _ in range(count)]


def through_ray(load: Load, processes: Sequence[Any]) -> Measured:
    """The recorder as an actor, senders in others."""
    import ray

    trials = some_trials(load.senders)
    actor: Any = ray.remote(WatchedRecorder)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        recorder = actor.options(num_cpus=0).remote(Path(folder), trials, load.slow_s)
        used = processes[: load.senders]
        shares = [[t.trial_id for t in trials[i :: len(used)]] for i in range(len(used))]
        ready = [
            process.prepare.remote(recorder, load, share)
            for process, share in zip(used, shares, strict=True)
        ]
        ray.get([recorder.progress.remote(), *ready])
        started = time.perf_counter()
        in_flight = max(ray.get([process.send.remote() for process in used]))
        ray.get(recorder.flush.remote())
        seconds = time.perf_counter() - started
        peak: float = ray.get([recorder.peak_mb.remote()])[0]
        ray.kill(recorder)
        _check(Path(folder), load)
    return Measured(load.rows / seconds, peak, in_flight)


def alone(load: Load) -> float:
    """Rows per second of the recorder in this process, without Ray."""
    batch = batch_of("0" * 12, load.batch_rows)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        recorder = WatchedRecorder(Path(folder), some_trials(1), 0.0)
        recorder.claim("0" * 12)
        started = time.perf_counter()
        for number in range(load.senders * load.batches_each):
            recorder.append(later(batch, number))
        recorder.flush()
        seconds = time.perf_counter() - started
        _check(Path(folder), load)
    return load.rows / seconds


def _check(root: Path, load: Load) -> None:
    """Every row that was sent is in a segment."""
    found = Store(root).read("epochs", ["epoch"]).num_rows
    assert found == load.rows, f"{found} of {load.rows} rows are durable"


def throughput(processes: Sequence[Any], repeats: int, *, short: bool) -> str:
    """Durable rows per second by number of senders, size of batches, and who makes them."""
    total = 800 if short else 200_000
    loads = [
        Load(senders, batch_rows, total, through)
        for through in (False, True)
        for batch_rows in ((50,) if short else (50, 500))
        for senders in ((1, 8) if short else (1, 8, 64))
    ]
    measured: dict[Load, list[Measured]] = {load: [] for load in loads}
    for _ in range(repeats):
        for load in loads:
            measured[load].append(through_ray(load, processes))
    rows = [
        [
            _label(load),
            load.batch_rows,
            measure.spread([m.rows_per_s for m in found]),
            measure.spread([m.peak_mb for m in found]),
        ]
        for load, found in measured.items()
    ]
    for batch_rows in sorted({load.batch_rows for load in loads}):
        load = Load(1, batch_rows, total)
        rates = [alone(load) for _ in range(repeats)]
        rows.insert(0, ["in one process, without Ray", batch_rows, measure.spread(rates), ""])
    head = ["", "rows per batch", "durable rows/s", "recorder's peak, MB"]
    return measure.grid("Rows per second until durable", head, rows)


def _label(load: Load) -> str:
    made = "`Sender`, row by row" if load.through_sender else "batches made before"
    return f"{load.senders} sender{'s' if load.senders > 1 else ''}, {made}"


def back_pressure(processes: Sequence[Any], repeats: int, *, short: bool) -> str:
    """A disk that takes a second per flush: memory must not grow with what is sent."""
    slow, total = (0.2, 8_000) if short else (2.0, 200_000)
    loads = {
        "fast disk": Load(8, 50, total),
        "slow disk": Load(8, 50, total, slow_s=slow),
        "slow disk, twice the rows": Load(8, 50, 2 * total, slow_s=slow),
        "slow disk, no bound": Load(8, 50, total, slow_s=slow, max_in_flight=UNBOUNDED),
        "slow disk, no bound, twice the rows": Load(
            8, 50, 2 * total, slow_s=slow, max_in_flight=UNBOUNDED
        ),
    }
    if short:
        loads = {name: loads[name] for name in ("fast disk", "slow disk", "slow disk, no bound")}
    found: dict[str, list[Measured]] = {name: [] for name in loads}
    for _ in range(repeats):
        for name, load in loads.items():
            found[name].append(through_ray(load, processes))
    rows = [
        [
            name,
            f"{loads[name].rows:,}",
            measure.spread([m.rows_per_s for m in values]),
            f"{statistics.median(m.in_flight for m in values):.0f}",
            measure.spread([m.peak_mb for m in values]),
        ]
        for name, values in found.items()
    ]
    head = ["", "rows", "durable rows/s", "in flight per sender, most", "recorder's peak, MB"]
    return measure.grid(f"Back-pressure: 8 senders, a flush waits {slow:g} s", head, rows)


def main() -> None:
    """Print the tables."""
    asked = measure.options(__doc__).parse_args()
    repeats = 1 if asked.short else asked.repeats
    print(measure.machine(), flush=True)
    with measure.plain_ray(asked.address, 2, include_dashboard=False):
        processes = start_processes(2 if asked.short else MAX_PROCESSES)
        print(throughput(processes, repeats, short=asked.short), flush=True)
        print(back_pressure(processes, repeats, short=asked.short))


if __name__ == "__main__":
    sys.exit(main())
