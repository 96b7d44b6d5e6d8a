"""Which checkpoint to keep, on small simulations: no rule loses less, none is missed."""

import numpy as np
import pytest

from analysis.answer.checkpoints import kept
from analysis.calibration.checkpoints import LAST, OURS, RULES, measure_checkpoints, section


@pytest.fixture(scope="module")
def rows():
    return list(measure_checkpoints(0.1, (30,)))


def test_no_single_rule_is_much_better_anywhere_and_most_are_much_worse_somewhere(rows):
    worst = {rule: max(r["regret"] for r in rows if r["rule"] == rule) for rule in RULES}
    assert worst[OURS] <= 1.3 * min(worst.values())
    assert worst[LAST] > 2 * worst[OURS]


def test_the_truly_best_evaluation_is_seldom_missing(rows):
    for rule in ("tied", "tied, n not known"):
        some = [row for row in rows if row["rule"] == rule]
        missed = sum(row["rate"] * row["num"] for row in some) / sum(row["num"] for row in some)
        assert missed <= 0.05
        assert max(row["low"] for row in some) <= 0.05


def test_the_section_names_every_rule(rows):
    text = section(rows)
    assert all(f"| {rule} |" in text for rule in RULES)


def test_without_noise_the_best_one_is_kept_and_alone():
    curve = np.array([[-((k - 25.0) ** 2) for k in range(40)]])
    told = kept(curve)
    assert told.keep[0] == told.best[0] == 25
    assert told.flatters[0] <= 1


def test_a_missing_evaluation_is_never_kept():
    curve = np.sin(np.arange(30) / 5)[None]
    curve[0, [7, 8]] = np.nan
    told = kept(curve)
    assert told.keep[0] not in (7, 8)
    assert not told.tied[0, [7, 8]].any()
