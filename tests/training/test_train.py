"""The training loop: exact over workers, reproducible, honest about how it ended."""

import itertools
import math
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from raysweep.spec import Hyperparameters, Probes
from raysweep.store.schema import EPOCHS, NUM_BLOCKS
from raysweep.training import splits
from raysweep.training.evaluation import evaluate
from raysweep.training.group import ALONE, Group
from raysweep.training.splits import at_once, deal_blocks, place
from raysweep.training.train import Stopper, Training, train
from tests.support import odd_tasks
from tests.support.groups import in_group
from tests.support.odd_tasks import odd, pairs

CPU = torch.device("cpu")
TIMES = ("wall_s", "train_s")
DEFAULTS = Probes()
EVERYTHING = Probes(ema_half_life=0.5, gradient_noise_every=2)
NO_PROBES = Probes(
    gradient_noise_every=None, confidence=False, correct_bits=False, repeat_evaluation=False
)


def rows_of(
    task,
    data,
    seed=0,
    *,
    probes=DEFAULTS,
    group=ALONE,
    wrap=lambda model: model,
    **fields: Any,
):
    """(rows without times, outcome) of one trial."""
    torch.set_num_threads(1)
    rows = []
    trial = Hyperparameters.model_validate(fields)
    outcome = train(
        Training(trial, seed, task, data, place(data, CPU), probes=probes, group=group, wrap=wrap),
        rows.append,
    )
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows], outcome


def train_in_group(group, task_name, fields):
    """(rows, best weights) as one of several workers finds them."""
    task = getattr(odd_tasks, task_name)
    rows, outcome = rows_of(
        task,
        task.load(None),
        probes=EVERYTHING,
        group=group,
        wrap=DistributedDataParallel,
        **fields,
    )
    state = outcome.best_state or {}
    return rows, {name: value.tolist() for name, value in state.items()}


def assert_close(a, b, *, but=()):
    """Rows equal: counts of examples exactly or within one, sums within float32's tolerance."""
    assert len(a) == len(b)
    for row, other in zip(a, b, strict=True):
        assert row.keys() == other.keys()
        for key, value in row.items():
            if key in but:
                continue
            if value is None or isinstance(value, str | bytes):
                assert value == other[key], key
            else:
                np.testing.assert_allclose(value, other[key], rtol=2e-4, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize(
    "fields",
    [
        # 97 examples: the last global batch holds 1, and leaves all ranks but one empty.
        {"batch_size": 32, "learning_rate": 0.1, "epochs": 3, "momentum": 0.9},
        # 97 = 4 x 20 + 17, and neither 20 nor 17 nor the 61 validation examples divide by 3 or 2.
        {"batch_size": 20, "learning_rate": 1e-3, "epochs": 3, "optimizer": "adam"},
        {"batch_size": 25, "learning_rate": 0.1, "epochs": 3, "grad_clip": 0.5},
    ],
)
def test_two_or_three_workers_train_what_one_trains(world_size, fields, tmp_path):
    alone, _ = rows_of(odd, odd.load(None), probes=EVERYTHING, **fields)
    assert {"temperature", "ece", "val_correct_bits", "gns_small_sq"} < alone[-1].keys()
    assert [row["weights_kind"] for row in alone] == ["ema", "raw"] * fields["epochs"]
    (rows, _), *others = in_group(world_size, train_in_group, "odd", fields, folder=tmp_path)
    # The small batch is a worker's shard: with three workers it is a third, not a half.
    assert_close(rows, alone, but=("gns_small_sq", "gns_b_small") if world_size > 2 else ())
    assert [other for other, _ in others] == [[]] * (world_size - 1)  # rank 0 alone emits


def test_batch_norm_statistics_are_those_of_rank_0_on_every_worker(tmp_path):
    # With unlike buffers the ranks would evaluate unlike models, and their shards of the
    # validation set would not add up to what one model gives.
    rule = {"patience": 9, "restore_best": False}
    fields = {"batch_size": 33, "learning_rate": 0.1, "epochs": 2, "early_stopping": rule}
    (_, first), (_, second) = in_group(2, train_in_group, "batch_norm", fields, folder=tmp_path)
    assert "1.running_mean" in first
    assert first == second


def test_a_trial_is_bit_equal_whatever_trained_before_it(digits):
    task, data, _ = digits
    fields: dict[str, Any] = {"epochs": 2, "dropout": 0.5, "batch_size": 64}
    alone, _ = rows_of(task, data, seed=3, probes=EVERYTHING, **fields)
    rows_of(task, data, seed=4, epochs=1, optimizer="adam")
    torch.rand(7)
    torch.set_grad_enabled(False)
    after, _ = rows_of(task, data, seed=3, probes=EVERYTHING, **fields)
    assert after == alone
    assert rows_of(task, data, seed=5, **fields)[0] != alone


@pytest.mark.parametrize("task", [odd, odd_tasks.batch_norm, odd_tasks.jittered])
def test_probes_change_nothing_else_to_the_last_bit(task):
    fields: dict[str, Any] = {"epochs": 3, "dropout": 0.5, "batch_size": 33, "grad_clip": 0.5}
    everything, outcome = rows_of(task, task.load(None), probes=EVERYTHING, **fields)
    nothing, plain = rows_of(task, task.load(None), probes=NO_PROBES, **fields)
    raw = [row for row in everything if row["weights_kind"] == "raw"]
    assert [{key: row[key] for key in nothing[0]} for row in raw] == nothing
    assert raw[0].keys() - nothing[0].keys() >= {"ece", "repeat_correct", "gns_big_sq"}
    assert outcome == plain


def test_a_dataset_trains_like_the_arrays_it_holds(digits):
    task, data, _ = digits
    fields: dict[str, Any] = {"epochs": 2, "batch_size": 300}
    as_arrays, _ = rows_of(task, data, **fields)
    as_pairs, _ = rows_of(pairs, pairs.load(None), **fields)
    assert_close(as_pairs, as_arrays)


def test_a_row_fills_the_columns_it_can_and_its_parts_add_up(digits):
    task, data, _ = digits
    rows, outcome = rows_of(task, data, epochs=3, batch_size=100, learning_rate=0.5)
    assert outcome.status == "completed"
    assert outcome.epochs_run == 3
    for number, row in enumerate(rows, 1):
        assert set(row) <= set(EPOCHS.names)
        assert (row["epoch"], row["global_step"]) == (number, 10 * number)
        assert sum(row["val_block_n"]) == sum(row["val_class_n"]) == row["val_n"] == 797
        assert sum(row["val_block_correct"]) == row["val_correct"]
        assert sum(row["val_class_correct"]) == row["val_correct"]
        assert sum(row["val_block_loss_sum"]) == pytest.approx(row["val_loss_sum"])
        assert row["val_loss_sumsq"] >= row["val_loss_sum"] ** 2 / 797
        assert row["train_eval_n"] == 1000
        assert min(row["grad_norm"], row["param_norm"], row["update_norm"]) > 0
    assert rows[0]["flip_to_wrong"] is None
    for before, row in itertools.pairwise(rows):
        gained = row["flip_to_right"] - row["flip_to_wrong"]
        assert row["val_correct"] - before["val_correct"] == gained
        was, now = (unpacked(r["val_correct_bits"], 797) for r in (before, row))
        assert (was & ~now).sum() == row["flip_to_wrong"]
        assert now.sum() == row["val_correct"]
    assert [row.get("repeat_correct") for row in rows] == [
        rows[0]["val_correct"],
        None,
        rows[2]["val_correct"],
    ]


def unpacked(bits, n):
    """Which validation examples were right."""
    return np.unpackbits(np.frombuffer(bits, np.uint8))[:n].astype(bool)


def test_a_model_that_is_random_in_evaluation_is_caught_by_the_repeat():
    rows, _ = rows_of(odd_tasks.restless, odd_tasks.restless.load(None), epochs=1)
    assert rows[0]["repeat_correct"] != rows[0]["val_correct"]


def test_averaged_weights_have_rows_of_their_own_and_flip_less(digits):
    task, data, _ = digits
    rows, _ = rows_of(
        task, data, probes=Probes(ema_half_life=1.0), epochs=12, learning_rate=0.5, batch_size=16
    )
    of = {kind: [r for r in rows if r["weights_kind"] == kind] for kind in ("raw", "ema")}
    assert [row["epoch"] for row in of["ema"]] == list(range(1, 13))
    churn = {
        kind: sum(r["flip_to_wrong"] + r["flip_to_right"] for r in found[4:])
        for kind, found in of.items()
    }
    assert churn["ema"] < churn["raw"]
    assert all(sum(r["val_block_correct"]) == r["val_correct"] for r in of["ema"])
    assert set(of["ema"][0]) <= set(EPOCHS.names)


def test_dropout_is_off_in_evaluation_and_on_in_training(digits):
    task, data, _ = digits
    rows, _ = rows_of(task, data, epochs=8, dropout=0.5, learning_rate=0.1, momentum=0.9)
    last = rows[-1]
    assert last["train_accuracy"] < last["train_eval_correct"] / last["train_eval_n"]


@pytest.mark.parametrize("rate", [1e4, 1e30])
def test_a_diverging_learning_rate_is_recorded_as_diverged(digits, rate):
    task, data, _ = digits
    rows, outcome = rows_of(task, data, epochs=5, batch_size=100, learning_rate=rate)
    assert outcome.status == "diverged"
    assert len(rows) == outcome.epochs_run
    if not math.isfinite(rows[-1]["train_loss"]):
        assert rows[-1]["status"] == "diverged"


def test_early_stopping_stops_where_its_own_curve_says_and_restores_the_best(digits):
    task, data, _ = digits
    rule = {"metric": "val_loss", "patience": 4}
    fields = {"batch_size": 32, "optimizer": "adam", "learning_rate": 0.01}
    rows, outcome = rows_of(task, data, epochs=200, early_stopping=rule, **fields)
    losses = [row["val_loss_sum"] for row in rows]
    best = int(np.argmin(losses))
    assert outcome.stopped_early
    assert outcome.restored_epoch == best + 1
    assert outcome.epochs_run == len(rows) == best + 1 + 4 < 200
    assert outcome.restored_val_correct == rows[best]["val_correct"]
    # The same trial without the rule has the same curve for as long as both last.
    without, free = rows_of(task, data, epochs=len(rows) + 1, **fields)
    del rows[-1]["repeat_correct"]  # of a trial's last epoch
    assert without[: len(rows)] == rows
    assert not free.stopped_early
    # The checkpoint is the model of the best epoch.
    model = task.build(Hyperparameters(), data)
    model.load_state_dict(outcome.best_state or {})
    model.eval()
    right = model(torch.from_numpy(data.validation.x)).argmax(1) == torch.from_numpy(
        data.validation.y
    )
    assert int(right.sum()) == rows[best]["val_correct"]


def test_patience_counts_epochs_without_an_improvement_of_min_delta():
    rule = Hyperparameters.model_validate(
        {"early_stopping": {"metric": "val_accuracy", "patience": 2, "min_delta": 0.01}}
    ).early_stopping
    assert rule is not None
    stopper = Stopper(rule)
    improved = [stopper.improved(0.0, accuracy) for accuracy in (0.5, 0.505, 0.52, 0.525)]
    assert improved == [True, False, True, False]
    assert not stopper.out_of_patience
    assert not stopper.improved(0.0, 0.53)
    assert stopper.out_of_patience
    assert stopper.best_epoch == 3


def test_bf16_trains_nearly_like_fp32_and_is_another_trial(digits):
    task, data, _ = digits
    fields: dict[str, Any] = {"epochs": 20, "learning_rate": 0.1, "momentum": 0.9}
    full, _ = rows_of(task, data, **fields)
    half, _ = rows_of(task, data, **fields, precision="bf16")
    assert half != full
    assert abs(half[-1]["val_correct"] - full[-1]["val_correct"]) < 0.03 * 797
    ids = {Hyperparameters(precision=p).digest() for p in ("fp32", "bf16")}
    assert len(ids) == 2


def test_classes_of_any_whole_type_train_alike(digits):
    task, data, _ = digits
    small = data._replace(train=data.train._replace(y=data.train.y.astype(np.uint8)))
    assert rows_of(task, small, epochs=2) == rows_of(task, data, epochs=2)


def test_large_inputs_are_evaluated_in_small_batches_and_to_the_same_result(digits, monkeypatch):
    task, data, placed = digits
    assert at_once(placed.validation) == splits.MAX_BATCH
    model = task.build(Hyperparameters(), data)
    whole = evaluate(model, placed.validation, ALONE, nullcontext())
    monkeypatch.setattr(splits, "MAX_NUMBERS", 64 * 100)
    assert at_once(placed.validation) == 100
    parts = evaluate(model, placed.validation, ALONE, nullcontext())
    assert torch.equal(whole.correct, parts.correct)
    torch.testing.assert_close(whole.loss, parts.loss)
    monkeypatch.setattr(splits, "MAX_NUMBERS", 1)
    assert at_once(placed.validation) == splits.MIN_BATCH


def test_label_smoothing_changes_training_and_not_how_validation_is_measured(digits):
    task, data, _ = digits
    plain, smooth = (
        rows_of(task, data, epochs=30, learning_rate=0.5, label_smoothing=s)[0][-1]
        for s in (0.0, 0.3)
    )
    assert smooth["train_loss"] > 2 * plain["train_loss"]
    assert smooth["val_loss_sum"] / 797 < smooth["train_loss"]


def test_shards_of_a_group_cover_everything_once():
    for items in (0, 1, 2, 7, 64):
        for world in (1, 2, 3, 5):
            shards = [range(items)[Group(rank, world).shard(items)] for rank in range(world)]
            assert [i for shard in shards for i in shard] == list(range(items))
            assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_blocks_are_even_fixed_and_keep_clusters_whole():
    blocks = deal_blocks(797, None)
    counts = np.bincount(blocks, minlength=NUM_BLOCKS)
    assert counts.min() >= 39
    assert counts.max() <= 40
    assert (deal_blocks(797, None) == blocks).all()
    clusters = np.arange(797) // 5
    whole = deal_blocks(797, clusters)
    assert all(len(set(whole[clusters == cluster])) == 1 for cluster in range(160))
    assert not (np.diff(blocks) == 1).all()


def test_the_models_of_a_seed_start_equal_and_of_two_seeds_do_not(digits):
    task, data, _ = digits
    first = [rows_of(task, data, seed=s, epochs=1)[0][0]["param_norm"] for s in (0, 0, 1)]
    assert first[0] == first[1] != first[2]
