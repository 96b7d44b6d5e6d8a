"""Falls told by the likelihood of the noise: errors, limits and power where the truth is known."""

import numpy as np
import pytest
from scipy import stats

from analysis.calibration.simulate import ar1
from analysis.stats.likely_falls import likely_falls, likely_falls_of_seeds
from analysis.stats.noise_kinds import KINDS, design, fit, shares, simulated
from analysis.stats.windows import window_length, window_means

T = 60
SETTLED = np.where(np.arange(T) < 9, -1, 0)
NOISES = {
    "white": lambda rng, shape: rng.standard_normal(shape),
    "AR 0.6": lambda rng, shape: ar1(rng, shape, 0.6).astype(float),
    "AR 0.9": lambda rng, shape: ar1(rng, shape, 0.9).astype(float),
    "half AR 0.9": lambda rng, shape: (rng.standard_normal(shape) + ar1(rng, shape, 0.9)) / 1.41,
    "t with 3 df": lambda rng, shape: rng.standard_t(3, shape) / 1.73,
    "dips": lambda rng, shape: (
        rng.standard_normal(shape) - 5 * (rng.random(shape) < 0.05) * rng.random(shape)
    ),
    "growing": lambda rng, shape: rng.standard_normal(shape) * np.geomspace(0.5, 3, shape[-1]),
    "random walk": lambda rng, shape: 0.3 * rng.standard_normal(shape).cumsum(axis=-1),
}


def curves(noise, rng, num, fall=0.0, sd=0.006):
    """Curves that learn and then fall linearly, and their true fall between window means."""
    time = np.arange(1, T + 1)
    trend = 0.9 - 0.4 * np.exp(-time / 2) - fall * np.clip((time - 18) / 42, 0, 1)
    means = window_means(trend[None], window_length(T))[0]
    return trend + sd * NOISES[noise](rng, (num, T)), means.max() - means[-1]


def labels(num, of=SETTLED):
    return np.broadcast_to(of, (num, len(of)))


def joined(values, size, part):
    """What sweeps of so many curves find."""
    found = [likely_falls([(some, labels(len(some)))])[0] for some in np.split(values, size)]
    return [np.concatenate([getattr(one, part)[k] for one in found]) for k in range(3)]


def at_most(hits, level):
    """Whether so many hits are no evidence for a rate above the level, one-sided."""
    return stats.binomtest(int(hits.sum()), len(hits), level, "greater").pvalue > 0.001


@pytest.mark.parametrize("noise", NOISES)
def test_no_kind_of_noise_makes_falls_and_both_limits_hold(noise, simulation):
    for fall in (0.0, 0.02):
        values, truth = curves(noise, simulation([1, len(noise)]), 300, fall)
        for part in ("cautious", "likely"):
            low, high, p = joined(values, 15, part)
            assert at_most(low > truth + 1e-9, 0.05), part
            assert at_most(high < truth - 1e-9, 0.05), part
            assert fall or at_most(p <= 0.05, 0.05), part


@pytest.mark.parametrize("noise", ["white", "AR 0.9", "random walk"])
def test_a_curve_all_by_itself_keeps_the_level_in_the_cautious_form(noise, simulation):
    values, _ = curves(noise, simulation([2, len(noise)]), 120)
    assert at_most(joined(values, 120, "cautious")[2] <= 0.05, 0.05)


@pytest.mark.parametrize(
    ("noise", "fall", "told"), [("white", 0.02, 0.9), ("AR 0.6", 0.03, 0.7), ("dips", 0.03, 0.8)]
)
def test_falls_are_told_of_one_seed_in_a_sweep(noise, fall, told, simulation):
    values, _ = curves(noise, simulation(3), 200, fall)
    assert (joined(values, 10, "likely")[2] <= 0.05).mean() >= told


def test_the_noise_of_a_fast_first_segment_does_not_hide_the_fall_of_the_last(simulation):
    rng = simulation(4)
    segment = np.repeat([0, 1, 2], 20)
    unsettled = np.isin(np.arange(T), [0, 1, 2, 20, 21, 22, 40, 41, 42])
    level = np.array([0.8, 0.84, 0.86])[segment] - 0.01 * np.clip((np.arange(T) - 43) / 16, 0, 1)
    sd = np.array([0.01, 0.003, 0.001])[segment]
    values = level + sd * rng.standard_normal((100, T))
    found = likely_falls([(values, labels(100, np.where(unsettled, -1, segment)))])[0]
    means = window_means(level[None], window_length(T))[0]
    truth = means.max() - means[-1]
    assert (found.cautious.p <= 0.05).mean() > 0.9
    assert at_most(found.cautious.low > truth + 1e-9, 0.05)
    assert at_most(found.cautious.high < truth - 1e-9, 0.05)
    assert np.median(found.likely.high) < truth + 0.005


def test_a_loud_last_segment_makes_no_fall(simulation):
    values = 0.9 + np.where(np.arange(T) < 30, 0.001, 0.01) * simulation(5).standard_normal(
        (300, T)
    )
    found = likely_falls([(values, labels(300, np.where(np.arange(T) < 30, 0, 1)))])[0]
    assert at_most(found.likely.p <= 0.05, 0.05)


@pytest.mark.parametrize("noise", ["white", "AR 0.6", "AR 0.9"])
@pytest.mark.parametrize("num_seeds", [2, 5])
def test_several_seeds_tell_more_and_their_own_drifts_are_no_fall(noise, num_seeds, simulation):
    rng = simulation([6, num_seeds, len(noise)])
    drift = 0.02 * rng.standard_normal((100, num_seeds, 1)) * np.linspace(-1, 1, T)
    flat, _ = curves(noise, rng, 100 * num_seeds)
    own = flat.reshape(100, num_seeds, T) + (drift if num_seeds > 2 else 0)
    found = likely_falls_of_seeds([(own, labels(100))])[0]
    assert at_most(found.cautious.p <= 0.05, 0.05)
    values, truth = curves(noise, rng, 100 * num_seeds, 0.03)
    values = values.reshape(100, num_seeds, T)
    of_seeds = likely_falls_of_seeds([(values, labels(100))])[0]
    assert at_most(of_seeds.likely.low > truth, 0.05)
    assert at_most(of_seeds.likely.high < truth, 0.05)
    alone = likely_falls([(values[:, 0], labels(100))])[0]
    assert (of_seeds.likely.p <= 0.05).sum() >= (alone.likely.p <= 0.05).sum()


def test_units_do_not_matter_and_one_length_does_not_change_what_another_is():
    values, _ = curves("white", np.random.default_rng(7), 12, 0.02)
    short = values[:, :30]
    one = likely_falls([(values, labels(12)), (short, labels(12, SETTLED[:30]))])
    percent = likely_falls([(100 * values, labels(12)), (100 * short, labels(12, SETTLED[:30]))])
    for ours, theirs in zip(one, percent, strict=True):
        assert theirs.fall == pytest.approx(100 * ours.fall)
        assert theirs.likely.p == pytest.approx(ours.likely.p, rel=0.05, abs=1e-6)
    assert one[0].fall.shape == (12,)
    assert np.isfinite(one[1].cautious.high).all()


def test_the_numbers_keep_their_order():
    values, _ = curves("AR 0.6", np.random.default_rng(8), 40, 0.02)
    found = likely_falls([(values, labels(40))])[0]
    for limits in (found.likely, found.cautious):
        assert (limits.low >= 0).all()
        assert (limits.low <= found.fall + 1e-12).all()
        assert (limits.high >= found.fall - 1e-12).all()
        assert ((limits.low > 0) <= (limits.p <= 0.06)).all()


def test_a_long_curve_is_read_in_steps():
    rng, num = np.random.default_rng(9), 1000
    trend = -0.02 * np.clip(np.arange(num) / num - 0.5, 0, 1)
    found = likely_falls(
        [(trend + 0.006 * rng.standard_normal((20, num)), labels(20, np.zeros(num)))]
    )
    assert (found[0].likely.p < 0.01).all()
    assert np.median(found[0].likely.high) < 0.018


def test_where_nothing_can_be_told_there_is_nan():
    values, _ = curves("white", np.random.default_rng(10), 3)
    values[1, 30] = np.nan
    found = likely_falls([(values, labels(3)), (values[:, :5], labels(3, SETTLED[:5]))])
    assert np.isfinite(found[0].fall).tolist() == [True, False, True]
    assert np.isnan(found[1].likely.p).all()
    assert np.isnan(likely_falls([(values, labels(3, np.full(T, -1)))])[0].fall).all()
    assert likely_falls([]) == []
    still = likely_falls([(np.full((2, T), 0.9), labels(2))])[0]
    assert still.fall.tolist() == [0, 0]
    assert still.cautious.p.tolist() == [1, 1]


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_residuals_of_a_kind_are_independent_and_the_kind_is_simulated(kind):
    r, white = KINDS[kind]
    of = design(np.where(np.isin(np.arange(40), [0, 1, 20, 21]), -1, np.arange(40) // 20))
    rows = of.whitened[kind].astype(float)
    apart = np.abs(np.subtract.outer(np.arange(40), np.arange(40)))
    covariance = (1 - white) * r**apart + white * np.eye(40)
    first = rows[: len(rows) // 2]  # of the first segment
    assert first @ covariance @ first.T == pytest.approx(np.eye(len(first)), abs=1e-3)
    assert rows[:, [0, 1, 20, 21]] == pytest.approx(0)
    noise = simulated(4000, 20, kind, seed=1)
    assert noise.var() == pytest.approx(1, abs=0.12)
    follows = (noise[:, 1:] * noise[:, :-1]).mean()
    assert follows == pytest.approx((1 - white) * r, abs=0.12)


def test_the_kinds_of_a_sweep_are_learnt_from_all_of_its_curves():
    values, _ = curves("white", np.random.default_rng(11), 200)
    log_likelihood = fit(values, design(SETTLED)).log_likelihood
    alone = shares(log_likelihood[:1])[0]
    together = shares(log_likelihood)
    assert together.sum(axis=1) == pytest.approx(1)
    assert together[:, 0].mean() > alone[0]
