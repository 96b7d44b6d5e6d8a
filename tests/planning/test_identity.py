"""Ids that can be believed: what build makes, what it reads, and whether workers change it."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from raysweep import recipes
from raysweep.errors import InputError
from raysweep.planning.identity import identify, try_here
from raysweep.planning.plan import make_plan
from raysweep.spec import Hyperparameters, SweepSpec
from raysweep.store.files import Store
from raysweep.tasks import Arrays, Data, Task, TaskSource, Traits, look
from raysweep.tasks.models.trying import traits_by_trying

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 6)).astype(np.float32), np.arange(40) % 3
DATA = Data(Arrays(X, Y), Arrays(X, Y), num_classes=3)


class Own(nn.Module):
    """A layer with whatever a test does to its output."""

    def __init__(self, change=lambda module, x: x):
        super().__init__()
        self.layer, self.change = nn.Linear(6, 3), change

    def forward(self, x):
        return self.change(self, self.layer(x))


class Lstm(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.lstm, self.head = nn.LSTM(2, 8, 2, dropout=dropout, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.lstm(x.view(-1, 3, 2))[0][:, -1])


class Attention(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.attention = nn.MultiheadAttention(2, 1, dropout=dropout, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = x.view(-1, 3, 2)
        return self.head(self.attention(x, x, x)[0].flatten(1))


class Running(nn.Module):
    """Normalizes by a mean that it keeps, which batches move."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean(0).detach()
        return self.layer(x)


def skipped(module, x):
    return x if module.training and torch.rand(()) < 0.5 else 2 * x


def from_numpy(module, x):
    return x + torch.from_numpy(np.random.rand(*x.shape)).float()  # noqa: NPY002


def from_own_generator(module, x):
    return x + torch.from_numpy(np.random.default_rng().normal(size=x.shape)).float()


RANDOM = {
    "functional dropout": lambda: Own(lambda m, x: functional.dropout(x, 0.5, m.training)),
    "LSTM": lambda: Lstm(0.3),
    "attention": lambda: Attention(0.3),
    "stochastic depth": lambda: Own(skipped),
    "NumPy": lambda: Own(from_numpy),
    "a generator of its own": lambda: Own(from_own_generator),
    "noise": lambda: Own(lambda m, x: x + torch.randn_like(x)),
    "dropout": lambda: nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5)),
}
MIXING = {
    "own batch statistics": lambda: Own(lambda m, x: x - x.mean(0)),
    "batch norm": lambda: nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3)),
    "the batch's size": lambda: Own(lambda m, x: x / len(x)),
    "its place": lambda: Own(lambda m, x: x.flip(0)),
    "a running mean": Running,
}
PLAIN = {
    "own module": Own,
    "LSTM without dropout": lambda: Lstm(0.0),
    "attention without dropout": lambda: Attention(0.0),
    "layer norm": lambda: Own(lambda m, x: functional.layer_norm(x, (3,))),
    "dropout of 0": lambda: nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.0)),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)
    ),
}


def tried(make):
    return traits_by_trying(Task(lambda f: DATA, lambda t, d: make()), DATA, Hyperparameters())


@pytest.mark.parametrize("kind", RANDOM)
def test_whatever_draws_is_random(kind):
    assert tried(RANDOM[kind]).random


@pytest.mark.parametrize("kind", MIXING)
def test_whatever_looks_at_the_rest_of_its_batch_mixes(kind):
    assert tried(MIXING[kind]).mixes


@pytest.mark.parametrize("kind", PLAIN)
def test_what_does_neither_is_shown_to_do_neither(kind):
    assert tried(PLAIN[kind]) == Traits(batch_norm=False, random=False, mixes=False)


@pytest.mark.parametrize("make", [*PLAIN.values(), *RANDOM.values(), *MIXING.values()])
def test_a_look_promises_nothing_that_trying_denies(make):
    found = look(Task(lambda f: DATA, lambda t, d: make()), DATA, Hyperparameters())
    if found.shown and not any(found.traits):
        assert not any(tried(make))


def test_augmentation_and_a_dataset_are_random():
    task = Task(lambda f: DATA, lambda t, d: Own(), augment=lambda trial, x, y: (x, y))
    assert traits_by_trying(task, DATA, Hyperparameters()).random


# A task that reads a file beside it, and lives in a module of its own.
TASK = """
import json, pathlib
import numpy as np
from torch import nn
from raysweep import Arrays, Data, Task

HERE = pathlib.Path(__file__).parent

class Scaled(nn.Module):
    def __init__(self, width, scale):
        super().__init__()
        self.layer, self.scale = nn.Linear(width, 3), scale
    def forward(self, x):
        return self.layer(x) * self.scale

def load(folder):
    x, y = np.arange(240.0, dtype=np.float32).reshape(40, 6), np.arange(40) % 3
    return Data(Arrays(x, y), Arrays(x + 0.5, y), num_classes=3)

def build(trial, data):
    conf = json.loads((HERE / "conf.json").read_text())
    layers = [nn.Linear(6, conf["width"]), getattr(nn, conf["activation"])()]
    return nn.Sequential(*layers, Scaled(conf["width"], conf["scale"]))

task = Task(load, build)
"""
CONF = {"width": 8, "activation": "ReLU", "scale": 1.0}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Gives the ids of a sweep of a task that reads conf.json."""
    (tmp_path / "reading_task.py").write_text(TASK)
    (tmp_path / "unrelated.py").write_text("A = 1\n")

    def ids(conf=CONF, **changes):
        (tmp_path / "conf.json").write_text(json.dumps(conf))
        content = {"name": "s", "task": "reading_task:task", "seeds": 1, "base": {"batch_size": 8}}
        spec = SweepSpec.from_mapping(content | changes, folder=tmp_path)
        return [trial.trial_id for trial in make_plan(spec, Store(tmp_path / "none")).trials]

    yield ids
    import sys

    sys.modules.pop("reading_task", None)
    sys.path.remove(str(tmp_path))


def test_a_file_that_build_reads_changes_the_ids(own, tmp_path):
    first = own()
    assert own() == first
    others = [
        own(CONF | change) for change in ({"width": 9}, {"activation": "Tanh"}, {"scale": 2.0})
    ]
    assert len({tuple(ids) for ids in [first, *others]}) == 4
    (tmp_path / "unrelated.py").write_text("A = 1  # a comment\n")
    assert own() == first


def test_the_number_of_workers_enters_an_id_where_a_child_process_shows_that_it_counts(
    tmp_path, monkeypatch
):
    (tmp_path / "two_models.py").write_text(
        "from torch import nn\n"
        "from torch.nn import functional\n"
        "from raysweep.tasks import Task\n"
        "from raysweep.tasks.digits import load\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, deep):\n"
        "        super().__init__()\n"
        "        self.layer, self.deep = nn.Linear(64, 10), deep\n"
        "    def forward(self, x):\n"
        "        x = self.layer(x)\n"
        "        return functional.dropout(x, 0.3, self.training) if self.deep else x\n"
        "class Deadly(Net):\n"
        "    def forward(self, x):\n"
        "        import os; os._exit(3)\n"
        "task = Task(load, lambda trial, data: Net(trial.depth > 1))\n"
        "deadly = Task(load, lambda trial, data: Deadly(False))\n"
    )

    def ids(task, workers):
        content = {"name": "s", "task": f"two_models:{task}", "seeds": 1}
        content |= {"axes": {"depth": [1, 2]}, "resources": {"workers": workers}}
        spec = SweepSpec.from_mapping(content, folder=tmp_path)
        return [trial.trial_id for trial in make_plan(spec, Store(tmp_path / "none")).trials]

    one, two = ids("task", 1), ids("task", 2)
    assert (one[0] == two[0], one[1] == two[1]) == (True, False)
    one, two = ids("deadly", 1), ids("deadly", 2)  # it shows nothing
    assert one[0] != two[0]


def test_ids_of_shipped_recipes_stand_in_stores_that_people_have(tmp_path):
    trials = make_plan(recipes.read("digits"), Store(tmp_path / "none")).trials
    (known,) = [trial for trial in trials if trial.trial_id == "925313c92566"]
    assert known.config_id == "4109ef4dcf0a"
    assert known.point == {
        "batch_size": 512,
        "learning_rate": 0.3,
        "weight_decay": 0.0,
        "dropout": 0.0,
    }


def identity(build, **changes):
    spec = SweepSpec.from_mapping({"name": "s", "task": "m:t", "seeds": 1} | changes)
    source = TaskSource("m:t", Task(lambda folder: DATA, build), "0", None)
    return identify(spec, source, DATA, try_here(source, DATA))


def test_the_models_of_a_grid_are_told_apart_by_what_build_reads():
    read = {"width": [4, 8], "depth": [1, 2], "weight_decay": [0.0, 1e-4], "batch_size": [8, 16]}

    def build(trial, data):
        layers = [nn.Linear(6, trial.width)]
        if trial.width == 8:  # which is all that looks at the depth
            layers += [nn.Linear(8, 8) for _ in range(trial.depth)]
        return nn.Sequential(*layers, nn.Linear(trial.width, 3))

    found = identity(build, axes=read)
    assert found.axes == ("width", "depth")
    assert len({model.signature for model in found.models.values()}) == 3
    whole = identity(lambda trial, data: nn.Linear(6, len(trial.model_dump()) and 3), axes=read)
    assert whole.axes == tuple(read)
    none = identity(lambda trial, data: nn.Linear(6, 3), axes=read)
    assert none.axes == ()


def test_a_trial_that_is_looked_at_is_a_trial():
    seen = []

    def build(trial, data):
        seen.append(
            (
                isinstance(trial, Hyperparameters),
                trial.effective_learning_rate(),
                trial.model_copy(update={"width": 5}).width,
            )
        )
        return nn.Linear(6, 3)

    found = look(Task(lambda folder: DATA, build), DATA, Hyperparameters(learning_rate=0.25))
    assert set(seen) == {(True, 0.25, 5)}
    assert {"learning_rate", "lr_scaling", "batch_size", "width"} <= found.read


def test_random_numbers_in_a_model_do_not_change_its_signature_from_run_to_run():
    def build(trial, data):
        model = Own()
        vars(model).update(jitter=np.random.default_rng().normal(), note=object())
        return model

    task = Task(lambda folder: DATA, build)
    assert len({look(task, DATA, Hyperparameters()).signature for _ in range(3)} - {None}) == 1


def test_a_model_that_the_meta_device_can_not_build_has_a_signature():
    def build(trial, data):
        rates = [rate.item() for rate in torch.linspace(0, 1, trial.depth)]
        return nn.Sequential(*[nn.Linear(6, 6) for _ in rates], nn.Linear(6, 3))

    found = identity(build, axes={"depth": [1, 2]})
    assert len({model.signature for model in found.models.values()} - {None}) == 2


PICTURES = """
import pathlib
import torch
from torch.utils.data import Dataset
from torch import nn
from raysweep import Data, Task

class Pictures(Dataset):
    def __init__(self, folder):
        self.files = sorted(folder.glob("*.txt"))
    def __len__(self):
        return len(self.files)
    def __getitem__(self, index):
        return torch.tensor([float(self.files[index].read_text())]), index % 2

def load(folder):
    return Data(Pictures(folder / "train"), Pictures(folder / "val"), num_classes=2)

task = Task(load, lambda trial, data: nn.Linear(1, 2))
"""


def test_files_of_the_data_folder_enter_the_ids_where_no_digest_is_given(tmp_path):
    (tmp_path / "listed_task.py").write_text(PICTURES)
    for name in ("train", "val"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "pictures" / name / f"{number}.txt").write_text(f"{number}")
    content = {"name": "s", "task": "listed_task:task", "seeds": 1, "base": {"batch_size": 2}}

    def ids(**changes):
        spec = SweepSpec.from_mapping(content | changes, folder=tmp_path)
        return [trial.trial_id for trial in make_plan(spec, Store(tmp_path / "none")).trials]

    with pytest.raises(InputError, match="names no `data:` folder"):
        ids()
    first = ids(data="pictures")
    assert ids(data="pictures") == first
    (tmp_path / "pictures" / ".hidden").write_text("1")
    (tmp_path / "pictures" / "results" / "mine" / "sweeps").mkdir(parents=True)  # a store
    (tmp_path / "pictures" / "results" / "mine" / "report.html").write_text("")
    assert ids(data="pictures") == first
    (tmp_path / "pictures" / "train" / "2.txt").write_text("2.5")
    second = ids(data="pictures")
    (tmp_path / "pictures" / "val" / "4.txt").write_text("4")
    assert len({tuple(found) for found in (first, second, ids(data="pictures"))}) == 3
