"""On a CUDA device: no step waits, trials are those of a CPU, and what breaks it costs little."""

import warnings
from typing import Any

import pytest
import torch

from raysweep.running.sweep import run_sweep
from raysweep.spec import Hyperparameters
from raysweep.store.files import Store
from raysweep.training.evaluation import evaluate
from raysweep.training.group import Group
from raysweep.training.learning import Learning, autocast
from raysweep.training.objective import Objective
from raysweep.training.passes import train_epoch
from raysweep.training.splits import DatasetSplit, place
from raysweep.training.train import Training, train
from tests.support.odd_tasks import Pairs

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.fixture(scope="module")
def on_gpu():
    return Group(device=torch.device("cuda"))


def fields(**changes):
    base = {"epochs": 3, "learning_rate": 0.03, "momentum": 0.9, "batch_size": 64}
    return Hyperparameters(**(base | changes))


def waits(run):
    """How often something waits for the GPU."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in caught)


@pytest.mark.parametrize(
    "changes",
    [{}, {"optimizer": "adamw"}, {"precision": "bf16"}, {"grad_clip": 1.0}, {"dropout": 0.1}],
    ids=str,
)
def test_no_step_waits_for_the_gpu(digits, on_gpu, changes):
    task, data, _ = digits
    placed, found = place(data, on_gpu.device), []
    for size in (256, 16):  # 4 steps and 63
        chosen = fields(batch_size=size, **changes)
        model = task.build(chosen, data).to(on_gpu.device)
        learning = Learning.of(task, chosen, model, on_gpu.device)
        objective = Objective(task, data, 0.0)
        taught: Any = (model, learning, objective, chosen, placed.train, 0)

        def one(epoch, taught=taught):
            train_epoch(*taught, epoch, on_gpu)

        one(1)
        found.append(waits(lambda one=one: one(2)))
    few, many = found
    assert few == many  # of an epoch, whatever its steps
    assert many <= 5


def test_an_epochs_evidence_takes_few_waits(digits, on_gpu):
    task, data, _ = digits
    placed, rows = place(data, on_gpu.device), []

    def trial(epochs):
        train(Training(fields(epochs=epochs), 0, task, data, placed, group=on_gpu), rows.append)

    trial(1)
    per_epoch = (waits(lambda: trial(12)) - waits(lambda: trial(2))) / 10
    assert rows[-1]["train_s"] is None
    assert per_epoch < 40  # the temperature's Newton steps are most of them


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adam", "learning_rate": 0.003}], ids=str)
def test_a_gpu_trains_what_a_cpu_trains(digits, on_gpu, changes):
    task, data, on_cpu = digits
    found = {}
    for group, placed in ((Group(), on_cpu), (on_gpu, place(data, on_gpu.device))):
        rows = []
        train(Training(fields(**changes), 0, task, data, placed, group=group), rows.append)
        found[group.device.type] = rows
    for mine, theirs in zip(found["cuda"], found["cpu"], strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-3)
        assert mine["val_loss_sum"] == pytest.approx(theirs["val_loss_sum"], rel=1e-2)
        assert abs(mine["val_correct"] - theirs["val_correct"]) <= 4  # of 797
        assert mine["temperature"] == pytest.approx(theirs["temperature"], rel=2e-2)
        assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-2)


def test_bf16_learns_as_fp32_does(digits, on_gpu):
    task, data, _ = digits
    placed, ends = place(data, on_gpu.device), {}
    for precision in ("fp32", "bf16"):
        rows = []
        chosen = fields(epochs=10, precision=precision)
        train(Training(chosen, 0, task, data, placed, group=on_gpu), rows.append)
        ends[precision] = rows[-1]["val_correct"] / rows[-1]["val_n"]
    assert ends["bf16"] > 0.9
    assert abs(ends["bf16"] - ends["fp32"]) < 0.03


def test_a_dataset_evaluates_as_tensors_do(digits, on_gpu):
    task, data, _ = digits
    chosen = fields()
    model = task.build(chosen, data).to(on_gpu.device)
    tensors = place(data, on_gpu.device).validation
    pairs = DatasetSplit(Pairs(data.validation), tensors.n, on_gpu.device)
    mine, theirs = (
        evaluate(model, split, on_gpu, autocast(chosen, on_gpu.device))
        for split in (pairs, tensors)
    )
    torch.testing.assert_close(mine.loss, theirs.loss)
    assert torch.equal(mine.correct, theirs.correct)


@pytest.mark.usefixtures("own_ray")
def test_trials_that_share_a_gpu_train_and_one_that_breaks_it_costs_no_other(make_spec, tmp_path):
    spec = make_spec(
        task="odd_tasks:asserting",
        base={"epochs": 2},
        axes={"width": [8, 13, 16, 4]},
        seeds=2,
        resources={"gpus_per_worker": 0.5},
    )
    result = run_sweep(spec, tmp_path, address="local")
    assert result.trained == 6
    assert len(result.failures) == 2
    assert all("device-side assert" in failure.error for failure in result.failures)
    rows = Store(tmp_path).read("epochs").to_pylist()
    trained = {
        trial["trial_id"]
        for trial in Store(tmp_path).read("trials").to_pylist()
        if trial["status"] == "completed"
    }
    assert len(trained) == 6
    assert {row["val_n"] for row in rows} == {797}
