"""The jitter of the second half of training, and the shares of the pooled one, on known truth."""

import numpy as np
import polars as pl
import pytest

from analysis.calibration.simulate import Scenario, simulate
from analysis.causes.late import late_components, late_jitter, pooled
from analysis.curves import Curves
from analysis.measures.jitter import jitter_components, measure_jitter, pool_jitter
from analysis.stats.intervals import sd_ratio
from analysis.stats.trend import SECOND, contrasts

REPEATS = 400


def fading(rng, early, late, num_epochs):
    """Curves (REPEATS, T) that move by `early` at first, and by `late` from two fifths on."""
    time = np.arange(num_epochs)
    sd = np.where(time < 0.4 * num_epochs, early, late)
    trend = 0.95 - 0.3 * np.exp(-time / (num_epochs / 12))
    return trend + sd * rng.standard_normal((REPEATS, num_epochs))


def late_part(accuracy):
    """(variance, df) of the second half, as the analysis measures it."""
    curves = Curves.of_accuracy(accuracy)
    half = np.where(np.arange(curves.num_epochs) < curves.num_epochs // 2, -1, 0)
    parts = jitter_components(curves, np.broadcast_to(half, accuracy.shape))
    return parts["hf_var"].to_numpy(), parts["hf_df"].to_numpy()


@pytest.mark.parametrize("num_epochs", [40, 60, 100])
def test_the_late_ratio_covers_where_the_early_epochs_have_the_other_sign(num_epochs, simulation):
    """One level moves twice as much early and half as much late: the sign of the whole is wrong,
    that of the second half is right, and its interval covers."""
    rng = simulation([31, num_epochs])
    fast, slow = fading(rng, 0.012, 0.002, num_epochs), fading(rng, 0.006, 0.004, num_epochs)
    (var, df), (var0, df0) = late_part(fast), late_part(slow)
    found = np.array([sd_ratio(*row) for row in zip(var, df, var0, df0, strict=True)])
    seen = [jitter_components(Curves.of_accuracy(curve)) for curve in (fast, slow)]
    whole = np.sqrt(seen[0]["hf_var"].to_numpy() / seen[1]["hf_var"].to_numpy())
    assert np.median(whole) > 1
    truth = np.sqrt(mean_square(fast, num_epochs) / mean_square(slow, num_epochs))
    assert truth < 0.65
    covered = np.mean((found[:, 1] < truth) & (truth < found[:, 2]))
    assert covered > 0.95 - 3 * np.sqrt(0.05 * 0.95 / REPEATS)
    # Half of the epochs of one seed are enough to see that the jitter is halved.
    assert np.mean(found[:, 2] < 1) > {40: 0.45, 60: 0.65, 100: 0.85}[num_epochs]


def mean_square(accuracy, num_epochs):
    """The true variance of the contrasts of the second half, from all repeats at once."""
    rows = contrasts(accuracy, SECOND)[:, num_epochs // 2 :]
    return (rows**2).mean() / 1.5


@pytest.mark.usefixtures("simulation")
@pytest.mark.parametrize(
    ("num_val", "jitter", "seeds"), [(200, 0.01, 3), (1000, 0.004, 1), (1000, 0.004, 3)]
)
def test_the_limits_of_the_sets_share_count_its_own_error(num_val, jitter, seeds):
    """Over validation sets they hold in 95 % or more."""
    rng = np.random.default_rng([32, num_val, seeds])
    scenario = Scenario(num_epochs=60, num_val=num_val, jitter=jitter, num_seeds=seeds)
    made = simulate(scenario, 300, rng, losses=False)
    config = pl.Series("config_id", np.repeat(np.arange(300), seeds).astype(str))
    parts = jitter_components(made.curves).with_columns(config)
    found = measure_jitter(pool_jitter(parts, "config_id")).drop_nulls("finite_share")
    own = contrasts(made.accuracy, SECOND)[:, 15:]
    own = float((own - own.mean(axis=0)).var() / 1.5)
    v = float(parts["finite_var"].to_numpy().mean())
    truth = v / (v + own)
    covered = found.select(
        (pl.col("finite_share_low") <= truth) & (pl.col("finite_share_high") >= truth)
    ).to_series()
    assert found.height > 250
    assert covered.mean() > 0.95 - 3 * np.sqrt(0.05 * 0.95 / found.height)
    assert (found["finite_share_high"] <= 1).all()


def test_the_second_half_alone_counts_and_groups_are_pooled(tmp_path):
    from analysis import analyze
    from tests.support.simulated import Curve, Sweep, spec

    sweep = Sweep(spec("x", axes={"width": [8, 16]}, seeds=2), num_val=1000)
    found = analyze(sweep.write(tmp_path, lambda trial: Curve(jitter=0.01)))
    raw = found.epochs.filter(weights_kind="raw")
    parts = late_components(raw, found.trials.select("trial_id", "config_id"))
    assert set(parts["num_usable_epochs"]) == {30}
    of_all = pooled(parts, found.points["config_id"])
    each = late_jitter(parts)
    assert of_all["hf_df"] == pytest.approx(each["late_hf_df"].sum())
    assert (of_all["hf_sd"] or 0) ** 2 == pytest.approx(each["late_hf_var"].mean(), rel=0.05)
    assert pooled(parts, [])["hf_sd"] is None
