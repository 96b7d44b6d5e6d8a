"""One definition of what a setting is called; the map, the table and the advice agree with it."""

import re

import pytest

from analysis import analyze
from analysis.answer.sweep import names_of
from analysis.page import verdict
from analysis.page.first import first_screen
from analysis.page.table import MEASURES, _tones, grid_map, kinds_said, settings_table
from analysis.page.thresholds import thresholds
from analysis.page.verdict import kind, said, settings_rows
from analysis.verdicts.advice import advice
from tests.support.simulated import Curve, Sweep, spec

ROW = {
    "config_id": "a",
    "point": "a",
    "status": "ok",
    "status_reason": None,
    "noise": "no",
    "noise_reason": None,
    "overfit": "no",
    "overfit_among": "no",
    "overfit_reason": None,
    "train_drop": 0.0,
    "fin_sd": 0.008,
    "peak_epoch": 20.0,
    "hf_sd": 0.01,
    "hf_sd_low": 0.008,
    "hf_sd_high": 0.012,
    "finite_share": 0.3,
    "finite_share_low": 0.2,
    "finite_share_high": 0.45,
    "late_hf_sd": 0.009,
    "late_sd": 0.009,
    "late_sd_low": 0.007,
    "late_share": 0.3,
    "late_share_low": 0.2,
    "late_share_high": 0.45,
    "gap": None,
    "num_completed": 3,
    "num_diverged": 0,
    "num_failed": 0,
    "num_stopped": 0,
    "num_stopped_early": 0,
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
    ("known", "cell"),
    [
        ({}, "optimizer"),
        # The label says that the set's part is beyond the margin; the network's is larger.
        ({"noise": "validation set"}, "optimizer"),
        ({"late_share_low": 0.6, "late_share": 0.8, "late_share_high": 1.0}, "val. set"),
        ({"late_share_low": 0.3, "late_share": 0.5, "late_share_high": 0.7}, "both"),
        ({"late_sd": 0.0003, "late_sd_low": 0.0002}, "calms down"),
        ({"late_sd_low": 0.002, "hf_sd_low": 0.003}, "calm"),
        ({"late_sd_low": 0.002, "hf_sd_low": 0.003, "status": "still learning"}, "rising"),
        ({"overfit": "yes", "overfit_among": "yes"}, "overfits"),
        ({"overfit": "yes", "overfit_among": "little"}, "optimizer"),
        ({"train_drop": 0.3}, "comes apart"),
        ({"num_diverged": 1}, "some diverged"),
        ({"num_completed": 0, "num_diverged": 3, "status": "diverged"}, "diverged"),
        ({"num_completed": 0, "status": "failed"}, "not yet"),
    ],
)
def test_a_setting_is_called_by_its_numbers(known, cell):
    assert kind(ROW | known).cell == cell


@pytest.mark.parametrize(
    ("known", "words"),
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
def test_each_label_has_its_advice(known, words):
    assert words in "; ".join(advice(ROW | known, 500))


def test_nothing_is_advised_on_what_is_not_settled():
    assert advice(ROW | {"noise": "undetermined", "overfit": "undetermined"}, 500) == []


def test_the_set_that_is_quiet_grows_with_the_square_of_its_part():
    for fin_sd, num_val, size in ((0.008, 500, "2,000"), (0.0040001, 797, "800")):
        (clause,) = advice(ROW | {"noise": "validation set", "fin_sd": fin_sd}, num_val)
        assert clause.startswith(f"validate on {size} examples")


def test_the_words_of_a_setting_give_its_share_with_limits():
    text = said(ROW, 500)
    assert "Moves by 1.00 pp from epoch to epoch (0.80 to 1.20)" in text
    assert "30 % of that (20 to 45) is the size of the validation set (500 examples)" in text
    assert "not settled" not in text


def test_map_table_and_counts_call_every_setting_the_same(sweep):
    rows = settings_rows(sweep, names_of(sweep))
    grid = grid_map(sweep, rows)
    assert grid is not None
    on_map = {
        cell.config_id: cell.kind
        for part in grid.slices
        for _, line in part.rows
        for cell in line
        if cell
    }
    table = settings_table(sweep, rows)
    column = [head for head, _ in table.heads].index("verdict")
    in_table = {name: cells[column][0] for name, _, cells, _ in table.rows}
    assert on_map == in_table == {row["config_id"]: kind(row).cell for row in rows}
    counts = [int(num) for num in re.findall(r"(\d+) [a-z]", kinds_said(rows))]
    assert counts[0] == len(rows) == sum(counts[1:])


def test_the_page_tells_the_truth_of_a_sweep(sweep):
    rows = settings_rows(sweep, names_of(sweep))
    called = {row["point"]: kind(row) for row in rows}
    assert called["dropout 0 · width 8"] == verdict.DIVERGED
    assert called["dropout 0.5 · width 8"] == verdict.QUIET
    assert called["dropout 0 · width 16"] == called["dropout 0.5 · width 16"] == verdict.BY_NETWORK
    assert called["dropout 0 · width 32"] == called["dropout 0.5 · width 32"] == verdict.OVERFITS
    words = first_screen(sweep).words
    assert "2 of 5 settings overfit" in words.overfitting
    assert "for sure" not in words.overfitting


def test_no_value_of_the_map_is_cut_off():
    values = [0.3, 0.1, 0.0, 8.3, 27.5, None]
    rows = [
        ROW | {"config_id": str(i), "drop": None if v is None else v / 100}
        for i, v in enumerate(values)
    ]
    (fall,) = (measure for measure in MEASURES if measure.key == "fall")
    tones = _tones(fall, rows)
    known = [(v, tones[str(i)]) for i, v in enumerate(values) if v is not None]
    assert tones["5"] is None
    assert [tone for _, tone in sorted(known)] == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_limits_of_falls_are_called_what_they_are(sweep):
    notes = dict(settings_table(sweep, settings_rows(sweep, names_of(sweep))).heads)
    assert notes["fall, pp"].startswith("90 %")
    assert notes["final accuracy, %"].endswith("95 % limits")


@pytest.mark.parametrize(
    ("axes", "x", "y", "num_slices"),
    [
        ({"dropout": [0.0, 0.5], "width": [16, 32, 64]}, "width", "dropout", 1),
        ({"learning_rate": [0.1, 0.2], "dropout": [0.0, 0.5]}, "dropout", "learning rate", 1),
        ({"batch_size": [32, 64], "lr_scaling": ["none", "linear"]}, "batch size", "lr scaling", 1),
        ({"batch_size": [32, 64], "width": [8, 9], "depth": [1, 2]}, "batch size", "width", 2),
        ({"dropout": [0.0, 0.5]}, "dropout", "", 1),
    ],
)
def test_the_map_falls_back_to_the_axes_that_vary(tmp_path, axes, x, y, num_slices):
    sweep = Sweep(spec("x", axes=axes, epochs=12, seeds=1))
    analysis = analyze(sweep.write(tmp_path, lambda trial: Curve()))
    grid = grid_map(analysis, settings_rows(analysis, names_of(analysis)))
    assert grid is not None
    assert (grid.x, grid.y, len(grid.slices)) == (x, y, num_slices)


def test_the_footer_tells_margins_cutoffs_and_error_rates():
    found = thresholds(60)
    text = " ".join(found.sentences)
    assert "0.4 pp of noise" in text
    assert "standard errors" in text
    assert "“overfits, one seed” although nothing is lost" in text
    assert all(len(row) == len(found.heads) for row in found.rows)
    assert {"optimizer", "validation set", "yes"} <= {row[1] for row in found.rows}
