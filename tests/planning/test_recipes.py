"""Every recipe that ships, shrunken: it plans, its claims fit, and both ends of its grid train."""

import pytest
import torch

from raysweep import recipes
from raysweep.planning.plan import make_plan
from raysweep.store.files import Store
from raysweep.training.splits import place
from raysweep.training.train import Training, train


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_trains(name, tmp_path):
    spec = recipes.read(name, ["base.epochs=2"], seeds="1")
    plan = make_plan(spec, Store(tmp_path / "none"))
    placed = place(plan.data, torch.device("cpu"))
    for trial in (plan.trials[0], plan.trials[-1]):
        rows = []
        task, fields = plan.source.task, trial.hyperparameters
        outcome = train(
            Training(fields, trial.seed, task, plan.data, placed, probes=trial.probes), rows.append
        )
        assert outcome.epochs_run == 2
        assert {row["epoch"] for row in rows} == {1, 2}
        assert outcome.n_val == rows[-1]["val_n"]


def test_every_cause_has_a_recipe_with_a_claim():
    for name in recipes.names():
        assert recipes.read(name).claim or name == "digits", name
