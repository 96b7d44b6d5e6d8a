"""The gamma quasi-likelihood recovers known slopes, and says when it can't."""

import itertools
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from analysis.calibration.simulate import Scenario, simulate
from analysis.causes.jitter_model import SCHEMA, equivalence, fit_gamma, phase_variances, regress
from analysis.curves import Curves


def sweep(
    rng,
    *,
    b_lr=0.5,
    b_batch=-0.5,
    dropout=0.3,
    finite=1.0,
    num_seeds=3,
    df=20.0,
    between=0.0,
    scaled=False,
    num_phases=2,
):
    """Phases and trials of a 4 x 4 x 2 grid whose own jitter is exp(...) and whose finite-set part
    is `finite` times the mean of it. `between`: SD of the log SD between trials."""
    rows, trials = [], []
    grid = itertools.product([0.01, 0.03, 0.1, 0.3], [16, 64, 256, 1024], ["0", "0.5"])
    for (lr, batch, drop), seed in itertools.product(grid, range(num_seeds)):
        rate = lr * batch / 16 if scaled else lr
        name = f"{lr}-{batch}-{drop}-{seed}"
        trials.append({"trial_id": name, "batch_size": batch, "dropout": drop})
        luck = between * rng.normal()
        for phase in range(num_phases):
            log_sd = b_lr * np.log(rate / 0.055) + b_batch * np.log(batch / 128) + luck
            own = 1e-4 * np.exp(2 * (log_sd + dropout * (drop == "0.5") - phase))
            v = finite * 1e-4
            rows.append(
                {
                    "trial_id": name,
                    "phase": phase,
                    "lr": rate * 0.1**phase,
                    "hf_var": (own + v) * rng.chisquare(df) / df,
                    "hf_df": df,
                    "finite_var": v,
                }
            )
    return pl.DataFrame(rows), pl.DataFrame(trials)


def term(found, name):
    return found.row(by_predicate=pl.col("term") == name, named=True)


def test_a_known_slope_is_recovered_though_the_finite_part_is_as_large():
    found = regress(*sweep(np.random.default_rng(1), num_seeds=10), ["dropout"])
    assert found.schema == SCHEMA
    assert term(found, "learning_rate")["estimate"] == pytest.approx(0.5, rel=0.1)
    assert term(found, "batch_size")["estimate"] == pytest.approx(-0.5, rel=0.1)
    assert term(found, "dropout 0.5")["estimate"] == pytest.approx(0.3, abs=0.15)
    assert found["reason"].null_count() == found.height


def test_the_slope_is_unbiased_and_its_limits_cover(simulation):
    slopes, covered = [], []
    for seed in range(300):
        phases, trials = sweep(simulation([5, seed]), between=0.2, num_seeds=2)
        row = term(regress(phases, trials, ["dropout"]), "learning_rate")
        slopes.append(row["estimate"])
        covered.append(row["low"] < 0.5 < row["high"])
    assert np.mean(slopes) == pytest.approx(0.5, rel=0.03)
    assert 0.95 - 0.04 < np.mean(covered) < 0.95 + 0.04  # three standard errors of so many sweeps


def test_dropping_what_reads_negative_would_have_biased_the_slope():
    """The reason for the quasi-likelihood: a log of the own part does not exist for all trials."""
    phases, trials = sweep(np.random.default_rng(3), num_seeds=10, num_phases=1)
    rows = phases.join(trials, on="trial_id").with_columns(
        (pl.col("hf_var") - pl.col("finite_var")).alias("own")
    )
    kept = rows.filter(pl.col("own") > 0)
    assert kept.height < 0.9 * rows.height
    log_lr, log_batch = (kept[name].log().to_numpy() for name in ("lr", "batch_size"))
    X = np.stack([np.ones(kept.height), log_lr, log_batch], axis=1)
    naive = np.linalg.lstsq(X, kept["own"].log().to_numpy() / 2, rcond=None)[0][1]
    assert naive < 0.9 * 0.5


def test_the_law_holds_fails_or_stays_open():
    rng = np.random.default_rng(4)
    for slope, seeds, words in (
        (-0.5, 5, "holds"),
        (0.0, 5, "does not hold"),
        (-0.35, 1, "cannot tell"),
    ):
        found = regress(*sweep(rng, b_batch=slope, num_seeds=seeds), ["dropout"])
        assert term(found, "law")["verdict"] == words


def test_under_linear_scaling_no_effect_of_the_batch_size_is_told_but_the_law_is():
    """Learning rate and batch size move together: their own exponents can't be told apart."""
    phases, trials = sweep(np.random.default_rng(5), scaled=True, num_seeds=5)
    together = trials.filter(pl.col("trial_id").str.starts_with("0.01-"))
    found = regress(phases, together, ["dropout"])
    for name in ("learning_rate", "batch_size"):
        assert term(found, name)["estimate"] is None
        assert "only together" in term(found, name)["reason"]
    assert term(found, "law")["estimate"] == pytest.approx(0, abs=0.1)


def test_equivalence_needs_both_limits():
    assert equivalence(0.0, 0.05, 100, 0.15) == "holds"
    assert equivalence(0.0, 0.15, 100, 0.15) == "cannot tell"
    assert equivalence(0.4, 0.05, 100, 0.15) == "does not hold"
    assert equivalence(-0.4, 0.05, 100, 0.15) == "does not hold"


def test_nothing_beside_the_finite_part_is_no_slope():
    phases, trials = sweep(np.random.default_rng(6), num_seeds=2)
    silent = phases.with_columns((pl.col("finite_var") * 0.9).alias("hf_var"))
    found = regress(silent, trials, ["dropout"])
    assert found["estimate"].null_count() == found.height
    assert "no convergence" in found["reason"].item()


def test_few_trials_give_no_interactions_and_fewer_give_nothing():
    phases, trials = sweep(np.random.default_rng(7), num_seeds=1)
    some = regress(phases, trials.sample(12, seed=1), ["dropout"])
    assert some.filter(kind="interaction").is_empty()
    assert some["reason"].str.contains("interactions left out").all()
    assert "too few" in regress(phases, trials.sample(5, seed=1), ["dropout"])["reason"].item()


def test_the_order_of_rows_does_not_matter():
    rng = np.random.default_rng(8)
    X = np.stack([np.ones(60), rng.normal(size=60)], axis=1)
    known, df, cluster = np.full(60, 0.5), np.full(60, 15.0), np.arange(60) // 3
    y = (np.exp(2 * (X @ [0.1, 0.4])) + known) * rng.chisquare(15, 60) / 15
    mixed = rng.permutation(60)
    one = fit_gamma(X, y, known, df, cluster)
    other = fit_gamma(X[mixed], y[mixed], known, df, cluster[mixed])
    assert one.beta == pytest.approx(other.beta, abs=1e-7)
    assert one.covariance == pytest.approx(other.covariance, rel=1e-5)


def test_phases_are_told_apart():
    """Jitter halves when the learning rate drops; each phase has its own variances."""
    rng = np.random.default_rng(9)
    accuracy = 0.8 + np.r_[np.full(30, 0.02), np.full(30, 0.01)] * rng.normal(size=(400, 60))
    lr = np.broadcast_to(np.r_[np.full(30, 0.1), np.full(30, 0.01)], accuracy.shape)
    found = phase_variances(Curves.of_accuracy(accuracy, lr=lr))
    means = found.group_by("phase", maintain_order=True).agg(pl.col("hf_var", "lr").mean())
    assert means["hf_var"].to_list() == pytest.approx([4e-4, 1e-4], rel=0.05)
    assert means["lr"].to_list() == pytest.approx([0.1, 0.01])
    assert found["finite_var"].null_count() == found.height


def test_the_finite_part_of_a_phase_is_of_that_phase():
    still = Scenario(num_epochs=40, accuracy=0.88, jitter=0.0, learning_epochs=0)
    made = simulate(still, 1, np.random.default_rng(10), losses=False).curves
    found = phase_variances(replace(made, lr=np.repeat([0.1, 0.01], 20)[None]))
    assert found["phase"].to_list() == [0, 1]
    assert (found["finite_var"] / found["hf_var"]).to_list() == pytest.approx([1, 1], abs=0.7)


def test_a_knob_with_two_values_is_never_said_to_have_one():
    """Only one learning rate is left where the finite part of the others is not known."""
    phases, trials = sweep(np.random.default_rng(9), num_phases=1)
    of_one = trials.filter(batch_size=64, dropout="0")
    lost = pl.when(pl.col("lr") == 0.3).then("finite_var").alias("finite_var")
    (row,) = regress(phases.with_columns(lost), of_one, ["dropout"]).iter_rows(named=True)
    assert "no knob has two values" not in row["reason"]
    assert "too few trials are left" in row["reason"]
