"""The best configuration and its rivals: against known truth."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from analysis.calibration.simulate import Scenario, simulate
from analysis.causes.ranking import SCHEMA, ranking
from analysis.curves import Curves


def sweep(num_configs, num_seeds, rng, **known):
    """Trials that all share one validation set, their names, and the population's accuracy."""
    scenario = Scenario(num_seeds=num_configs * num_seeds, num_train_eval=20, **known)
    made = simulate(scenario, 1, rng, losses=False)
    config_of = {
        trial_id: f"{number // num_seeds:03d}"
        for number, trial_id in enumerate(made.curves.trial_ids)
    }
    best = made.curves.val_accuracy.argmax(axis=1)
    reached = made.accuracy[np.arange(len(best)), best].reshape(num_configs, num_seeds)
    return made.curves, config_of, reached


def without(curves, rows):
    """Curves without these trials."""
    kept = np.setdiff1d(np.arange(len(curves.trial_ids)), rows)
    return dataclasses.replace(
        curves,
        **{
            field.name: np.asarray(getattr(curves, field.name))[kept].tolist()
            if field.name == "trial_ids"
            else getattr(curves, field.name)[kept]
            for field in dataclasses.fields(curves)
        },
    )


def test_ranks_go_by_the_nested_score_and_limits_hold_it():
    curves, config_of, _ = sweep(4, 2, np.random.default_rng(0), num_epochs=12, num_val=400)
    frame, winner = ranking([curves], config_of)
    assert dict(frame.schema) == SCHEMA
    assert frame["rank"].to_list() == [1, 2, 3, 4]
    assert frame["score_nested"].is_sorted(descending=True)
    assert (frame["score_nested_low"] < frame["score_nested"]).all()
    assert (frame["score_naive"] > frame["score_nested"]).all()
    assert frame["tied_with_best"][0]
    assert (frame["tied_with_best"] == (frame["behind_low"] == 0)).all()
    assert (frame["behind_low"] <= frame["behind_high"]).all()
    assert winner is not None
    assert winner.config_id == frame["config_id"][0]
    assert winner.optimism > 0
    again = ranking([curves], config_of)
    assert again[0].equals(frame)
    assert again[1] == winner


def test_a_configuration_that_is_much_worse_is_not_tied():
    curves, config_of, _ = sweep(3, 2, np.random.default_rng(1), num_epochs=12, num_val=400)
    curves.block_accuracy[:2] -= 0.2
    curves.val_accuracy[:2] -= 0.2
    frame, _ = ranking([curves], config_of)
    last = frame.row(2, named=True)
    assert last["config_id"] == "000"
    assert not last["tied_with_best"]
    assert 0.1 < last["behind_low"] < 0.2 < last["behind_high"] < 0.3


def test_seeds_may_be_missing_and_lengths_may_differ():
    rng = np.random.default_rng(2)
    curves, config_of, _ = sweep(3, 3, rng, num_epochs=15, num_val=400)
    long = without(curves, [0, 1, 5])
    short = dataclasses.replace(
        without(curves, [0, 2, 3, 4, 6, 7, 8]),
        **{
            name: getattr(without(curves, [0, 2, 3, 4, 6, 7, 8]), name)[:, :10]
            for name in ("val_accuracy", "block_accuracy")
        },
    )
    frame, winner = ranking([short, long], config_of)
    assert frame.sort("config_id")["num_seeds"].to_list() == [2, 3, 3]
    assert frame["score_nested"].null_count() == 0
    assert winner is not None
    assert winner.nested_new_seeds is not None


def test_without_blocks_there_are_naive_scores_and_no_winner():
    frame, winner = ranking(
        [Curves.of_accuracy(np.array([[0.5, 0.7], [0.9, 0.8]]))], {"0": "a", "1": "b"}
    )
    assert winner is None
    assert frame["config_id"].to_list() == ["b", "a"]
    assert frame["score_naive"].to_list() == [0.9, 0.7]
    assert frame["rank"].null_count() == 2
    assert ranking([], {})[0].height == 0


def test_a_configuration_without_any_accuracy_has_no_rank():
    curves, config_of, _ = sweep(3, 2, np.random.default_rng(4), num_epochs=12, num_val=400)
    curves.val_accuracy[:2] = curves.block_accuracy[:2] = np.nan
    frame, winner = ranking([curves], config_of)
    last = frame.row(2, named=True)
    assert (last["config_id"], last["rank"], last["num_seeds"]) == ("000", None, 0)
    assert last["score_nested"] is None
    assert not last["tied_with_best"]
    assert winner is not None
    assert winner.num_configurations == 2


def test_different_validation_sets_are_not_compared():
    rng = np.random.default_rng(3)
    curves, config_of, _ = sweep(2, 2, rng, num_epochs=12, num_val=400)
    curves.block_weight[0] = np.linspace(0.5, 1.5, 20) / 20
    frame, winner = ranking([curves], config_of)
    assert frame["tied_with_best"].null_count() == 2
    assert winner is not None


@pytest.mark.parametrize("num_seeds", [2, 3])
def test_the_limits_of_a_score_hold_for_new_seeds_and_new_examples(num_seeds):
    """Normal blocks of one epoch, each configuration on blocks of its own."""
    rng = np.random.default_rng(20 + num_seeds)
    num = 2000
    level = rng.standard_normal((num, num_seeds, 1))
    flips = np.sqrt(20) * rng.standard_normal((num, num_seeds, 20))
    shared = 0.3 * np.sqrt(20) * rng.standard_normal((num, 1, 20))
    blocks = (0.5 + 0.01 * (level + flips + shared)).reshape(-1, 1, 20)
    weight = np.full((len(blocks), 20), 1 / 20)
    ids = [f"{number:05d}" for number in range(len(blocks))]
    curves = Curves.of_accuracy(
        blocks.mean(axis=2), trial_ids=ids, block_accuracy=blocks, block_weight=weight
    )
    frame, _ = ranking([curves], {name: ids[i // num_seeds] for i, name in enumerate(ids)})
    covered = frame.select(pl.lit(0.5).is_between("score_nested_low", "score_nested_high").mean())
    assert covered.item() > 0.95 - 2.6 * np.sqrt(0.95 * 0.05 / num)


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_the_best_of_36_equal_configurations_is_scored_without_bias(num_seeds, simulation):
    """|bias| < 0.3 pp over 200 validation sets; the naive score and the winner's own nested score
    are too good."""
    rng = simulation(num_seeds)
    errors, covered = [], []
    for _ in range(200):
        curves, config_of, reached = sweep(36, num_seeds, rng, num_epochs=15, num_val=1000)
        frame, winner = ranking([curves], config_of)
        assert winner is not None
        truth = reached.mean(axis=1)[int(winner.config_id)]
        new = winner.nested_new_seeds
        scores = (winner.naive, frame["score_nested"][0], winner.nested)
        errors.append([score - truth for score in scores])
        errors[-1].append(0.0 if new is None else new - reached.mean())
        covered.append(winner.nested_low <= truth <= winner.nested_high)
    naive, own, nested, new_seeds = np.mean(errors, axis=0)
    assert abs(nested) < 0.003
    assert naive > 0.006
    assert own > 0.004
    assert abs(new_seeds) < 0.003
    assert np.mean(covered) > 0.90 - 2.6 * np.sqrt(0.9 * 0.1 / 200)


@pytest.mark.parametrize("num_seeds", [2, 3])
def test_an_equally_good_configuration_is_tied_with_probability_095(num_seeds, simulation):
    """Seeds differ in what they reach; configurations don't."""
    rng = simulation(10 + num_seeds)
    tied = []
    for _ in range(200):
        curves, config_of, _ = sweep(
            8, num_seeds, rng, num_epochs=12, num_val=500, jitter=0.006, correlation=0.99
        )
        tied.append(ranking([curves], config_of)[0]["tied_with_best"].cast(pl.Float64).mean())
    assert np.mean(tied) > 0.95 - 2.6 * np.sqrt(0.95 * 0.05 / 200)
