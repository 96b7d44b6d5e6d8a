"""Early stopping replayed: by hand, and against known truth."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from analysis.calibration.simulate import Scenario, simulate
from analysis.causes.replay import BASELINE, SCHEMA, Policy, policies, replay, replayable
from analysis.curves import Curves


def of(accuracy, loss):
    return Curves.of_accuracy(np.atleast_2d(accuracy), val_loss=np.atleast_2d(loss))


def one(curves, rule, **known):
    return replay([curves], [rule], **known).row(0, named=True)


ACCURACY = np.array([0.5, 0.6, 0.7, 0.65, 0.66, 0.67, 0.8, 0.7])
LOSS = np.array([2.0, 1.5, 1.2, 1.25, 1.3, 1.19, 1.4, 1.5])


@pytest.mark.parametrize(
    ("rule", "stop", "kept"),
    [
        (Policy("val_loss", "none", 2, 0.0, 0), 5, 3),
        (Policy("val_loss", "none", 2, 0.0, 6), 8, 6),
        (Policy("val_loss", "none", 3, 0.02, 0), 6, 3),
        (Policy("val_loss", "none", 10, 0.0, 0), 8, 6),
        (Policy("val_accuracy", "none", 3, 0.0, 0), 6, 3),
        (Policy("val_accuracy", "none", 4, 0.0, 0), 8, 7),
        (Policy("val_accuracy", "median-3", 2, 0.0, 0), 8, 8),
        (Policy("val_accuracy", "ema", 20, 0.0, 0), 8, 8),
    ],
)
def test_a_rule_stops_and_keeps_what_a_hand_would(rule, stop, kept):
    row = one(of(ACCURACY, LOSS), rule)
    assert row["mean_stop_epoch"] == stop
    assert row["regret"] == pytest.approx(0.8 - ACCURACY[kept - 1])
    assert row["saved_share"] == pytest.approx(1 - stop / 8)


def test_all_trials_at_once_are_as_each_by_itself():
    rng = np.random.default_rng(0)
    accuracy, loss = rng.random((6, 20)), rng.random((6, 20))
    together = replay([of(accuracy, loss)])
    apart = [replay([of(*pair)]) for pair in zip(accuracy, loss, strict=True)]
    for name in ("mean_stop_epoch", "saved_share", "regret", "difference"):
        mean = np.mean([frame[name].to_numpy() for frame in apart], axis=0)
        assert together[name].to_numpy() == pytest.approx(mean)


def test_without_blocks_regret_is_naive_and_says_so():
    frame = replay([of(ACCURACY, LOSS)])
    assert dict(frame.schema) == SCHEMA
    assert frame.height == len(policies()) == 96
    assert (frame["regret_kind"] == "naive").all()
    assert (frame["regret"] >= 0).all()
    assert frame["regret_low"].null_count() == 96  # one trial tells nothing about others


def test_with_blocks_regret_is_crossfitted():
    made = simulate(Scenario(num_epochs=25, num_seeds=4), 1, np.random.default_rng(1))
    frame = replay([made.curves])
    assert (frame["regret_kind"] == "cross-fitted").all()
    # Where no trial loses anything, nothing is known of the spread.
    assert (frame["regret_low"].is_null() == (frame["regret"] == 0)).all()
    base = frame.filter(
        metric=BASELINE.metric, smoother="none", patience=10, min_delta=0.0, min_epochs=0
    )
    assert base["difference"].to_list() == [0.0]
    assert base["difference_low"].to_list() == [None]
    assert replay([made.curves]).equals(frame)


def test_without_losses_by_block_the_loss_rules_are_naive_and_not_compared():
    made = simulate(Scenario(num_epochs=25, num_seeds=4), 1, np.random.default_rng(2)).curves
    bare = dataclasses.replace(made, block_loss=made.block_loss[:, :, :0])
    kinds = replay([bare]).group_by("metric").agg(pl.col("regret_kind").unique())
    assert dict(kinds.iter_rows()) == {"val_loss": ["naive"], "val_accuracy": ["cross-fitted"]}


def test_a_metric_that_was_not_recorded_gives_a_reason_instead_of_numbers():
    bare = Curves.of_accuracy(np.random.default_rng(3).random((3, 12)))
    row = one(bare, BASELINE)
    assert row["regret"] is None
    assert row["reason"] == "no val_loss was recorded"
    assert replay([])["regret"].null_count() == 96


def test_trials_that_stopped_early_replay_only_what_stops_earlier():
    trials = pl.DataFrame({"trial_id": ["a", "b"], "stopped_early": [True, False]})
    assert replayable(trials)[0]["trial_id"].to_list() == ["b"]
    whole, censored = replayable(trials.filter("stopped_early"))
    assert (whole.height, censored) == (1, True)
    curve = of(ACCURACY[:6], LOSS[:6])
    assert one(curve, Policy("val_loss", "none", 2, 0.0, 0), censored=True)["regret"] is not None
    later = one(curve, Policy("val_loss", "none", 5, 0.0, 0), censored=True)
    assert later["regret"] is None
    assert later["reason"] == "trials stopped before this rule would have"


def test_an_epoch_without_a_loss_is_never_better():
    loss = LOSS.copy()
    loss[[5, 7]] = np.nan
    assert one(of(ACCURACY, loss), Policy("val_loss", "none", 10, 0.0, 0))["regret"] == (
        pytest.approx(0.1)
    )


def test_an_average_goes_on_after_an_epoch_without_a_loss():
    loss = np.array([2.0, 1.5, np.nan, 1.2, 1.1, 1.3, 1.4, 1.5])
    accuracy = np.linspace(0.1, 0.8, 8)
    # Averages 2, 1.85, -, 1.655, 1.489, 1.432, 1.422, 1.446: the best epoch is the seventh.
    row = one(of(accuracy, loss), Policy("val_loss", "ema", 10, 0.0, 0))
    assert row["regret"] == pytest.approx(0.1)
    first = np.array([np.nan, *loss[1:]])
    assert one(of(accuracy, first), Policy("val_loss", "ema", 10, 0.0, 0))["regret"] < 0.5


def test_a_trial_without_the_metric_is_left_out_of_its_rules_alone():
    """Of one group, and of another one that has no loss at all."""
    rng = np.random.default_rng(6)
    accuracy, loss = rng.random((5, 20)), rng.random((5, 20))
    holes = loss.copy()
    holes[1] = np.nan
    have = [0, 2, 3, 4]
    bare = Curves.of_accuracy(rng.random((2, 20)))
    rules = [
        BASELINE,
        Policy("val_loss", "ema", 3, 0.0, 0),
        Policy("val_accuracy", "none", 3, 0.0, 0),
    ]
    found = replay([bare, of(accuracy, holes)], rules)
    whole = replay([of(accuracy[have], loss[have])], rules)
    on_loss = pl.col("metric") == "val_loss"
    assert found.filter(on_loss).drop("pareto").equals(whole.filter(on_loss).drop("pareto"))
    (row,) = found.filter(~on_loss).iter_rows(named=True)
    assert row["num_trials"] == 7
    # Against the baseline only those count that have one.
    assert row["difference"] == pytest.approx(whole.filter(~on_loss)["difference"].item())


def test_only_rules_that_no_other_beats_on_both_counts_are_pareto():
    frame = replay([of(ACCURACY, LOSS)])
    best = frame.filter("pareto")
    assert 0 < best.height < frame.height
    for row in frame.filter(~pl.col("pareto")).iter_rows(named=True):
        beaten = (best["saved_share"] >= row["saved_share"]) & (best["regret"] <= row["regret"])
        assert beaten.any()


@pytest.mark.parametrize("jitter", [0.0, 0.01])
def test_crossfitted_regret_is_unbiased_and_naive_regret_is_not(jitter, simulation):
    """Truth: what the population makes of the epochs that the rule and the maximum choose."""
    rules = [Policy("val_accuracy", "none", 4, 0.0, 0), Policy("val_loss", "none", 4, 0.0, 0)]
    scenario = Scenario(num_epochs=30, num_seeds=10, jitter=jitter, num_val=500)
    rng = simulation(4)
    errors, naive_errors, covered = [], [], []
    for _ in range(60):
        made = simulate(scenario, 1, rng)
        cross = replay([made.curves], rules)
        naive = replay([of(made.curves.val_accuracy, made.curves.val_loss)], rules)
        rows = np.arange(10)
        best = made.accuracy[rows, made.curves.val_accuracy.argmax(axis=1)]
        for number, score in enumerate((made.curves.val_accuracy, -made.curves.val_loss)):
            kept = [stopped(curve, 4) for curve in score]
            truth = np.mean(best - made.accuracy[rows, kept])
            errors.append(cross["regret"][number] - truth)
            naive_errors.append(naive["regret"][number] - truth)
            covered.append(cross["regret_low"][number] <= truth <= cross["regret_high"][number])
    assert abs(np.mean(errors)) < 0.003
    assert np.mean(naive_errors) > 0.002
    assert np.mean(covered) > 0.95 - 2.6 * np.sqrt(0.95 * 0.05 / 60)


def stopped(score, patience):
    best = 0
    for t, value in enumerate(score):
        if value > score[best]:
            best = t
        elif t - best >= patience:
            break
    return best
