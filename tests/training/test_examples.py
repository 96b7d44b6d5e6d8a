"""The examples train as they are: to rows with one worker, and to the same ones with two."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from raysweep import recipes
from raysweep.planning.grid import points
from raysweep.planning.plan import make_plan
from raysweep.spec import Probes
from raysweep.store.files import Store
from raysweep.store.schema import EPOCHS, TRIALS, val_accuracy
from raysweep.tasks import Arrays, find_task, load_data
from raysweep.tasks.fashion_mnist import DEBIAN_FOLDER
from raysweep.training.group import ALONE
from raysweep.training.splits import place
from raysweep.training.train import Training, train
from tests.support.groups import in_group

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.yaml") if (path.with_suffix(".py")).exists())
KINDS = {
    "bert": "right",
    "characters": "share",
    "lstm": "right",
    "multilabel": "share",
    "one_logit": "right",
    "own_axes": "right",
    "regression": "number",
    "resnet": "right",
    "segmentation": "number",
    "stream": "right",
}
DETERMINISTIC = sorted(set(KINDS) - {"resnet"})
# Adam makes steps of a fixed size even of gradients that are nothing but rounding, such as those of
# the key biases of an attention layer.
TOLERANCE = {"bert": 3e-2}
PLAIN = "base.optimizer=sgd"  # where the example has no optimizer of its own
PROBES = Probes(ema_half_life=0.5, gradient_noise_every=2)
SHORT = ("base.epochs=2",)


def read(name, *more):
    """The spec of an example with fewer epochs, and the fields of its first trial."""
    spec = recipes.read(str(EXAMPLES / f"{name}.yaml"), [*SHORT, *more], seeds="1")
    return spec, spec.base.model_copy(update=next(points(spec)))


def trained(name, *more, group=ALONE, wrap=lambda model: model):
    """(raw rows, outcome) of an example."""
    torch.set_num_threads(1)
    spec, fields = read(name, *more)
    source = find_task(spec.task, spec.folder)
    data = load_data(source, None)
    if name == "resnet":
        data = data._replace(train=few(data.train, 300), validation=few(data.validation, 200))
    rows = []
    placed = place(data, group.device)
    trial = Training(fields, 0, source.task, data, placed, probes=PROBES, group=group, wrap=wrap)
    outcome = train(trial, rows.append)
    assert group.rank or {row["weights_kind"] for row in rows} >= {"raw", "ema"}
    return [row for row in rows if row["weights_kind"] == "raw"], outcome


def few(arrays, count):
    assert isinstance(arrays, Arrays)
    return Arrays(*(part[:count] for part in arrays))


def in_two(group, names):
    """The rows of examples, as one of several workers finds them."""
    found = {}
    for name in names:
        found[name], _ = trained(name, PLAIN, group=group, wrap=DistributedDataParallel)
    return found


def skip_without_images(name):
    if name == "resnet" and not DEBIAN_FOLDER.is_dir():
        pytest.skip("dataset-fashion-mnist is not installed")


def test_every_example_is_tried_here_and_is_short():
    assert set(KINDS) <= {path.stem for path in EXAMPLES.glob("*.py")}
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 60, path
        assert path.with_suffix(".yaml").exists(), path


@pytest.mark.parametrize("name", sorted(KINDS))
def test_an_example_trains_to_rows_of_its_kind(name):
    skip_without_images(name)
    rows, outcome = trained(name, "base.epochs=4")
    assert outcome.score_kind == KINDS[name]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    losses = [row["train_loss"] for row in rows]
    assert losses[-1] < losses[0]
    counted = outcome.score_kind == "right"
    for row in rows:
        assert set(row) <= set(EPOCHS.names)
        assert row["status"] == "ok"
        assert sum(row["val_block_n"]) == row["val_n"]
        score = row["val_correct"] if counted else row["val_score_sum"]
        blocks = row["val_block_correct"] if counted else row["val_block_score_sum"]
        assert sum(blocks) == pytest.approx(score)
        assert sum(row["val_block_loss_sum"]) == pytest.approx(row["val_loss_sum"])
        assert ("val_correct" in row) == ("val_correct_bits" in row) == counted
        assert ("temperature" in row) == (name in ("bert", "lstm", "own_axes", "resnet", "stream"))
        assert min(row["gns_steps"], row["gns_small_sq"], row["grad_norm"]) > 0
    if not counted:
        assert rows[0]["val_change_sumsq"] is None
        assert 0 < rows[1]["val_change_sum4"] < rows[1]["val_change_sumsq"] ** 2
    if outcome.score_kind == "share":
        assert all(0 <= val_accuracy(row) <= 1 for row in rows)
    repeated = "repeat_correct" if counted else "repeat_score_sum"
    assert rows[0][repeated] / rows[0]["val_n"] == pytest.approx(val_accuracy(rows[0]))


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_sweep_of_an_example_is_planned_as_it_stands(name, tmp_path):
    skip_without_images(name)
    plan = make_plan(recipes.read(str(EXAMPLES / f"{name}.yaml")), Store(tmp_path))
    assert len(plan.trials) >= 4 * 3
    assert set(plan.trials[0].hyperparameters.columns()) <= set(TRIALS.names)


def test_two_workers_train_each_deterministic_example_as_one_does(tmp_path):
    first, second = in_group(2, in_two, DETERMINISTIC, folder=tmp_path)
    assert not any(second.values())
    for name in DETERMINISTIC:
        alone, _ = trained(name, PLAIN)
        for row, other in zip(alone, first[name], strict=True):
            assert row.keys() == other.keys()
            for key in row.keys() - {"wall_s", "train_s", "val_correct_bits"}:
                if row[key] is None or isinstance(row[key], str):
                    assert row[key] == other[key], (name, key)
                    continue
                where = f"{name}: {key}"
                near = {"rtol": TOLERANCE.get(name, 1e-3), "atol": 1e-4}
                if re.search("correct|score|flip|change|accuracy", key):  # outputs that nearly tie
                    near["atol"] = 1.0 / row["val_n"] if "accuracy" in key else 1.0
                np.testing.assert_allclose(row[key], other[key], **near, err_msg=where)


@pytest.mark.parametrize("name", ["regression", "bert", "segmentation"])
def test_micro_batches_add_up_to_the_batch(name):
    whole, _ = trained(name)
    parts, _ = trained(name, "base.micro_batch_size=7")
    for row, other in zip(whole, parts, strict=True):
        for key in ("train_loss", "val_loss_sum", "param_norm", "update_norm"):
            near = pytest.approx(other[key], rel=TOLERANCE.get(name, 1e-4))
            assert row[key] == near, key
        assert "gns_steps" not in other
