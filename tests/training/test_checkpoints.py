"""A trial that goes on from a checkpoint is the trial it would have been, to the last bit."""

import contextlib
import io
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from raysweep.spec import Checkpoints, Hyperparameters, Probes
from raysweep.tasks import Task
from raysweep.training.checkpoints import (
    Checkpointer,
    UnusableCheckpointError,
    from_bytes,
    on_all,
    to_bytes,
)
from raysweep.training.group import ALONE
from raysweep.training.splits import place
from raysweep.training.train import Training, train
from tests.support import odd_tasks
from tests.support.groups import in_group
from tests.support.interrupted import attempts, live_rows, rows_alone, run_disturbed, trainers
from tests.support.process_tree import kill

TIMES = ("wall_s", "train_s")
EVERYTHING = Probes(ema_half_life=0.5, gradient_noise_every=2, correct_bits=True)
IDENTITY = {"trial_id": "0123456789ab", "probes": EVERYTHING.model_dump(mode="json")}
PATIENT = {"metric": "val_loss", "patience": 3}


class Killed(Exception):  # noqa: N818 - what a process does not survive is no error
    """Stands for the death of the process."""


def build_everything(trial, data):
    """Batch norm, dropout, and a buffer that no state dict holds."""
    model = nn.Sequential(
        nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(trial.dropout), Unlisted()
    )
    return model.append(nn.Linear(16, 10))


class Unlisted(nn.Module):
    """Scales by how much it has seen, which it counts in a buffer that is not persistent."""

    seen: torch.Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1), persistent=False)

    def forward(self, x):
        if self.training:
            self.seen.add_(0.01)
        return x * (1 + self.seen)


everything = Task(odd_tasks.load_odd, build_everything)
jittered = Task(odd_tasks.load_jittered, build_everything)
TASKS = {"everything": everything, "jittered": jittered, "restless": odd_tasks.restless}


def run(task, fields, *, group=ALONE, wrap=lambda model: model, found=None, killed_after=None):
    """(rows without times, outcome, the checkpoints that were kept)."""
    torch.set_num_threads(1)
    rows, kept = [], {}
    rule = Checkpoints(every_epochs=1, every_minutes=None)
    body = on_all(found, group)
    state = None if body is None else from_bytes(body, **IDENTITY)

    def put(epoch, body):
        kept[epoch] = body

    class Mortal(Checkpointer):
        def keep(self, epoch, state):
            super().keep(epoch, state)
            if epoch == killed_after:
                raise Killed

    data, outcome = task.load(None), None
    with contextlib.suppress(Killed):
        outcome = train(
            Training(
                Hyperparameters.model_validate(fields),
                3,
                task,
                data,
                place(data, torch.device("cpu")),
                probes=EVERYTHING,
                group=group,
                wrap=wrap,
                checkpointer=Mortal(rule, IDENTITY, group, put, state),
            ),
            rows.append,
        )
    ended: Any = outcome
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows], ended, kept


def told(outcome):
    """An outcome in plain values."""
    state = {name: value.tolist() for name, value in (outcome.best_state or {}).items()}
    return {**outcome._asdict(), "best_state": state}


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ("everything", {"optimizer": "adam", "learning_rate": 0.03, "early_stopping": PATIENT}),
        ("everything", {"optimizer": "rmsprop", "momentum": 0.9, "learning_rate": 0.01}),
        ("everything", {"momentum": 0.9, "precision": "bf16", "grad_clip": 0.5}),
        ("everything", {"optimizer": "adamw", "schedule": "cosine", "warmup_epochs": 1.5}),
        ("jittered", {"momentum": 0.9, "early_stopping": PATIENT}),
        ("restless", {"schedule": "step", "step_epochs": 2, "optimizer": "adam"}),
    ],
)
def test_a_resumed_trial_is_bit_equal_to_an_undisturbed_one(task, fields):
    fields = {"epochs": 9, "batch_size": 20, "dropout": 0.4, **fields}
    if task == "restless":
        del fields["dropout"]
    whole, outcome, kept = run(TASKS[task], fields)
    assert {row["weights_kind"] for row in whole} >= {"raw", "ema"}
    assert sorted(kept) == list(range(1, outcome.epochs_run))  # none after the last epoch
    for epoch in (1, outcome.epochs_run // 2, outcome.epochs_run - 1):
        before, _, found = run(TASKS[task], fields, killed_after=epoch)
        after, resumed, _ = run(TASKS[task], fields, found=found[epoch])
        assert after[0]["epoch"] == epoch + 1
        assert before + after == whole
        assert told(resumed) == told(outcome)


def test_a_trial_may_be_killed_again_and_again():
    fields = {"epochs": 6, "batch_size": 20, "optimizer": "adam", "learning_rate": 0.01}
    whole, outcome, _ = run(everything, fields)
    rows, found = [], None
    for epoch in (1, 2, 4):
        more, _, kept = run(everything, fields, found=found, killed_after=epoch)
        rows, found = rows + more, kept[epoch]
    more, resumed, _ = run(everything, fields, found=found)
    assert rows + more == whole
    assert told(resumed) == told(outcome)


def resume_in_group(group, fields):
    """(rows, outcome) of a trial whole; of one that is killed after epoch 2; of that one's rest."""
    ends: list[Any] = []
    for killed_after, from_first in ((None, False), (2, False), (None, True)):
        rows, outcome, kept = run(
            everything,
            fields,
            group=group,
            wrap=DistributedDataParallel,
            found=ends[-1][2][2] if from_first and group.rank == 0 else None,
            killed_after=killed_after,
        )
        ends.append((rows, told(outcome) if outcome else None, kept))
    return ends


def test_two_workers_resume_bit_equal_from_what_the_first_one_kept(tmp_path):
    fields = {
        "epochs": 6,
        "batch_size": 17,
        "dropout": 0.4,
        "optimizer": "adam",
        "learning_rate": 0.03,
        "early_stopping": PATIENT,
        "precision": "bf16",
    }
    first, second = in_group(2, resume_in_group, fields, folder=tmp_path)
    (whole, outcome, _), (before, _, _), (after, resumed, _) = first
    assert [(rows, kept) for rows, _, kept in second] == [([], {})] * 3
    assert after[0]["epoch"] == 3
    assert before + after == whole
    assert resumed == outcome


def test_what_is_damaged_foreign_or_of_another_trial_is_not_gone_on_from():
    state = {**IDENTITY, "epoch": 1, "values": [torch.arange(5), 1.5, None, "a"]}
    body = to_bytes(state)
    assert from_bytes(body, **IDENTITY)["values"][1:] == [1.5, None, "a"]
    flipped = bytearray(body)
    flipped[len(body) // 2] ^= 1
    for damaged in (b"", b"PAR1", body[:-1], body[: len(body) // 2], bytes(flipped), body + b"x"):
        with pytest.raises(UnusableCheckpointError, match="damaged, or no checkpoint"):
            from_bytes(damaged, **IDENTITY)
    with pytest.raises(UnusableCheckpointError, match="not of trial ba9876543210"):
        from_bytes(body, "ba9876543210", IDENTITY["probes"])
    with pytest.raises(UnusableCheckpointError, match="other probes"):
        from_bytes(body, "0123456789ab", Probes().model_dump(mode="json"))


def test_a_checkpoint_never_runs_code():
    buffer = io.BytesIO()
    torch.save({**IDENTITY, "task": everything}, buffer)
    from raysweep.training.checkpoints import _digest

    with pytest.raises(UnusableCheckpointError, match="does not load"):
        from_bytes(_digest(buffer.getvalue()) + buffer.getvalue(), **IDENTITY)


def test_a_checkpoint_is_due_every_k_epochs_or_when_minutes_have_passed():
    now = [0.0]

    def due(rule, times):
        now[0], kept = 0.0, []
        checkpointer = Checkpointer(
            rule, IDENTITY, ALONE, lambda e, body: kept.append(e), None, lambda: now[0]
        )
        for epoch, now[0] in enumerate(times, 1):
            if checkpointer.due(epoch):
                checkpointer.keep(epoch, {})
        return kept

    times = [30, 60, 90, 300, 310, 420]
    assert due(Checkpoints(), [1, 2, 3]) == []  # a short trial keeps nothing
    assert due(Checkpoints(every_minutes=1), times) == [2, 4, 6]
    assert due(Checkpoints(every_epochs=3, every_minutes=None), times) == [3, 6]
    assert due(Checkpoints(every_epochs=5, every_minutes=2), times) == [4, 5]
    assert due(Checkpoints(every_minutes=None), times) == []


@pytest.mark.usefixtures("local_ray")
def test_a_killed_process_costs_its_trial_only_what_came_after_its_checkpoint(
    hold, make_spec, tmp_path
):
    spec = make_spec(
        task="odd_tasks:late",
        base={"epochs": 6, "batch_size": 20},
        axes={"width": [8, 16]},
        seeds=1,
        probes={"ema_half_life": 0.5},
        checkpoints={"every_epochs": 1, "every_minutes": None},
    )

    def disturb():
        kill(trainers("ImplicitFunc")[0][0])  # both wait in epoch 5
        hold.unlink()

    result = run_disturbed(spec, tmp_path / "disturbed", disturb, after_epoch=4, num_trials=2)
    assert (result.trained, result.failures) == (2, ())
    assert live_rows(tmp_path / "disturbed").equals(rows_alone(spec), null_equal=True)
    tried = [(attempt, start) for _, attempt, start in attempts(tmp_path / "disturbed")]
    assert sorted(tried) == [(1, 1), (1, 1), (2, 5)]
    assert list((tmp_path / "disturbed" / "resume").iterdir()) == []
