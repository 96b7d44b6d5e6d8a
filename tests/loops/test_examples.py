"""Each example of a loop trains as it is, in a sweep's way and with record(), to a report."""

import importlib
import importlib.util
import json
import sys

import pytest

import raysweep
from analysis import analyze
from raysweep import recipes
from raysweep.planning.plan import make_plan
from raysweep.store.files import Store
from tests.loops.in_process import EXAMPLES, train_loop

pytestmark = pytest.mark.filterwarnings("default")  # of other people's packages

LOOPS = ["own_loop", "lightning_module", "keras_model", "hf_trainer"]
NEEDS = {"hf_trainer": "accelerate"}
FORMS = {"val_block_correct", "val_block_loss_sum", "temperature", "val_class_correct"}
FORMS |= {"train_eval_correct", "train_eval_loss_sum", "lr", "val_correct_bits"}


@pytest.fixture(params=LOOPS)
def example(request, monkeypatch):
    """(the loop, the base fields of its sweep, shortened)."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    if (needed := NEEDS.get(request.param)) and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    spec = recipes.read(str(EXAMPLES / f"{request.param}.yaml"), ["base.epochs=3"])
    plan = make_plan(spec, Store("/nowhere"))
    return plan.source.task, plan.trials[0].hyperparameters


def test_an_example_is_at_most_60_lines_long():
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 60, path


def test_an_example_reports_all_that_outputs_give(example):
    loop, fields = example
    rows, _, outcome = train_loop(loop, fields)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert not {name for name in FORMS if row.get(name) is None}
        assert row["status"] == "ok"
    assert rows[1]["flip_to_wrong"] is not None
    assert outcome["status"] == "completed"


def test_an_example_writes_a_store_outside_of_a_sweep(example, tmp_path):
    loop, fields = example
    for seed in range(2):
        about = {"num_val": loop.num_val, "num_train": loop.num_train, "seed": seed}
        with raysweep.record(tmp_path, **about, epochs=3, learning_rate=0.1) as report:
            loop.run(fields, report)
    found = analyze(tmp_path)
    assert found.trials["outcome"].to_list() == ["completed"] * 2
    assert "trials without" not in " ".join(found.quality["check"])


def test_importing_raysweep_imports_no_framework():
    import subprocess

    code = "import json, sys; from raysweep import Loop, record; import raysweep.loops.run"
    code += "; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"lightning", "keras", "transformers", "ray"} & set(json.loads(done.stdout))
