"""Charts as dictionaries: what is drawn from which data."""

import json

import numpy as np
import polars as pl
import pytest

from analysis import analyze
from analysis.answer.sweep import names_of
from analysis.causes.trained import all_seeds_trained
from analysis.page import curves
from analysis.page.curves import MAX_CURVE_ROWS, curves_figure
from analysis.page.effects import effects_figure
from tests.support.simulated import (
    Curve,
    batch_size_like,
    digits_like,
    early_stopping_like,
    practitioner,
)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits")
    return analyze(digits_like().write(root, practitioner, diverged=[0, 1, 2], missing=[10]))


def inner(spec, key, found=None):
    """Every value of a key, anywhere in a specification."""
    found = [] if found is None else found
    if isinstance(spec, dict):
        found += [spec[key]] if key in spec else []
        for value in spec.values():
            inner(value, key, found)
    elif isinstance(spec, list):
        for value in spec:
            inner(value, key, found)
    return found


def made(figure):
    assert figure is not None
    return figure


def _curves(analysis):
    return made(curves_figure(analysis, names_of(analysis)))


def names(spec):
    return {data["name"] for data in inner(spec, "data") if "name" in data}


def test_charts_name_their_data_and_embed_none(digits):
    for figure in (
        curves_figure(digits, names_of(digits)),
        effects_figure(digits, names_of(digits)),
    ):
        for chart in made(figure).charts:
            drawn = chart.to_dict()
            assert "datasets" not in drawn
            assert names(drawn) <= set(made(figure).data)
            assert len(json.dumps(drawn)) < 40_000


def test_curves_show_every_seed_the_mean_and_the_training_curve(digits):
    figure = made(curves_figure(digits, names_of(digits)))
    assert (
        figure.data["seeds"].group_by("config_id").agg(pl.col("seed").n_unique())["seed"].max() == 3
    )
    drawn = figure.charts[0].to_dict()
    assert names(drawn) == {"seeds", "means", "marks"}
    fields = {y["field"] for y in inner(drawn, "y") if isinstance(y, dict)}
    assert {"accuracy", "train_accuracy", "loss", "train_loss", "accuracy_low"} <= fields
    parameters = {param["name"]: param.get("value") for param in drawn["params"]}
    assert [parameters["config_0"], parameters["config_1"]] == figure.panels
    assert len(figure.choices) == 36


def test_few_configurations_are_all_shown(tmp_path):
    figure = _curves(analyze(batch_size_like().write(tmp_path, practitioner)))
    assert len(figure.panels) == 6 == len(figure.choices)
    points = dict(figure.choices)
    assert {points[name].partition(" ")[2] for name in figure.panels[:2]} == {
        "(batch 32, lr scaling none)",
        "(batch 128, lr scaling none)",
    }


def test_best_restored_and_stopping_epochs_are_marked(tmp_path):
    analysis = analyze(early_stopping_like().write(tmp_path, lambda trial: Curve(fall=0.06)))
    marks = made(curves_figure(analysis, names_of(analysis))).data["marks"]
    counts = dict(marks.group_by("mark").len().iter_rows())
    assert counts == {"best epoch": 10, "restored weights": 5, "stopped early": 5}
    assert marks["accuracy"].null_count() == 0


def test_beyond_the_budget_curves_are_a_spread_choice_and_the_page_says_so(digits, monkeypatch):
    monkeypatch.setattr(curves, "MAX_CURVE_ROWS", 1500)
    figure = made(curves_figure(digits, names_of(digits)))
    assert figure.data["seeds"].height <= 1500 < MAX_CURVE_ROWS
    assert "are not drawn" in figure.how
    drawn = {config_id for config_id, _ in figure.choices}
    assert set(figure.panels) <= drawn
    ranked = digits.configurations.drop_nulls("hf_sd").sort("hf_sd")["config_id"].to_list()
    assert ranked[-1] in drawn


def test_knobs_show_every_setting_that_trained_and_the_best_of_each_level(digits):
    figure = made(effects_figure(digits, names_of(digits)))
    data = figure.data["knobs"]
    trained = digits.configurations.filter(all_seeds_trained())
    assert data.height == 4 * trained.height
    for (_, _), level in data.group_by("axis", "level"):
        best = level.filter("best")
        assert best["accuracy"].to_list() == [level["accuracy"].max()] * best.height
    assert "batch size 512" in figure.finding.lower()


def test_a_legend_holds_what_is_drawn_and_nothing_else(tmp_path):
    curves = pl.DataFrame(
        {
            "trial_id": np.repeat(["a", "b"], 20),
            "epoch": np.tile(np.arange(1, 21), 2),
            "val_accuracy": np.linspace(0.5, 0.9, 40),
        }
    )
    analysis = analyze(curves)
    drawn = json.dumps(made(curves_figure(analysis, names_of(analysis))).charts[0].to_dict())
    assert "best epoch" in drawn
    for absent in ("restored weights", "stopped early", "training (eval mode)"):
        assert absent not in drawn
