"""Tables with a column for each run are those runs; columns of one run stay together."""

import pytest

from analysis import read_curves

ACCURACY = [round(0.5 + 0.3 * (1 - 0.8**k), 4) for k in range(1, 21)]


def wide(path, *header):
    columns = [[value + 0.01 * place for value in ACCURACY] for place in range(len(header) - 1)]
    rows = [[k + 1, *(column[k] for column in columns)] for k in range(len(ACCURACY))]
    lines = [",".join(f'"{name}"' for name in header)]
    path.write_text("\n".join([*lines, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


@pytest.mark.parametrize(
    ("header", "runs"),
    [
        (("Step", "a - val_acc", "b - val_acc"), ["a", "b"]),
        (("Step", "a - val_acc", "a - val_acc__MIN", "a - val_acc__MAX", "b - val_acc"), "ab"),
        (("Step", "lr: 0.1 - val_acc", "lr: 0.01 - val_acc"), ["lr: 0.1", "lr: 0.01"]),
        (("epoch", "run-a/val_acc", "run-b/val_acc"), ["run-a", "run-b"]),
        (("epoch", "val_acc_run1", "val_acc_run2", "val_acc_run3"), ["run1", "run2", "run3"]),
        (("epoch", "val_acc (seed=1)", "val_acc (seed=2)"), ["seed=1", "seed=2"]),
        (("epoch", "val_acc_fold_0", "val_acc_fold_1"), ["fold_0", "fold_1"]),
    ],
)
def test_each_column_is_the_metric_of_its_run(tmp_path, header, runs):
    log = read_curves(wide(tmp_path / "c.csv", *header))
    first = log.curves.filter(trial_id=runs[0])
    assert log.curves["trial_id"].unique(maintain_order=True).to_list() == list(runs)
    assert first["val_accuracy"].to_list() == pytest.approx(ACCURACY)


def test_metrics_of_a_run_go_together(tmp_path):
    header = ("epoch", "a - val_acc", "b - val_acc", "a - val_loss", "b - val_loss")
    log = read_curves(wide(tmp_path / "c.csv", *header))
    assert log.curves["trial_id"].n_unique() == 2
    assert log.curves["val_loss"].null_count() == 0


def test_seeds_in_the_names_of_columns_are_seeds(tmp_path):
    log = read_curves(wide(tmp_path / "c.csv", "epoch", "seed0_val_acc", "seed1_val_acc"))
    assert log.curves["seed"].unique(maintain_order=True).to_list() == [0, 1]


def test_a_file_that_is_called_by_its_metric_holds_runs(tmp_path):
    log = read_curves(wide(tmp_path / "val_accuracy.csv", "epoch", "resnet18", "resnet50"))
    assert log.curves["trial_id"].unique(maintain_order=True).to_list() == ["resnet18", "resnet50"]


@pytest.mark.parametrize(
    "header",
    [
        ("epoch", "train/box_loss", "val/box_loss", "metrics/mAP50(B)", "metrics/mAP50(M)"),
        ("epoch", "train_acc", "val_acc"),
        ("epoch", "class_0_acc", "class_1_acc", "val_acc"),
        ("epoch", "loss", "accuracy", "val_loss", "val_accuracy"),
    ],
)
def test_the_columns_of_one_run_stay_together(tmp_path, header):
    assert read_curves(wide(tmp_path / "c.csv", *header)).curves["trial_id"].n_unique() == 1
