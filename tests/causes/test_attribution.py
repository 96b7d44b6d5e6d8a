"""Variance shares: exact by hand, adding up, covering, and plain about what is missing."""

import itertools
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest

from analysis.causes import unbalanced
from analysis.causes.attribution import (
    ANOVA,
    REGRESSION,
    SCHEMA,
    SUB_GRID,
    TOP_AS_ERROR,
    attribute,
)
from analysis.stats.share_intervals import share_interval

AXES = ["batch_size", "learning_rate", "dropout"]


def table(values, axes=AXES):
    """values: (L1, ..., Ld, R) -> one row per trial."""
    rows = [
        {
            **{name: str(i) for name, i in zip(axes, place, strict=False)},
            "seed": place[-1],
            "y": values[place],
        }
        for place in itertools.product(*map(range, values.shape))
    ]
    return pl.DataFrame(rows, schema_overrides={"y": pl.Float64})


def row(found, kind, subset=""):
    return found.row(
        by_predicate=(pl.col("kind") == kind) & (pl.col("subset") == subset), named=True
    )


def grid(shape, main, interaction=0.0):
    """Effects of the first axis of variance `main`, and of the first two together."""
    first = np.cos(np.pi * np.arange(shape[0]))
    first = (first - first.mean()) / first.std()
    second = np.arange(shape[1]) - np.arange(shape[1]).mean()
    both = np.outer(first, second / second.std())
    out = np.sqrt(main) * first[:, None] + np.sqrt(interaction) * both
    return np.broadcast_to(out.reshape(*out.shape, *[1] * (len(shape) - 2)), shape)


def test_a_two_by_two_grid_agrees_with_a_calculation_by_hand():
    # Means 1, 3, 5, 11: effects 3, 2 and 1 around 5. Deviations of the two seeds are +-1.
    values = np.array([[[0, 2], [4, 2]], [[4, 6], [12, 10.0]]])
    found = attribute(table(values), ["batch_size", "learning_rate"], "y")
    # Interaction of seed and cell: each cell's half difference is +1, -1, +1, -1, its mean 0.
    noise = 8 / 3
    for subset, effect in (
        ("batch_size", 9),
        ("learning_rate", 4),
        ("batch_size x learning_rate", 1),
    ):
        got = row(found, "effect", subset)
        assert got["df"] == 1
        assert got["variance"] == pytest.approx(effect - noise / 8)
    total = 14 - 3 * noise / 8
    assert row(found, "between")["variance"] == pytest.approx(total)
    assert row(found, "noise")["variance"] == pytest.approx(noise)
    assert row(found, "seed")["variance"] == pytest.approx(-noise / 8)
    shapley = 9.5 - 1.5 * noise / 8
    assert row(found, "shapley", "batch_size")["variance"] == pytest.approx(shapley)
    assert found["method"].unique().to_list() == [ANOVA]
    assert found.schema == SCHEMA


def test_shares_of_effects_and_of_axes_add_up_to_one():
    values = grid((3, 3, 2, 3), 1.0, 0.5) + np.random.default_rng(1).normal(size=(3, 3, 2, 3))
    found = attribute(table(values), AXES, "y")
    sums = found.group_by("kind").agg(pl.col("share").sum())
    for kind in ("effect", "shapley", "between"):
        assert sums.filter(kind=kind)["share"].item() == pytest.approx(1)


def test_luck_that_seeds_share_over_all_cells_is_no_noise():
    rng = np.random.default_rng(2)
    values = grid((3, 3, 2, 3), 1.0) + rng.normal(size=(3, 3, 2, 3))
    plain = attribute(table(values), AXES, "y")
    shifted = attribute(table(values + np.array([0, 50, -20])), AXES, "y")
    assert row(shifted, "noise")["variance"] == pytest.approx(row(plain, "noise")["variance"])
    assert row(shifted, "seed")["variance"] == pytest.approx(866.7, rel=0.05)


def test_the_same_trials_give_the_same_bits():
    values = grid((3, 2, 2, 3), 1.0) + np.random.default_rng(3).normal(size=(3, 2, 2, 3))
    one, other = (attribute(table(values), AXES, "y") for _ in range(2))
    assert one.equals(other)


def test_cells_that_do_not_differ_share_nothing_out():
    values = np.random.default_rng(4).normal(size=(3, 2, 2, 3))
    found = attribute(table(values), AXES, "y")
    shapley = found.filter(kind="shapley")
    assert shapley["share"].null_count() == 3
    assert shapley["reason"].str.contains("nothing to share out").all()
    assert shapley["variance"].null_count() == 0


def test_one_trial_per_cell_takes_the_highest_interaction_for_noise_and_says_so():
    values = grid((4, 3, 3, 1), 1.0) + np.random.default_rng(5).normal(size=(4, 3, 3, 1))
    found = attribute(table(values), AXES, "y")
    assert found["method"].unique().to_list() == [TOP_AS_ERROR]
    assert row(found, "noise")["df"] == 12
    assert found.filter(order=3).is_empty()


def test_one_trial_per_level_of_one_axis_is_not_estimable():
    found = attribute(table(np.array([[1.0], [2.0]])), AXES[:1], "y")
    assert found["variance"].null_count() == found.height
    assert "noise is unknown" in found["reason"].item()


def test_a_missing_cell_is_named_and_both_ways_around_it_say_what_they_are():
    values = grid((3, 3, 2, 3), 1.0) + 0.3 * np.random.default_rng(6).normal(size=(3, 3, 2, 3))
    values[2, 1, 0] = np.nan  # one cell diverged
    found = attribute(table(values), AXES, "y")
    assert found["method"].unique().sort().to_list() == [f"{ANOVA} {SUB_GRID}", REGRESSION]
    missing = "no value in 1 of 18 cells (batch_size 2 · learning_rate 1 · dropout 0)"
    assert found["reason"].str.starts_with(missing).all()
    sub = found.filter(method=f"{ANOVA} {SUB_GRID}")
    assert sub["num_cells"].unique().item() == 12
    assert sub["reason"].str.contains("left out: ").all()
    fitted = found.filter(method=REGRESSION)
    assert fitted["num_trials"].unique().item() == 51
    assert fitted.filter(kind="shapley")["share"].sum() == pytest.approx(1)
    assert row(fitted, "shapley", "batch_size")["share"] > 0.9


def test_a_failed_seed_costs_a_seed_or_a_level_whichever_keeps_more_trials():
    values = grid((2, 2, 2, 5), 1.0) + np.random.default_rng(7).normal(size=(2, 2, 2, 5))
    values[0, 0, 0, 4] = np.nan
    found = attribute(table(values), AXES, "y")
    sub = found.filter(pl.col("method").str.contains(SUB_GRID))
    assert sub["num_trials"].unique().item() == 32
    assert "left out: seed 4" in sub["reason"][0]
    assert "4 to 5 trials per cell" in sub["reason"][0]


def test_on_a_full_grid_of_two_axes_the_regression_is_the_anova():
    values = grid((4, 3, 3), 1.0, 0.5) + np.random.default_rng(8).normal(size=(4, 3, 3))
    found = attribute(table(values), AXES[:2], "y")
    fit = unbalanced.fit(values, crossed=True)
    assert fit is not None
    of_axes = [w @ (part.squares - part.noise) / values.size for part, w in fit.shapley]
    shapley = found.filter(kind="shapley")
    assert of_axes == pytest.approx(shapley["variance"].to_numpy())
    for (part, weights), low, high in zip(
        fit.shapley, shapley["share_low"], shapley["share_high"], strict=True
    ):
        assert share_interval(part, weights) == pytest.approx((low, high), abs=0.03)
    V = (fit.squares - fit.df * fit.noise) / values.size
    assert pytest.approx(found.filter(kind="effect")["variance"].to_numpy()) == V
    assert fit.noise == pytest.approx(row(found, "noise")["variance"])


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_full_sub_grid_is_the_largest(seed):
    rng = np.random.default_rng(seed)
    present = rng.random((3, 3, 4)) > 0.15
    kept = unbalanced.largest_full(present)
    assert present[np.ix_(*kept)].all()
    choices = [
        [c for size in range(1, n + 1) for c in itertools.combinations(range(n), size)]
        for n in present.shape
    ]
    best = max(
        int(np.prod([len(c) for c in choice]))
        for choice in itertools.product(*choices)
        if present[np.ix_(*choice)].all()
    )
    assert np.prod([len(c) for c in kept]) == best


def test_replicates_of_their_own_in_each_cell_are_not_taken_for_shared_seeds():
    values = grid((3, 2, 4), 1.0) + np.random.default_rng(9).normal(size=(3, 2, 4))
    rows = table(values).with_row_index("i").with_columns(pl.col("i").alias("seed"))
    found = attribute(rows, AXES[:2], "y")
    assert found.filter(kind="seed").is_empty()
    assert row(found, "noise")["df"] == 18


@pytest.mark.parametrize(("num_trials", "num_axes"), [(30, 5), (100, 5), (400, 2), (60, 12)])
def test_a_random_search_is_refused_with_its_reason_in_no_time(num_trials, num_axes):
    rng = np.random.default_rng(6)
    axes = [f"axis_{number}" for number in range(num_axes)]
    drawn = {name: [f"{value:.6f}" for value in rng.random(num_trials)] for name in axes}
    rows = pl.DataFrame({**drawn, "seed": 0, "y": rng.normal(size=num_trials)})
    started = time.process_time()
    (found,) = attribute(rows, axes, "y").iter_rows(named=True)
    assert time.process_time() - started < 1
    assert found["share"] is None
    assert f"{num_trials} trials are too few for a grid of" in found["reason"]
    assert f"axis_0 has {num_trials} levels" in found["reason"]


def test_analyzing_a_random_search_takes_seconds_and_little_memory():
    """100 trials, 5 hyperparameters of their own each: below 10 s and 1 GB."""
    program = """
import resource
import numpy as np
import polars as pl
from analysis import analyze

rng, T = np.random.default_rng(0), 40
trials = [
    pl.DataFrame({"trial_id": str(i), "epoch": np.arange(1, T + 1)}).with_columns(
        pl.Series("val_accuracy", rng.binomial(1000, 0.9, T) / 1000),
        *[pl.lit(value).alias(f"h{number}") for number, value in enumerate(rng.random(5))],
        num_val=1000,
    )
    for i in range(100)
]
found = analyze(pl.concat(trials))
assert found.attribution["reason"].str.contains("too few for a grid").all()
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    seconds, gigabytes = map(float, done.stdout.split())
    assert seconds < 10
    assert gigabytes < 1


@pytest.mark.parametrize("missing", [False, True])
def test_shares_cover_for_active_and_for_inert_axes(missing, simulation):
    """Shapley shares of a 3 x 3 x 2 grid: two axes act and interact, the third does nothing."""
    effects = grid((3, 3, 2, 3), 0.6, 0.2)
    held = np.ones((3, 3, 2), bool)
    if missing:
        held[0, 2, 1] = False
    # The truth, and the same for the cells that are there: noise that is as good as none.
    tiny = 1e-6 * simulation(0).normal(size=effects.shape)
    method = REGRESSION if missing else ANOVA

    def shapley(values):
        values = np.where(held[..., None], values, np.nan)
        return attribute(table(values), AXES, "y").filter(kind="shapley", method=method)

    truth = shapley(effects + tiny)["share"].to_numpy()
    covered = np.zeros(3)
    num = 300 if not missing else 150
    for seed in range(num):
        rng = simulation([11, seed])
        found = shapley(effects + rng.normal(size=effects.shape))
        low, high = found["share_low"].to_numpy(), found["share_high"].to_numpy()
        covered += (low <= truth + 1e-6) & (truth - 1e-6 <= high)
    # 0.90 to 0.98 and three standard errors of so many grids.
    assert (covered / num > 0.90 - 3 * np.sqrt(0.09 / num)).all()
    assert (covered / num < 0.98 + 3 * np.sqrt(0.02 / num)).all()
    # A missing cell ties the inert axis to the others a little.
    assert truth[2] == pytest.approx(0, abs=0.01 if missing else 1e-5)
