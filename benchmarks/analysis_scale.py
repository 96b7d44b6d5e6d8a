"""What the analysis and its page take for a thousand and ten thousand trials of 100 epochs.

The store is synthetic and written by our own writer; one process writes it, others analyse it.
`python benchmarks/analysis_scale.py [--repeats 3]`
"""

import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measure

SEEDS = 5
N_TRAIN, BLOCK, CLASSES = 1_000, 40, 10
# Values of batch_size, learning_rate, dropout, weight_decay; times the seeds: trials.
SHAPES = {100: (5, 4, 1, 1), 1_000: (5, 10, 2, 2), 10_000: (10, 20, 5, 2)}
TRIALS_PER_SEGMENT = 500


def write(num_trials: int, epochs: int, root: str) -> None:
    """Write the store, then merge its segments as the end of a sweep does; print both times."""
    started = time.perf_counter()
    import numpy as np
    import pyarrow as pa

    from raysweep.planning.grid import Identity, Model, Trial, expand, listed
    from raysweep.spec import SweepSpec
    from raysweep.store.files import Store, StoreWriter
    from raysweep.store.record import SweepRecord
    from raysweep.store.schema import EPOCHS, NUM_BLOCKS, TRIALS
    from raysweep.tasks import Traits

    def epoch_table(trials: list[Trial], rng: np.random.Generator) -> pa.RecordBatch:
        """Epoch rows of these trials: curves that rise to a level of their configuration's, with
        movement of the whole population and of each block on top."""
        n, shape = len(trials), (len(trials), epochs)
        rates = np.array([t.hyperparameters.learning_rate for t in trials])
        sizes = np.array([t.hyperparameters.batch_size for t in trials])
        drops = np.array([t.hyperparameters.dropout for t in trials])
        heat = np.clip(np.log10(rates / sizes * 1_000), -2, 2)[:, None]
        time_ = np.arange(1, epochs + 1)[None, :]
        rise = 1 - np.exp(-(0.1 + 0.05 * (heat + 2)) * time_)
        level = 0.55 + (0.4 - 0.03 * np.abs(heat)) * rise
        fall = 0.03 * np.clip(time_ / epochs - 0.5, 0, 1) * (drops[:, None] == 0)
        moved = level - fall + 0.004 * 2**heat * rng.standard_normal(shape)
        offset = 0.03 * rng.standard_normal((n, 1, NUM_BLOCKS))
        own = 0.02 * rng.standard_normal((*shape, NUM_BLOCKS))
        right = np.rint(BLOCK * np.clip(moved[:, :, None] + offset + own, 0, 1)).astype(np.int32)
        correct = right.sum(2).astype(np.int64)
        val_n = BLOCK * NUM_BLOCKS
        loss = 2.3 * (1 - correct / val_n) + 0.05
        train_right = np.rint(1_000 * np.clip(moved + 0.03 * rise, 0, 1)).astype(np.int64)
        churn = rng.poisson(8 * 1.5**heat * np.ones(shape)).astype(np.int32)
        first = np.broadcast_to(time_ == 1, shape)
        steps = -(-N_TRAIN // sizes)[:, None] * time_
        flat: dict[str, Any] = {
            "trial_id": np.repeat([t.trial_id for t in trials], epochs),
            "attempt": 1,
            "start_epoch": 1,
            "epoch": np.broadcast_to(time_, shape),
            "weights_kind": "raw",
            "status": "ok",
            "global_step": steps,
            "lr": np.broadcast_to(rates[:, None], shape),
            "batch_size": np.broadcast_to(sizes[:, None], shape),
            "wall_s": rng.gamma(20, 5e-4, shape),
            "train_s": rng.gamma(20, 4e-4, shape),
            "train_n": N_TRAIN,
            "train_loss": loss * 0.9,
            "train_accuracy": train_right / 1_000,
            "train_eval_n": 1_000,
            "train_eval_correct": train_right,
            "train_eval_loss_sum": 1_000 * (2.3 * (1 - train_right / 1_000) + 0.02),
            "val_n": val_n,
            "val_correct": correct,
            "val_loss_sum": loss * val_n,
            "val_loss_sumsq": 2 * loss * val_n,
            "val_block_n": np.full((*shape, NUM_BLOCKS), BLOCK, np.int32),
            "val_block_correct": right,
            "val_block_loss_sum": 2.3 * (BLOCK - right) + 2.0,
            "flip_to_wrong": pa.array(churn.ravel(), mask=first.ravel()),
            "flip_to_right": pa.array((churn + 1).ravel(), mask=first.ravel()),
            "val_class_n": np.full((*shape, CLASSES), val_n // CLASSES, np.int32),
            "val_class_correct": right.reshape(*shape, CLASSES, -1).sum(3).astype(np.int32),
            "temperature": np.full(shape, 1.2),
            "val_nll_at_temperature": loss * 0.9,
            "val_block_nll_sum": 0.9 * (2.3 * (BLOCK - right) + 2.0),
            "grad_norm": rng.gamma(4, 0.3, shape),
            "param_norm": 12 + 0.01 * np.broadcast_to(time_, shape),
            "update_norm": rng.gamma(4, 0.05, shape),
        }
        return pa.RecordBatch.from_arrays(
            [_column(flat.get(field.name), field, n * epochs) for field in EPOCHS], schema=EPOCHS
        )

    def _column(values: Any, field: pa.Field, rows: int) -> pa.Array:
        if values is None:
            return pa.nulls(rows, field.type)
        if isinstance(values, pa.Array):
            return values.cast(field.type)
        if isinstance(values, int | str):
            return pa.repeat(pa.scalar(values, field.type), rows)
        if pa.types.is_list(field.type):
            width = values.shape[-1]
            offsets = np.arange(0, values.size + 1, width, dtype=np.int32)
            inner = pa.array(np.ravel(values), field.type.value_type)
            return pa.ListArray.from_arrays(offsets, inner, type=field.type)
        return pa.array(np.ravel(values), field.type)

    def trial_row(trial: Trial) -> dict[str, Any]:
        """One finished trial."""
        return {
            "trial_id": trial.trial_id,
            "config_id": trial.config_id,
            "task": spec.task,
            "seed": trial.seed,
            "attempt": 1,
            "status": "completed",
            **trial.hyperparameters.columns(),
            "world_size": 1,
            "n_train": N_TRAIN,
            "n_val": BLOCK * NUM_BLOCKS,
            "num_classes": 10,
            "num_parameters": 26_122,
            "val_digest": "0" * 16,
            "epochs_run": epochs,
            "stopped_early": False,
            "initial_train_eval_loss": 2.31,
            "seconds": 1.0,
            "node": "node-1",
        }

    spec = SweepSpec.from_mapping(sweep(num_trials, epochs))
    plain = {(): Model(Traits(batch_norm=False, random=False))}
    trials = expand(spec, Identity("task", "0", "0", N_TRAIN, plain))
    assert len(trials) == num_trials
    writer = StoreWriter(Store(root))
    record = SweepRecord(
        spec=spec.model_dump(mode="json"),
        versions={"raysweep": "0", "torch": "0", "ray": "0"},
        command=["benchmark"],
        started_at="2026-01-02T03:04:05+00:00",
    )
    writer.add_sweep(listed(record, trials))
    rng = np.random.default_rng(0)
    for start in range(0, num_trials, TRIALS_PER_SEGMENT):
        some = trials[start : start + TRIALS_PER_SEGMENT]
        writer.append("epochs", epoch_table(some, rng))
        writer.append("trials", pa.RecordBatch.from_pylist([trial_row(t) for t in some], TRIALS))
        writer.flush()
    written = time.perf_counter()
    writer.compact()
    compacted = time.perf_counter()
    figures = {
        "write, s": written - started,
        "merge segments, s": compacted - written,
        "peak memory of the writer, MB": measure.peak_mb(),
        "epochs on disk, MB": sum(
            (Path(root) / p).stat().st_size for p in writer.store.live_files("epochs")
        )
        / 1e6,
    }
    print(json.dumps(figures))


def sweep(num_trials: int, epochs: int) -> dict[str, Any]:
    """A sweep of digits with that many trials."""
    sizes, rates, drops, decays = SHAPES[num_trials]
    axes = {
        "batch_size": [16 * (i + 1) for i in range(sizes)],
        "learning_rate": [round(1e-3 * 2 ** (i / 2), 6) for i in range(rates)],
        "dropout": [0.1 * i for i in range(drops)],
        "weight_decay": [1e-4 * i for i in range(decays)],
    }
    axes = dict(itertools.islice(axes.items(), 4 if decays > 1 else 2))
    base = {"epochs": epochs}
    return {"name": "bench", "task": "digits", "base": base, "axes": axes, "seeds": SEEDS}


def read(root: str) -> None:
    """Analyse and report a store; print the time of each stage, peak memory and page size."""
    started = time.perf_counter()
    from analysis import analyze, write_report

    imported = time.perf_counter()
    found = analyze(root)
    analysed = time.perf_counter()
    memory = measure.peak_mb()
    page = write_report(found, Path(root) / "report.html")
    reported = time.perf_counter()
    figures = {
        "imports, s": imported - started,
        "analyze, s": analysed - imported,
        "write_report, s": reported - analysed,
        "all, s": reported - started,
        "peak memory after analyze, MB": memory,
        "peak memory, MB": measure.peak_mb(),
        "page, MB": page.stat().st_size / 1e6,
        "rows": float(found.epochs.height),
    }
    print(json.dumps(figures))


def main() -> None:
    """Print the tables."""
    parser = measure.options(__doc__)
    parser.add_argument("--write", nargs=3, metavar=("TRIALS", "EPOCHS", "ROOT"))
    parser.add_argument("--read", metavar="ROOT")
    asked = parser.parse_args()
    if asked.write:
        write(int(asked.write[0]), int(asked.write[1]), asked.write[2])
        return
    if asked.read:
        read(asked.read)
        return
    print(measure.machine(), flush=True)
    script = os.path.abspath(__file__)
    epochs = 20 if asked.short else 100
    stores, pages = [], []
    store_names: list[str] = []
    page_names: list[str] = []
    for size in [100] if asked.short else [1_000, 10_000]:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            root = f"{folder}/store"
            written = measure.reported([script, "--write", str(size), str(epochs), root])
            found = [
                measure.reported([script, "--read", root])
                for _ in range(1 if asked.short else asked.repeats)
            ]
        assert all(one["rows"] == size * epochs for one in found)
        store_names, page_names = list(written), list(found[0])
        title = f"{size:,} trials x {epochs} epochs"
        stores.append([title, *(measure.plain(value) for value in written.values())])
        pages.append([title, *(measure.spread([one[n] for one in found]) for n in page_names)])
    print(measure.grid("Analysis and report", ["", *page_names], pages))
    print(measure.grid("The synthetic store", ["", *store_names], stores))


if __name__ == "__main__":
    sys.exit(main())
