"""The verdict in a practitioner's words: groups, maps, advice, thresholds."""

import pytest

from analysis import analyze
from analysis.page.charts import LABEL_COLOURS
from analysis.page.findings import answer, configuration
from analysis.page.thresholds import thresholds
from analysis.page.verdict import NOISE, OVERFIT, groups, in_words, verdict_figure
from analysis.verdicts.advice import advice
from tests.support.simulated import Curve, Sweep, spec

ROW = {
    "point": "a",
    "status": "ok",
    "noise": "no",
    "overfit": "no",
    "train_drop": 0.0,
    "fin_sd": 0.008,
    "peak_epoch": 20.0,
    "hf_sd": 0.01,
    "finite_share": 0.3,
    "late_hf_sd": 0.009,
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Three seeds of a quiet, a moving, a falling network, and one that never learnt."""
    made = Sweep(spec("x", axes={"width": [8, 16, 32], "dropout": [0.0, 0.5]}), num_val=1000)
    curves = {8: Curve(jitter=0.0), 16: Curve(jitter=0.014), 32: Curve(fall=0.1)}
    return analyze(
        made.write(
            tmp_path_factory.mktemp("verdict"),
            lambda trial: curves[trial.width],
            diverged=[0, 1, 2],
        )
    )


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({}, "nothing: neither"),
        ({"status": "diverged", "noise": None, "overfit": None}, "lower the learning rate"),
        ({"status": "failed", "noise": None, "overfit": None}, "data quality"),
        ({"status": "at chance"}, "another learning rate"),
        ({"status": "still learning"}, "train longer"),
        ({"noise": "optimizer"}, "take a larger batch"),
        ({"noise": "optimizer", "late_hf_sd": 0.002}, "calms down by itself"),
        ({"noise": "validation set"}, "validate on 2,000 examples"),
        ({"noise": "slow wander"}, "mean of many epochs"),
        ({"overfit": "yes"}, "stop near epoch 20"),
        ({"overfit": "over-confident"}, "fit a temperature"),
        ({"train_drop": 0.3, "overfit": "undetermined"}, "training comes apart"),
    ],
)
def test_each_label_has_its_advice(known, said):
    assert said in "; ".join(advice(ROW | known, 500))


def test_nothing_is_advised_on_what_is_not_settled():
    assert advice(ROW | {"noise": "undetermined", "overfit": "undetermined"}, 500) == []


def test_the_set_that_is_quiet_grows_with_the_square_of_its_part():
    for fin_sd, num_val, size in ((0.008, 500, "2,000"), (0.0040001, 797, "800")):
        (clause,) = advice(ROW | {"noise": "validation set", "fin_sd": fin_sd}, num_val)
        assert clause.startswith(f"validate on {size} examples")


def test_configurations_with_the_same_labels_share_a_row():
    rows = [ROW | {"point": name} for name in "abcd"] + [ROW | {"overfit": "yes", "point": "e"}]
    table = groups(rows, 500)
    assert table["configurations"].to_list() == ["4: a, b, c and 1 more", "e"]
    assert table["verdict"].to_list() == [
        "It stands still; it does not overfit",
        "It stands still; it overfits",
    ]


def test_every_label_has_words_and_a_colour():
    for noise, overfit in zip(NOISE, OVERFIT, strict=False):
        assert in_words(ROW | {"noise": noise, "overfit": overfit})
    cells = {words.cell for labels in (NOISE, OVERFIT) for words in labels.values()}
    assert cells <= set(LABEL_COLOURS)


def test_the_section_tells_the_truth_of_a_sweep(sweep):
    figure = verdict_figure(sweep)
    assert figure is not None
    cells = dict(figure.data["labels"].select("point", "noise").iter_rows())
    assert {cell for point, cell in cells.items() if "width 16" in point} <= {"network", "both"}
    assert cells["dropout 0 · width 8"] == "diverged"
    harm = dict(figure.data["labels"].select("point", "harm").iter_rows())
    assert {cell for point, cell in harm.items() if "width 32" in point} == {"overfits"}
    assert len(figure.charts) == 2
    assert "2 overfit for sure" in answer(sweep)
    row = sweep.configurations.filter(point="dropout 0.5 · width 32").row(0, named=True)
    said = configuration(row, 1000)
    assert "Overfits: accuracy ends" in said
    assert "To turn: " in said


def test_the_footer_tells_margins_cutoffs_and_error_rates():
    found = thresholds(60)
    text = " ".join(found.sentences)
    assert "0.4 pp of noise" in text
    assert "standard errors" in text
    assert "“overfits, one seed” although nothing is lost" in text
    assert all(len(row) == len(found.heads) for row in found.rows)
    assert {"optimizer", "validation set", "yes"} <= {row[1] for row in found.rows}
