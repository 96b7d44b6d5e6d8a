"""Every column of the frames stands in the table, with its type, and has a reader or none."""

import re
from pathlib import Path

import polars as pl
import pytest

from analysis import analyze
from analysis.columns import FRAMES, ON_DISK, YOU, all_columns, columns_of, page, polars_type
from raysweep.spec import Hyperparameters
from raysweep.store.schema import EPOCHS
from tests.support.simulated import Sweep, practitioner, spec

ROOT = Path(__file__).parents[2]
SOURCES = {
    name: "\n".join(path.read_text() for path in (ROOT / "analysis" / name).glob("*.py"))
    for name in ("page", "verdicts", "causes")
}


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A sweep with all probes and early stopping, one trial of which was stopped."""
    axes = {"early_stopping": [None, {"metric": "val_loss", "patience": 10}], "dropout": [0.0, 0.5]}
    plan = spec("all", axes=axes, epochs=40)
    root = tmp_path_factory.mktemp("all")
    return analyze(Sweep(plan, probes=True).write(root, practitioner, stopped={11: 20}))


def in_words(column):
    return f"{' '.join(column.frames)}: {column.name}"


@pytest.mark.parametrize("frame", FRAMES)
def test_every_column_of_a_frame_stands_in_the_table_with_its_type(everything, frame):
    table = getattr(everything, frame)
    known = {column.name: column.type for column in columns_of(frame)}
    fields = Hyperparameters().columns().keys()
    assert {name for name in table.columns if name not in known} <= set(fields)
    for name, kind in known.items():
        if not name.startswith("("):
            assert table.schema[name] == polars_type(kind), name


def test_no_column_stands_in_the_table_that_nothing_makes(everything):
    none_here = {"error", "error_log", "checkpoint", "initial_train_eval_loss", "status_reason"}
    none_here |= {"guessing_at"}  # all of these networks learn
    none_here |= {"score_kind", "score_name", "baseline", "margin", "restored_val_score_sum"}
    none_here |= {"val_score_sum", "val_block_score_sum", "repeat_score_sum"}
    none_here |= {"train_eval_score_sum"}  # all of their scores are counts
    for frame in FRAMES:
        table = getattr(everything, frame)
        known = {column.name for column in columns_of(frame)} & set(table.columns)
        empty = {name for name in known if table[name].null_count() == table.height}
        assert empty <= none_here, frame


@pytest.mark.parametrize("column", all_columns(), ids=in_words)
def test_a_column_is_made_where_the_table_says_and_read_or_for_you(column):
    assert (ROOT / column.module).exists()
    if column.read_by == (YOU,):
        return
    stem = re.sub(r"_(low|high)$", "", column.name)  # the ends of an interval are read beside it
    words = ("axis",) if column.name.startswith("(") else (column.name, stem)
    for package in column.read_by:
        found = [word for word in words if re.search(rf"(?<!\w){word}(?!\w)", SOURCES[package])]
        assert found, f"{package} does not read {column.name}"


def test_what_no_frame_has_is_named_too():
    named = {column.name for column in (*columns_of("epochs"), *columns_of(ON_DISK))}
    assert set(EPOCHS.names) <= named


def test_an_analysis_says_what_its_columns_are(everything):
    told = everything.columns()
    assert told.filter(frame="trials")["name"].to_list() == everything.trials.columns
    row = told.row(by_predicate=(pl.col("frame") == "epochs") & (pl.col("name") == "wall_s"))
    assert row[2:4] == ("Float64", "s")
    dropout = told.filter(frame="configurations", name="dropout")
    assert dropout["meaning"].to_list() == ["A hyperparameter."]


def test_the_page_of_columns_is_that_of_the_table():
    assert (ROOT / "docs" / "columns.md").read_text() == page(), "python -m analysis.columns"
