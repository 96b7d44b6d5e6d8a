"""Gap, fall from the peak, rise of the loss: against simulations whose truth is known."""

import numpy as np
import polars as pl
import pytest

from analysis import analyze
from analysis.calibration.simulate import Scenario, simulate
from analysis.curves import Curves, curves
from analysis.measures.cutoffs import shipped
from analysis.measures.harm import fall_of_seeds, measure_harm
from analysis.measures.overfitting import measure_overfitting
from analysis.results import _means
from analysis.sources.store import derive
from analysis.stats.windows import window_length
from tests.support.simulated import Curve, Sweep, early_stopping_like, spec


def epochs_frame(trial_id, right, train_right, losses=None):
    """The columns that the curves need, of one trial."""
    block = np.arange(right.shape[1]) % 20
    size = np.bincount(block, minlength=20).tolist()
    losses = np.ones(len(right)) if losses is None else losses
    return pl.DataFrame(
        {
            "trial_id": trial_id,
            "weights_kind": "raw",
            "epoch": np.arange(1, len(right) + 1),
            "lr": 0.1,
            "val_n": right.shape[1],
            "val_correct": right.sum(axis=1),
            "val_loss_sum": losses * right.shape[1],
            "train_eval_n": train_right.shape[1],
            "train_eval_correct": train_right.sum(axis=1),
            "train_eval_loss_sum": 1.0,
            "val_block_n": [size] * len(right),
            "val_block_correct": [
                np.bincount(block, weights=row, minlength=20).astype(int).tolist() for row in right
            ],
            "val_block_loss_sum": None,
            "val_nll_at_temperature": None,
            "flip_to_wrong": 0,
            "flip_to_right": 0,
        },
        schema_overrides={
            "epoch": pl.Int32,
            "val_block_loss_sum": pl.List(pl.Float64),
            "val_nll_at_temperature": pl.Float64,
        },
    )


def mean(values):
    return values.to_numpy().mean()


def both(group, num_train):
    """What the two modules measure of each trial."""
    sizes = np.full(len(group.trial_ids), float(num_train))
    return measure_overfitting(group, sizes).join(measure_harm(group), on="trial_id")


def test_a_hand_made_curve_gives_the_numbers_that_a_hand_would():
    accuracy = np.array([50, 60, 70, 80, 90, 90, 90, 80, 80, 80, 70, 70, 70])
    right = np.arange(100)[None] < accuracy[:, None]
    losses = np.array([2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1.5, 1.5, 1.5])
    epochs = derive(epochs_frame("a", right, np.ones((13, 50), bool), losses))
    (group,) = curves(epochs)
    row = both(group, 50).row(0, named=True)
    assert window_length(13) == 3
    assert row["drop"] == pytest.approx(0.2)
    assert row["drop_low"] <= 0.2 <= row["drop_high"]
    assert row["loss_rise"] == pytest.approx(0.5)
    assert (row["best_naive"], row["peak_epoch"]) == (0.9, 5)
    assert row["final_accuracy"] == pytest.approx(0.7)
    assert row["gap"] == pytest.approx(1 - np.mean([0.8, 0.7, 0.7, 0.7]))  # last third: 4 epochs


def test_too_few_epochs_for_two_windows_give_no_fall():
    right = np.random.default_rng(0).random((5, 100)) < 0.8
    (group,) = curves(derive(epochs_frame("a", right, right)))
    row = both(group, 100).row(0, named=True)
    assert row["drop"] is None
    assert row["loss_rise"] is None
    assert row["final_accuracy"] is not None


def test_without_blocks_the_gap_has_no_limits():
    """The validation set's error is then unknown, and is not left out in silence."""
    right = np.random.default_rng(0).random((20, 100)) < 0.8
    epochs = derive(epochs_frame("a", right, right)).with_columns(
        pl.lit(None, pl.List(pl.Int64)).alias("val_block_n")
    )
    (group,) = curves(epochs)
    row = measure_overfitting(group, np.array([100.0])).row(0, named=True)
    assert row["gap"] == pytest.approx(0)
    assert row["gap_low"] is None
    assert row["gap_high"] is None


def test_a_seed_without_a_value_adds_no_degree_of_freedom():
    right = np.random.default_rng(0).random((20, 100)) < 0.8
    (group,) = curves(derive(epochs_frame("a", right, right)))
    one = measure_overfitting(group, np.array([100.0])).with_columns(
        pl.lit("c").alias("config_id"),
        pl.lit(20).alias("num_epochs"),
        pl.col("final_accuracy").alias("kept_accuracy"),
    )
    seeds = pl.concat(
        [one.with_columns(pl.lit(best).alias("best_naive")) for best in (0.1, 0.2, None)],
        how="vertical_relaxed",
    )
    row = _means(seeds).row(0, named=True)
    assert row["best_naive_high"] - row["best_naive"] == pytest.approx(12.706 * 0.05, rel=1e-4)


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_a_fall_on_a_flat_curve_rarely_looks_sure(correlation, simulation):
    """drop_low > 0 claims a fall: at most 5 % of flat curves, white or slowly wandering."""
    flat = Scenario(num_val=300, correlation=correlation, learning_epochs=0.2)
    made = simulate(flat, 400, simulation(10), losses=False)
    claims = (measure_harm(made.curves)["drop_low"] > 0).sum()
    assert claims / 400 < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize("fall", [0.0, 0.05])
def test_the_crossfitted_fall_is_unbiased_and_its_interval_covers(fall, simulation):
    """With and without a true fall, over seeds that share a small validation set."""
    scenario = Scenario(
        num_val=300, num_seeds=4, correlation=0.3, learning_epochs=1.0, fall=fall, peak=0.25
    )
    made = simulate(scenario, 150, simulation(11), losses=False)
    found, per_trial = fall_of_seeds(made.curves, np.full((150, 4), 60), shipped())
    assert np.isfinite(per_trial).all()
    assert mean(found["drop"]) == pytest.approx(made.fall, abs=0.004)
    covered = ((found["drop_low"] < made.fall) & (found["drop_high"] > made.fall)).sum() / 150
    # Each limit is a one-sided 95 % one.
    assert covered > 0.9 - 2 * np.sqrt(0.1 * 0.9 / 150)
    naive = mean(measure_harm(made.curves)["drop"])
    assert naive > mean(found["drop"]) + 0.002  # what choosing the peak on itself adds


def test_the_interval_of_the_gap_covers_the_populations_gap(simulation):
    scenario = Scenario(num_epochs=45, num_val=300, num_train_eval=400, learning_epochs=1.0)
    made = simulate(scenario, 300, simulation(12), losses=False)
    # The training subset is a sample too: of a training set that is much larger.
    found = measure_overfitting(made.curves, np.full(300, 1e6))
    covered = ((found["gap_low"] < scenario.gap) & (found["gap_high"] > scenario.gap)).sum() / 300
    assert covered > 0.95 - 2.5 * np.sqrt(0.05 * 0.95 / 300)


def test_restored_weights_stand_beside_the_last_ones(tmp_path):
    store = early_stopping_like().write(
        tmp_path, lambda trial: Curve(fall=0.06, peak=0.37, gap=0.05)
    )
    trials = analyze(store).trials
    stopped = trials.filter("stopped_early")
    assert stopped.height == 5
    assert (stopped["kept_accuracy"] == stopped["restored_accuracy"]).all()
    assert (stopped["num_epochs"] < 60).all()
    whole = trials.filter(~pl.col("stopped_early"))
    assert (whole["kept_accuracy"] == whole["final_accuracy"]).all()


def test_seeds_that_stopped_at_different_epochs_are_still_crossfitted(tmp_path):
    store = early_stopping_like().write(
        tmp_path, lambda trial: Curve(fall=0.06, peak=0.37, gap=0.05)
    )
    analysis = analyze(store)
    assert analysis.trials.filter("stopped_early")["num_epochs"].n_unique() > 1
    assert analysis.trials["drop_crossfit"].null_count() == 0


def test_one_seed_has_its_own_limits(tmp_path):
    sweep = Sweep(spec("one", axes={}, seeds=1, epochs=40))
    row = analyze(sweep.write(tmp_path, lambda trial: Curve())).configurations.row(0, named=True)
    assert row["drop"] >= 0
    assert row["drop_low"] <= row["drop"] <= row["drop_high"]
    assert row["gap_low"] < row["gap"] < row["gap_high"]
    assert row["final_accuracy_low"] is None  # one seed says nothing about others


def test_a_rise_of_the_loss_is_told_apart_from_that_of_the_refined_loss():
    """The loss doubles from its minimum; refined, it ends a tenth higher."""
    loss = np.concatenate([np.full(10, 1.0), np.full(10, 2.0)])[None]
    refined = np.concatenate([np.full(10, 0.9), np.full(10, 1.1)])[None]
    curve = Curves.of_accuracy(np.full((1, 20), 0.8), val_loss=loss, refined_loss=refined)
    row = both(curve, 1).row(0, named=True)
    assert row["loss_rise"] == pytest.approx(1.0)
    assert row["refined_loss_rise"] == pytest.approx(0.2 / 0.9)
    unrefined = Curves.of_accuracy(np.full((1, 20), 0.8), val_loss=loss)
    row = both(unrefined, 1).row(0, named=True)
    assert row["loss_rise"] == pytest.approx(1.0)
    assert row["refined_loss_rise"] is None


def test_over_confidence_raises_the_loss_and_not_the_refined_loss():
    world = Scenario(num_epochs=40, over_confidence=2.0, num_val=1000, num_train_eval=20)
    made = simulate(world, 40, np.random.default_rng(1))
    found = both(made.curves, 1_000_000)
    means = [found[name].to_numpy().mean() for name in ("loss_rise", "refined_loss_rise")]
    assert means[0] > 0.25
    assert means[1] < 0.1
