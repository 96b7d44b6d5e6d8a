"""`raysweep compare`: what changed, and what that did, where the truth is known."""

import json

import pytest

from analysis import analyze
from analysis.claims.two_sweeps import compare_sweeps
from raysweep.spec import SweepSpec
from tests.support.commands import run_here
from tests.support.simulated import Curve, Sweep


def sweep(place, curve, *, seeds=5, rng_seed=0, axes=None, **base):
    content = {
        "name": place.name,
        "task": "digits",
        "base": {"epochs": 40} | base,
        "axes": axes or {"dropout": [0.0, 0.5]},
        "seeds": seeds,
    }
    made = Sweep(SweepSpec.from_mapping(content), rng_seed=rng_seed)
    return made.write(place, lambda trial: curve)


@pytest.fixture
def two(tmp_path):
    """Calm training, and other training that jumps three times as much and overfits less."""
    calm = sweep(tmp_path / "calm", Curve(jitter=0.004, gap=0.06))
    wild = sweep(tmp_path / "wild", Curve(jitter=0.015, gap=0.03), rng_seed=1, optimizer="adam")
    return calm, wild


def row(found, measure):
    return found.differences.filter(measure=measure).row(0, named=True)


def test_matching_trials_are_paired_and_the_change_is_found(two):
    found = compare_sweeps(*map(analyze, two))
    assert "optimizer: sgd → adam" in found.changed
    assert found.num_pairs == 10
    jitter, gap = row(found, "late_jitter"), row(found, "gap")
    assert 1 < jitter["low"] < jitter["change"] < jitter["high"]
    assert jitter["change"] == pytest.approx(jitter["second"] / jitter["first"], rel=0.1)
    assert gap["change"] == pytest.approx(-0.03, abs=0.01)
    assert gap["high"] < 0
    assert gap["change"] == pytest.approx(gap["second"] - gap["first"])
    back = compare_sweeps(*map(analyze, reversed(two)))
    assert row(back, "late_jitter")["change"] == pytest.approx(1 / jitter["change"])


def test_the_terminal_and_the_json_say_the_same(two, capsys):
    code, out, _ = run_here(capsys, "compare", two[0].root, two[1].root)
    assert code == 0
    assert "changed: " in out
    assert "optimizer: sgd → adam" in out
    assert "10 pairs of trials match in seed and in all else" in out
    told = json.loads(run_here(capsys, "compare", two[0].root, two[1].root, "--json")[1])
    found = compare_sweeps(*map(analyze, two))
    assert told["num_pairs"] == 10
    assert told["differences"] == found.differences.to_dicts()
    change = row(found, "gap")["change"]
    assert f"{100 * change:+.2f} pp" in out


def test_axes_that_only_one_has_are_matched_where_their_levels_agree(tmp_path):
    first = sweep(tmp_path / "a", Curve(), seeds=3)
    axes = {"weight_decay": [0.0, 0.01]}
    second = sweep(tmp_path / "b", Curve(), seeds=3, rng_seed=1, axes=axes)
    found = compare_sweeps(analyze(first), analyze(second))
    assert found.num_pairs == 3  # dropout 0 and weight decay 0 are in both
    assert "axis dropout: 0, 0.5 → no axis" in found.changed
    assert "3 completed trials of the second match none." in found.notes
    assert "3 of these trials have the same id: they are one training done twice." in found.notes


def test_sweeps_without_a_trial_in_common_are_not_compared(tmp_path, capsys):
    first = sweep(tmp_path / "a", Curve(), seeds=2, axes={"dropout": [0.0, 0.1]})
    second = sweep(tmp_path / "b", Curve(), seeds=2, axes={"dropout": [0.3, 0.5]})
    code, out, _ = run_here(capsys, "compare", first.root, second.root)
    assert code == 0
    assert "so none are paired" in out
    assert run_here(capsys, "compare", first.root, tmp_path / "none")[0] == 2


def test_a_sweep_beside_itself_shows_no_change(two, capsys):
    out = run_here(capsys, "compare", two[0].root, two[0].root)[1]
    assert "changed: nothing that is recorded" in out
    assert out.count("without limits: all seeds agree") == 6
