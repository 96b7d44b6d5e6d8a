"""What a loop reports becomes the columns that a task has, as far as the form gives them."""

import json
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from raysweep.errors import InputError
from raysweep.loops.given import read
from raysweep.loops.report import LoopOver
from raysweep.loops.validation import Validation
from raysweep.spec import EarlyStopping, Hyperparameters
from raysweep.tasks import Loop, find_task
from raysweep.training.train import Training, train
from tests.loops.in_process import EXAMPLES, timeless, train_loop

N = 40
RNG = np.random.default_rng(0)
LOGITS = torch.tensor(RNG.normal(size=(N, 3)), dtype=torch.float32)
CLASSES = torch.tensor(RNG.integers(0, 3, N))
RIGHT = (LOGITS.argmax(1) == CLASSES).numpy()
LOSSES = nn.functional.cross_entropy(LOGITS, CLASSES, reduction="none").numpy()


def reporting(*reports, **about):
    """A loop that makes these reports, one after another."""

    def run(trial, report):
        for said in reports:
            report(**said)

    return Loop(run, **{"num_val": N, "num_train": 100, **about})


def row_of(**said):
    (row,), _, _ = train_loop(reporting(said), Hyperparameters(epochs=1))
    return row


def test_outputs_give_all_that_a_task_gives(digits):
    """A loop that reports the logits of a trained task has that task's columns."""
    task, data, placed = digits
    fields, rows, logits = Hyperparameters(epochs=3, width=16), [], []
    trial = Training(fields, 0, task, data, placed)

    def between_epochs(row):
        if row["weights_kind"] == "raw":
            rows.append(row)
            with torch.inference_mode():
                logits.append(trial._model.eval()(placed.validation.x))

    train(trial, between_epochs)

    def run(trial, report):
        for outputs in logits:
            report(outputs=outputs, targets=data.validation.y)

    loop = Loop(run, num_val=len(data.validation.y))
    reported, _, _ = train_loop(loop, fields)
    assert len(reported) == len(rows) == 3
    of_validation = [name for name in rows[0] if name.startswith(("val_", "flip_", "temperature"))]
    for told, trained in zip(reported, rows, strict=True):
        for name in [*of_validation, "brier", "ece", "status", "epoch"]:
            if isinstance(trained[name], float | list):
                assert told[name] == pytest.approx(trained[name], rel=1e-5, abs=1e-7), name
            else:
                assert told[name] == trained[name], name


def test_right_or_wrong_with_losses_gives_all_but_the_temperature():
    whole, part = row_of(outputs=LOGITS, targets=CLASSES), row_of(correct=RIGHT, losses=LOSSES)
    lost = {name for name, value in whole.items() if value is not None and not part.get(name)}
    assert lost == {
        *("temperature", "val_nll_at_temperature", "val_block_nll_sum", "brier", "ece"),
        *("val_class_n", "val_class_correct"),
    }
    for name in ("val_correct", "val_block_correct", "val_block_n", "val_correct_bits"):
        assert part[name] == whole[name]
    assert part["val_block_loss_sum"] == pytest.approx(whole["val_block_loss_sum"], rel=1e-6)


def test_right_or_wrong_alone_has_no_loss_and_a_share_alone_has_no_blocks():
    row = row_of(correct=RIGHT)
    assert row["val_block_correct"] is not None
    assert row["val_loss_sum"] is row["val_loss_sumsq"] is row["val_block_loss_sum"] is None
    row = row_of(val_accuracy=0.6, val_loss=1.5)
    assert (row["val_correct"], row["val_loss_sum"]) == (24, 60.0)
    assert "val_block_correct" not in row


def test_scores_are_summed_whole_and_by_block_and_their_steps_from_epoch_to_epoch():
    first, second = RNG.normal(size=(2, N)) - 3
    said = {"losses": LOSSES, "train_score": -2.0}
    loop = reporting({"scores": first, **said}, {"scores": second, **said})
    (_, row), _, outcome = train_loop(loop, Hyperparameters(epochs=2))
    assert outcome["score_kind"] == "number"
    assert (row["train_eval_n"], row["train_eval_score_sum"]) == (100, -200.0)
    assert not {"val_correct", "val_block_correct", "flip_to_wrong"} & row.keys()
    assert "val_correct_bits" not in row
    assert row["val_score_sum"] == pytest.approx(second.sum())
    assert row["val_score_sumsq"] == pytest.approx((second**2).sum())
    assert sum(row["val_block_score_sum"]) == pytest.approx(second.sum())
    assert row["val_change_sumsq"] == pytest.approx(((second - first) ** 2).sum())
    assert row["val_change_sum4"] == pytest.approx(((second - first) ** 4).sum())
    assert row["val_loss_sum"] == pytest.approx(LOSSES.sum())


@pytest.mark.parametrize(
    "kind", [np.asarray, torch.tensor, list, lambda values: torch.tensor(values)[:, None]]
)
def test_arrays_of_any_library_and_lists_do(kind):
    assert row_of(correct=kind(RIGHT.tolist()))["val_correct"] == RIGHT.sum()


def test_flips_are_counted_between_reports_and_examples_that_belong_together_share_a_block():
    clusters = np.arange(N) // 2
    loop = reporting({"correct": RIGHT}, {"correct": ~RIGHT}, val_clusters=clusters)
    rows, _, _ = train_loop(loop, Hyperparameters(epochs=2))
    assert rows[0]["flip_to_wrong"] is None
    assert rows[1]["flip_to_wrong"] == RIGHT.sum()
    assert rows[1]["flip_to_right"] == N - RIGHT.sum()
    assert rows[0]["val_block_n"] == [2] * 20


def test_training_is_said_in_eval_mode_or_as_it_ran():
    row = row_of(
        correct=RIGHT, train_accuracy=0.5, train_loss=2.0, running_accuracy=0.4, running_loss=3.0
    )
    assert (row["train_eval_n"], row["train_eval_correct"]) == (100, 50)
    assert (row["train_eval_loss_sum"], row["train_loss"]) == (200.0, 3.0)
    assert row["train_accuracy"] == 0.4
    assert row_of(correct=RIGHT, train_accuracy=0.5, train_n=10)["train_eval_correct"] == 5


WRONG = [
    ({}, "nothing says how good"),
    ({"correct": RIGHT, "val_accuracy": 0.5}, "correct= and val_accuracy= are two forms"),
    ({"outputs": LOGITS, "targets": CLASSES, "correct": RIGHT}, "outputs= and correct="),
    ({"outputs": LOGITS, "targets": CLASSES, "losses": LOSSES}, r"losses=\): it does not go with"),
    ({"correct": RIGHT, "val_loss": 1.0}, r"val_loss=\): it does not go with correct="),
    ({"outputs": LOGITS}, "targets= is missing"),
    ({"outputs": LOGITS[:, 0], "targets": CLASSES}, r"has shape \(40,\).*torch.stack"),
    ({"outputs": LOGITS[:, :1], "targets": CLASSES}, r"has shape \(40, 1\).*torch.stack"),
    ({"outputs": torch.zeros(N, 5, 3), "targets": CLASSES}, "several predictions"),
    ({"outputs": LOGITS, "targets": CLASSES.float()}, "targets=.*whole numbers"),
    ({"outputs": LOGITS, "targets": nn.functional.one_hot(CLASSES)}, "argmax"),
    ({"outputs": LOGITS, "targets": CLASSES + 1}, "classes 1 to 3; .*0 to 2 are allowed"),
    ({"outputs": LOGITS.softmax(1), "targets": CLASSES}, "probabilities"),
    ({"outputs": torch.cat([LOGITS, LOGITS[:3]]), "targets": CLASSES}, "43 rows.*sampler"),
    ({"outputs": LOGITS, "targets": CLASSES[:20]}, "targets=.* 20 rows.*rank 0"),
    ({"correct": np.append(RIGHT, True)}, r"report\(correct=\) has 41 rows.*sampler"),
    ({"correct": RIGHT[:20]}, "20 rows"),
    ({"correct": RIGHT * 2}, "is 2; each is true or false"),
    ({"correct": [math.nan] * N}, "is nan; each"),
    ({"correct": 0.5}, "no mean over them"),
    ({"correct": np.zeros((N, 2))}, r"shape \(40, 2\)"),
    ({"correct": "yes"}, "correct = 'yes'.*array of numbers"),
    ({"correct": RIGHT, "losses": LOSSES.mean()}, r"losses = .*no mean over them"),
    ({"correct": RIGHT, "losses": LOSSES[:-1]}, r"losses=\) has 39 rows"),
    ({"val_accuracy": 81.2}, "val_accuracy = 81.2.*divide"),
    ({"val_accuracy": math.nan}, "val_accuracy = nan"),
    ({"val_accuracy": "good"}, "val_accuracy = 'good'.*number"),
    ({"correct": RIGHT, "lr": math.nan}, "lr = nan"),
    ({"correct": RIGHT, "train_accuracy": 97}, "train_accuracy = 97"),
    ({"correct": RIGHT, "train_n": 0, "train_loss": 1.0}, "train_n = 0"),
    ({"correct": RIGHT, "epoch": 3}, "epoch = 3.*1 comes next"),
    ({"epoch": 0}, "train_loss= is missing"),
]


@pytest.mark.parametrize(("said", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_is_wrong_in_a_call_is_one_line_naming_the_argument(said, message):
    with pytest.raises(InputError) as raised:
        row_of(**said)
    assert re.search(message, str(raised.value)), str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_epoch_is_reported_once_and_there_are_no_more_than_the_trial_has():
    loop = reporting({"correct": RIGHT, "epoch": 1}, {"correct": RIGHT, "epoch": 1})
    with pytest.raises(InputError, match=r"epoch = 1.*reported before"):
        train_loop(loop)
    with pytest.raises(InputError, match="epoch 4 of 3"):
        train_loop(reporting(*[{"correct": RIGHT}] * 4))
    with pytest.raises(InputError, match="without a report"):
        train_loop(reporting())
    with pytest.raises(InputError, match="not those of the first report"):
        train_loop(
            reporting(
                {"outputs": LOGITS, "targets": CLASSES},
                {"outputs": LOGITS.flip(0), "targets": CLASSES.flip(0)},
            )
        )


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"num_val": 0}, "num_val = 0"),
        ({"num_val": 1.5}, "num_val = 1.5"),
        ({"num_train": "many"}, "num_train = 'many'"),
        ({"val_clusters": np.arange(3)}, r"val_clusters has shape \(3,\)"),
        ({"run": 3}, "run = 3"),
        ({"digest": 3}, "digest = 3"),
    ],
)
def test_what_is_wrong_in_a_loop_is_found_when_it_is_loaded(about, message):
    from raysweep.tasks import TaskSource, load_data

    loop = Loop(
        **{"run": print, "num_val": 3} | about | ({"num_val": 4} if "val_c" in message else {})
    )
    with pytest.raises(InputError, match=message):
        load_data(TaskSource("mine:loop", loop, "", None), None)


def test_a_loss_that_is_not_finite_ends_the_trial_as_diverged_however_the_loop_is_written():
    reached = []

    def run(trial, report):
        try:
            for epoch in range(1, 4):
                report(correct=RIGHT, losses=LOSSES if epoch == 1 else LOSSES + math.nan)
                reached.append(epoch)
        except Exception:
            reached.append("caught")

    rows, _, outcome = train_loop(Loop(run, num_val=N))
    assert reached == [1]
    assert [row["status"] for row in rows] == ["ok", "diverged"]
    assert (outcome["status"], outcome["epochs_run"]) == ("diverged", 2)

    def run_epochs(trial, report):
        for epoch in report.epochs():
            report(correct=RIGHT, losses=LOSSES * math.inf)
            reached.append(epoch)

    _, _, outcome = train_loop(Loop(run_epochs, num_val=N))
    assert reached == [1, 1]
    assert outcome["status"] == "diverged"


def test_a_training_loss_that_ends_above_where_it_began_has_diverged():
    said = [{"epoch": 0, "train_loss": 1.0}, {"correct": RIGHT, "train_loss": 1.1}]
    _, _, outcome = train_loop(reporting(*said), Hyperparameters(epochs=1))
    assert outcome["status"] == "diverged"
    assert outcome["initial_train_eval_loss"] == 1.0


def test_the_rule_of_early_stopping_ends_a_loop():
    fields = Hyperparameters(epochs=9, early_stopping=EarlyStopping(patience=2))
    with pytest.raises(InputError, match="needs a loss"):
        train_loop(reporting({"correct": RIGHT}), fields)
    rows, _, outcome = train_loop(reporting(*[{"correct": RIGHT, "losses": LOSSES}] * 9), fields)
    assert len(rows) == 3
    assert outcome["stopped_early"]
    assert outcome["status"] == "completed"


def test_after_the_end_every_report_ends_the_loop_again():
    def run(trial, report):
        for _ in range(2):
            with pytest.raises(LoopOver):
                report(correct=RIGHT, losses=LOSSES * math.nan)

    rows, _, _ = train_loop(Loop(run, num_val=N))
    assert len(rows) == 1


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 200), st.integers(0, 2**32 - 1))
def test_the_line_of_a_share_has_the_binomial_standard_error(n, seed):
    right = np.random.default_rng(seed).random(n) < 0.8
    validation = Validation(n, None, bits=False, fits=False)
    said = dict.fromkeys(("outputs", "targets", "scores", "losses", "val_accuracy", "val_loss"))
    p = right.mean()
    line = f"val accuracy {p:.3f}, +- {math.sqrt(p * (1 - p) / n):.3f} from {n:,} examples"
    assert validation.said(read(n, {**said, "correct": right})) == line
    assert validation.said(read(n, {**said, "correct": None, "val_accuracy": p})) == line


def test_the_line_counts_examples_that_belong_together_as_one():
    """Copies of each example change nothing of the mean's standard error."""
    said = dict.fromkeys(("outputs", "targets", "scores", "losses", "val_accuracy", "val_loss"))
    once = Validation(N, None, bits=False, fits=False).said(read(N, {**said, "correct": RIGHT}))
    copies = Validation(3 * N, np.arange(N).repeat(3), bits=False, fits=False)
    thrice = copies.said(read(3 * N, {**said, "correct": RIGHT.repeat(3)}))
    assert thrice.partition(" from")[0] == once.partition(" from")[0]


def test_a_trial_that_goes_on_from_its_checkpoint_has_the_rows_of_an_undisturbed_one():
    loop = find_task("own_loop:task", EXAMPLES).task
    fields = Hyperparameters(epochs=6, width=8, batch_size=50, momentum=0.9)
    whole, kept, outcome = train_loop(loop, fields, every=2)
    assert sorted(kept) == [2, 4]
    for epoch, body in kept.items():
        rest, _, again = train_loop(loop, fields, body=body)
        assert timeless(rest) == timeless(whole[epoch:])
        assert again | {"seconds": 0} == outcome | {"seconds": 0}
    json.dumps(outcome, allow_nan=False)


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"rng": np.zeros(2)}, r"checkpoint\['rng'\] is a numpy.ndarray.*torch.from_numpy"),
        ({"a": [1, {"b": object()}]}, r"checkpoint\['a'\]\[1\]\['b'\] is a builtins.object"),
        (nn.Linear(1, 1), "checkpoint is a torch.nn"),
    ],
)
def test_what_no_checkpoint_can_hold_is_refused_when_it_is_kept(kept, message):
    said = {"correct": RIGHT, "checkpoint": lambda: kept}
    with pytest.raises(InputError, match=message):
        train_loop(reporting(said, said), every=1)
