"""docs/your-model.md is true: each of its tasks trains, each of its sweeps is valid."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from raysweep.plain_yaml import parse_yaml
from raysweep.spec import SweepSpec
from raysweep.tasks import TaskSource, load_data
from raysweep.training.splits import place
from raysweep.training.train import Training, train

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "your-model.md").read_text()
BLOCKS = re.findall(r"```(python|yaml)\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def tasks():
    """What the names of the page are after each block of Python: one runs after the other."""
    names: dict[str, Any] = {}
    found = []
    for language, body in BLOCKS:
        if language == "python":
            exec(compile(body, "docs/your-model.md", "exec"), names)
            found.append(dict(names))
    return found


@pytest.mark.parametrize("at", range(sum(language == "python" for language, _ in BLOCKS)))
def test_the_task_of_each_block_trains(tasks, at):
    task, rows = tasks[at]["task"], []
    data = load_data(TaskSource("page:task", task, "0", None), None)
    trial = task.hyperparameters(epochs=2, batch_size=20, learning_rate=0.01)
    training = Training(trial, 0, task, data, place(data, torch.device("cpu")))
    assert train(training, rows.append).status in ("completed", "diverged")
    assert [row["epoch"] for row in rows] == [1, 2]


@pytest.mark.parametrize("body", [body for language, body in BLOCKS if language == "yaml"])
def test_the_sweep_of_each_block_is_valid(tasks, body):
    kind = tasks[-1]["Trial"]
    content = parse_yaml(body, source="docs/your-model.md")
    assert SweepSpec.from_mapping(content, hyperparameters=kind).name in ("heads", "large")


def test_the_page_names_every_example():
    examples = {path.stem for path in (ROOT / "examples").glob("*.yaml")}
    named = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert set(named) <= examples
    assert len(named) == len(set(named)) >= 10
