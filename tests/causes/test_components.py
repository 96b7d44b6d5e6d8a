"""Variance components by moments: unbiased with the finite validation set taken off."""

import numpy as np
import polars as pl
from scipy import stats

from analysis.causes import components as module
from analysis.causes.components import SCHEMA, variance_components
from tests.causes.test_averaging import K, rows

T, N = 60, 1000


def sweep(rng, *, config=0.0, seed=0.0, jitter=0.0, churn=0.3, num_configs=6, num_seeds=4):
    """Epochs and trials; SDs are of the level, in units of the margin's SD. One validation set."""
    margins = rng.normal(size=N)
    parts, trials = [], []
    for c in range(num_configs):
        of_config = config * rng.normal()
        for s in range(num_seeds):
            level = 1.2 + of_config + seed * rng.normal() + jitter * rng.normal(size=(T, 1))
            right = margins + level + churn * rng.normal(size=(T, N)) > 0
            name = f"{c:02d}-{s}"
            parts.append(rows(right, trial=name))
            trials.append({"trial_id": name, "config_id": f"{c:02d}"})
    return pl.concat(parts), pl.DataFrame(trials)


def of(found, component):
    return found.row(by_predicate=pl.col("component") == component, named=True)


def test_each_component_is_unbiased_with_the_finite_set_taken_off(simulation):
    sds = {"configuration": 0.08, "seed": 0.05, "epoch": 0.05}
    slope = stats.norm.pdf(1.2 / np.sqrt(1.09)) / np.sqrt(1.09)  # of accuracy on the level
    found = {name: [] for name in [*sds, "validation set"]}
    covered = []
    for number in range(40):
        rng = simulation([1, number])
        told = variance_components(
            *sweep(rng, config=0.08, seed=0.05, jitter=0.05, num_configs=5, num_seeds=3)
        )
        for name, values in found.items():
            row = of(told, name)
            values.append(row["variance"])
            if name == "seed":
                truth = (slope * sds[name]) ** 2
                covered.append(row["variance_low"] < truth < row["variance_high"])
    for name, sd in sds.items():
        values, truth = np.array(found[name]), (slope * sd) ** 2
        error = values.std() / np.sqrt(len(values))
        assert abs(values.mean() - truth) < 3 * error + 0.05 * truth
    assert np.mean(found["validation set"]) > 0.3 * (slope * 0.05) ** 2
    assert np.mean(covered) > 0.95 - 0.11  # three standard errors of so few sweeps


def test_a_set_that_alone_moves_the_curve_leaves_nothing_for_seed_and_epoch():
    found = variance_components(*sweep(np.random.default_rng(2), churn=0.4, num_configs=2))
    assert found.schema == SCHEMA
    whole = of(found, "validation set")["variance"]
    for name in ("seed", "epoch"):
        assert abs(of(found, name)["variance"]) < 0.3 * whole
    assert of(found, "seed")["variance_low"] < 0 < of(found, "seed")["variance_high"]


def test_one_seed_tells_nothing_between_seeds():
    found = variance_components(*sweep(np.random.default_rng(3), num_configs=3, num_seeds=1))
    for name in ("configuration", "seed"):
        assert of(found, name)["variance"] is None
        assert of(found, name)["reason"] == "one seed per configuration"
    assert of(found, "epoch")["variance"] is not None


def test_without_blocks_the_finite_part_stays_in_and_that_is_said():
    raw, trials = sweep(np.random.default_rng(4), num_configs=2, num_seeds=2)
    bare = raw.with_columns(pl.lit(None, pl.List(pl.Int64)).alias("val_block_n"))
    found = variance_components(bare, trials)
    assert of(found, "validation set")["variance"] is None
    assert of(found, "epoch")["variance"] > 0
    assert found["reason"].str.contains("unknown and stays in").all()


def test_short_trials_are_left_out():
    raw, trials = sweep(np.random.default_rng(5), num_configs=1, num_seeds=2)
    found = variance_components(raw.filter(pl.col("epoch") <= module.MIN_WINDOW + 2), trials)
    assert found["reason"].item() == "fewer than two trials"
    assert K == 20
