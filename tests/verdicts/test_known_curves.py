"""Labels of whole curves whose truth is known: loud noise, a range test of the learning rate."""

import numpy as np
import polars as pl
import pytest

from analysis.calibration.judged import judged
from analysis.calibration.simulate import ar1
from analysis.curves import Curves
from analysis.labels import Overfit
from analysis.measures.overfitting import measure_overfitting
from analysis.measures.run_rise import measure_run_rise
from analysis.verdicts.rules import verdict

FELL = (Overfit.YES, Overfit.ENDS_WORSE, Overfit.RUN_FELL)


@pytest.mark.parametrize(
    ("num_epochs", "noise", "correlation"),
    [(60, 0.01, 0.6), (60, 0.02, 0.0), (60, 0.02, 0.3), (100, 0.02, 0.6), (100, 0.03, 0.3)],
)
def test_a_fall_of_8_pp_is_told_in_the_loud_noise_of_one_seed(
    num_epochs, noise, correlation, simulation
):
    rng = simulation(num_epochs)
    time, num = np.arange(1, num_epochs + 1), 60
    past = np.clip((time - num_epochs / 3) / (num_epochs * 2 / 3), 0, 1)
    learnt = np.exp(-time / 3)
    moved = noise * ar1(rng, (num, num_epochs), correlation)
    true = np.clip(0.9 - 0.4 * learnt - 0.08 * past + moved, 0, 1)
    training = 0.98 - 0.48 * learnt + 0.001 * rng.standard_normal(true.shape)
    curves = Curves.of_accuracy(
        rng.binomial(1000, true) / 1000, val_n=np.full(num, 1000.0), train_accuracy=training
    )
    told = judged(curves, 1)["overfit"].is_in(FELL).sum()
    assert told >= 0.75 * num  # measured: 77 to 100 %


def range_test(num, num_epochs, late):
    """Curves under a rate that rises exponentially and from `late` on is too large.

    Returns: known columns of Curves, the accuracy among them.
    """
    rng = np.random.default_rng(num_epochs)
    part = np.arange(num_epochs) / num_epochs
    learnt = 1 - np.exp(-6 * part)
    apart = np.clip((part - late) / (1 - late), 0, 1) ** 2
    shape = (num, num_epochs)

    def noisy(values, sd):
        return values + sd * rng.standard_normal(shape)

    return {
        "val_accuracy": noisy(0.1 + 0.7 * learnt - 0.3 * apart, 0.01),
        "val_loss": noisy(2.3 - 1.7 * learnt + 1.5 * apart, 0.02),
        "running_loss": noisy(2.3 - 1.8 * learnt + 0.1 * apart, 0.02),
        "running_accuracy": noisy(0.1 + 0.75 * learnt - 0.02 * apart, 0.005),
        "train_accuracy": noisy(0.1 + 0.75 * learnt - 0.02 * apart, 0.005),
        "lr": np.tile(1e-5 * 10 ** (5 * part), (num, 1)),
    }


COLUMNS = (
    *((), ("val_loss",), ("val_loss", "running_loss"), ("running_accuracy",)),
    ("val_loss", "train_accuracy"),
)


@pytest.mark.parametrize("late", [0.6, 0.8, 0.9])
@pytest.mark.parametrize("num_epochs", [30, 60, 200])
@pytest.mark.parametrize("names", COLUMNS, ids=str)
def test_no_range_test_of_the_learning_rate_overfits(num_epochs, late, names):
    known = range_test(20, num_epochs, late)
    columns = {name: known[name] for name in (*names, "lr")}
    found = judged(Curves.of_accuracy(known["val_accuracy"], **columns), 1)
    assert Overfit.YES not in found["overfit"].to_list()
    assert "Overfits" not in " ".join(found["overfit_reason"])


@pytest.mark.parametrize("num_epochs", [30, 60, 200])
@pytest.mark.parametrize("names", [("val_loss",), ("val_loss", "running_loss")], ids=str)
def test_nor_does_the_loss_of_one_alone(num_epochs, names):
    known = range_test(20, num_epochs, 0.7)
    columns = {name: known[name] for name in (*names, "lr")}
    curves = Curves.of_accuracy(np.full((20, num_epochs), np.nan), **columns)
    frame = measure_run_rise(curves).join(
        measure_overfitting(curves, np.full(20, np.nan)), on="trial_id"
    )
    found = verdict(frame)
    assert Overfit.YES not in found["overfit"].to_list()
    worse = found.filter(pl.col("overfit") == Overfit.ENDS_WORSE)
    assert worse["overfit_reason"].str.contains("the learning rate rises until the end").all()
