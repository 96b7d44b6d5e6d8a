"""Several stores are analyzed as one sweep of all their trials."""

from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from analysis import analyze
from analysis.page.report import render
from raysweep.errors import InputError
from tests.support.simulated import Curve, Sweep, spec


def sweep(name="s", *, epochs=20, seeds: Any = 2, rates=(0.1, 0.2), **base):
    return Sweep(
        spec(name, axes={"learning_rate": list(rates)}, epochs=epochs, seeds=seeds, **base)
    )


def write(sweep, root, **how):
    return sweep.write(root, lambda trial: Curve(), **how)


def test_one_store_in_a_list_is_that_store(tmp_path):
    store = write(sweep(), tmp_path)
    assert render(analyze([store])) == render(analyze(tmp_path))


def test_trials_of_two_stores_are_united_and_a_shared_one_counts_once(tmp_path):
    first = write(sweep("a", rates=(0.1, 0.2)), tmp_path / "a", failed=[2, 3])
    second = write(sweep("b", rates=(0.2, 0.4)), tmp_path / "b")
    analysis = analyze([first, second])
    assert analysis.axes[0].levels == (0.1, 0.2, 0.4)
    assert analysis.trials.height == 6
    assert analysis.configurations["num_completed"].to_list() == [2, 2, 2]  # not the failed twin
    assert analysis.record["spec"]["name"] == "a, b"
    assert analysis.epochs.height == 6 * 20
    shared = analysis.quality.filter(pl.col("check").str.contains("several stores"))
    assert shared["count"].to_list() == [2]
    assert "a, b" in render(analysis)
    other = analyze([second, first])
    assert_frame_equal(other.trials, analysis.trials)
    assert_frame_equal(other.effects, analysis.effects)


def test_a_field_in_which_two_stores_differ_is_an_axis(tmp_path):
    plain = write(sweep("a"), tmp_path / "a")
    regular = write(sweep("b", weight_decay=0.01), tmp_path / "b")
    analysis = analyze([plain, regular])
    assert {axis.name for axis in analysis.axes} == {"learning_rate", "weight_decay"}
    assert analysis.configurations.height == 4
    assert "weight_decay" in analysis.effects["axis"].to_list()


def test_further_seeds_in_another_store_are_pooled(tmp_path):
    few = write(sweep(seeds=[0, 1]), tmp_path / "a")
    more = write(sweep(seeds=[2, 3]), tmp_path / "b")
    assert analyze([few, more]).configurations["num_completed"].to_list() == [4, 4]


def test_different_tasks_and_mixtures_are_refused(tmp_path):
    store = write(sweep(), tmp_path / "a")

    class Other(Sweep):
        def record(self):
            record = super().record()
            record["spec"]["task"] = "other"
            return record

    other = write(Other(sweep().spec), tmp_path / "b")
    with pytest.raises(InputError, match=r"stores of different tasks .*digits, other"):
        analyze([store, other])
    with pytest.raises(InputError, match="can't be analyzed together"):
        analyze([store, pl.DataFrame({"trial_id": ["a"]})])
    with pytest.raises(InputError, match="list of sources is empty"):
        analyze([])
    with pytest.raises(InputError, match="a store knows its hyperparameters"):
        analyze(store, config=["dropout"])


def test_frames_that_share_a_trial_are_refused():
    curves = pl.DataFrame({"trial_id": ["a"], "epoch": [1], "val_accuracy": [0.5]})
    with pytest.raises(InputError, match=r"trial 'a' is in curves \(no. 1\) and in curves"):
        analyze([curves, curves])
