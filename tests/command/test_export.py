"""`raysweep export`: what other tools read of an export is what the store holds, each row once."""

import json
import sys

import polars as pl
import pytest

from analysis.sources.exports import CURVES
from analysis.sources.store import read_store
from raysweep.spec import SweepSpec
from tests.support.commands import run_here
from tests.support.simulated import Curve, Sweep


@pytest.fixture
def store(tmp_path):
    """A sweep of two configurations and two seeds; one trial has failed."""
    spec = SweepSpec.from_mapping(
        {
            "name": "small",
            "task": "digits",
            "base": {"epochs": 12},
            "axes": {"dropout": [0.0, 0.5]},
            "seeds": 2,
        }
    )
    return Sweep(spec, probes=True).write(tmp_path / "store", lambda trial: Curve(), failed=[3])


def exported(capsys, store, to, place):
    code, out, err = run_here(capsys, "export", store.root, "--to", to, "--out", place)
    assert code == 0, err
    return out


def curve(frames, config, seed, name, kind="raw"):
    trials = frames.trials.filter(pl.col("dropout") == config, pl.col("seed") == seed)
    rows = frames.epochs.filter(
        pl.col("trial_id") == trials["trial_id"][0], pl.col("weights_kind") == kind
    )
    return rows.sort("epoch")[name].to_list()


@pytest.mark.parametrize("to", ["csv", "parquet"])
def test_tables_hold_each_row_once(capsys, store, tmp_path, to):
    said = exported(capsys, store, to, tmp_path / "out")
    frames = read_store(store)
    for name, table in (("trials", frames.trials), ("epochs", frames.epochs)):
        file = tmp_path / "out" / f"{name}.{to}"
        assert f"{file}: {table.height:,} rows" in said
        found = pl.read_parquet(file) if to == "parquet" else pl.read_csv(file)
        assert found.height == table.height
        assert found["trial_id"].to_list() == table["trial_id"].to_list()
    epochs = pl.read_csv(file) if to == "csv" else pl.read_parquet(file)
    assert epochs["val_accuracy"].to_list() == pytest.approx(
        frames.epochs["val_accuracy"].to_list()
    )
    blocks = frames.epochs["val_block_correct"].to_list()
    found = epochs["val_block_correct"].to_list()
    assert (list(map(json.loads, found)) if to == "csv" else found) == blocks


def test_tensorboards_own_reader_finds_the_curves_and_the_settings(capsys, store, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    exported(capsys, store, "tensorboard", tmp_path / "out")
    frames = read_store(store)
    folders = {path.name: path for path in (tmp_path / "out").iterdir()}
    assert len(folders) == 4
    read = EventAccumulator(str(folders["dropout_0.5,seed_0"])).Reload()
    for kind in ("raw", "ema"):
        tag = "val_accuracy" if kind == "raw" else "ema/val_accuracy"
        points = read.Scalars(tag)
        assert [point.step for point in points] == list(range(1, 13))
        expected = curve(frames, 0.5, 0, "val_accuracy", kind)
        assert [point.value for point in points] == pytest.approx(expected)
    assert {tag for tag in read.Tags()["scalars"] if "/" not in tag} == set(CURVES)
    (content,) = read.PluginTagToContent("hparams").values()
    start = metadata.parse_session_start_info_plugin_data(content)
    assert start.hparams["dropout"].number_value == 0.5
    assert start.hparams["optimizer"].string_value == "sgd"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own use of SQLAlchemy
def test_mlflows_client_finds_the_curves_and_the_settings(capsys, store, tmp_path):
    from mlflow.tracking import MlflowClient

    exported(capsys, store, "mlflow", tmp_path / "out")
    frames = read_store(store)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert len(runs) == 4
    run = runs["dropout 0.5 · seed 0"]
    assert (run.data.params["dropout"], run.data.params["seed"]) == ("0.5", "0")
    assert run.data.tags["raysweep.status"] == "completed"
    history = client.get_metric_history(run.info.run_id, "val_accuracy")
    points = {point.step: point.value for point in history}
    assert [points[step] for step in range(1, 13)] == pytest.approx(
        curve(frames, 0.5, 0, "val_accuracy")
    )
    assert client.get_metric_history(run.info.run_id, "ema/val_accuracy")
    assert runs["dropout 0.5 · seed 1"].info.status == "FAILED"


def test_an_export_overwrites_nothing_and_says_what_is_missing(
    capsys, store, tmp_path, monkeypatch
):
    def refused(to, place):
        code, _, err = run_here(capsys, "export", store.root, "--to", to, "--out", place)
        assert code == 2
        assert err.count("\n") == 1
        return err

    assert "it is csv, parquet, tensorboard, mlflow" in refused("xml", tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").touch()
    assert "is there already: name another folder with --out" in refused("csv", tmp_path / "b")
    (tmp_path / "c").touch()
    assert "is there already" in refused("csv", tmp_path / "c")
    for package in ("tensorboard", "mlflow"):
        for module in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, package, None)
        assert f"pip install {package}" in refused(package, tmp_path / package)
    assert run_here(capsys, "export", tmp_path / "none", "--to", "csv")[0] == 2
