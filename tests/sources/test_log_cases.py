"""Reduced logs of other people, where they are at hand: each is read as it is meant.

They lie in the folder that RAYSWEEP_LOGS names, or in shared/logs beside the checkout.
"""

import os
import re
from pathlib import Path

import pytest

from analysis import analyze, read_curves
from raysweep.cli import run_command_line

ROOT = Path(__file__).parents[2]
LOGS = Path(os.environ.get("RAYSWEEP_LOGS", ROOT.parent / "shared" / "logs"))
pytestmark = pytest.mark.skipif(not LOGS.is_dir(), reason="the logs are not here")

# folder: inputs, the evaluations of each run, columns of settings, words of the table
CASES = {
    "01_keras_zero_based": (["training_log.csv"], [41], (), ["epoch 0 is taken for the first"]),
    "02_keras_dot_log": (
        ["training.log"],
        [50],
        (),
        ["4.211 .. ", "lowest in evaluation 1, 5.489 in the last", "--num-val 1932"],
    ),
    "03_keras_appended": (["training_log.csv"], [5, 4, 10, 5], ("run",), []),
    "04_keras_history_json": (["training_history.json"], [25], (), []),
    "05_hf_trainer_state": (
        ["trainer_state.json"],
        [10],
        (),
        ["learning rate +learning_rate", "training loss +loss", "examples +1,839"],
    ),
    "06_lightning_sparse_train_loss": (["."], [10], ("hidden_size", "input_size", "lr"), []),
    "07_lightning_every_fifth": (["."], [9], (), ["every 5 epochs, after epochs 5, 10, "]),
    "08_yolo_restarted": (["results.csv"], [10, 1, 10], ("run",), ["nan throughout"]),
    "09_same_name_twice": (["train/results.csv", "train2/results.csv"], [19, 20], ("run",), []),
    "10_dvclive_odd_epochs": (["."], [6], (), ["--num-val 5000"]),
    "11_missing_epoch_near_the_end": (["curve.csv"], [49], (), ["1 evaluation is missing"]),
    "12_settings_no_trial_column": (
        ["summary.csv"],
        [8] * 6,
        ("Model", "Optimizer", "Train_Batch_Size", "learning_rate"),
        ["accuracy +Accuracy_mean_Dev", r"\(1, 3, ... 20\)"],
    ),
    "13_ray_tune": (["exp"], [12] * 4, ("batch_size", "lr"), ["seeds +0"]),
    "14_tensorboard_download": (["."], [12, 13, 13], ("run",), ["accuracy +val_acc_epoch"]),
    "15_wandb_panel_export": (["wandb_export.csv"], [50, 40], ("run",), []),
    "16_fastai": (["history.csv"], [50], (), ["validation accuracy +accuracy"]),
    "17_keras_printed": (["output.txt"], [15, 8], ("run",), ["examples +2,000"]),
    "19_percent_and_fraction": (
        ["runs.csv"],
        [25, 25],
        ("run",),
        ["fraction in 1 and percent in 1"],
    ),
    "20_more_told_less_said": (["curve.csv"], [50], (), []),
    "21_gain_beyond_100": (["curve.csv"], [20], (), []),
    "22_constant_metric": (["results.csv"], [44], (), ["is 1 in every one of 44 evaluations"]),
    "23_optuna": (["study.db"], [40] * 6, ("lr", "weight_decay"), ["--num-val 589"]),
    "24_two_files_are_no_seeds": (["voice.csv", "car.csv"], [44, 44], ("run",), []),
    "25_final_check_in_the_events": (["."], [20], (), ["repeated with no training"]),
}


def read(case, *names, **options):
    return read_curves([LOGS / case / name for name in names], **options)


def lengths(log):
    return log.curves.group_by("trial_id", maintain_order=True).len()["len"].to_list()


@pytest.mark.parametrize("case", CASES)
def test_a_log_is_read_with_the_plain_command(case, capsys, tmp_path):
    inputs, expected, config, words = CASES[case]
    log = read(case, *inputs)
    assert lengths(log) == expected, log
    assert log.config == config, log
    for one in words:
        assert re.search(one, str(log)), log
    run_command = ["report", *(str(LOGS / case / name) for name in inputs)]
    with pytest.raises(SystemExit) as left:
        run_command_line([*run_command, "--out", str(tmp_path / "page.html")])
    assert left.value.code == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert log.understood.heading in out
    assert "report: " in out


@pytest.mark.parametrize("name", ["markdown_table.md", "pandas_index.csv", "percent_signs.csv"])
def test_a_dialect_is_one_run(name):
    assert lengths(read("18_dialects", name)) == [45 if name.endswith(".md") else 50]


def test_the_other_dialects_are_one_curve():
    names = ("semicolon_decimal_comma.csv", "tab.tsv", "utf16.csv", "pandas_index.csv")
    curves = [read("18_dialects", name).curves.drop("trial_id") for name in names]
    assert all(one.equals(curves[0]) for one in curves[1:])


def test_names_of_runs_are_those_of_their_files_and_folders():
    names = {
        "09_same_name_twice": ["train", "train2"],
        "24_two_files_are_no_seeds": ["voice", "car"],
        "14_tensorboard_download": ["version_70", "version_71", "version_72"],
        "15_wandb_panel_export": ["run-a", "run-b"],
    }
    for case, expected in names.items():
        curves = read(case, *CASES[case][0]).curves
        assert curves["trial_id"].unique(maintain_order=True).to_list() == expected


def test_the_settings_that_a_person_names_are_those():
    options = {"config": ["Optimizer", "learning_rate", "Train_Batch_Size"]}
    log = read("12_settings_no_trial_column", "summary.csv", **options)
    assert (lengths(log), log.config) == (
        [8] * 6,
        ("Optimizer", "Learning_Rate", "Train_Batch_Size"),
    )


def test_percent_and_fraction_are_one_curve_each():
    curves = read("19_percent_and_fraction", "runs.csv").curves
    last = curves.group_by("trial_id", maintain_order=True).last()
    assert last["val_accuracy"].to_list() == pytest.approx([0.75, 0.75])


def test_the_final_check_changes_nothing():
    events = read("25_final_check_in_the_events", ".").curves
    table = read("25_final_check_in_the_events", "results.csv").curves
    assert events["val_accuracy"].to_list() == pytest.approx(table["val_accuracy"].to_list())


def test_no_promise_goes_above_an_accuracy_of_one():
    row = analyze(LOGS / "21_gain_beyond_100" / "curve.csv").trials.row(0, named=True)
    assert row["final_accuracy"] + (row["projected_gain"] or 0) <= 1


def test_what_is_told_of_training_takes_nothing_back():
    path = LOGS / "20_more_told_less_said" / "curve.csv"
    told = read_curves(path, columns={"train_accuracy": "acc", "train_loss": "loss"})
    for log in (read_curves(path), told):
        said = analyze(log).answer.headline[0]
        assert "validation loss is lowest at epoch 1 (4.211) and ends 27 % above" in said
