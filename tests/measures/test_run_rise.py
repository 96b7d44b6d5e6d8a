"""The rise of a run's loss as columns: in shares and in its own unit, from the loss alone."""

import numpy as np
import polars as pl
import pytest

from analysis import analyze
from analysis.curves import COLUMNS, Curves
from analysis.curves import curves as curves_of
from analysis.labels import Course, Overfit, Status
from analysis.measures.overfitting import measure_overfitting
from analysis.measures.run_rise import measure_run_rise, measure_score_fall, run_rise_of_means
from analysis.verdicts.rules import verdict

TIME = np.arange(60)
LOSS = 2 + 2 * np.exp(-TIME / 3) + 0.5 * np.clip(TIME - 20, 0, None) / 39


def test_a_loss_alone_has_columns_in_shares_and_in_its_own_unit():
    none = np.full((2, 60), np.nan)
    curves = Curves.of_accuracy(none, val_loss=np.stack([LOSS, LOSS - 2.5]))
    positive, signed = measure_run_rise(curves).to_dicts()
    assert positive["run_loss_rise"] == pytest.approx(0.24, abs=0.02)
    assert positive["run_loss_rise_p"] <= 0.05
    assert signed["run_loss_rise"] is None
    for row in (positive, signed):
        assert row["run_loss_rise_abs"] == pytest.approx(0.48, abs=0.03)
        assert 0 < row["run_loss_rise_abs_low"] <= row["run_loss_rise_abs"]
        assert row["run_loss_rise_abs_high"] >= 0.48


def test_the_loss_that_the_analysis_reads_has_them_for_trials_and_for_their_configuration():
    rng = np.random.default_rng(0)
    frame = pl.concat(
        pl.DataFrame(
            {
                "trial_id": f"{seed}",
                "seed": seed,
                "epoch": TIME + 1,
                "val_accuracy": 0.8 + 0.001 * rng.standard_normal(60),
                "val_loss": LOSS * (1 + 0.005 * rng.standard_normal(60)),
            }
        )
        for seed in range(3)
    )
    found = analyze(frame)
    for table in (found.trials, found.configurations):
        for row in table.to_dicts():
            assert 0.1 < row["run_loss_rise_low"] <= 0.24 <= row["run_loss_rise_high"]
            assert row["run_loss_rise_abs"] == pytest.approx(0.48, abs=0.06)


def test_several_seeds_are_judged_by_their_mean_curve():
    rng = np.random.default_rng(1)
    raw = pl.concat(
        pl.DataFrame(
            {
                "trial_id": f"{seed}",
                "epoch": TIME + 1,
                "val_accuracy": None,
                "val_loss": (2 + 2 * np.exp(-TIME / 3) + 0.1 * np.clip(TIME - 20, 0, None) / 39)
                * (1 + 0.03 * rng.standard_normal(60)),
            }
        )
        for seed in range(8)
    )
    trials = raw.select("trial_id", pl.lit("one").alias("config_id")).unique()
    alone = pl.concat(measure_run_rise(group) for group in _groups(raw))
    (row,) = run_rise_of_means(raw, trials).to_dicts()
    assert row["config_id"] == "one"
    assert (
        alone["run_loss_rise_p"].to_numpy() > 0.05
    ).mean() >= 0.5  # one seed's noise hides most of them
    assert row["run_loss_rise_p"] <= 0.05
    assert row["run_loss_rise_low"] <= 0.05 <= row["run_loss_rise_high"]


def _groups(raw):
    wide = raw.with_columns(
        pl.lit(None, pl.Float64).alias(name) for name in COLUMNS if name not in raw.columns
    ).drop("val_block_n", "val_block_correct", "val_block_loss_sum", "val_block_nll_sum")
    lists = [pl.lit(None, pl.List(pl.Float64)).alias(n) for n in COLUMNS if "val_block" in n]
    return curves_of(wide.with_columns(lists))


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_a_score_has_its_fall_in_its_own_unit_and_direction(higher_is_better):
    rng = np.random.default_rng(2)
    better = 40 - 15 * np.exp(-TIME / 4) - 0.15 * np.clip(TIME - 30, 0, None)
    shown = better + 0.2 * rng.standard_normal(60)
    values = shown if higher_is_better else 100 - shown
    curves = Curves.of_accuracy(np.full((1, 60), np.nan), val_score=values[None])
    (row,) = measure_score_fall(curves, higher_is_better=higher_is_better).to_dicts()
    assert row["score_fall_low"] <= 0.15 * 28 <= row["score_fall_high"]
    assert row["score_fall_p"] < 0.05
    assert row["score_best"] == pytest.approx(40 if higher_is_better else 60, abs=0.6)
    assert row["score_gain"] == pytest.approx(15, abs=1)
    assert 15 <= row["score_best_epoch"] <= 33
    assert row["score_best_epoch"] < row["score_worse_from"] <= 50
    assert row["score_slope"] == pytest.approx(-0.15, abs=0.06)
    assert row["score_jitter"] == pytest.approx(0.2, rel=0.3)
    assert 0 <= row["score_flatters"] < 1


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e5])
def test_the_unit_of_a_score_changes_no_label(unit):
    rng = np.random.default_rng(3)
    true = np.stack([40 - 15 * np.exp(-TIME / 4), 40 - 15 * np.exp(-TIME / 4), 20 + TIME / 4.0])
    true[1] -= 0.15 * np.clip(TIME - 30, 0, None)
    shown = unit * (true + 0.2 * rng.standard_normal(true.shape))
    curves = Curves.of_accuracy(np.full(true.shape, np.nan), val_score=shown)
    judged = verdict(measure_score_fall(curves))
    assert judged["score_course"].to_list() == [Course.HOLDS, Course.WORSE, Course.IMPROVES]
    assert judged["overfit"].to_list() == [Overfit.NO, Overfit.ENDS_WORSE, Overfit.NO]
    assert judged["status"].to_list() == [Status.OK, Status.OK, Status.STILL_LEARNING]
    assert "accuracy" not in " ".join(judged["reason"])
    assert " pp" not in " ".join(judged["reason"])


def test_no_curve_has_no_course_and_a_curve_that_lies_still_holds():
    nothing = np.full((1, 60), np.nan)
    none = verdict(measure_score_fall(Curves.of_accuracy(nothing)))
    assert none["score_course"].to_list() == [None]
    still = Curves.of_accuracy(nothing, val_score=np.full((1, 60), 7.0))
    assert verdict(measure_score_fall(still))["score_course"].to_list() == [Course.HOLDS]


@pytest.mark.parametrize(
    ("training", "label"),
    [
        (2 * np.exp(-TIME / 15), Overfit.YES),
        (np.full(60, np.nan), Overfit.ENDS_WORSE),
        (0.5 + np.abs(TIME - 20) / 20, Overfit.COMES_APART),
    ],
)
def test_what_a_rising_loss_is_called_depends_on_the_training_loss(training, label):
    noise = 1 + 0.005 * np.random.default_rng(4).standard_normal(60)
    curves = Curves.of_accuracy(
        np.full((1, 60), np.nan), val_loss=(LOSS * noise)[None], running_loss=training[None]
    )
    measured = measure_run_rise(curves).join(
        measure_overfitting(curves, np.full(1, np.nan)), on="trial_id"
    )
    judged = verdict(measured)
    assert judged["overfit"].to_list() == [label]
    assert judged["loss_course"].to_list() == [Course.WORSE]
    assert "rose by at least 2" in judged["loss_said"][0]
