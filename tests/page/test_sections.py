"""The sections on what pools all trials, on sweeps whose truth is known."""

import numpy as np
import polars as pl
import pytest

from analysis import analyze
from analysis.answer.sweep import names_of
from analysis.page.best import best_sentences
from analysis.page.causes import _see_saw_sentences, causes_figure
from analysis.page.floor import larger_sets
from analysis.page.stopping import stopping_figure
from analysis.stats.ratios import Ratio
from tests.support.simulated import Curve, Sweep, early_stopping_like, spec


@pytest.fixture(scope="module")
def two_good(tmp_path_factory):
    """Of four widths the last two are as good, the first two far worse."""
    sweep = Sweep(spec("x", axes={"width": [8, 16, 32, 64]}, epochs=40, seeds=3), num_val=1000)
    finals = {8: 0.62, 16: 0.72, 32: 0.943, 64: 0.943}
    return analyze(
        sweep.write(
            tmp_path_factory.mktemp("two"), lambda trial: Curve(accuracy=finals[trial.width])
        )
    )


def whole(figure):
    assert figure is not None
    return " ".join([figure.finding, figure.how, *figure.notes])


def test_the_tied_set_is_named_and_no_other(two_good):
    said = " ".join(best_sentences(two_good, names_of(two_good)))
    assert "width 32" in said
    assert "width 64" in said
    assert "1 of the others can't be told from the best" in said
    assert "width 8" not in said
    assert "too good" in said


def test_the_only_knob_is_not_said_to_explain_all_and_missing_probes_are_named(two_good):
    text = whole(causes_figure(two_good))
    assert "explains" not in text
    assert "whatever the others are" not in text
    assert "--set probes.ema_half_life=2" in text
    assert "--seeds 6`" in text


def test_no_more_than_all_of_the_classes_movement_cancels():
    (sentence,) = _see_saw_sentences(Ratio(1.01, 0.56, 1.35, 1.0, 0.5, 9))
    assert "100 % (56 to 100) of their movement cancels" in sentence


def test_a_larger_set_leaves_the_networks_own_jitter():
    row = {
        "hf_sd": 0.005,
        "hf_sd_low": 0.004,
        "hf_sd_high": 0.006,
        "pop_var": 9e-6,
        "pop_var_low": 4e-6,
        "pop_var_high": 16e-6,
    }
    table = larger_sets(row, 500)
    assert table["num_val"].to_list() == [500, 1000, 2500, 5000]
    expected = 100 * np.sqrt(9e-6 + 16e-6 / np.array([1, 2, 5, 10]))
    np.testing.assert_allclose(table["jitter"].to_numpy(), expected)
    assert table.select((pl.col("jitter_low") < pl.col("jitter")).all()).item()


def test_trials_that_stopped_themselves_are_counted(tmp_path):
    analysis = analyze(early_stopping_like().write(tmp_path, lambda trial: Curve(fall=0.06)))
    text = whole(stopping_figure(analysis))
    assert "5 of 10 trials stopped early themselves" in text
    assert "cross-fitted" in text
