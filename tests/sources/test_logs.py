"""Nothing in a log is taken wrongly in silence: guesses are in the table, options mend them."""

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from analysis import analyze, read_curves
from raysweep.cli import run_command_line
from raysweep.errors import InputError

ACCURACY = [0.41, 0.52, 0.63, 0.6, 0.66, 0.71, 0.68, 0.72]


def csv(path, head, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def curve(path, accuracy=ACCURACY, first=1, head="epoch,val_acc"):
    return csv(path, head, enumerate(accuracy, first))


def lengths(log):
    return log.curves.group_by("trial_id", maintain_order=True).len().rows()


def test_two_files_are_two_configurations_and_seeds_only_where_one_says_so(tmp_path):
    paths = [curve(tmp_path / "a.csv"), curve(tmp_path / "b.csv", [0.3, *ACCURACY[1:]])]
    log = read_curves(paths)
    assert analyze(log).configurations["point"].to_list() == ["run a", "run b"]
    assert "seeds                none named" in str(log)
    assert analyze(paths).configurations.height == 2
    seeds = read_curves(paths, seed="run")
    assert analyze(seeds).configurations["num_seeds"].to_list() == [2]


def test_a_folder_of_files_is_all_of_them(tmp_path):
    for name in ("one", "two"):
        curve(tmp_path / f"{name}.csv")
    (tmp_path / "notes.txt").write_text("nothing of interest\n")
    (tmp_path / "model.pt").write_bytes(b"\0\1")
    assert lengths(read_curves(tmp_path)) == [("one", 8), ("two", 8)]


@pytest.mark.parametrize("file", ["hparams.yaml", "params.json"])
def test_settings_beside_a_log_tell_configurations_apart_and_their_seed(tmp_path, file):
    for number, (rate, seed) in enumerate([(0.1, 0), (0.1, 1), (0.2, 0), (0.2, 1)]):
        run = tmp_path / f"version_{number}"
        curve(run / "metrics.csv")
        content = {"lr": rate, "seed": seed, "hostname": f"node{number}", "save_dir": str(run)}
        (run / file).write_text(json.dumps(content))
    log = read_curves(tmp_path)
    assert log.config == ("lr",)
    assert analyze(log).configurations["num_seeds"].to_list() == [2, 2]


def test_what_describes_the_machine_and_metrics_are_no_settings(tmp_path):
    head = "run,epoch,val_acc,pid,hostname,date,time_total_s,node_ip,val_f1,gpu_mem,width"
    rows = [
        (
            run,
            epoch,
            accuracy,
            number,
            f"h{number}",
            "2026-01-01",
            3 + number,
            "10.0.0.1",
            0.5,
            7,
            8,
        )
        for number, run in enumerate("ab")
        for epoch, accuracy in enumerate(ACCURACY, 1)
    ]
    log = read_curves(csv(tmp_path / "log.csv", head, rows))
    assert log.config == ("run",)
    widths = csv(tmp_path / "w.csv", head, [(*row[:-1], 8 + row[3]) for row in rows])
    assert read_curves(widths).config == ("width",)


def test_percent_is_judged_for_each_run_over_all_its_accuracies(tmp_path):
    rows = [("a", k, v, v) for k, v in enumerate(ACCURACY)]
    rows += [("b", k, 100 * v, 100 * v) for k, v in enumerate(ACCURACY)]
    # Validation accuracy near chance: only the training accuracy shows that it is percent.
    rows += [("c", k, 0.5 + v / 100, 100 * v) for k, v in enumerate(ACCURACY)]
    log = read_curves(csv(tmp_path / "log.csv", "run,epoch,val_acc,train_acc", rows))
    a, b, c = log.curves["val_accuracy"].to_numpy().reshape(3, -1)
    assert a == pytest.approx(ACCURACY)
    assert b == pytest.approx(ACCURACY)
    assert c == pytest.approx(np.array(0.005 + np.array(ACCURACY) / 1e4))
    assert "fraction in 1 and percent in 2" in str(log)
    forced = read_curves(curve(tmp_path / "p.csv", [v / 100 for v in ACCURACY]), percent=True)
    assert forced.curves["val_accuracy"].to_list() == pytest.approx(np.array(ACCURACY) / 1e4)


def test_epoch_zero_is_the_first_where_training_stands_beside_it(tmp_path):
    rows = [(k, v, 1 - v) for k, v in enumerate(ACCURACY)]
    head = "epoch,val_acc,train_loss"
    first = read_curves(csv(tmp_path / "f.csv", head, rows))
    assert first.curves.height == 8
    assert "epoch 0 is taken for the first epoch: a training metric" in str(first)
    bare = read_curves(csv(tmp_path / "u.csv", head, [(0, 0.1, ""), *rows[1:]]))
    assert bare.curves["epoch"].to_list() == list(range(1, 8))
    assert "epoch 0 is the untrained network" in str(bare)
    said = read_curves(tmp_path / "f.csv", epoch_zero="untrained")
    assert said.curves.height == 7
    columns = {"train_loss": "train_loss"}
    eval_mode = read_curves(tmp_path / "f.csv", epoch_zero="untrained", columns=columns)
    assert eval_mode.curves["initial_train_loss"].unique().to_list() == [1 - ACCURACY[0]]


def test_a_resumed_run_goes_on_and_a_new_one_starts(tmp_path):
    resumed = [*enumerate(ACCURACY, 1), *enumerate([0.5, 0.6, 0.7, 0.8], 6)]
    log = read_curves(csv(tmp_path / "r.csv", "epoch,val_acc", resumed))
    assert log.curves["val_accuracy"].to_list() == [*ACCURACY[:5], 0.5, 0.6, 0.7, 0.8]
    assert "resumed from an earlier epoch: 3 evaluations" in str(log)
    again = [*enumerate(ACCURACY, 1), *enumerate(ACCURACY[:5], 1)]
    log = read_curves(csv(tmp_path / "n.csv", "epoch,val_acc", again))
    assert lengths(log) == [("n (1)", 8), ("n (2)", 5)]


def test_a_repeated_evaluation_counts_once_and_gaps_stay(tmp_path):
    rows = [(k, v) for k, v in enumerate(ACCURACY, 1) if k != 4]
    log = read_curves(csv(tmp_path / "c.csv", "epoch,val_acc", [*rows, (8, 0.9)]))
    assert log.curves["epoch"].to_list() == [1, 2, 3, 5, 6, 7, 8]
    assert log.curves["val_accuracy"].to_list()[-1] == ACCURACY[-1]
    assert "repeated with no training" in str(log)
    assert "1 evaluation is missing between epoch 1 and 8" in str(log)
    twice = [(k, v + off, 1 - v) for k, v in rows for off in (0, 0.01)]
    log = read_curves(csv(tmp_path / "t.csv", "epoch,val_acc,train_loss", twice))
    assert log.curves["val_accuracy"].to_list() == [v for _, v in rows]
    every = read_curves(csv(tmp_path / "e.csv", "epoch,val_acc", [(5 * k, v) for k, v in rows]))
    assert "every 5 epochs, after epochs 5, 10, ..." in str(every)
    assert every.labels["logged_epoch"].to_list() == [5.0 * k for k, _ in rows]


def test_several_evaluations_in_an_epoch_are_told_apart_by_steps(tmp_path):
    rows = [(k // 4, 100 * k, v) for k, v in enumerate(ACCURACY, 1)]
    log = read_curves(csv(tmp_path / "c.csv", "epoch,step,val_acc", rows))
    assert log.curves["val_accuracy"].to_list() == ACCURACY


def test_rows_in_any_order_are_one_curve(tmp_path):
    rows = [*enumerate(ACCURACY, 1)]
    log = read_curves(csv(tmp_path / "c.csv", "epoch,val_acc", rows[::-1]))
    assert log.curves["val_accuracy"].to_list() == ACCURACY


def test_runs_that_take_turns_in_a_table_are_told_apart_by_their_settings(tmp_path):
    rows = [(k, v - lr / 10, lr) for k, v in enumerate(ACCURACY, 1) for lr in (0.1, 0.2, 0.3)]
    log = read_curves(csv(tmp_path / "c.csv", "epoch,val_acc,lr", rows))
    assert [count for _, count in lengths(log)] == [8, 8, 8]
    assert log.config == ("learning_rate",)


def test_words_of_names_are_settings_where_no_file_has_them(tmp_path):
    for seed in (0, 1):
        for rate in ("0.1", "0.01"):
            curve(tmp_path / f"net_lr={rate},seed={seed}.csv")
    log = read_curves(tmp_path)
    assert sorted(log.curves["lr"].unique()) == [0.01, 0.1]
    assert analyze(log).configurations["num_seeds"].to_list() == [2, 2]
    names = [("net_seed0", 0.0), ("net_seed1", 0.1)]
    rows = [(run, k, v - off) for run, off in names for k, v in enumerate(ACCURACY, 1)]
    column = read_curves(csv(tmp_path / "c" / "c.csv", "run,epoch,val_acc", rows))
    assert analyze(column).configurations["num_seeds"].to_list() == [2]
    (tmp_path / "c" / "c.csv").unlink()
    curve(tmp_path / "other_lr=0.1,seed=1.csv")
    assert "run" in read_curves(tmp_path).config  # another net is no seed of this one


def test_the_number_of_validation_examples_is_proposed_and_only_said(tmp_path):
    rng = np.random.default_rng(0)
    accuracy = rng.binomial(853, 0.7, 30) / 853
    log = read_curves(curve(tmp_path / "c.csv", accuracy.round(5)))
    assert log.proposed_num_val == {"c": 853}
    assert "num_val" not in log.curves.columns
    told = read_curves(tmp_path / "c.csv", num_val=853)
    assert set(told.curves["num_val"]) == {853}
    few = read_curves(curve(tmp_path / "few.csv", accuracy.round(2)))
    assert few.proposed_num_val == {}


@pytest.mark.parametrize(("size", "digits"), [(200, 4), (500, 4), (2000, 6), (9973, 17)])
def test_the_proposed_number_is_the_true_one_or_none(size, digits):
    from analysis.sources.logs.num_val import proposed

    rng = np.random.default_rng(size)
    found = [
        proposed((rng.binomial(size, 0.8, 40) / size).round(digits).tolist()) for _ in range(50)
    ]
    assert set(found) <= {size, None}
    assert found.count(size) > 40
    noise = [proposed(rng.uniform(0.6, 0.9, 40).round(digits).tolist()) for _ in range(50)]
    assert set(noise) == {None}


def test_a_mean_over_batches_and_a_constant_metric_are_said(tmp_path):
    rng = np.random.default_rng(1)
    batches = [
        np.mean([*rng.binomial(128, 0.7, 7) / 128, rng.binomial(37, 0.7) / 37]) for _ in range(40)
    ]
    assert "so does a mean over batches" in str(read_curves(curve(tmp_path / "b.csv", batches)))
    constant = read_curves(curve(tmp_path / "c.csv", [1.0] * 9))
    assert "the accuracy is 1 in every one of 9 evaluations" in str(constant)


def test_a_loss_that_is_nan_throughout_is_no_divergence(tmp_path):
    rows = [(k, v, "nan") for k, v in enumerate(ACCURACY, 1)]
    log = read_curves(csv(tmp_path / "c.csv", "epoch,val_acc,val_loss", rows))
    assert "'val_loss' is nan throughout: left out" in str(log)
    assert analyze(log).trials["outcome"].to_list() == ["completed"]
    late = csv(tmp_path / "d.csv", "epoch,val_acc,val_loss", [*rows[:5], (6, 0.1, 3.0), rows[6]])
    assert analyze(late).trials["outcome"].to_list() == ["diverged"]


def test_an_accuracy_of_which_nothing_says_the_set_is_asked_for(tmp_path):
    rows = [(k, v, 1 - v) for k, v in enumerate(ACCURACY)]
    path = csv(tmp_path / "c.csv", "epoch,accuracy,loss", rows)
    with pytest.raises(InputError, match="nothing says whether 'accuracy' is of training") as error:
        read_curves(path)
    assert "--column val_accuracy=NAME says which" in error.value.__notes__[0]
    assert read_curves(path, columns={"val_accuracy": "accuracy"}).curves.height == 8
    alone = read_curves(csv(tmp_path / "a.csv", "epoch,accuracy", [row[:2] for row in rows]))
    assert "nothing says whether 'accuracy' is of training or of validation" in str(alone)


@pytest.mark.parametrize(
    ("name", "lower"),
    [
        ("val_mAP50", False),
        ("metrics/mAP50-95(B)", False),
        ("val/mIoU", False),
        ("val_dice", False),
        ("eval_f1", False),
        ("val_auc", False),
        ("val_r2", False),
        ("valid_bleu", False),
        ("eval/reward", False),
        ("val_wer", True),
        ("val_rmse", True),
        ("eval_perplexity", True),
        ("val_mean_absolute_error", True),
    ],
)
def test_a_score_alone_is_understood_with_its_direction_and_analyzed(tmp_path, name, lower):
    rows = [(k, v, 1 - v) for k, v in enumerate(ACCURACY, 1)]
    path = csv(tmp_path / "c.csv", f"epoch,{name},train_loss", rows)
    log = read_curves(path)
    assert log.curves["val_score"].to_list() == ACCURACY
    assert [(score.name, score.lower_is_better) for score in log.scores] == [(name, lower)]
    assert f"{'lower' if lower else 'higher'} is better" in str(log)
    turned = read_curves(path, lower_is_better=not lower)
    assert turned.scores[0].lower_is_better is not lower
    found = analyze(log)
    assert found.epochs["val_score"].to_list() == ACCURACY
    assert found.epochs["val_accuracy"].null_count() == len(ACCURACY)
    assert found.trials["outcome"].to_list() == ["completed"]
    assert found.trials["status"].to_list() == ["ok"]
    assert found.trials["hf_sd"].null_count() == 1  # there is no accuracy that could jitter


def test_a_loss_alone_and_several_scores_are_understood(tmp_path):
    rows = [(k, v, 1 - v, v / 2) for k, v in enumerate(ACCURACY, 1)]
    loss = read_curves(csv(tmp_path / "l.csv", "step,val_loss,train_loss,lr", rows))
    assert loss.curves["val_loss"].to_list() == ACCURACY
    assert analyze(loss).trials["final_loss"].null_count() == 0
    path = csv(tmp_path / "s.csv", "epoch,val_precision,val_f1,val_recall", rows)
    log = read_curves(path)
    assert [score.name for score in log.scores] == ["val_f1", "val_precision", "val_recall"]
    assert log.scored.filter(pl.col("score") == "val_recall")["value"].to_list() == [
        r[3] for r in rows
    ]
    assert read_curves(path, score="val_recall").curves["val_score"].to_list() == [
        r[3] for r in rows
    ]


def test_a_metric_in_a_file_of_its_own_and_stage_is_one_run_with_the_others(tmp_path):
    metrics = tmp_path / "dvclive" / "plots" / "metrics"
    for stage, off in (("train", 0.1), ("eval", 0.0)):
        values = [value + off for value in ACCURACY]
        curve(metrics / stage / "acc.csv", values, first=0, head="step,acc")
        tsv = (metrics / stage / "acc.csv").read_text().replace(",", "\t")
        (metrics / stage / "acc.tsv").write_text(tsv)
        (metrics / stage / "acc.csv").unlink()
    (tmp_path / "dvclive" / "metrics.json").write_text(
        json.dumps({"eval": {"acc": 0.7}, "step": 7})
    )
    log = read_curves(tmp_path)
    assert log.curves["val_accuracy"].to_list() == ACCURACY
    assert log.curves["train_accuracy_running"].to_list() == pytest.approx(
        [v + 0.1 for v in ACCURACY]
    )


def test_checkpoints_that_repeat_their_log_are_one_run(tmp_path):
    rows = []
    for epoch, accuracy in enumerate(ACCURACY, 1):
        rows.append({"epoch": float(epoch), "step": 10 * epoch, "eval_accuracy": accuracy})
        state = tmp_path / f"checkpoint-{10 * epoch}" / "trainer_state.json"
        state.parent.mkdir()
        state.write_text(json.dumps({"log_history": rows}))
    assert read_curves(tmp_path).curves["val_accuracy"].to_list() == ACCURACY


def test_columns_without_names_are_numbered(tmp_path):
    path = csv(tmp_path / "c.csv", "1,0.4", enumerate(ACCURACY, 2))
    with pytest.raises(InputError, match="Columns: column 1, column 2"):
        read_curves(path)
    columns = {"epoch": "column 1", "val_accuracy": "column 2"}
    assert read_curves(path, columns=columns).curves.height == 9


def test_settings_with_a_name_of_ours_do_no_harm(tmp_path):
    head, rows = "run,epoch,val_acc,noise,task", []
    for run, noise in (("a", 0.1), ("b", 0.2)):
        rows += [(run, k, v, noise, "mnist") for k, v in enumerate(ACCURACY, 1)]
    log = read_curves(csv(tmp_path / "c.csv", head, rows))
    assert [axis.name for axis in analyze(log).axes] == ["noise (setting)"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (
            {"columns": {"val_accuracy": "vall"}},
            "--column: no column 'vall'; did you mean 'val_acc'",
        ),
        (
            {"columns": {"val_acuracy": "val_acc"}},
            "no column of a curve; did you mean 'val_accuracy",
        ),
        ({"trial": "no"}, "--trial: no column 'no'"),
        ({"ignore": ["no"]}, "--ignore: no column 'no'"),
        ({"score": "no"}, "--score: no column 'no'"),
        ({"seed": "no"}, "--seed 'no': there is no such column or setting"),
        ({"config": ["no"]}, "column 'no' can't be a hyperparameter"),
        ({"ignore": ["val_acc"]}, "holds no validation metric that is known"),
        ({"epoch_zero": "last"}, "it is first or untrained"),
        ({"num_val": 0}, "a number of examples is expected"),
    ],
)
def test_an_option_that_names_what_is_not_there_is_one_clear_line(tmp_path, how, words):
    with pytest.raises(InputError, match=words):
        read_curves(curve(tmp_path / "c.csv"), **how)


def test_the_command_prints_the_table_and_writes_nothing_in_a_dry_run(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    curve(tmp_path / "c.csv")
    with pytest.raises(SystemExit) as left:
        run_command_line(["report", "c.csv", "--dry-run", "--num-val", "100", "--fraction"])
    assert left.value.code == 0
    out = capsys.readouterr().out
    assert out == f"{read_curves('c.csv', num_val=100)}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["c.csv"]


def test_one_door_reads_the_same(tmp_path):
    path = curve(tmp_path / "c.csv", [100 * v for v in ACCURACY], first=0)
    by_path, by_log = analyze(path), analyze(read_curves(path))
    assert by_path.trials.equals(by_log.trials)
    assert by_path.epochs["val_accuracy"].to_list() == pytest.approx(ACCURACY)


def test_reading_a_log_imports_neither_ray_nor_torch(tmp_path):
    curve(tmp_path / "c.csv")
    code = (
        "import sys\nfrom raysweep.cli import run_command_line\n"
        "try: run_command_line(['report', 'c.csv'])\n"
        "finally: print([m for m in ('torch', 'ray', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
