"""Measured columns -> labels and reasons."""

import itertools
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy import stats

from analysis.calibration.error_rates import CLASSES, PARTS, at_margin, rate, verdicts
from analysis.calibration.simulate import Scenario
from analysis.labels import Outcome
from analysis.measures.late import late_trend_of_means
from analysis.verdicts.margins import Margins
from analysis.verdicts.rules import verdict
from raysweep.store.schema import DONE, STOPPED

# A quiet trial that neither falls nor moves.
QUIET = {
    "diverged": False,
    "final_accuracy": 0.9,
    "majority_rate": 0.1,
    "val_n": 1000,
    "num_seeds": 3,
    "train_drop": 0.0,
    "late_slope": 0.0,
    "late_slope_low": -1e-4,
    "projected_gain": 0.0,
    "drop": 0.0,
    "drop_low": -0.002,
    "drop_high": 0.003,
    "harm_p": 0.6,
    "loss_rise": 0.0,
    "loss_rise_low": -0.01,
    "loss_rise_high": 0.01,
    "loss_harm_p": 0.6,
    "refined_loss_rise": 0.0,
    "refined_loss_rise_low": -0.01,
    "refined_loss_rise_high": 0.02,
    "refined_harm_p": 0.6,
    "num_usable_epochs": 150,
    "hf_var": 0.002**2,
    "hf_df": 75.0,
    "finite_var": 0.0015**2,
    "finite_df": 200.0,
    "num_flips": 900,
    "plateau_sd": 0.002,
    "plateau_sd_low": 0.0018,
    "plateau_sd_high": 0.003,
}
NO_BLOCKS = {"finite_var": None, "finite_df": None}


def judge(**known):
    rows = pl.DataFrame([QUIET | known], infer_schema_length=None)
    return verdict(rows).row(0, named=True)


def test_a_quiet_trial_is_ok_does_not_overfit_and_has_no_noise():
    row = judge()
    assert (row["status"], row["overfit"], row["noise"]) == ("ok", "no", "no")
    assert "at most 0.30 pp below its peak" in row["reason"]


@pytest.mark.parametrize(
    ("known", "label", "value"),
    [
        ({"diverged": True}, "status", "diverged"),
        ({"final_accuracy": 0.12}, "status", "at chance"),
        ({"majority_rate": None, "num_classes": 2, "final_accuracy": 0.53}, "status", "at chance"),
        (
            {"late_slope": 1e-3, "late_slope_low": 8e-4, "projected_gain": 0.06},
            "status",
            "still learning",
        ),
        ({"drop": 0.02, "drop_low": 0.01, "drop_high": 0.03, "harm_p": 0.001}, "overfit", "yes"),
        ({"refined_loss_rise": 0.1, "refined_harm_p": 0.001}, "overfit", "yes"),
        ({"loss_rise": 0.2, "loss_harm_p": 0.001}, "overfit", "over-confident"),
        (
            {"train_drop": None, "drop": 0.02, "drop_high": 0.03, "harm_p": 0.001},
            "overfit",
            "ends worse",
        ),
        ({"refined_loss_rise": 0.1, "refined_harm_p": 0.02}, "overfit", "no"),
        ({"drop_high": 0.006}, "overfit", "little"),
        ({"drop_high": 0.03, "loss_rise_high": 0.2}, "overfit", "undetermined"),
        ({"drop_high": 0.03}, "overfit", "loss holds"),
        ({"drop": None, "drop_high": None, "harm_p": None}, "overfit", "loss holds"),
        (
            {"loss_rise": 0.2, "loss_harm_p": 0.001, "refined_loss_rise_high": None},
            "overfit",
            "loss rises, accuracy holds",
        ),
        (
            {"loss_rise": 0.2, "loss_harm_p": 0.001, "drop_high": 0.03},
            "overfit",
            "loss rises",
        ),
        (
            {"refined_loss_rise_high": None, "loss_rise_high": 0.2},
            "overfit",
            "no (accuracy)",
        ),
        ({"refined_loss_rise_high": None}, "overfit", "no"),
        ({"final_accuracy": 0.1}, "overfit", "nothing learnt"),
        ({"guessing_at": 0.01, "majority_rate": None}, "overfit", "nothing learnt"),
        ({"guessing_at": 0.1, "drop": 0.6, "harm_p": 0.001}, "overfit", "comes apart"),
        ({"learnt_nothing": True}, "status", "at chance"),
        ({"hf_var": 0.01**2}, "noise", "optimizer"),
        ({"hf_var": 0.0065**2, "finite_var": 0.006**2}, "noise", "validation set"),
        ({"hf_var": 0.015**2, "finite_var": 0.006**2}, "noise", "both"),
        (
            {
                "plateau_sd": 0.01,
                "plateau_sd_low": 0.008,
                "plateau_sd_high": 0.02,
                "late_plateau_sd_low": 0.007,
            },
            "noise",
            "slow wander",
        ),
        (
            {
                "plateau_sd": 0.01,
                "plateau_sd_low": 0.008,
                "plateau_sd_high": 0.02,
                "late_plateau_sd_low": 0.001,
            },
            "noise",
            "no jitter",
        ),
        ({"plateau_sd_high": 0.005}, "noise", "no jitter"),
        ({"hf_var": 0.0044**2}, "noise", "small"),
        ({"hf_var": 0.01**2, **NO_BLOCKS}, "noise", "undetermined"),
        ({"hf_var": 0.01**2, "set_sd_most": 0.011, **NO_BLOCKS}, "noise", "set suffices"),
        ({"hf_var": 0.01**2, "set_sd_most": 0.002, **NO_BLOCKS}, "noise", "optimizer"),
        ({"hf_var": 0.01**2, "set_sd_most": 0.002, "order_ratio": 2.0}, "noise", "set suffices"),
        ({"hf_var": 0.01**2, "set_sd_most": 0.008, **NO_BLOCKS}, "noise", "some optimizer"),
        ({"hf_var": 0.01**2, "fin_sd_most": 0.002, **NO_BLOCKS}, "noise", "optimizer"),
        ({"hf_var": 0.01**2, "fin_sd_least": 0.008, **NO_BLOCKS}, "noise", "validation set"),
        ({"hf_var": None, "hf_df": None, "num_usable_epochs": 5}, "noise", "undetermined"),
        ({"finite_var": None, "finite_df": None}, "noise", "no"),
    ],
)
def test_each_label_follows_its_rule(known, label, value):
    row = judge(**known)
    assert row[label] == value
    assert row["reason"].endswith(".")
    assert "?" not in row["reason"]


def test_a_fall_that_is_sure_but_below_the_margin_is_not_overfitting():
    row = judge(drop=0.004, drop_low=0.003, drop_high=0.0049, harm_p=0.001)
    assert row["overfit"] == "no"


def test_a_fall_that_training_shares_is_instability_and_no_overfitting():
    fallen = {"drop": 0.35, "drop_low": 0.25, "drop_high": 0.4, "harm_p": 0.001}
    row = judge(**fallen, train_drop=0.36)
    assert row["overfit"] == "comes apart"
    assert "Training comes apart" in row["overfit_reason"]
    assert judge(**fallen, train_drop=None, running_drop=0.3)["overfit"] == "comes apart"
    assert judge(**fallen, train_drop=None, train_loss_regained=0.3)["overfit"] == "comes apart"
    assert judge(**fallen, train_drop=0.0, train_loss_regained=0.3)["overfit"] == "yes"
    rising = {"late_slope": 1e-3, "late_slope_low": 8e-4, "projected_gain": 0.06}
    assert judge(**fallen, **rising, train_drop=0.36)["status"] == "ok"
    assert judge(**fallen, train_drop=0.0)["overfit"] == "yes"


def test_what_has_diverged_has_no_other_label():
    row = judge(diverged=True)
    assert row["overfit"] is None
    assert row["noise"] is None
    assert row["reason"].startswith("Diverged")


def test_undetermined_names_the_datum_that_would_settle_it():
    assert "seeds would settle it" in judge(drop_high=0.006)["overfit_reason"]
    assert "at least 8 are needed" in judge(hf_var=None, hf_df=None)["noise_reason"]
    unknown = judge(hf_var=0.01**2, val_n=None, **NO_BLOCKS)["noise_reason"]
    assert "The number of validation examples would bound their part" in unknown
    one = judge(drop_high=0.006, num_seeds=1, **NO_BLOCKS)["overfit_reason"]
    assert "validation blocks, or which examples are right" in one
    small = judge(drop_high=0.03, loss_rise_high=0.2, val_n=200)["overfit_reason"]
    assert "a larger validation set comes before more seeds" in small
    assert "seeds would" not in small


def test_with_as_many_seeds_as_are_said_no_fall_is_excluded_in_four_of_five():
    said = judge(drop_high=0.006)["overfit_reason"]
    num_seeds = int(said.split("about ")[1].split(" seeds")[0])
    of_three = 0.006 / stats.norm.isf(0.05)  # standard error; nothing is lost

    def excluded(num):
        error = of_three * np.sqrt(3 / num)
        return stats.norm.cdf((Margins().drop - stats.norm.isf(0.05) * error) / error)

    assert excluded(num_seeds - 1) < 0.8 <= excluded(num_seeds)


def test_a_frame_that_knows_nothing_has_reasons_and_no_claims():
    row = verdict(pl.DataFrame({"trial_id": ["a"]})).row(0, named=True)
    assert (row["status"], row["overfit"], row["noise"]) == ("ok", "undetermined", "undetermined")
    assert row["trial_id"] == "a"


def test_margins_are_settings_and_are_said():
    fallen = {"drop": 0.02, "drop_low": 0.01, "drop_high": 0.03, "harm_p": 0.001}
    frame = pl.DataFrame([QUIET | fallen])
    assert verdict(frame, Margins(drop=0.05))["overfit"].item() == "no"
    assert "0.4 pp of noise, 0.5 pp of accuracy lost, 3 % of loss" in Margins().in_words()


def test_many_trials_at_once_need_smaller_p_values():
    fallen = QUIET | {"drop": 0.02, "drop_high": 0.03, "harm_p": 0.02}
    frame = pl.DataFrame([fallen, *[QUIET] * 20])
    assert verdict(frame, adjust=False)["overfit_among"][0] == "yes"
    row = verdict(frame).row(0, named=True)
    assert (row["overfit"], row["overfit_among"]) == ("yes", "loss holds")
    assert "among the 21 that are judged here" in row["overfit_reason"]
    assert verdict(frame)["overfit_reason"][1].endswith("above its minimum.")


def test_the_late_trend_of_seeds_is_null_where_one_lacks_a_late_epoch():
    """A shorter seed ends the mean curve; a hole in it is no epoch of the other seeds' level."""
    trials = pl.DataFrame({"trial_id": ["a", "b"], "config_id": "c"})

    def slope(**left_out):
        raw = pl.concat(
            pl.DataFrame({"trial_id": name, "epoch": np.arange(1, length + 1)}).with_columns(
                (level + 1e-3 * pl.col("epoch")).alias("val_accuracy")
            )
            for name, level, length in (("a", 0.5, 30), ("b", 0.7, 36))
        )
        (row,) = late_trend_of_means(raw.remove(**left_out), trials).iter_rows(named=True)
        return row["late_slope"]

    assert slope(trial_id="none") == pytest.approx(1e-3)
    assert slope(trial_id="a", epoch=5) == pytest.approx(1e-3)
    assert slope(trial_id="b", epoch=33) == pytest.approx(1e-3)
    assert slope(trial_id="a", epoch=25) is None
    assert slope(trial_id="b", epoch=25) is None


def test_the_calibration_runs_in_all_its_parts():
    for part in PARTS.values():
        (row,) = itertools.islice(part(0.01), 1)
        assert 0 <= row["low"] <= row["rate"] <= row["high"] <= 1


def test_what_the_seeds_share_of_the_validation_set_takes_degrees_of_freedom():
    assert judge(hf_var=0.0055**2)["noise"] == "optimizer"
    assert judge(hf_var=0.0055**2, pop_df=10.0)["noise"] == "small"
    assert judge(pop_df=100.0)["optimizer_p"] == judge()["optimizer_p"]  # hf_df is fewer


@pytest.mark.usefixtures("simulation")
def test_five_seeds_on_one_small_set_seldom_look_moved_by_the_optimizer():
    scenario = Scenario(
        num_val=200, num_seeds=5, jitter=at_margin(0.0), shared=0.5, num_train_eval=1
    )
    found = verdicts(scenario, 2000, (3, 200, 60, 0), losses=False)
    assert found["optimizer_p"].null_count() == 0
    hits = found.filter(pl.col("noise").is_in(["optimizer", "both"])).height
    assert rate(hits, 2000)["low"] <= 0.05


@pytest.mark.usefixtures("simulation")
@pytest.mark.parametrize("number", [i for i, known in enumerate(CLASSES) if known.enough])
def test_trials_of_known_class_are_given_it_where_the_data_are_enough(number):
    known = CLASSES[number]
    num = 60 if known.enough > 1 else 100
    scenario = replace(known.scenario, num_seeds=known.enough)
    found = verdicts(scenario, num, (9, number))
    least = 0.9 - 2.5 * np.sqrt(0.9 * 0.1 / num)
    assert (found[known.label] == known.truth).mean() >= least


def test_every_outcome_of_a_trial_in_a_store_is_one_of_ours():
    assert {*DONE, STOPPED} < set(Outcome)
