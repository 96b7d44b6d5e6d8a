"""The learning rate of each step, and what a plan says of it before anything is trained."""

import pytest

from analysis.stats.trend import planned_df
from raysweep.schedule import learning_rate, recorded_rates
from raysweep.spec import Hyperparameters
from raysweep.training.train import Training, train
from tests.support.commands import run_here


def test_schedules():
    def rates(steps, **fields):
        trial = Hyperparameters.model_validate({"learning_rate": 1.0} | fields)
        return [learning_rate(trial, step, 2) for step in steps]

    assert rates([0, 1, 2, 3, 4], warmup_epochs=2) == [0.25, 0.5, 0.75, 1.0, 1.0]
    # Whatever part of a step a warm-up ends with, no step is above the full rate.
    assert rates([0, 1], warmup_epochs=0.1) == [1.0, 1.0]
    assert rates([0, 1, 2, 3], warmup_epochs=1.25) == pytest.approx([0.4, 0.8, 1.0, 1.0])
    assert rates([0, 3, 4], schedule="step", step_epochs=2) == pytest.approx([1, 1, 0.1])
    cosine = rates(range(20), schedule="cosine", epochs=10)
    assert cosine[0] == 1.0
    assert cosine[10] == pytest.approx(0.5)
    assert cosine == sorted(cosine, reverse=True)
    linear = rates(range(6), schedule="linear", epochs=3, warmup_epochs=1)
    assert linear == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25])


def test_the_plan_knows_the_rates_that_training_records(digits):
    task, data, placed = digits
    fields = Hyperparameters(
        epochs=5, batch_size=300, schedule="step", step_epochs=2, step_factor=0.5, warmup_epochs=1.3
    )
    rows = []
    train(Training(fields, 0, task, data, placed), rows.append)
    assert [row["lr"] for row in rows] == recorded_rates(fields, 4)


def test_a_gentle_step_costs_no_degrees_of_freedom(capsys, tmp_path, monkeypatch):
    def df(**fields):
        trial = Hyperparameters.model_validate({"epochs": 60, "step_epochs": 10} | fields)
        return planned_df(recorded_rates(trial, 8))

    assert df(schedule="step", step_factor=0.9) == df() == pytest.approx(25.5, abs=0.05)
    assert df(schedule="step", step_factor=0.1) == pytest.approx(17.2, abs=0.05)
    monkeypatch.chdir(tmp_path)
    settings = ["base={epochs: 60, schedule: step, step_epochs: 10, step_factor: 0.9}", "axes={}"]
    words = [word for setting in settings for word in ("--set", setting)]
    _, out, _ = run_here(capsys, "run", "--dry-run", "--address", "local", "--seeds", "1", *words)
    assert "a configuration's jitter will have 25 degrees of freedom" in out
