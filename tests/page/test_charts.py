"""Charts as dictionaries: what is drawn from which data."""

import json

import polars as pl
import pytest

from analysis import analyze
from analysis.page import curves
from analysis.page.curves import MAX_CURVE_ROWS, curves_figure
from analysis.page.effects import effects_figure
from analysis.page.figures import maps_figure, measures_figure
from tests.support.simulated import (
    Curve,
    Sweep,
    batch_size_like,
    digits_like,
    early_stopping_like,
    practitioner,
    spec,
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


def names(spec):
    return {data["name"] for data in inner(spec, "data") if "name" in data}


def test_charts_name_their_data_and_embed_none(digits):
    for figure in (
        maps_figure(digits),
        curves_figure(digits),
        measures_figure(digits),
        effects_figure(digits),
    ):
        for chart in made(figure).charts:
            drawn = chart.to_dict()
            assert "datasets" not in drawn
            assert names(drawn) <= set(made(figure).data)
            assert len(json.dumps(drawn)) < 40_000


def test_the_maps_are_twins_over_batch_size_and_learning_rate(digits):
    figure = made(maps_figure(digits))
    titles = [chart.to_dict()["title"]["text"] for chart in figure.charts]
    assert titles[0].startswith("Fluctuation")
    assert titles[1].startswith("Overfitting")
    data = figure.data["maps"]
    assert data.height == 36
    assert data["x"].unique(maintain_order=True).to_list() == ["32", "128", "512"]
    assert data["y"].unique(maintain_order=True).to_list() == ["0.01", "0.1", "0.5"]
    assert data["slice"].n_unique() == 4
    cell = data.filter(pl.col("hf_sd").is_null()).row(0, named=True)
    assert cell["hf_sd_text"] == "diverged"


@pytest.mark.parametrize(
    ("axes", "x", "y", "num_slices"),
    [
        ({"dropout": [0.0, 0.5], "width": [16, 32, 64]}, "width", "dropout", 1),
        ({"learning_rate": [0.1, 0.2], "dropout": [0.0, 0.5]}, "dropout", "learning rate", 1),
        ({"batch_size": [32, 64], "lr_scaling": ["none", "linear"]}, "batch size", "lr scaling", 1),
        ({"batch_size": [32, 64], "width": [8, 9], "depth": [1, 2]}, "batch size", "width", 2),
    ],
)
def test_the_maps_fall_back_to_the_axes_that_vary(tmp_path, axes, x, y, num_slices):
    sweep = Sweep(spec("x", axes=axes, epochs=12, seeds=1))
    figure = made(maps_figure(analyze(sweep.write(tmp_path, lambda trial: Curve()))))
    drawn = figure.charts[0].to_dict()
    encoding = inner(drawn, "encoding")[0]
    assert (encoding["x"]["title"], encoding["y"]["title"]) == (x, y)
    assert figure.data["maps"]["slice"].n_unique() == num_slices
    assert ("facet" in drawn) == (num_slices > 1)


def test_one_axis_has_no_map(tmp_path):
    sweep = Sweep(spec("x", axes={"dropout": [0.0, 0.5]}, epochs=12, seeds=1))
    assert maps_figure(analyze(sweep.write(tmp_path, lambda trial: Curve()))) is None


def test_curves_show_every_seed_the_mean_and_the_training_curve(digits):
    figure = made(curves_figure(digits))
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
    figure = made(curves_figure(analyze(batch_size_like().write(tmp_path, practitioner))))
    assert len(figure.panels) == 6 == len(figure.choices)
    points = dict(figure.choices)
    assert [points[name] for name in figure.panels][:2] == [
        "batch 32 · lr scaling none",
        "batch 128 · lr scaling none",
    ]


def test_best_restored_and_stopping_epochs_are_marked(tmp_path):
    analysis = analyze(early_stopping_like().write(tmp_path, lambda trial: Curve(fall=0.06)))
    marks = made(curves_figure(analysis)).data["marks"]
    counts = dict(marks.group_by("mark").len().iter_rows())
    assert counts == {"best epoch": 10, "restored weights": 5, "stopped early": 5}
    assert marks["accuracy"].null_count() == 0


def test_beyond_the_budget_curves_are_a_spread_choice_and_the_page_says_so(digits, monkeypatch):
    monkeypatch.setattr(curves, "MAX_CURVE_ROWS", 1500)
    figure = made(curves_figure(digits))
    assert figure.data["seeds"].height <= 1500 < MAX_CURVE_ROWS
    assert "are not drawn" in figure.how
    drawn = {config_id for config_id, _ in figure.choices}
    assert set(figure.panels) <= drawn
    ranked = digits.configurations.drop_nulls("hf_sd").sort("hf_sd")["config_id"].to_list()
    assert ranked[-1] in drawn


def test_effects_draw_ratios_around_one_and_differences_around_zero(digits):
    figure = made(effects_figure(digits))
    nothing = [x["datum"] for x in inner(figure.charts[0].to_dict(), "x") if "datum" in x]
    assert nothing == [1, 1, 0, 0, 0, 0]
    comparisons = figure.data["effects"]["comparison"].unique(maintain_order=True).to_list()
    assert comparisons[0] == "batch size 128 against 32, at lr 0.01"
    assert "dropout 0.5 against 0" in comparisons
