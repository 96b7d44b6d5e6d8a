"""Whatever another tool's file holds: curves, or one clear line. Never a traceback."""

import json
import os
import struct

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from analysis import analyze, read_curves
from analysis.sources.columns import KNOWN
from analysis.sources.formats import event_files
from analysis.sources.frames import named, read_sources
from analysis.sources.tidy import read_tidy
from raysweep.errors import InputError, RaysweepError
from tests.support import dialects
from tests.support.fuzzing import NUMBERS, TEXTS, VALUES, cases, damaged, outcome

NAMES = st.one_of(
    st.sampled_from(
        [
            *KNOWN,
            "val/acc",
            "val_acc",
            "valid_loss",
            "train_loss",
            "lr",
            "lr-Adam",
            "Epoch",
            "run",
            "run_id",
            "step",
            "_step",
            "_runtime",
            "width",
            "accuracy",
            "loss",
            "status",
            "point",
            " epoch ",
            "epoch_duplicated_0",
            "",
            "config_id",
            "attempt",
        ]
    ),
    TEXTS,
)
CELLS = st.one_of(
    NUMBERS.filter(lambda n: abs(n) != 10**400).map(repr),
    st.sampled_from(
        ["", "nan", "inf", "-inf", "0.5", "95.1", "1", "2", "a", "[1, 2]", "[", "1e999"]
    ),
    TEXTS,
)


def encoded(text):
    return text.encode("utf-8", "surrogatepass")


@st.composite
def tables_of_curves(draw):
    """(columns, rows of cells as text): two trials whose curves are right but for some cells."""
    names = ["trial_id", "epoch", "val_accuracy"]
    names = [draw(st.sampled_from([name, name, name, "val/acc", "run", "_step"])) for name in names]
    names += draw(st.lists(NAMES, max_size=4))
    rows = []
    for trial in ("a", "b"):
        for epoch in range(draw(st.integers(0, 2)), 8):
            rest = ["0.5"] * (len(names) - 3)
            rows.append([trial, str(epoch), f"0.{5 + epoch % 3}", *rest])
    for _ in range(draw(st.integers(0, 4))):
        row = draw(st.integers(0, len(rows) - 1))
        rows[row][draw(st.integers(0, len(names) - 1))] = draw(CELLS)
    return names, rows


MAPPED = st.dictionaries(st.one_of(st.sampled_from(KNOWN), TEXTS), NAMES, max_size=2)
PLAIN = {"columns": None, "epoch_zero": None}
OPTIONS = st.fixed_dictionaries(
    {
        "columns": st.one_of(st.none(), MAPPED),
        "epoch_zero": st.sampled_from([None, "first", "untrained"]),
    }
)
CONFIG = st.one_of(st.none(), st.lists(NAMES, max_size=2))


def curves_of(path, options, config=None):
    """From a file to the frames that the analysis starts from, or to what has no accuracy."""
    log = read_curves(path, **options, config=config)
    str(log)
    return read_sources([named(log)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("curves")


def csv_of(names, rows):
    return "\n".join(",".join(cells) for cells in [names, *rows])


@given(
    table=tables_of_curves(),
    options=OPTIONS,
    config=CONFIG,
    name=st.sampled_from(["c.csv", "metrics.csv", "log.txt"]),
)
@example(
    table=(["trial_id", "epoch", "val_accuracy"], [["a", str(2**63), "0.5"]]),
    options=PLAIN,
    config=None,
    name="c.csv",
)
@example(
    table=(["epoch", "val_acc", "val_loss"], [["1", "0.5", "1e308"], ["2", "0.5", "-1e308"]]),
    options=PLAIN,
    config=None,
    name="c.csv",
)
@cases(short=40, long=2000)
def test_a_table_is_curves_or_refused(folder, table, options, config, name):
    path = folder / name
    path.write_bytes(encoded(csv_of(*table)))
    outcome(lambda: curves_of(path, options, config))


@given(
    body=st.one_of(st.binary(max_size=100), TEXTS.map(encoded)),
    suffix=st.sampled_from([".csv", ".parquet", ".jsonl", ".txt", ".db", ".wandb", ".ipynb", ""]),
)
@cases(short=20, long=500)
def test_any_bytes_as_a_table_are_curves_or_refused(folder, body, suffix):
    path = folder / f"any{suffix}"
    path.write_bytes(body)
    outcome(lambda: curves_of(path, PLAIN))


@given(
    rows=st.lists(st.one_of(VALUES, st.dictionaries(NAMES, VALUES, max_size=4)), max_size=4),
    extra=st.dictionaries(NAMES, VALUES, max_size=2),
    options=OPTIONS,
)
@example(rows=[], extra={"width": "\ud800"}, options=PLAIN)
@example(rows=[], extra={"width": 10**30}, options=PLAIN)
@example(rows=[[1]], extra={}, options=PLAIN)
@cases(short=30, long=800)
def test_json_lines_are_curves_or_refused(folder, rows, extra, options):
    path = folder / "history.jsonl"
    good = [{"run_id": "a", "_step": e, "epoch": e, "val_acc": 0.5, **extra} for e in range(1, 6)]
    lines = [json.dumps(row) for row in [*good, *rows] if "0" * 400 not in repr(row)]
    path.write_text("\n".join(lines))
    outcome(lambda: curves_of(path, options))


def event(tag, step, value):
    return dialects.record(dialects.event(tag, step, value))


TAGS = st.one_of(st.sampled_from(["val/acc", "val_acc", "train/loss", "epoch", "lr"]), NAMES)
WRITTEN = b"".join(event("val/acc", step, 0.5) for step in range(1, 6))


@given(
    events=st.lists(
        st.tuples(
            TAGS,
            st.one_of(st.integers(0, 9), st.sampled_from([2**63 - 1, 2**63, 2**64 - 1])),
            st.floats(width=32),
        ),
        max_size=5,
    ),
    options=OPTIONS,
)
@example(events=[("trial_id", 1, 0.5)], options=PLAIN)
@example(events=[("step", 1, 0.5)], options=PLAIN)
@example(events=[("val/acc", 2**63, 0.5)], options=PLAIN)
@cases(short=30, long=800)
def test_scalars_of_any_name_step_and_value_are_curves_or_refused(folder, events, options):
    runs = folder / "runs"
    runs.mkdir(exist_ok=True)
    body = WRITTEN + b"".join(event(*one) for one in events)
    (runs / "events.out.tfevents.1").write_bytes(body)
    outcome(lambda: curves_of(runs, options))


@given(body=damaged(WRITTEN))
@example(body=struct.pack("<Q", 300_000) + bytes(4) + b"\xff" * 300_000 + bytes(4))
@example(body=struct.pack("<Q", 2**64 - 1) + bytes(40))
@cases(short=30, long=1000)
def test_a_damaged_event_file_is_curves_or_refused(folder, body):
    runs = folder / "damaged"
    runs.mkdir(exist_ok=True)
    (runs / "events.out.tfevents.1").write_bytes(body)
    outcome(lambda: curves_of(runs, PLAIN))


@given(
    hparams=st.one_of(
        TEXTS, st.binary(max_size=60), st.dictionaries(TEXTS, VALUES, max_size=3).map(repr)
    )
)
@example(hparams="a: &a {k: 1}\nb: &b {<<: [*a, *a]}\nwidth: 3")
@example(hparams="width: !!int x")
@cases(short=20, long=500)
def test_hyperparameters_beside_metrics_are_read_or_refused(folder, hparams):
    run = folder / "lightning" / "version_0"
    run.mkdir(parents=True, exist_ok=True)
    (run / "metrics.csv").write_text("epoch,step,val_acc\n0,1,0.5\n1,2,0.6\n")
    (run / "hparams.yaml").write_bytes(hparams if isinstance(hparams, bytes) else encoded(hparams))
    outcome(lambda: curves_of(run.parent, PLAIN))


@given(table=tables_of_curves())
@cases(short=2, long=100)
def test_what_is_accepted_can_be_analyzed(folder, table):
    path = folder / "whole.csv"
    path.write_bytes(encoded(csv_of(*table)))
    outcome(lambda: analyze(path))


def test_hyperparameters_of_other_tools_are_taken_though_something_nested_is_odd(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,step,val_acc\n0,1,0.5\n")
    (tmp_path / "hparams.yaml").write_text(
        "lr: 1e-3\nsizes: &s [1, 2]\nagain: *s\nact: !!python/name:torch.nn.ReLU ''\n"
    )
    log = read_curves(tmp_path)
    curves = log.curves
    assert curves["lr"].to_list() == [0.001]
    assert not {"sizes", "again", "act"} & set(curves.columns)


def test_a_number_without_end_in_an_event_file_is_refused_at_once(tmp_path):
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(struct.pack("<Q", 300_000) + bytes(4) + b"\xff" * 300_000 + bytes(4))
    with pytest.raises(ValueError, match="no number has more than 10 bytes"):
        list(event_files.scalars(path.read_bytes()))
    with pytest.raises(InputError, match="no number has more than 10 bytes"):
        read_curves(path)


def test_what_only_looks_like_a_file_is_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.tfevents.1")
    os.mkfifo(tmp_path / "metrics.csv")
    for path in (tmp_path, tmp_path / "metrics.csv", tmp_path / "none.csv"):
        assert isinstance(outcome(lambda path=path: read_curves(path)), RaysweepError)


def test_a_frame_with_columns_that_nobody_expects_is_refused_or_read():
    base = pl.DataFrame({"trial_id": ["a", "a"], "epoch": [1, 2], "val_accuracy": [0.5, 0.6]})
    odd = [
        pl.Series("x", [{"a": 1}, {"a": 1}]),
        pl.Series("x", [[1], [2]]),
        pl.Series("x", [b"\0", b"\0"]),
        pl.Series("x", [object(), object()], dtype=pl.Object),
        pl.Series("x", [None, None]),
        pl.Series("seed", [2**64 - 1] * 2, dtype=pl.UInt64),
    ]
    for column in odd:
        outcome(lambda column=column: read_tidy(base.with_columns(column)))
