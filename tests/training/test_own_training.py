"""What a task says beside data and model: each word does what it says, and no more."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from raysweep.errors import InputError
from raysweep.spec import Checkpoints, Hyperparameters, Probes
from raysweep.store.schema import EPOCHS, TRIALS, packed, unpacked
from raysweep.tasks import Arrays, Data, Task
from raysweep.training.checkpoints import Checkpointer, from_bytes
from raysweep.training.group import ALONE
from raysweep.training.objective import Objective
from raysweep.training.seeds import derive_seed
from raysweep.training.splits import place
from raysweep.training.train import Training, train
from tests.support import odd_tasks

CPU = torch.device("cpu")
TIMES = ("wall_s", "train_s")
IDENTITY: dict[str, Any] = {"trial_id": "0123456789ab", "probes": Probes().model_dump(mode="json")}


def rows_of(task, data=None, *, found=None, keep=None, seed=0, **fields):
    """(rows without times, outcome) of one trial."""
    torch.set_num_threads(1)
    rows, data = [], task.load(None) if data is None else data
    trial = task.hyperparameters.model_validate(fields)
    checkpointer = Checkpointer(
        Checkpoints(every_epochs=1, every_minutes=None),
        IDENTITY,
        ALONE,
        keep or (lambda epoch, body: None),
        None if found is None else from_bytes(found, **IDENTITY),
    )
    training = Training(trial, seed, task, data, place(data, CPU), checkpointer=checkpointer)
    outcome = train(training, rows.append)
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows], outcome


def digits(**words):
    return Task(odd_tasks.load_odd, odd_tasks.build, **words)


def own_loss(outputs, targets):
    return functional.cross_entropy(outputs, targets, reduction="none")


def own_score(outputs, targets):
    return outputs.argmax(1) == targets


# --- loss and score


def test_the_usual_loss_said_aloud_trains_what_the_usual_way_trains():
    fields: dict[str, Any] = {"epochs": 4, "batch_size": 20, "momentum": 0.9}
    usual, outcome = rows_of(digits(), **fields)
    aloud, said = rows_of(digits(loss=own_loss, score=own_score), **fields)
    assert said.score_kind == outcome.score_kind == "right"
    for row, other in zip(aloud, usual, strict=True):
        assert row["val_correct_bits"] == other["val_correct_bits"]
        for key in ("train_accuracy", "val_correct", "flip_to_wrong", "val_block_correct"):
            assert row[key] == other[key], key
        for key in ("train_loss", "val_loss_sum", "val_loss_sumsq", "grad_norm", "update_norm"):
            assert row[key] == pytest.approx(other[key], rel=1e-5), key


def test_the_default_path_is_plain_pytorch_to_the_last_bit():
    task, fields = digits(), Hyperparameters(epochs=3, batch_size=20, learning_rate=0.1)
    data = task.load(None)
    rows, _ = rows_of(task, data, epochs=3, batch_size=20, learning_rate=0.1)
    torch.manual_seed(derive_seed(0, "model"))
    model = task.build(fields, data)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, fused=True)
    x, y = (torch.from_numpy(part) for part in data.train)
    for row in rows:
        order = torch.Generator().manual_seed(derive_seed(0, row["epoch"]))
        losses = []
        for batch in torch.randperm(97, generator=order).split(20):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x[batch]), y[batch], reduction="sum")
            loss.backward(torch.tensor(1 / len(batch)))
            optimizer.step()
            losses.append(loss.detach())
        assert row["train_loss"] == torch.stack(losses).double().sum().item() / 97
        with torch.no_grad():
            right = model(torch.from_numpy(data.validation.x)).argmax(1)
        assert row["val_correct"] == int((right.numpy() == data.validation.y).sum())


@pytest.mark.parametrize(
    ("loss", "score", "message"),
    [
        (lambda o, t: own_loss(o, t).mean(), own_score, 'loss.*one number.*reduction="none"'),
        (own_loss, lambda o, t: own_score(o, t).sum(), "score.*one number for the whole batch"),
        (lambda o, t: own_loss(o, t)[1:], own_score, r"loss.* the first axis must be the examples"),
        (own_loss, lambda o, t: 0.5, "score.*gave float, not a tensor"),
    ],
)
def test_what_is_not_one_value_an_example_is_refused_in_one_sentence(loss, score, message):
    with pytest.raises(InputError, match=message):
        rows_of(digits(loss=loss, score=score), epochs=1)


def test_tokens_without_a_target_do_not_count_and_an_example_has_the_mean_of_its_others():
    rng = np.random.default_rng(0)
    targets = torch.from_numpy(rng.integers(0, 5, (7, 6)))
    targets[rng.random((7, 6)) < 0.4] = -100
    targets[3] = -100  # an example without any
    outputs = torch.from_numpy(rng.standard_normal((7, 5, 6)).astype("float32"))
    data = Data(Arrays(np.zeros((1, 1)), np.zeros((1, 1), int)), Arrays(*[np.zeros((1, 1))] * 2))
    objective = Objective(digits(), data, 0.0)
    loss, score, counts = objective.judge(outputs, targets)
    assert objective.kind == "share"
    assert counts is not None
    assert counts.tolist() == [True] * 3 + [False] + [True] * 3
    for i in range(7):
        if i == 3:
            continue
        kept = targets[i] != -100
        expected = functional.cross_entropy(outputs[i].T[kept], targets[i][kept])
        assert loss[i].item() == pytest.approx(expected.item(), rel=1e-6)
        right = (outputs[i].argmax(0) == targets[i])[kept].double().mean()
        assert score[i].item() == pytest.approx(right.item())


def test_examples_without_a_target_are_counted_nowhere():
    def load(folder):
        data = odd_tasks.load_odd(folder)
        y = data.validation.y.copy()
        y[::4] = -100
        return data._replace(validation=data.validation._replace(y=y), num_classes=0)

    rows, _ = rows_of(Task(load, lambda trial, data: nn.Linear(64, 10)), epochs=2)
    assert rows[-1]["val_n"] == sum(rows[-1]["val_block_n"]) == 45  # of 61
    assert "val_correct_bits" not in rows[-1]
    assert rows[-1]["val_correct"] <= 45


def test_rows_of_scores_go_through_the_store_as_they_are():
    task = digits(loss=own_loss, score=lambda o, t: -own_loss(o, t))
    rule = {"metric": "val_accuracy", "patience": 1}
    rows, outcome = rows_of(task, epochs=3, early_stopping=rule)
    (stored, *_) = unpacked(packed(rows[:1])).to_pylist()
    assert set(rows[0]) <= set(EPOCHS.names)
    assert stored["val_score_sum"] == pytest.approx(-stored["val_loss_sum"])
    assert stored["train_eval_score_sumsq"] > 0
    assert stored["val_correct"] is None
    columns = outcome._asdict()
    columns.pop("best_state")
    assert set(columns) <= set(TRIALS.names)
    assert outcome.restored_val_correct is None
    best = rows[outcome.restored_epoch - 1]["val_score_sum"]
    assert outcome.restored_val_score_sum == pytest.approx(best)


# --- optimizer, augmentation, data of a trial


def grouped(trial, model):
    first, last = model[0], model[-1]
    groups = [{"params": first.parameters()}, {"params": last.parameters(), "lr": 0.01}]
    return torch.optim.SGD(groups, trial.learning_rate)


def with_scheduler(trial, model):
    optimizer = torch.optim.AdamW(model.parameters(), trial.learning_rate)
    steps = torch.optim.lr_scheduler.OneCycleLR(optimizer, trial.learning_rate, total_steps=25)
    return optimizer, steps


def test_the_schedule_scales_the_rates_of_the_groups():
    seen: list[list[float]] = []

    def watched(trial, model):
        optimizer = grouped(trial, model)
        step = optimizer.step

        def stepped(*arguments):
            seen.append([settings["lr"] for settings in optimizer.param_groups])
            return step(*arguments)

        optimizer.step = stepped
        return optimizer

    fields: dict[str, Any] = {"epochs": 2, "batch_size": 49, "schedule": "linear", "width": 8}
    rows, _ = rows_of(digits(optimizer=watched), **fields, learning_rate=0.2)
    expected = [[0.2, 0.01], [0.15, 0.0075], [0.1, 0.005], [0.05, 0.0025]]
    np.testing.assert_allclose(seen, expected)
    assert [row["lr"] for row in rows] == pytest.approx([0.15, 0.05])


@pytest.mark.parametrize("optimizer", [grouped, with_scheduler])
def test_an_own_optimizer_and_its_scheduler_go_on_from_a_checkpoint_to_the_last_bit(optimizer):
    task = digits(optimizer=optimizer, loss=own_loss, score=lambda o, t: -own_loss(o, t))
    fields: dict[str, Any] = {"epochs": 5, "batch_size": 20, "schedule": "cosine"}
    kept: dict[int, bytes] = {}
    whole, _ = rows_of(task, keep=kept.__setitem__, **fields)
    after, _ = rows_of(task, found=kept[2], **fields)
    assert after == whole[2:]
    if optimizer is with_scheduler:
        rates = [row["lr"] for row in whole]
        assert rates[0] < max(rates) > rates[-1]


def test_what_is_no_optimizer_is_named():
    with pytest.raises(InputError, match=r"optimizer\(trial, model\) gave NoneType"):
        rows_of(digits(optimizer=lambda trial, model: None), epochs=1)


def test_augmentation_is_of_training_alone_and_may_mix_targets():
    seen: list[tuple[Any, Any]] = []

    def mixup(trial, inputs, targets):
        seen.append((inputs, targets))
        share = torch.rand(())
        one = functional.one_hot(targets, 10).float()
        return share * inputs + (1 - share) * inputs.flip(0), share * one + (1 - share) * one.flip(
            0
        )

    plain, _ = rows_of(digits(), epochs=3, batch_size=20)
    mixed, _ = rows_of(digits(augment=mixup), epochs=3, batch_size=20)
    assert len(seen) == 3 * 5
    assert mixed[-1]["train_loss"] > plain[-1]["train_loss"]
    assert 0 < mixed[-1]["train_accuracy"] <= 1
    same, _ = rows_of(digits(augment=lambda trial, x, y: (x, y)), epochs=3, batch_size=20)
    assert same == plain


class Share(Hyperparameters):
    train_share: float = 1.0


def test_prepared_training_data_share_the_validation_set():
    calls: list[float] = []

    def prepare(trial, data):
        calls.append(trial.train_share)
        kept = slice(0, round(trial.train_share * len(data.train.y)))
        return data._replace(train=Arrays(*(part[kept] for part in data.train)))

    task, data = digits(prepare=prepare, hyperparameters=Share), odd_tasks.load_odd(None)
    half, outcome = rows_of(task, data, epochs=1, batch_size=20, train_share=0.5)
    assert (outcome.n_train, half[0]["train_n"], half[0]["val_n"]) == (48, 48, 61)
    with pytest.raises(InputError, match=r"leaves 10 training examples, and batch_size = 20"):
        rows_of(task, data, epochs=1, batch_size=20, train_share=0.1)

    def changes(trial, data):
        return data._replace(validation=Arrays(*(part[1:] for part in data.validation)))

    with pytest.raises(InputError, match="changed the validation set"):
        rows_of(digits(prepare=changes), epochs=1)


# --- precision and compilation


def test_fp16_with_its_loss_scale_learns_as_fp32_does():
    fields: dict[str, Any] = {"epochs": 8, "batch_size": 20, "momentum": 0.9}
    full, _ = rows_of(digits(), **fields)
    kept: dict[int, bytes] = {}
    half, _ = rows_of(digits(), keep=kept.__setitem__, precision="fp16", **fields)
    assert half[-1]["train_loss"] == pytest.approx(full[-1]["train_loss"], rel=0.2)
    assert half[-1]["update_norm"] == pytest.approx(full[-1]["update_norm"], rel=0.2)
    after, _ = rows_of(digits(), found=kept[5], precision="fp16", **fields)
    assert after == half[5:]


def test_a_compiled_model_trains_the_same(monkeypatch):
    compiled: list[dict[str, Any]] = []
    plain = nn.Module.compile

    def eager(self, **options):  # the same graph without a C++ compiler
        compiled.append(options)
        plain(self, backend="eager", **options)

    monkeypatch.setattr(nn.Module, "compile", eager)
    fields: dict[str, Any] = {"epochs": 2, "batch_size": 20}
    usual, _ = rows_of(digits(), **fields)
    made, _ = rows_of(digits(), compile=True, **fields)
    assert compiled == [{}]
    for row, other in zip(made, usual, strict=True):
        assert row["val_loss_sum"] == pytest.approx(other["val_loss_sum"], rel=1e-4)
