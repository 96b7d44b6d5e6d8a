"""Curves that a scheduler cut: in no estimate, told apart from all else, and warned of."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from analysis import analyze
from analysis.page.commands import run_again
from analysis.page.report import render
from raysweep.errors import InputError
from tests.support.simulated import Curve, Sweep, spec

# Trials in the order of the grid, seeds innermost: 3 configurations x 3 seeds.
STOPPED = {3: 15, 6: 5, 7: 5, 8: 45}


def sweep():
    return Sweep(spec("pruned", axes={"learning_rate": [0.1, 0.2, 0.3]}))


def curve_of(trial):
    return Curve(accuracy=0.98 - 0.26 * trial.learning_rate)


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    return analyze(sweep().write(tmp_path_factory.mktemp("pruned"), curve_of, stopped=STOPPED))


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """The same sweep, its stopped trials never trained."""
    return analyze(sweep().write(tmp_path_factory.mktemp("rest"), curve_of, missing=list(STOPPED)))


def test_a_censored_curve_is_in_no_estimate(pruned, without):
    completed = pruned.trials.filter(pl.col("outcome") == "completed")
    assert_frame_equal(completed, without.trials)
    for name, frame in pruned.causes._asdict().items():
        # Evaluating the same weights twice tells of a trial what it tells, cut or not.
        if isinstance(frame, pl.DataFrame) and name != "repeats":
            assert_frame_equal(frame, getattr(without.causes, name))
    assert pruned.causes.winner == without.causes.winner
    assert_frame_equal(pruned.effects, without.effects)
    labels = ["num_stopped", "status", "reason", "learning_rate", "num_failed", "num_diverged"]
    shown = pruned.configurations.drop(labels, strict=False)
    assert_frame_equal(shown, without.configurations.drop(labels, strict=False))


def test_what_was_stopped_is_told_apart(pruned):
    stopped = pruned.trials.filter(pl.col("outcome") == "stopped")
    assert sorted(stopped["epochs_run"]) == sorted(STOPPED.values())
    assert set(stopped["status"]) == {"stopped"}
    assert stopped["final_accuracy"].null_count() == stopped.height
    table = pruned.configurations
    assert table["num_stopped"].to_list() == [0, 1, 3]
    assert table["num_completed"].to_list() == [3, 2, 0]
    assert table["status"][2] == "stopped"  # all its seeds
    assert "stopped" not in table["status"].to_list()[:2]
    quality = {check: (count, detail) for check, count, detail in pruned.quality.iter_rows()}
    assert quality["trials stopped by the scheduler"][0] == 4
    assert "trials missing" not in quality
    assert "trials with missing epochs" not in quality


def test_stores_united_keep_the_whole_curve_of_a_trial_that_another_one_cut(tmp_path):
    one = sweep().write(tmp_path / "cut", curve_of, stopped=STOPPED)
    other = sweep().write(tmp_path / "whole", curve_of)
    found = analyze([one, other])
    assert set(found.trials["outcome"]) == {"completed"}
    assert set(found.trials["epochs_run"]) == {60}


def test_the_page_draws_the_cut_curves_and_warns_of_the_selection(pruned, without):
    page = render(pruned)
    assert "4 curves end where the scheduler stopped them" in page
    assert "4 of 9 trials; they are in no estimate." in page
    assert "Every seed that was trained of 1 configuration: " in page
    assert "Some seeds of 1, whose means are of the seeds that went on, and too good." in page
    for words in ("its jitter up to there is not that of a new seed", "looks too good"):
        assert words in page
        assert words not in render(without)
    assert "scheduler=null" in page


def test_a_store_of_stopped_trials_alone_says_so(tmp_path):
    store = sweep().write(tmp_path, curve_of, stopped=dict.fromkeys(range(9), 5))
    with pytest.raises(InputError, match="its scheduler has stopped 9"):
        analyze(store)


def test_a_command_to_go_on_has_no_budget(pruned):
    words = ["raysweep", "run", "x.yaml", "--max-hours", "2", "--max-trials=3", "--seeds", "2"]
    pruned.record["command"] = words
    assert run_again(pruned) == "`raysweep run x.yaml --seeds 2`"
