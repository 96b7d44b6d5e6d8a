"""Claims: what a sweep file may say, and the answer where the truth is known."""

import numpy as np
import pytest

from analysis import analyze
from analysis.claims.answers import answer_claims, decide
from analysis.claims.over_seeds import Estimate, leave_one_out, log_sd_ratio, mean_difference
from raysweep import claims, recipes
from raysweep.errors import InputError
from raysweep.spec import SweepSpec
from tests.support.simulated import Curve, Sweep

AXES = {"batch_size": [32, 512], "lr_scaling": ["none", "linear"]}
CALMER = {"says": "calmer", "measure": "jitter", "expect": "lower", "axis": "batch_size"}


def spec(*said, axes=AXES, seeds=5, epochs=40):
    content = {"name": "x", "task": "digits", "base": {"epochs": epochs}, "axes": axes}
    return SweepSpec.from_mapping(content | {"seeds": seeds, "claim": list(said)})


def answers(tmp_path, curve_of, *said, **changes):
    written = {name: changes.pop(name) for name in ("diverged", "missing") if name in changes}
    sweep = Sweep(spec(*said, **changes), probes=True)
    return answer_claims(analyze(sweep.write(tmp_path, curve_of, **written)))


# --- what a sweep file may say


@pytest.mark.parametrize(
    ("claim", "parts"),
    [
        ({"measure": "jiter"}, ["claim.0.measure = 'jiter'", "'jitter'"]),
        ({"expects": "lower"}, ["'claim.0.expects'", "did you mean 'expect'?"]),
        ({"expect": "less"}, ["claim.0.expect = 'less'", "'lower'"]),
        ({"axis": "dropuot"}, ["'dropuot' is no axis", "batch_size, lr_scaling"]),
        ({"levels": [32, 64]}, ["batch_size has no level 64", "[32, 512]"]),
        ({"levels": [32]}, ["claim.0.levels = [32]", "two levels"]),
        ({"given": {"lr_scaling": "sqrt"}}, ["lr_scaling has no level 'sqrt'"]),
        ({"given": {"width": 3}}, ["'width' is no axis"]),
        ({"axis": None}, ["needs than"]),
        ({"axis": None, "levels": [1, 2]}, ["needs an axis"]),
        ({"measure": "seed_sd", "than": 0.1}, ["seed_sd is of the whole sweep", "no axis"]),
        ({"measure": "order_agreement", "levels": [32, 512], "than": 0.5}, ["all levels of which"]),
        ({"axis": None, "levels": [{"batch_size": 32}, {"batch": 5}]}, ["'batch' is no axis"]),
        ({"says": ""}, ["claim.0.says = ''", "at least 1"]),
    ],
)
def test_a_claim_that_can_not_be_answered_is_one_line(claim, parts):
    with pytest.raises(InputError) as caught:
        spec(CALMER | claim)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_one_claim_is_a_list_of_one_and_enters_no_trial():
    content = {"name": "x", "task": "digits", "axes": AXES}
    one = SweepSpec.from_mapping(content | {"claim": CALMER})
    assert one.claim == SweepSpec.from_mapping(content | {"claim": [CALMER]}).claim
    plain = SweepSpec.from_mapping(content)
    assert plain.claim == ()
    assert plain.base.digest() == one.base.digest()


def test_settings_that_change_the_axes_keep_what_still_fits(tmp_path):
    file = tmp_path / "s.yaml"
    claim = "{says: c, measure: gap, expect: lower, axis: dropout, levels: [0.0, 0.5]}"
    file.write_text(
        "name: s\ntask: digits\nbase: {optimizer: adam, width: 64}\n"
        f"axes: {{dropout: [0.0, 0.5], depth: [1, 2]}}\nclaim: {claim}\n"
    )
    assert len(recipes.read(str(file), ["base.epochs=3"]).claim) == 1
    wider = recipes.read(str(file), ["axes.dropout=[0.0,0.2,0.5]", "axes.width=[32,64]"])
    assert len(wider.claim) == 1
    assert "width" not in wider.base.model_fields_set
    assert recipes.read(str(file), ["axes.dropout=[0.1,0.5]"]).claim == ()
    assert set(recipes.read(str(file), ["axes.depth=null"]).axes) == {"dropout"}
    (only,) = recipes.read(str(file), ["axes={optimizer: [sgd, adam]}"]).axes
    assert only == "optimizer"
    with pytest.raises(InputError, match="stands in base and in axes"):
        recipes.read(str(file), ["base.dropout=0.1"])  # a value in base takes no axis away


def test_every_claim_of_a_recipe_names_what_the_recipe_has():
    for name in recipes.names():
        sweep = recipes.read(name)
        for claim in sweep.claim:
            assert not list(claims.misfits(claim, sweep.axes)), name


# --- the decision


@pytest.mark.parametrize(
    ("expect", "low", "high", "verdict"),
    [
        ("higher", 1.01, 1.5, "held"),
        ("higher", 0.9, 1.05, "did not hold"),
        ("higher", 0.9, 1.3, "can't be told"),
        ("lower", 0.5, 0.9, "held"),
        ("lower", 0.95, 1.3, "did not hold"),
        ("lower", 0.7, 1.3, "can't be told"),
        ("same", 0.95, 1.05, "held"),
        ("same", 1.2, 1.5, "did not hold"),
        ("same", 1.05, 1.5, "can't be told"),
        ("higher", np.nan, np.nan, "can't be told"),
    ],
)
def test_an_interval_decides(expect, low, high, verdict):
    found = Estimate((low + high) / 2, low, high, 5)
    assert decide(expect, found, 1.0, 0.1, is_ratio=True) == verdict


def test_opposite_claims_never_both_hold(simulation):
    rng = simulation(1)
    for _ in range(300):
        low, high = np.sort(rng.normal(size=2))
        found = Estimate((low + high) / 2, low, high, 5)
        said = [decide(word, found, 0.0, 0.3, is_ratio=False) for word in ("higher", "lower")]
        assert said.count("held") <= 1


# --- the estimate and its limits


def test_limits_over_seeds_hold_the_truth_as_often_as_they_say(simulation):
    """Ratios of SDs and differences of means, two slices of unlike size, five seeds each."""
    rng = simulation(2)
    seeds, slices = np.tile(np.arange(5), 2), np.repeat([0, 1], 5)
    covered = {"ratio": 0, "difference": 0}
    num = 1500
    for _ in range(num):
        below = np.where(slices == 0, 1.0, 9.0) * rng.chisquare(20, 10) / 20
        above = np.where(slices == 0, 4.0, 36.0) * rng.chisquare(20, 10) / 20
        found = leave_one_out(log_sd_ratio(above, below, slices), seeds)
        covered["ratio"] += found.low < np.log(2) < found.high
        of_seed = rng.normal(size=5)  # what slices of one seed share
        first, second = rng.normal(size=(2, 10)), 0.3 + of_seed[seeds]
        found = leave_one_out(mean_difference(first[0] + second, first[1], slices), seeds)
        covered["difference"] += found.low < 0.3 < found.high
    for name, count in covered.items():
        assert 0.93 < count / num < 0.97, (name, count / num)


def test_one_seed_and_equal_seeds_give_no_limits():
    one = np.array([1.0])
    assert leave_one_out(mean_difference(one, 0 * one, np.array([0])), np.array([3])).reason
    same = leave_one_out(mean_difference(np.ones(3), np.zeros(3), np.zeros(3, int)), np.arange(3))
    assert (same.value, same.reason is None) == (1.0, False)
    assert np.isnan(same.low)


# --- a whole sweep whose truth is known


def test_a_claim_about_jitter_is_answered_at_each_scaling(tmp_path):
    def curve(trial):
        calm = trial.batch_size == 512 and trial.lr_scaling == "none"
        return Curve(jitter=0.003 if calm else 0.012)

    fixed, scaled, late, reverse, pooled = answers(
        tmp_path,
        curve,
        CALMER | {"given": {"lr_scaling": "none"}},
        CALMER | {"given": {"lr_scaling": "linear"}, "expect": "same", "margin": 0.6},
        CALMER | {"given": {"lr_scaling": "none"}, "measure": "late_jitter"},
        CALMER | {"given": {"lr_scaling": "none"}, "levels": [512, 32]},
        CALMER,
        epochs=80,
    )
    assert [fixed.verdict, scaled.verdict, late.verdict] == ["held"] * 3
    assert reverse.verdict == "did not hold"
    ratios = [answer.estimate or 0.0 for answer in (fixed, scaled, reverse, pooled)]
    assert ratios[2] == pytest.approx(1 / ratios[0])
    assert ratios[3] == pytest.approx((ratios[0] * ratios[1]) ** 0.5)
    assert "at batch size 512 what it is at 32, lr scaling none" in fixed.finding


def test_two_points_of_the_grid_can_be_compared(tmp_path):
    points = [
        {"batch_size": 32, "lr_scaling": "none"},
        {"batch_size": 512, "lr_scaling": "linear"},
    ]
    claim = {"says": "p", "measure": "gap", "expect": "higher", "levels": points}
    (found,) = answers(
        tmp_path, lambda trial: Curve(gap=0.02 + 0.03 * (trial.lr_scaling == "linear")), claim
    )
    assert (found.verdict, found.num_seeds) == ("held", 5)
    assert found.estimate == pytest.approx(0.03, abs=0.01)
    words = "at batch size 512, lr scaling linear, against batch size 32, lr scaling none"
    assert words in found.finding


def test_claims_about_levels_of_the_whole_sweep_are_answered(tmp_path):
    said = [
        {"says": "a", "measure": "set_share", "expect": "higher", "than": 0.2},
        {"says": "b", "measure": "averaged_jitter", "expect": "lower"},
        {"says": "c", "measure": "early_jitter", "expect": "same", "margin": 0.5},
        {"says": "d", "measure": "seed_sd", "expect": "lower", "than": 0.02},
        {"says": "e", "measure": "gap", "expect": "higher", "than": 0.02},
        {"says": "f", "measure": "drop", "expect": "lower", "than": 0.02},
    ]
    found = answers(tmp_path, lambda trial: Curve(jitter=0.004), *said)
    assert [answer.verdict for answer in found] == ["held"] * 6
    assert found[4].estimate == pytest.approx(0.042, abs=0.01)
    for answer in found:
        ends = answer.low, answer.estimate, answer.high
        assert None not in ends
        assert list(ends) == sorted(end or 0.0 for end in ends)
        assert f"“{answer.says}” Held: " in answer.sentence


def test_settings_are_ordered_alike_where_the_levels_change_nothing(tmp_path):
    claim = {"says": "s", "measure": "order_agreement", "axis": "depth", "than": 0.8}
    axes = {"depth": [1, 2, 3, 4], "dropout": [0.0, 0.2, 0.5]}
    same, chance = (
        answers(tmp_path / name, curve, claim | {"expect": "higher"}, axes=axes, seeds=2)[0]
        for name, curve in (
            ("same", lambda trial: Curve(accuracy=0.9 - 0.2 * trial.dropout)),
            (
                "turned",
                lambda trial: Curve(accuracy=0.85 + 0.1 * (-1) ** trial.depth * trial.dropout),
            ),
        )
    )
    assert same.estimate == 1
    assert chance.verdict != "held"
    assert chance.estimate == pytest.approx(1 / 3)  # of six pairs of levels, two agree


def test_what_did_not_complete_is_left_out_and_can_leave_nothing(tmp_path):
    (left,) = answers(tmp_path / "a", lambda trial: Curve(), CALMER, missing=[0, 6])
    assert left.num_seeds == 5
    axes = {"batch_size": [32, 512]}
    (nothing,) = answers(
        tmp_path / "b", lambda trial: Curve(), CALMER, axes=axes, seeds=2, diverged=[2, 3]
    )
    assert (nothing.verdict, nothing.estimate) == ("can't be told", None)
    assert "no seed has both to their end" in nothing.sentence


def test_a_sweep_without_a_claim_and_a_log_have_no_answers(tmp_path):
    assert answers(tmp_path, lambda trial: Curve(), seeds=2) == []
    file = tmp_path / "log.csv"
    file.write_text("epoch,val_acc\n" + "".join(f"{e},{80 + e % 3}\n" for e in range(1, 21)))
    assert answer_claims(analyze(file)) == []
