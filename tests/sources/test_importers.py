"""Other tools' curves come out as one tidy frame, and every guess is told."""

import json
import math

import polars as pl
import pytest

from analysis import analyze
from analysis.sources import importers
from raysweep.errors import InputError

EPOCHS = range(1, 21)


def csv(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_table_with_other_names_in_percent_from_epoch_zero_becomes_ours(tmp_path):
    lines = [f"a,{epoch},{70 + epoch},0.5" for epoch in range(20)]
    path = csv(tmp_path / "log.csv", "run,Epoch,val/acc,Valid Loss\n" + "\n".join(lines))
    curves, notes = importers.read_log(path, epoch_zero="first")
    assert curves["epoch"].to_list() == list(EPOCHS)
    assert curves["val_accuracy"][0] == pytest.approx(0.70)
    assert "val_loss" in curves.columns
    assert "val_accuracy is 'val/acc'" in notes
    assert any("percent" in note for note in notes)
    assert analyze(curves).trials["hf_sd"].null_count() == 0


def test_what_epoch_zero_is_must_be_said(tmp_path):
    path = csv(tmp_path / "log.csv", "epoch,val_acc,train_loss\n0,0.1,2.3\n1,0.5,1.1\n")
    with pytest.raises(InputError, match="start at 0: say whether"):
        importers.read_log(path)
    columns = {"train_loss": "train_loss"}
    curves, _ = importers.read_log(path, epoch_zero="untrained", columns=columns)
    assert curves["epoch"].to_list() == [1]
    assert curves["initial_train_loss"].to_list() == [2.3]


def test_training_accuracy_of_unknown_mode_is_taken_as_the_running_one(tmp_path):
    path = csv(tmp_path / "log.csv", "epoch,val_acc,train_acc,train_loss\n1,0.5,0.6,1\n")
    curves, _ = importers.read_log(path)
    assert {"train_accuracy_running", "train_loss_running"} <= set(curves.columns)
    curves, _ = importers.read_log(path, columns={"train_accuracy": "train_acc"})
    assert curves["train_accuracy"].to_list() == [0.6]


def test_a_frame_of_ours_passes_unchanged(tmp_path):
    path = csv(
        tmp_path / "c.csv", "trial_id,epoch,val_accuracy,train_loss,accuracy\n1e5,1,.5,1,2\n"
    )
    curves, notes = importers.read_log(path)
    assert not notes
    assert curves["trial_id"].to_list() == ["1e5"]
    assert curves.columns == ["trial_id", "epoch", "val_accuracy", "train_loss", "accuracy"]


def test_a_validation_every_fifth_epoch_is_counted_as_one_and_told(tmp_path):
    lines = [f"{epoch},0.5" for epoch in range(5, 101, 5)]
    curves, notes = importers.read_log(
        csv(tmp_path / "c.csv", "epoch,val_acc\n" + "\n".join(lines))
    )
    assert curves["epoch"].to_list() == list(EPOCHS)
    assert any("every 5 epochs" in note for note in notes)


def test_nan_and_inf_in_a_csv_file_are_numbers(tmp_path):
    path = csv(tmp_path / "c.csv", "epoch,val_acc,val_loss\n1,0.5,nan\n2,0.1,inf\n3,0.1,-inf\n")
    curves, _ = importers.read_log(path)
    assert math.isnan(curves["val_loss"][0])
    assert analyze(curves).trials["status"].to_list() == ["diverged"]


def test_lightning_rows_of_one_epoch_are_put_together(tmp_path):
    for version, rate in (("version_0", 0.1), ("version_1", 0.2)):
        lines = []
        for epoch in range(20):
            lines += [f",{4 * epoch},,,,{rate}"]  # the learning rate's row has no epoch
            lines += [f"{epoch},{4 * epoch + 1},0.9,,,", f"{epoch},{4 * epoch + 3},0.7,,,"]
            lines += [f"{epoch},{4 * epoch + 3},,0.8,0.4,"]
        head = "epoch,step,train_loss_step,val_acc,val_loss,lr-SGD\n"
        csv(tmp_path / version / "metrics.csv", head + "\n".join(lines) + "\n20,81,0.5,,,\n")
        csv(tmp_path / version / "hparams.yaml", f"width: {int(rate * 100)}\nlayers: [1, 2]\n")
    curves, _ = importers.read_log(tmp_path)
    one = curves.filter(pl.col("trial_id") == "version_1")
    assert one["epoch"].to_list() == list(EPOCHS)
    assert one["learning_rate"].unique().to_list() == [0.2]
    assert one["train_loss_running"][0] == pytest.approx(0.8)  # the mean of its steps
    assert analyze(curves, config=["width"]).configurations["point"].to_list() == [
        "width 10",
        "width 20",
    ]


def test_wandb_history_of_several_runs_with_sparse_rows(tmp_path):
    rows = []
    for run in ("r1", "r2"):
        for epoch in EPOCHS:
            step = 3 * epoch
            rows += [
                {"run_id": run, "_step": step, "train/loss": 0.5, "epoch": epoch - 0.5, "lr": 0.1},
                {
                    "run_id": run,
                    "_step": step + 1,
                    "eval/accuracy": 0.8,
                    "epoch": epoch,
                    "eval/loss": "NaN" if run == "r2" else 0.3,
                },
            ]
    path = csv(tmp_path / "h.jsonl", "\n".join(map(json.dumps, rows)))
    curves, _ = importers.read_log(path)
    assert curves.height == 40
    statuses = analyze(curves).trials.select("trial_id", "outcome").rows()
    assert sorted(statuses) == [("r1", "completed"), ("r2", "diverged")]


def test_event_files_are_read_as_tensorboardx_wrote_them(tmp_path):
    from tensorboardX import SummaryWriter

    for run in ("a", "b"):
        with SummaryWriter(str(tmp_path / run)) as writer:
            for epoch in EPOCHS:
                for step in range(5):
                    writer.add_scalar("train/loss", 1 / epoch, 5 * (epoch - 1) + step)
                writer.add_scalar("val/acc", 0.5 + epoch / 100, 5 * epoch - 1)
                writer.add_histogram("weights", [1, 2, 3], 5 * epoch - 1)
    curves, notes = importers.read_log(tmp_path)
    one = curves.filter(pl.col("trial_id") == "b").sort("epoch")
    assert one["epoch"].to_list() == list(EPOCHS)
    assert one["val_accuracy"].to_list() == pytest.approx([0.5 + e / 100 for e in EPOCHS])
    assert one["train_loss_running"].to_list() == pytest.approx([1 / e for e in EPOCHS])
    assert "epoch k is the k-th value of val_accuracy" in notes


def test_a_torn_event_file_gives_what_was_whole_and_another_file_an_error(tmp_path):
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        for epoch in EPOCHS:
            writer.add_scalar("val/acc", 0.5, epoch)
    (path,) = tmp_path.glob("*tfevents*")
    path.write_bytes(path.read_bytes()[:-5])
    assert importers.read_log(tmp_path).curves.height == 19
    path.write_bytes(b"\x05" + bytes(11) + b"\xff" * 40)
    with pytest.raises(InputError, match="not an event file"):
        importers.read_log(tmp_path)


@pytest.mark.parametrize(
    ("text", "how", "words"),
    [
        ("epoch,accuracy_on_val\n1,0.5\n", {}, "no column 'val_accuracy'.*Columns: epoch, accu"),
        ("epoch,val_acc\n1,0.5\n", {"columns": {"val_accuracy": "vacc"}}, "no column 'vacc'"),
        ("epoch,val_acc\n1,0.5\n", {"columns": {"vala": "val_acc"}}, "'vala' is no column of a"),
    ],
)
def test_what_can_not_be_told_is_one_clear_error(tmp_path, text, how, words):
    with pytest.raises(InputError, match=words):
        importers.read_log(csv(tmp_path / "c.csv", text), **how)


def test_a_folder_without_curves_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(InputError, match=r"is no store .* and holds no curves"):
        importers.read_log(tmp_path)
    with pytest.raises(InputError, match="no file at"):
        importers.read_log(tmp_path / "nothing.csv")
