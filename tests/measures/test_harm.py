"""A fall from the peak: what it is, how often noise makes one, and how well it is found."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from analysis.calibration.__main__ import standardised
from analysis.calibration.error_rates import rate
from analysis.calibration.simulate import Scenario, ar1, simulate
from analysis.curves import Curves
from analysis.measures.cutoffs import shipped
from analysis.measures.harm import fall_of_curve, fall_of_seeds, measure_harm, measure_harm_of_seeds
from analysis.stats.trend import segments

AT_ONCE = 50_000  # curves


def flat(num, num_epochs, correlation, seed):
    return ar1(np.random.default_rng(seed), (num, num_epochs), correlation).astype(float)


def used(values):
    return np.broadcast_to(segments(np.ones((1, values.shape[1]))), values.shape)


def test_a_hand_made_fall_is_the_largest_window_mean_minus_the_last():
    accuracy = np.array([[50, 60, 70, 80, 90, 90, 90, 80, 80, 80, 70, 70, 70]]) / 100
    row = measure_harm(Curves.of_accuracy(accuracy, val_loss=1 / accuracy)).row(0, named=True)
    assert row["drop"] == pytest.approx(0.2)
    assert row["drop_low"] <= 0.2 <= row["drop_high"]
    assert row["loss_rise"] == pytest.approx(0.9 / 0.7 - 1)
    assert row["refined_loss_rise"] is None


@pytest.mark.parametrize("num_epochs", [5, 8])
def test_too_few_epochs_have_no_test(num_epochs):
    row = measure_harm(Curves.of_accuracy(flat(1, num_epochs, 0, 0))).row(0, named=True)
    assert row["harm_p"] is None
    assert row["drop_high"] is None


def test_a_constant_curve_does_not_fall():
    row = measure_harm(Curves.of_accuracy(np.full((1, 40), 0.5))).row(0, named=True)
    assert (row["drop"], row["harm_p"], row["drop_low"]) == (0, 1, 0)
    assert row["drop_high"] == pytest.approx(0)


def test_a_missing_epoch_makes_the_fall_unknown_not_zero():
    values = 0.9 + flat(2, 40, 0, 1) / 100
    values[0, 30] = np.nan
    assert measure_harm(Curves.of_accuracy(values))["drop"].is_null().to_list() == [True, False]


def test_the_p_value_and_the_lower_limit_say_the_same():
    values = 0.9 + flat(300, 60, 0.5, 2) / 100 - np.linspace(0, 0.03, 60)
    found = measure_harm(Curves.of_accuracy(values))
    assert ((found["harm_p"] <= 0.05) == (found["drop_low"] > 0)).all()
    assert 0 < (found["harm_p"] <= 0.05).mean() < 1  # pyright: ignore[reportOperatorIssue]


def test_scale_and_level_of_the_curve_do_not_matter():
    values = flat(50, 30, 0.3, 3)
    one, other = (fall_of_curve(v, used(v), shipped()) for v in (values, 100 + 1e-3 * values))
    assert one.p == pytest.approx(other.p, rel=1e-6)


def test_the_table_ships_with_the_seed_and_version_that_made_it():
    table = shipped()
    assert {"seed", "version", "num_curves", "target"} <= table.made_by.keys()
    assert table.fall.shape == (len(table.lengths), len(table.correlations), len(table.p))
    assert (np.diff(table.fall, axis=2) > 0).all()  # a smaller p needs a larger fall
    assert (np.diff(table.fall, axis=1) >= 0).all()  # so does a slower noise


def test_a_p_value_is_interpolated_between_the_levels_of_the_table():
    table = shipped()
    at = table.fall[list(table.lengths).index(60), 0]
    beyond = at[-1] * (at[-1] / at[5]) ** 2  # p is 0.01 at at[5], and 0.001 at at[-1]
    z = np.array([0.0, at[3], (at[3] + at[4]) / 2, at[-1], beyond])
    p = table.p_value(z, 60, np.zeros(5))
    assert p == pytest.approx([1, 0.05, np.sqrt(0.05 * 0.02), 1e-3, 1e-5])
    assert np.isnan(table.p_value(np.array([np.nan]), 60, np.zeros(1))).all()


@pytest.mark.parametrize("num_epochs", [11, 20, 60])
@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_small_p_values_of_flat_curves_are_as_rare_as_they_say(num_epochs, correlation, simulation):
    """One trial among many has to be told, so p goes on beyond the smallest level of the table."""
    rng = simulation([7, num_epochs, int(10 * correlation)])
    num, hits = 400_000, 0
    for _ in range(num // AT_ONCE):
        largest, _, r = standardised(ar1(rng, (AT_ONCE, num_epochs), correlation).astype(float))
        hits += int((shipped().p_value(largest, num_epochs, r) <= 1e-4).sum())
    assert rate(hits, num)["low"] <= 1e-4


def test_one_trial_that_clearly_falls_is_told_among_many_that_do_not():
    values = flat(200, 60, 0.0, 8)
    values[0] -= np.linspace(0, 30, 60)
    p = fall_of_curve(values, used(values), shipped()).p
    assert stats.false_discovery_control(np.minimum(2 * p, 1))[0] < 0.05


def test_noise_that_seeds_share_is_no_fall_but_a_common_fall_is_one():
    for fall, found in ((0.0, False), (0.04, True)):
        scenario = Scenario(num_seeds=5, num_val=500, fall=fall, shared=0.5, memory=0.8)
        made = simulate(scenario, 1, np.random.default_rng(4))
        pooled, crossfit = fall_of_seeds(made.curves, np.full((1, 5), 60), shipped())
        row = pooled.row(0, named=True)
        for name in ("harm_p", "loss_harm_p", "refined_harm_p"):
            assert (row[name] <= 0.05) == found
        assert row["drop_low"] <= made.fall <= row["drop_high"]
        assert row["drop"] == pytest.approx(crossfit.mean())


def epochs_of(curves, ends):
    """A frame as read_store gives it; `ends`: last epoch of each trial."""
    num, num_epochs, num_blocks = curves.block_accuracy.shape
    frame = pl.DataFrame(
        {
            "trial_id": np.array(curves.trial_ids).repeat(num_epochs),
            "epoch": np.tile(np.arange(1, num_epochs + 1), num),
            "lr": 0.1,
            "val_n": curves.val_n.repeat(num_epochs),
            "val_accuracy": curves.val_accuracy.ravel(),
            "val_loss": curves.val_loss.ravel(),
            "val_nll_at_temperature": curves.refined_loss.ravel(),
            "train_eval_accuracy": curves.train_accuracy.ravel(),
            "train_eval_loss": curves.train_loss.ravel(),
            "train_eval_n": curves.train_n.repeat(num_epochs),
            "flip_to_wrong": 0,
            "flip_to_right": 0,
        }
    )
    size = curves.val_n[0] / num_blocks
    blocks = {
        "val_block_n": np.full((num * num_epochs, num_blocks), size).astype(int),
        "val_block_correct": np.rint(curves.block_accuracy * size).astype(int),
        "val_block_loss_sum": curves.block_loss * size,
    }
    frame = frame.with_columns(
        pl.Series(name, values.reshape(-1, num_blocks)).cast(pl.List(pl.Float64))
        for name, values in blocks.items()
    )
    last = pl.Series(np.array(ends).repeat(num_epochs))
    return frame.filter(pl.col("epoch") <= last)


def test_configurations_are_pooled_over_their_seeds_whatever_their_number():
    made = simulate(Scenario(num_epochs=40, num_val=200), 7, np.random.default_rng(5))
    raw = epochs_of(made.curves, [40, 40, 40, 40, 40, 33, 40])
    config_id = ["one", "two", "two", "three", "three", "three", "gone"]
    plan = pl.DataFrame({"trial_id": made.curves.trial_ids, "config_id": config_id})
    plan = plan.filter(pl.col("config_id") != "gone")
    of_trials, of_configs = measure_harm_of_seeds(raw, plan)
    assert sorted(of_configs["config_id"]) == ["one", "three", "two"]
    assert of_configs["harm_p"].null_count() == 0
    alone = measure_harm(made.curves).filter(pl.col("trial_id") == made.curves.trial_ids[0])
    one = of_configs.filter(pl.col("config_id") == "one")
    assert one["harm_p"].item() == pytest.approx(alone["harm_p"].item())
    known = of_trials.drop_nulls("drop_crossfit")["trial_id"].to_list()
    assert known == made.curves.trial_ids[3:6]  # cross-fitted from three seeds on


@pytest.mark.usefixtures("simulation")
@pytest.mark.parametrize("num_epochs", [15, 20, 30, 60, 120])
@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6, 0.9])
def test_flat_curves_of_one_seed_seldom_look_harmed(num_epochs, correlation):
    values = flat(2000, num_epochs, correlation, [6, num_epochs, int(10 * correlation)])
    rate = (fall_of_curve(values, used(values), shipped()).p <= 0.05).mean()
    assert rate < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize("correlation", [0.0, 0.9])
@pytest.mark.parametrize("num_epochs", [15, 60])
def test_flat_curves_of_five_seeds_on_one_validation_set_seldom_look_harmed(
    num_epochs, correlation, simulation
):
    scenario = Scenario(
        num_epochs=num_epochs,
        num_val=200,
        num_seeds=5,
        shared=0.5,
        memory=max(correlation, 0.5),
        correlation=correlation,
        num_train_eval=1,
    )
    made = simulate(scenario, 400, simulation([7, num_epochs, int(10 * correlation)]))
    found, _ = fall_of_seeds(made.curves, np.full((400, 5), num_epochs), shipped())
    for name in ("harm_p", "loss_harm_p", "refined_harm_p"):
        rate = (found[name] <= 0.05).mean()
        assert rate < 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 400)  # pyright: ignore[reportOperatorIssue]


def test_falls_of_six_times_the_margin_are_found_in_one_seed_and_of_two_in_five(simulation):
    for num_seeds, fall in ((1, 0.03), (5, 0.01)):
        scenario = Scenario(num_seeds=num_seeds, fall=fall, num_train_eval=1)
        made = simulate(scenario, 150, simulation(8), losses=False)
        found, _ = fall_of_seeds(made.curves, np.full((150, num_seeds), 60), shipped())
        assert (found["harm_p"] <= 0.05).mean() > 0.8  # pyright: ignore[reportOperatorIssue]
        assert (found["drop_high"] < made.fall).mean() < 0.1  # pyright: ignore[reportOperatorIssue]


def test_the_peak_of_a_long_run_is_not_levelled_out():
    """4,800 epochs: a peak of a hundred epochs, then 8 pp less."""
    time = np.arange(4800)
    level = 0.74 + 0.08 * np.exp(-(((time - 1500) / 100) ** 2))
    values = level + 0.005 * np.random.default_rng(9).standard_normal((3, 4800))
    found = measure_harm(Curves.of_accuracy(values))
    assert (found["drop"] > 0.075).all()
    assert (found["drop_low"] > 0).all()
    assert (found["drop_high"] > 0.08).all()


@pytest.mark.parametrize("logged", [True, False])
def test_a_still_end_after_a_step_of_the_rate_has_a_narrow_limit(logged):
    """The noise and the bend of the first segment do not widen it."""
    time = np.arange(100)
    rate = np.where(time < 50, 1.0, 0.1)
    level = 0.92 - 0.3 * np.exp(-time / 5) - 0.06 * (time < 50)
    noise = np.where(time < 50, 0.01, 0.001) * np.random.default_rng(10).standard_normal((50, 100))
    lr = np.tile(rate if logged else np.nan, (50, 100 if not logged else 1))
    found = measure_harm(Curves.of_accuracy(level + noise, lr=lr))
    assert np.median(found["drop_high"].to_numpy()) < 0.006
    assert (found["harm_p"].to_numpy() <= 0.05).mean() <= 0.1


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
@pytest.mark.parametrize("name", ["step", "two steps", "cosine", "long"])
def test_flat_curves_of_several_segments_or_of_great_length_seldom_fall(
    name, correlation, simulation
):
    num_epochs = 500 if name == "long" else 90
    part = np.arange(num_epochs) / num_epochs
    rate = {
        "step": np.where(part < 0.5, 1, 0.1),
        "two steps": np.select([part < 0.5, part < 0.75], [1.0, 0.1], 0.01),
        "cosine": 1.001 + np.cos(np.pi * part),
        "long": np.ones(num_epochs),
    }[name]
    noise = ar1(simulation([11, num_epochs]), (500, num_epochs), correlation).astype(float)
    found = measure_harm(Curves.of_accuracy(0.9 + 0.01 * noise, lr=np.tile(rate, (500, 1))))
    assert (found["harm_p"] <= 0.05).sum() <= stats.binom.isf(1e-3, 500, 0.05)
