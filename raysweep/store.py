"""The store: its schemas, every path in it, the only Parquet writer, and the reader.

A store is a folder. Files in it are whole or absent, and never overwritten:

    sweeps/<n>-<digest>.json       one per invocation: the spec, its trial ids, versions, hardware
    epochs/<g>-<seq>.parquet       segments: one row per trial, attempt, epoch and kind of weights
    trials/<g>-<seq>.parquet       segments: one row per finished attempt at a trial
    epochs/compact-<g>.parquet     all that was live at the end of generation g, in one file
    generations/<g>.json           which files were live when writer number g took over
    wal/<g>-<seq>-<table>.arrows   rows on their way into a segment
    checkpoints/, logs/            best weights of early-stopped trials; tracebacks of failed ones
    resume/                        checkpoints of running trials, to go on from; see shelf.py

Every writer opens a new generation. Live are the files that the newest generation lists and the
segments that carry its number; what a superseded writer still writes is therefore ignored.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from raysweep.errors import InputError, RaysweepError
from raysweep.spec import Hyperparameters, nested_fields

Table = Literal["epochs", "trials"]
TABLES: tuple[Table, ...] = get_args(Table)
NUM_BLOCKS = 20

EPOCHS = pa.schema(
    [
        # Which row this is. A row is live unless a later attempt has start_epoch <= its epoch.
        ("trial_id", pa.string()),
        ("attempt", pa.int32()),
        ("start_epoch", pa.int32()),  # first epoch that this attempt trained, from 1
        ("epoch", pa.int32()),  # from 1: measured after this many passes
        ("weights_kind", pa.string()),  # raw, ema, ema_live, ema_averaged; see probes.Average
        ("status", pa.string()),  # ok, diverged (a loss was not finite)
        ("global_step", pa.int64()),
        ("lr", pa.float64()),  # of the epoch's last step
        ("batch_size", pa.int32()),
        ("wall_s", pa.float64()),  # the whole epoch, evidence included
        ("train_s", pa.float64()),  # the training pass, and what is measured at its steps
        # Training, as accumulated in train mode (dropout on, weights moving).
        ("train_n", pa.int64()),
        ("train_loss", pa.float64()),
        ("train_accuracy", pa.float64()),
        # A fixed subset of the training set, evaluated in eval mode without augmentation.
        ("train_eval_n", pa.int64()),
        ("train_eval_correct", pa.int64()),
        ("train_eval_loss_sum", pa.float64()),
        # Validation: cross-entropy without label smoothing, summed over examples.
        ("val_n", pa.int64()),
        ("val_correct", pa.int64()),
        ("val_loss_sum", pa.float64()),
        ("val_loss_sumsq", pa.float64()),
        ("val_block_n", pa.list_(pa.int32())),  # NUM_BLOCKS fixed blocks
        ("val_block_correct", pa.list_(pa.int32())),
        ("val_block_loss_sum", pa.list_(pa.float64())),
        ("flip_to_wrong", pa.int32()),  # against the previous epoch; null in the first
        ("flip_to_right", pa.int32()),
        ("val_class_n", pa.list_(pa.int32())),  # null beyond 1,000 classes
        ("val_class_correct", pa.list_(pa.int32())),
        ("val_correct_bits", pa.binary()),  # np.packbits of correctness, in validation order
        ("repeat_correct", pa.int64()),  # a second evaluation of the same weights; first, last
        # Confidence: the temperature of the smallest validation loss, and that mean loss; the mean
        # Brier score (summed over classes) and the calibration error at temperature 1.
        ("temperature", pa.float64()),
        ("val_nll_at_temperature", pa.float64()),
        ("brier", pa.float64()),
        ("ece", pa.float64()),
        # Gradients, before clipping: mean squared norms of a part's and the whole batch's, over
        # gns_steps steps, and their sizes; see probes.GradientNoise. grad_norm is of the epoch's
        # last step; update_norm is the distance that the parameters went in the whole epoch.
        ("gns_small_sq", pa.float64()),
        ("gns_big_sq", pa.float64()),
        ("gns_b_small", pa.float64()),
        ("gns_b_big", pa.float64()),
        ("gns_steps", pa.int32()),
        ("grad_norm", pa.float64()),
        ("param_norm", pa.float64()),
        ("update_norm", pa.float64()),
    ]
)

ARROW_OF = {"integer": pa.int64(), "number": pa.float64(), "string": pa.string()}


def _field_columns() -> list[tuple[str, pa.DataType]]:
    """A column per field of a trial, so that a new field needs no change here."""
    properties = Hyperparameters.model_json_schema()["properties"]
    columns: list[tuple[str, pa.DataType]] = []
    for name, kind in nested_fields():
        if kind is None:
            kinds = [properties[name], *properties[name].get("anyOf", [])]
            columns.append((name, next(ARROW_OF[k["type"]] for k in kinds if "type" in k)))
            continue
        columns.append((name, pa.bool_()))
        for inner, schema in kind.model_json_schema()["properties"].items():
            arrow = pa.bool_() if schema["type"] == "boolean" else ARROW_OF[schema["type"]]
            columns.append((f"{name}_{inner}", arrow))
    return columns


TRIALS = pa.schema(
    [
        ("trial_id", pa.string()),
        ("config_id", pa.string()),
        ("task", pa.string()),
        ("seed", pa.int64()),
        ("attempt", pa.int32()),
        # completed; diverged (a loss was not finite, or the eval-mode training loss ended above
        # its value before training); failed (an error: see `error`, `error_log`)
        ("status", pa.string()),
        ("error", pa.string()),
        ("error_log", pa.string()),  # path in the store
        *_field_columns(),
        ("world_size", pa.int32()),
        ("n_train", pa.int64()),
        ("n_val", pa.int64()),
        ("num_classes", pa.int32()),
        ("num_parameters", pa.int64()),
        ("val_digest", pa.string()),
        ("epochs_run", pa.int32()),
        ("stopped_early", pa.bool_()),
        ("restored_epoch", pa.int32()),  # whose weights early stopping put back; null if none
        ("restored_val_correct", pa.int64()),  # a new evaluation of those weights
        ("checkpoint", pa.string()),  # path in the store
        ("initial_train_eval_loss", pa.float64()),  # mean, before the first step
        ("seconds", pa.float64()),  # of all attempts, less what was lost after a checkpoint
        ("node", pa.string()),
    ]
)

SCHEMAS: dict[Table, pa.Schema] = {"epochs": EPOCHS, "trials": TRIALS}
_SEGMENT = re.compile(r"(\d{6})-(\d{6})\.parquet")


class Generation(NamedTuple):
    """What was live when a writer took over."""

    number: int
    files: dict[Table, list[str]]


class Store:
    """Names every path of a store, and reads it. `StoreWriter` writes."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    @classmethod
    def existing(cls, root: Path | str) -> Self:
        """Raises: InputError when there is no store at `root`."""
        store = cls(root)
        if not (store.root / "sweeps").is_dir():
            raise InputError(f"no store at {store.root}: it has no folder 'sweeps'")
        return store

    @property
    def report(self) -> Path:
        """Where the report is written by default."""
        return self.root / "report.html"

    def segment(self, table: Table, generation: int, sequence: int) -> Path:
        """The file of one segment."""
        return self.root / table / f"{generation:06d}-{sequence:06d}.parquet"

    def compacted(self, table: Table, generation: int) -> Path:
        """The file that holds all that was live at the end of a generation."""
        return self.root / table / f"compact-{generation:06d}.parquet"

    def wal(self, table: Table, generation: int, sequence: int) -> Path:
        """The write-ahead log of the segment with the same numbers."""
        return self.root / "wal" / f"{generation:06d}-{sequence:06d}-{table}.arrows"

    def error_log(self, trial_id: str, attempt: int) -> Path:
        """The traceback of a failed attempt."""
        return self.root / "logs" / f"{trial_id}-{attempt}.txt"

    def checkpoint_log(self, trial_id: str, attempt: int) -> Path:
        """Why an attempt did not go on from a checkpoint that there was."""
        return self.root / "logs" / f"{trial_id}-{attempt}-checkpoint.txt"

    def checkpoint(self, trial_id: str, attempt: int) -> Path:
        """The best weights of a trial with early stopping (a torch state dict)."""
        return self.root / "checkpoints" / f"{trial_id}-{attempt}.pt"

    def generation(self) -> Generation:
        """The newest generation; number 0 and no files before the first writer."""
        numbers = [int(path.stem) for path in (self.root / "generations").glob("*.json")]
        if not numbers:
            return Generation(0, {table: [] for table in TABLES})
        path = self.root / "generations" / f"{max(numbers):06d}.json"
        return Generation(max(numbers), json.loads(path.read_text())["files"])

    def live_files(self, table: Table) -> list[Path]:
        """The Parquet files that count, oldest first."""
        generation = self.generation()
        own = [
            path.name
            for path in (self.root / table).glob(f"{generation.number:06d}-*.parquet")
            if _SEGMENT.fullmatch(path.name)
        ]
        return [self.root / table / name for name in [*generation.files[table], *sorted(own)]]

    def read(self, table: Table, columns: Sequence[str] | None = None) -> pa.Table:
        """All live rows, in the order of writing. Raises: RaysweepError naming a corrupt file."""
        schema = SCHEMAS[table]
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns])
        parts = [schema.empty_table()]
        for path in self.live_files(table):
            try:
                part = pq.ParquetFile(path)
                present = [name for name in schema.names if name in part.schema_arrow.names]
                part = part.read(columns=present)
            except (pa.ArrowException, OSError) as error:
                raise RaysweepError(f"{path} can't be read: {error}") from error
            for field in schema:
                if field.name not in present:
                    part = part.append_column(field, pa.nulls(len(part), field.type))
            parts.append(part.select(schema.names).cast(schema))
        return pa.concat_tables(parts)

    def sweeps(self) -> list[dict[str, Any]]:
        """Every invocation's record, oldest first."""
        paths = sorted(
            (self.root / "sweeps").glob("*.json"), key=lambda path: int(path.name.split("-")[0])
        )
        return [json.loads(path.read_text()) for path in paths]


class StoreWriter:
    """The one writer of a store: rows go into a write-ahead log, then into segments.

    Opening takes over: a new generation, then whatever a dead writer's log still holds.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        for folder in (*TABLES, "sweeps", "generations", "wal", "logs", "checkpoints"):
            (store.root / folder).mkdir(parents=True, exist_ok=True)
        self._remove_dead_files()
        self.generation = self._open_generation(
            {table: [path.name for path in store.live_files(table)] for table in TABLES}
        )
        self._sequence = 0
        self._pending: dict[Table, list[pa.RecordBatch]] = {table: [] for table in TABLES}
        self._logs: dict[Table, pa.ipc.RecordBatchStreamWriter] = {}
        self.num_pending_rows = 0
        self._replay()

    def add_sweep(self, record: Mapping[str, Any]) -> Path:
        """Write one invocation's record under the next free number."""
        body = json.dumps(record, indent=1, allow_nan=False).encode()
        digest = hashlib.blake2b(body, digest_size=4).hexdigest()
        folder = self.store.root / "sweeps"
        number = 1 + max((int(p.name.split("-")[0]) for p in folder.glob("*.json")), default=0)
        path = folder / f"{number:04d}-{digest}.json"
        write_new(path, body)
        return path

    def append(self, table: Table, batch: pa.RecordBatch) -> None:
        """Log rows; they survive the death of this process from here on."""
        if table not in self._logs:
            path = self.store.wal(table, self.generation, self._sequence)
            self._logs[table] = pa.ipc.new_stream(pa.OSFile(str(path), "wb"), SCHEMAS[table])
        self._logs[table].write_batch(batch)
        self._pending[table].append(batch)
        self.num_pending_rows += len(batch)

    def flush(self) -> None:
        """Turn what is pending into segments: epochs first, so that a trial that stands in a
        segment has all its rows in segments too."""
        for table in TABLES:
            batches = self._pending[table]
            if not batches:
                continue
            rows = pa.Table.from_batches(batches, SCHEMAS[table])
            _write_parquet(self.store.segment(table, self.generation, self._sequence), rows)
            self._logs.pop(table).close()
            self.store.wal(table, self.generation, self._sequence).unlink()
            batches.clear()
        self._sequence += 1
        self.num_pending_rows = 0

    def compact(self) -> None:
        """Merge all segments into one file per table, under a new generation.

        The merged files stay on disk until the next writer opens, so that scans go on.
        """
        self.flush()
        if all(len(self.store.live_files(table)) <= 1 for table in TABLES):
            return
        files: dict[Table, list[str]] = {}
        for table in TABLES:
            path = self.store.compacted(table, self.generation)
            rows = self.store.read(table)
            order = ["trial_id", "attempt"] + (["epoch"] if table == "epochs" else [])
            _write_parquet(path, rows.sort_by([(name, "ascending") for name in order]))
            files[table] = [path.name]
        self.generation = self._open_generation(files)
        self._sequence = 0

    def _open_generation(self, files: Mapping[Table, list[str]]) -> int:
        number = self.store.generation().number + 1
        path = self.store.root / "generations" / f"{number:06d}.json"
        body = json.dumps({"files": files, "host": os.uname().nodename, "pid": os.getpid()})
        try:
            write_new(path, body.encode())
        except FileExistsError:
            raise RaysweepError(f"another writer has just opened {self.store.root}") from None
        return number

    def _remove_dead_files(self) -> None:
        """Remove what was already dead when the last writer closed."""
        for table in TABLES:
            live = {path.name for path in self.store.live_files(table)}
            for path in (self.store.root / table).iterdir():
                if path.name not in live:
                    path.unlink()

    def _replay(self) -> None:
        """Rows that a dead writer logged and had no time to put into a segment."""
        logs = sorted((self.store.root / "wal").glob("*.arrows"))
        recovered: list[tuple[Table, pa.RecordBatch]] = []
        for path in logs:
            generation, sequence, name = path.stem.split("-")
            table: Table = "trials" if name == "trials" else "epochs"
            # With its segment on disk, a log is only what its writer had no time to remove.
            if not self.store.segment(table, int(generation), int(sequence)).exists():
                for batch in _whole_batches(path):
                    recovered.append((table, batch))  # noqa: PERF401 - keeps the pair's type
        for table, batch in recovered:
            self.append(table, batch)
        if recovered:
            self.flush()
        for path in logs:
            path.unlink(missing_ok=True)


def _whole_batches(path: Path) -> Iterable[pa.RecordBatch]:
    """Every batch of an Arrow stream up to its torn tail, if it has one."""
    with contextlib.suppress(pa.ArrowInvalid, OSError), pa.OSFile(str(path)) as file:
        yield from pa.ipc.open_stream(file)


def _write_parquet(path: Path, rows: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    write_new(path, sink.getvalue())


def write_new(path: Path, body: Any) -> None:
    """Write a file that must not exist yet: whole, on the disk, or not there.

    Raises: FileExistsError.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(beside, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(beside, path)
    finally:
        beside.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
