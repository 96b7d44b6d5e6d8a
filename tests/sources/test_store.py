"""Store -> frames: one live row each, the latest sweep only, no failure beside a running one."""

import subprocess
import sys
import threading

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from analysis import analyze
from analysis.sources.store import KEY, bits, evidence, live_epochs, scan
from raysweep.errors import InputError
from raysweep.store.files import Store, StoreWriter
from raysweep.store.lease import newest_generation
from raysweep.store.schema import EPOCHS, TRIALS
from tests.support.simulated import Curve, Sweep, spec


def small(name="small", *, epochs=12, seeds=2, **axes):
    return Sweep(spec(name, axes=axes or {"dropout": [0.0, 0.5]}, epochs=epochs, seeds=seeds))


def write(sweep, root, **how):
    return sweep.write(root, lambda trial: Curve(), **how)


def attempt_rows(*rows):
    """(attempt, start_epoch, epochs)"""
    return pl.DataFrame(
        [
            {
                "trial_id": "t",
                "weights_kind": "raw",
                "epoch": epoch,
                "attempt": attempt,
                "start_epoch": start,
            }
            for attempt, start, epochs in rows
            for epoch in epochs
        ]
    )


def test_a_resumed_attempt_supersedes_the_epochs_it_trained_again():
    live = live_epochs(attempt_rows((1, 1, range(1, 8)), (2, 5, range(5, 11))))
    assert live.sort("epoch")["attempt"].to_list() == [1] * 4 + [2] * 6


def test_an_attempt_from_the_start_supersedes_even_epochs_that_it_never_reached():
    live = live_epochs(attempt_rows((1, 1, range(1, 8)), (2, 1, range(1, 3))))
    assert live.sort("epoch")["attempt"].to_list() == [2, 2]


def test_the_analysis_reads_one_row_per_trial_weights_and_epoch(tmp_path):
    store = write(small(), tmp_path)
    trial_id = store.read("epochs")["trial_id"][0].as_py()
    writer = StoreWriter(store)
    again = [
        row | {"attempt": 2, "start_epoch": 5}
        for row in store.read("epochs").to_pylist()
        if row["trial_id"] == trial_id and row["epoch"] >= 5
    ]
    done = next(r for r in store.read("trials").to_pylist() if r["trial_id"] == trial_id)
    writer.append("epochs", pa.RecordBatch.from_pylist(again, EPOCHS))
    writer.append("trials", pa.RecordBatch.from_pylist([done | {"attempt": 2}], TRIALS))
    writer.compact()
    analysis = analyze(store)
    assert not analysis.epochs.select(KEY).is_duplicated().any()
    assert analysis.epochs.height == 4 * 12
    assert analysis.trials.filter(pl.col("trial_id") == trial_id)["attempt"].to_list() == [2]
    superseded = analysis.quality.filter(pl.col("check").str.contains("superseded"))
    assert superseded["count"].to_list() == [8]


def test_a_trial_that_is_being_trained_again_has_not_finished(tmp_path):
    store = write(small(), tmp_path, failed=[0])
    trial_id = next(
        row["trial_id"] for row in store.read("trials").to_pylist() if row["status"] == "failed"
    )
    running = next(r for r in store.read("epochs").to_pylist() if r["trial_id"] == trial_id)
    writer = StoreWriter(store)
    writer.append("epochs", pa.RecordBatch.from_pylist([running | {"attempt": 2}], EPOCHS))
    writer.flush()
    analysis = analyze(store)
    assert trial_id not in analysis.trials["trial_id"]
    assert "trials missing" in analysis.quality["check"]


def test_the_latest_sweep_alone_is_analyzed_and_the_others_are_counted(tmp_path):
    write(small(epochs=12), tmp_path)
    store = write(small(epochs=20), tmp_path)
    analysis = analyze(store)
    assert analysis.trials["epochs"].unique().to_list() == [20]
    assert analysis.epochs["epoch"].max() == 20
    others = analysis.quality.filter(pl.col("check").str.contains("other sweeps"))
    assert others["count"].to_list() == [4]


def test_a_wider_sweep_takes_over_the_trials_of_the_narrower_one(tmp_path):
    narrow, wide = small(seeds=2), small(seeds=3)
    first = {trial_id for trial_id, *_ in narrow.plan()}
    write(narrow, tmp_path)
    had = [number for number, row in enumerate(wide.plan()) if row[0] in first]
    analysis = analyze(write(wide, tmp_path, missing=had))
    assert analysis.trials.height == 6
    assert analysis.configurations["num_completed"].to_list() == [3, 3]


def test_every_planned_configuration_stands_there_even_without_a_finished_trial(tmp_path):
    analysis = analyze(write(small(), tmp_path, missing=[0, 1]))
    assert analysis.configurations["num_completed"].to_list() == [0, 2]
    assert analysis.configurations["hf_sd"].is_null().to_list()[0]
    missing = analysis.quality.filter(pl.col("check") == "trials missing")
    assert missing["count"].to_list() == [2]


def test_diverged_trials_are_shown_but_never_estimated(tmp_path):
    analysis = analyze(write(small(), tmp_path, diverged=[0]))
    diverged = analysis.trials.filter(pl.col("status") == "diverged")
    assert diverged["hf_sd"].to_list() == [None]
    assert analysis.configurations["num_diverged"].to_list() == [1, 0]
    curve = analysis.epochs.filter(pl.col("trial_id") == diverged["trial_id"][0])
    assert curve.height == 12
    assert not curve["val_loss"].is_nan().any()  # NaN is not data; null is "none"
    unfinite = analysis.quality.filter(pl.col("check").str.contains("finite validation loss"))
    assert unfinite["count"].to_list() == [7]


def test_a_sweep_whose_trials_all_diverged_is_still_analyzed(tmp_path):
    analysis = analyze(write(small(), tmp_path, diverged=range(4)))
    assert analysis.configurations["num_diverged"].to_list() == [2, 2]
    assert analysis.effects.height == 0


def test_corrupt_and_empty_files_are_named_and_left_out(tmp_path):
    store = write(small(), tmp_path)
    writer = StoreWriter(store)
    torn = store.segment("epochs", writer.generation, 0)
    whole = (tmp_path / store.live_files("epochs")[0]).read_bytes()
    (tmp_path / torn).write_bytes(whole[:-50])
    (tmp_path / store.segment("epochs", writer.generation, 1)).write_bytes(b"")
    analysis = analyze(store)
    assert analysis.trials.height == 4
    row = analysis.quality.filter(pl.col("check").str.contains("can't be read")).row(0)
    assert row[1] == 2
    assert torn in row[2]


def test_epochs_lost_with_a_corrupt_file_are_reported(tmp_path):
    store = write(small(), tmp_path)
    (tmp_path / store.live_files("epochs")[0]).write_bytes(b"")
    analysis = analyze(store)
    lost = analysis.quality.filter(pl.col("check") == "trials with missing epochs")
    assert lost["count"].to_list() == [4]
    assert analysis.trials["hf_sd"].null_count() == 4


def test_a_scan_beside_a_writer_never_fails(tmp_path):
    store = write(small(), tmp_path)
    batch = store.read("epochs").combine_chunks().to_batches()[0]
    stop = threading.Event()

    def keep_writing():
        while not stop.is_set():
            writer = StoreWriter(store)  # removes what the one before had superseded
            for _ in range(3):
                writer.append("epochs", batch.slice(0, 5))
                writer.flush()
            writer.compact()

    thread = threading.Thread(target=keep_writing)
    thread.start()
    seen = []
    try:
        while newest_generation(store.folder) < 12:
            seen.append(scan(store, "epochs"))
    finally:
        stop.set()
        thread.join()
    assert all(not corrupt and rows.height >= 48 for rows, corrupt in seen)
    assert seen[-1][0].height > seen[0][0].height


def test_a_column_that_an_older_store_lacks_reads_as_null(tmp_path):
    store = write(small(), tmp_path)
    path = tmp_path / store.live_files("epochs")[0]
    rows = pl.read_parquet(path).drop("val_block_correct", "val_block_n", "grad_norm")
    path.unlink()
    rows.write_parquet(path)
    analysis = analyze(store)
    assert analysis.epochs["grad_norm"].null_count() == analysis.epochs.height
    assert analysis.trials["fin_sd"].null_count() == 4  # no blocks, no finite-set part
    assert analysis.configurations["drop"].null_count() == 0  # the naive one stands in


def test_derived_columns_are_ratios_of_counts(tmp_path):
    row = analyze(write(small(), tmp_path)).epochs.row(5, named=True)
    assert row["val_accuracy"] == row["val_correct"] / row["val_n"]
    assert row["churn"] == (row["flip_to_wrong"] + row["flip_to_right"]) / row["val_n"]


def test_bits_of_one_trial_are_those_of_its_live_epochs(tmp_path):
    store = write(small(), tmp_path)
    rows = store.read("epochs").to_pylist()
    trial_id = rows[0]["trial_id"]
    assert bits(store, trial_id) is None  # none were recorded
    rng = np.random.default_rng(0)
    right = rng.random((12, 500)) < 0.7
    stale = ~right
    writer = StoreWriter(store)
    for attempt, values in ((2, stale), (3, right)):
        again = [
            row
            | {
                "attempt": attempt,
                "val_correct_bits": np.packbits(values[row["epoch"] - 1]),
                "val_class_n": [250, 250],
            }
            for row in rows
            if row["trial_id"] == trial_id
        ]
        again = [r | {"val_correct_bits": r["val_correct_bits"].tobytes()} for r in again]
        writer.append("epochs", pa.RecordBatch.from_pylist(again, EPOCHS))
    writer.flush()
    found = bits(store, trial_id)
    assert found is not None
    assert found.dtype == bool
    np.testing.assert_array_equal(found, right)
    classes = evidence(store, trial_id, ["val_class_n"])
    assert classes["val_class_n"].to_list() == [[250, 250]] * 12


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"missing": range(4)}, "none of the 4 trials"),
        ({"failed": range(4)}, "4 of 4 failed, the first with: RuntimeError: out of memory"),
    ],
)
def test_a_sweep_without_a_finished_trial_is_one_clear_error(tmp_path, how, words):
    store = write(small(), tmp_path, **how)
    with pytest.raises(InputError, match=words):
        analyze(store)


def test_a_missing_store_is_one_clear_error(tmp_path):
    with pytest.raises(InputError, match="no store at"):
        analyze(tmp_path / "nothing")
    StoreWriter(Store(tmp_path))
    with pytest.raises(InputError, match="holds no sweep yet"):
        analyze(tmp_path)


def test_importing_the_analysis_is_cheap_and_never_reaches_for_torch_or_ray():
    code = """
import sys, analysis
assert "polars" not in sys.modules and "altair" not in sys.modules
from analysis import analyze, write_report
assert "torch" not in sys.modules and "ray" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
