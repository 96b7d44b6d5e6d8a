"""The first screen: each of its numbers is that of the analysis, and it says what it may."""

import re

import numpy as np
import polars as pl
import pytest

from analysis import analyze
from analysis.answer.settings import settings
from analysis.causes.regions import regions
from analysis.page.first import first_screen
from analysis.page.report import render
from tests.support.simulated import Curve, Sweep, spec


def network(trial):
    """The low rate is as good as the middle one and calmer; the high one diverges."""
    return Curve(
        accuracy=0.956 if trial.learning_rate == 0.01 else 0.94,
        learning_epochs=2.0,
        jitter=0.001 if trial.learning_rate == 0.01 else 0.01,
        churn=0.1,
    )


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    axes = {"learning_rate": [0.01, 0.1, 1.0], "weight_decay": [0.0, 1e-4]}
    made = Sweep(spec("mine", axes=axes, epochs=60, seeds=3), num_val=1000, probes=True)
    lost = [12, 13, 14, 15, 16]  # all but one of the runs at the high rate
    return analyze(made.write(tmp_path_factory.mktemp("first"), network, diverged=lost))


@pytest.fixture(scope="module")
def said(sweep):
    return first_screen(sweep)


def pooled(frame, name):
    """Mean of a column of the trials that matter, by their degrees of freedom."""
    return float(np.average(frame[name].to_numpy(), weights=frame["hf_df"].to_numpy()))


def numbers(text):
    return [float(x) for x in re.findall(r"\d+\.?\d*", text.replace("−", "-").replace(",", ""))]


def test_each_number_of_the_answer_is_that_of_the_analysis(sweep, said):
    found = sweep.overall
    best = sweep.causes.ranking.filter(config_id=found.matters[0]).row(0, named=True)
    trials = sweep.trials.filter(
        pl.col("config_id").is_in(found.matters) & (pl.col("outcome") == "completed")
    )
    total, finite = pooled(trials, "hf_var"), pooled(trials, "finite_var")
    sd = 100 * total**0.5
    text = said.words.moves.replace("**", "")
    assert f"({100 * best['score_nested']:.1f} %, {100 * best['score_nested_low']:.1f} to" in text
    assert f"moves by {sd:.2f} pp from one epoch to the next" in text
    assert f"of {1000:,})" in text
    assert f"{100 * finite / total:.0f} % of that" in text
    assert f"the rest, {100 * (total - finite) ** 0.5:.2f} pp, is the optimizer" in text
    late = 100 * pooled_late(sweep)
    assert f"In the second half of training it moves by {late:.2f} pp." in text
    judged = sweep.configurations.drop_nulls("overfit")
    spared = judged.filter(pl.col("drop_high") < 0.005).height
    assert numbers(said.words.overfitting)[0] >= spared > 0


def pooled_late(sweep):
    """The late jitter straight from the curves: second differences of epochs 31 to 60."""
    epochs = sweep.epochs.filter(
        pl.col("config_id").is_in(sweep.overall.matters) & (pl.col("weights_kind") == "raw")
    )
    done = sweep.trials.filter(outcome="completed").select("trial_id")
    curves = epochs.join(done, on="trial_id", how="semi").sort("trial_id", "epoch")
    values = np.stack([c["val_accuracy"].to_numpy() for c in curves.partition_by("trial_id")])
    half = values[:, 30:]
    second = half[:, :-2] / 2 - half[:, 1:-1] + half[:, 2:] / 2
    return float(np.sqrt((second**2).mean() / 1.5))


def test_what_to_do_has_its_measured_effects(sweep, said):
    found = sweep.overall
    best = sweep.causes.ranking.filter(config_id=found.matters[0]).row(0, named=True)
    lines = {todo.text: todo.effect for todo in said.words.do}
    assert len(lines) <= 5
    calm = next(text for text in lines if text.startswith("Calmer at the same score"))
    assert "lr 0.01" in calm
    assert f"{100 * found.calmer.after:.2f} pp" in lines[calm]
    assert found.calmer.low < found.calmer.ratio < found.calmer.high < 1
    averaged = lines["Average the weights over the last epochs."]
    assert f"falls to {found.averaged.ratio:.2f} of what it is" in averaged
    assert lines["Never lr 1."] == "5 of 6 runs diverged."
    flattery = lines["Report the mean of the last epochs, not the best one."]
    assert f"reads {100 * (best['score_naive'] - best['score_nested']):.2f} pp too" in flattery


def test_the_page_shows_the_answer_before_any_script(sweep, said):
    page = render(sweep)
    before = page.split("<script")[0]
    first = before[before.index("<h1>") : before.index("</section>")]
    plain = re.sub(r"<[^>]+>", "", first)
    for sentence in (*said.words.moves.replace("**", "").split(". ")[:1], said.words.verdict):
        assert sentence in plain
    assert first.count("<svg") == 2
    assert "<script" not in first


def test_a_part_of_a_sweep_says_so_at_the_top(tmp_path):
    made = Sweep(spec("part", axes={"width": [8, 16]}, epochs=40, seeds=5))
    analysis = analyze(made.write(tmp_path, lambda trial: Curve(), missing=range(2, 10)))
    assert first_screen(analysis).state == (
        "2 of 10 runs completed, 8 not yet trained, so this page is of a part of the sweep"
    )


def test_overfitting_is_named_with_what_helps_against_it(tmp_path):
    made = Sweep(spec("over", axes={"dropout": [0.0, 0.5]}, epochs=60, seeds=3), num_val=2000)
    analysis = analyze(
        made.write(tmp_path, lambda trial: Curve(fall=0.0 if trial.dropout else 0.06))
    )
    words = first_screen(analysis).words
    assert "overfitting" in words.verdict
    assert "1 of 2 settings overfits" in words.overfitting
    assert words.do[0].text == "Against overfitting: dropout 0.5 instead of 0."
    row = analysis.effects.filter(response="drop", scope="pooled").row(0, named=True)
    assert f"{-100 * row['estimate']:.2f} pp less" in (words.do[0].effect or "")


# --- names and regions

POINTS = pl.DataFrame(
    {
        "config_id": list("abcdefgh"),
        "point": list("abcdefgh"),
        "batch_size": ["32"] * 4 + ["512"] * 4,
        "learning_rate": ["0.1", "0.1", "1", "1"] * 2,
        "dropout": ["0", "0.5"] * 4,
    }
)
AXES = ["batch_size", "learning_rate", "dropout"]


@pytest.mark.parametrize(
    ("wanted", "levels"),
    [
        ("cdgh", [(("learning_rate", "1"),)]),
        ("cd", [(("batch_size", "32"), ("learning_rate", "1"))]),
        ("cdg", [(("batch_size", "32"), ("learning_rate", "1")), ()]),
        ("a", [()]),
        ("", []),
    ],
)
def test_regions_are_named_by_the_fewest_levels(wanted, levels):
    found = regions(POINTS, AXES, wanted)
    assert [region.levels for region in found] == levels
    assert sorted(name for region in found for name in region.config_ids) == sorted(wanted)


def test_regions_hold_what_is_wanted_and_nothing_else():
    rng = np.random.default_rng(0)
    for _ in range(50):
        wanted = [name for name in "abcdefgh" if rng.random() < 0.5]
        for region in regions(POINTS, AXES, wanted):
            rows = POINTS
            for axis, label in region.levels:
                rows = rows.filter(pl.col(axis) == label)
            if region.levels:
                assert set(rows["config_id"]) <= set(wanted)


def test_letters_go_by_score_and_names_leave_out_what_did_nothing():
    names = settings(POINTS, AXES, "hb", ["dropout"])
    assert names["h"].name == "A (batch 512, lr 1)"
    assert names["b"].letter == "B"
    assert names["a"].letter == "C"
    assert len({one.letter for one in names.values()}) == 8
    many = pl.DataFrame({"config_id": [str(i) for i in range(60)], "point": [""] * 60})
    assert [settings(many, [], [])[str(i)].letter for i in (25, 26, 27, 52)] == [
        *("Z", "AA", "AB", "BA"),
    ]


def test_terminal_json_and_page_say_the_same(sweep, said):
    answer = sweep.answer
    plain = said.words.moves.replace("**", "")
    assert answer.headline[0].endswith(plain)
    assert answer.do == said.words.do
    assert answer.as_dict()["headline"][1] == f"Overfitting: {said.words.overfitting}"
    page = re.sub(r"<[^>]+>", "", render(sweep).split("<script")[0])
    for todo in answer.do:
        assert todo.text in page
        assert (todo.effect or "") in page
