"""A Tuner that exists already, with one more callback: its trials become a store with a report."""

import numpy as np
import pytest

from analysis import analyze
from raysweep.store.files import Store

pytestmark = [
    pytest.mark.usefixtures("local_ray"),
    pytest.mark.filterwarnings("default"),  # Tune leaves files open where a callback raises
]
N = 50


def _train(config):
    from ray import tune

    rng = np.random.default_rng(config["seed"])
    for epoch in range(8):
        right = rng.random(N) < 0.5 + 0.05 * epoch * config["optimizer"]["rate"]
        said = {"correct": right, "train_accuracy": 0.9} if config["whole"] else {}
        tune.report({"accuracy": right.mean(), "loss": 1.0 - right.mean(), **said})
        if config["fails"] and epoch == 2:
            raise ValueError("lost")


def _tune(tmp_path, *, whole=True, fails=(False,), stop=None, **about):
    from ray import tune

    from raysweep.loops.tune import RecordCallback

    callback = RecordCallback(tmp_path / "store", num_val=N, num_train=100, **about)
    space = {
        "optimizer": {"rate": tune.grid_search([0.0, 1.0])},
        "seed": tune.grid_search([0, 1]),
        "fails": tune.grid_search(list(fails)),
        "whole": whole,
    }
    return tune.Tuner(
        _train,
        param_space=space,
        run_config=tune.RunConfig(
            name="tuned",
            storage_path=str(tmp_path / "tune"),
            verbose=0,
            callbacks=[callback],
            stop=stop,
        ),
    ).fit()


def test_the_trials_of_a_tuner_become_a_store(tmp_path):
    _tune(tmp_path, fails=(False, True))
    store = Store(tmp_path / "store")
    ends = store.read("trials").to_pylist()
    assert sorted(row["status"] for row in ends) == ["completed"] * 4 + ["failed"] * 4
    assert {row["epochs_run"] for row in ends if row["status"] == "completed"} == {8}
    assert all("Ray Tune says" in row["error"] for row in ends if row["status"] == "failed")
    found = analyze(store)
    assert [axis.name for axis in found.axes] == ["optimizer/rate", "fails"]
    assert found.epochs.filter(found.epochs["weights_kind"] == "raw")["val_n"].unique().item() == N
    raw = store.read("epochs", ["val_block_correct", "train_eval_n"]).to_pylist()
    assert all(sum(row["val_block_correct"]) > 0 for row in raw)
    assert {row["train_eval_n"] for row in raw} == {100}


def test_results_by_other_names_are_read_and_what_tune_ends_early_is_no_whole_curve(tmp_path):
    def stop(trial_id, result):
        return result["config"]["optimizer"]["rate"] == 0 and result["training_iteration"] == 3

    names = {"val_accuracy": "accuracy", "val_loss": "loss"}
    _tune(tmp_path, whole=False, names=names, stop=stop)
    ends = Store(tmp_path / "store").read("trials").to_pylist()
    found = sorted((row["status"], row["epochs_run"]) for row in ends)
    assert found == [("completed", 8)] * 2 + [("stopped", 3)] * 2


def test_results_without_what_is_needed_are_refused_by_name(tmp_path):
    with pytest.raises(Exception, match=r"no 'val_accuracy'.*accuracy.*names="):
        _tune(tmp_path, whole=False)
