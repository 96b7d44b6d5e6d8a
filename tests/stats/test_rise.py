"""The rise of a loss from its best window: what it is, how often noise makes one, and its power."""

import numpy as np
import pytest
from scipy import stats

from analysis.calibration.rises import NOISE, RISES, SCHEDULES, history, measure_rises, section
from analysis.calibration.simulate import ar1
from analysis.stats.rise import LEVEL, Told, loss_rises, rises, told
from analysis.stats.windows import window_means


def most(num, rate):
    """So many of `num` are exceeded in one of a thousand where each has that rate."""
    return stats.binom.isf(1e-3, num, rate)


def test_a_hand_made_rise_is_that_of_the_last_window_above_the_best_one():
    time = np.arange(100)
    loss = np.where(time < 40, 2 - time / 40, 1 + (time - 40) / 59 * 0.5)[None]
    found = loss_rises(loss)
    means = window_means(loss, 5)[0]
    true = means[-1] / means.min() - 1
    assert found.rise[0] == pytest.approx(true, abs=0.01)
    assert found.low[0] - 1e-3 <= true <= found.high[0] + 1e-3
    assert found.best[0] == pytest.approx(means.min(), abs=1e-3)
    assert told(found)[0] == Told.RISES


def test_a_constant_curve_does_not_rise():
    found = loss_rises(np.full((1, 40), 0.5))
    assert (found.rise[0], found.low[0]) == (0, 0)
    assert found.high[0] < 1e-6
    assert found.p[0] > LEVEL
    assert told(found)[0] == Told.DOES_NOT


@pytest.mark.parametrize("num", [0, 1, 2, 3, 5, 7])
def test_too_few_evaluations_tell_nothing(num):
    found = loss_rises(np.ones((2, num)))
    assert np.isnan(found).all()
    assert (told(found) == Told.UNDETERMINED).all()


def test_missing_evaluations_are_left_out_and_a_curve_without_any_tells_nothing():
    rng = np.random.default_rng(0)
    loss, _, _ = history(rng, 4, 100, "flat", noise=0.01, correlation=0.0, rise=0.3)
    holes = loss.copy()
    holes[0, 10:20] = holes[1, -1] = np.nan
    holes[2, 30] = np.inf
    holes[3] = np.nan
    found, whole = loss_rises(holes), loss_rises(loss)
    assert (found.low[:3] > 0.2).all()
    assert np.abs(found.rise - whole.rise)[:3].max() < 0.03
    assert np.isnan(found.rise[3])


def test_a_loss_below_nothing_has_no_share_but_a_rise_in_its_own_unit():
    loss, _, _ = history(
        np.random.default_rng(1), 2, 100, "flat", noise=0.01, correlation=0.0, rise=0.3
    )
    shifted = loss - 1
    assert np.isnan(loss_rises(shifted)).all()
    assert rises(shifted).rise == pytest.approx(rises(loss).rise)


def test_the_unit_of_a_loss_does_not_matter_and_shares_times_the_best_are_the_unit():
    loss, _, _ = history(
        np.random.default_rng(2), 20, 100, "flat", noise=0.01, correlation=0.5, rise=0.1
    )
    one, other = loss_rises(loss), loss_rises(1000 * loss)
    assert other.rise == pytest.approx(one.rise)
    assert other.low == pytest.approx(one.low)
    assert other.best == pytest.approx(1000 * one.best)
    assert one.rise * one.best == pytest.approx(rises(loss).rise, abs=0.005)


def test_a_fall_of_a_score_is_a_rise_of_its_negative():
    rng = np.random.default_rng(3)
    time = np.linspace(0, 1, 80)
    score = (
        20 - 10 * np.exp(-20 * time) - 4 * np.clip(time - 0.4, 0, 1) + 0.1 * ar1(rng, (50, 80), 0.5)
    )
    found = rises(-score.astype(float))
    true = 4 * 0.6
    assert np.mean(found.low <= true) >= 0.9
    assert np.mean(found.high >= true) >= 0.9
    assert np.mean(found.low > 1) >= 0.9
    assert np.mean(found.rise) == pytest.approx(true, abs=0.3)


def test_the_p_value_and_the_lower_limit_say_the_same():
    loss, _, _ = history(
        np.random.default_rng(4), 300, 60, "flat", noise=0.02, correlation=0.5, rise=0.1
    )
    found = loss_rises(loss)
    assert ((found.p <= LEVEL) == (found.low > 0)).mean() >= 0.99
    assert (found.low <= found.rise).all()
    assert (found.rise <= found.high).all()


def test_a_row_by_itself_is_told_the_same_as_among_others():
    loss, _, _ = history(
        np.random.default_rng(5), 10, 60, "step, not logged", noise=0.02, correlation=0.5, rise=0.1
    )
    whole = loss_rises(loss)
    for row in range(10):
        alone = loss_rises(loss[row : row + 1])
        assert alone.low[0] == pytest.approx(whole.low[row])
        assert alone.rise[0] == pytest.approx(whole.rise[row])


def test_the_noise_of_a_loud_first_segment_does_not_hide_the_rise_of_the_last():
    rng = np.random.default_rng(6)
    time = np.arange(120)
    noise = np.where(time < 60, 0.1, 0.005) * rng.standard_normal((100, 120))
    level = np.where(time < 60, 1.5, 1.0) * (1 + 0.1 * np.clip((time - 80) / 39, 0, 1))
    assert (loss_rises(level * (1 + noise)).low > 0).mean() >= 0.9


@pytest.mark.parametrize("num", [50, 150])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_flat_curves_seldom_rise(num, correlation, simulation):
    rng = simulation([8, num])
    found = rises(ar1(rng, (800, num), correlation).astype(float))
    assert (found.low > 0).sum() <= most(800, 0.05)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("num", [50, 200])
def test_limits_hold_and_a_rise_of_a_tenth_is_found_where_noise_is_small(schedule, num, simulation):
    for number, (noise, correlation, rise) in enumerate(
        (noise, correlation, rise)
        for noise in NOISE
        for correlation in (0.0, 0.9)
        for rise in RISES
    ):
        rng = simulation([9, num, number])
        loss, rates, true = history(
            rng, 150, num, schedule, noise=noise, correlation=correlation, rise=rise
        )
        found = loss_rises(loss, rates)
        assert (found.low > true + 1e-9).sum() <= most(150, 0.05)
        assert (found.high < true - 1e-9).sum() <= most(150, 0.05)
        if rise >= 0.1 and noise <= 0.01:
            assert (found.low > 0).mean() >= 0.88


def test_the_section_of_the_page_has_every_schedule_with_its_worst_cell(simulation):
    rows = list(measure_rises(0.0, lengths=(50,)))
    text = section(rows)
    assert all(text.count(f"| {schedule} |") == 6 for schedule in SCHEDULES)
    of_flat = [row for row in rows if row["schedule"] == "flat" and row["claim"].startswith("low")]
    worst = max(row["rate"] for row in of_flat)
    assert f"| flat | lower limit above the truth | {len(of_flat)} | {100 * worst:.1f}" in text


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_estimate_is_near_the_true_rise_on_average(schedule):
    for rise in (0.0, 0.1, 0.3):
        loss, rates, true = history(
            np.random.default_rng(10), 60, 100, schedule, noise=0.01, correlation=0.5, rise=rise
        )
        assert loss_rises(loss, rates).rise.mean() == pytest.approx(true, abs=0.015)


def test_a_loss_that_is_best_at_its_beginning_rises_from_there():
    rng = np.random.default_rng(11)
    loss = (4 + 1.2 * (1 - np.exp(-np.arange(50) / 10))) * (
        1 + 0.01 * rng.standard_normal((50, 50))
    )
    found = loss_rises(loss)
    true = 5.2 / (4 + 1.2 * (1 - np.exp(-0.05)))
    assert found.rise.mean() == pytest.approx(true - 1, abs=0.02)
    assert (found.low > 0.05).mean() >= 0.9
