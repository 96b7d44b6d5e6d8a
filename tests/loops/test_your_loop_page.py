"""docs/your-loop.md is true: its snippets run, its table says what each form gives."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from raysweep.spec import Hyperparameters
from raysweep.store.done import done_trials
from raysweep.store.files import Store
from tests.loops.in_process import train_loop

PAGE = (Path(__file__).parents[2] / "docs" / "your-loop.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
N = 1000
RNG = np.random.default_rng(0)
CLASSES = torch.from_numpy(RNG.integers(0, 3, N))
RIGHT = RNG.random(N) < 0.7
LOSSES = RNG.random(N)
FORMS: dict[str, dict[str, object]] = {
    "outputs=, targets=": {"outputs": torch.from_numpy(RNG.normal(size=(N, 3)))},
    "correct=": {"correct": RIGHT},
    "scores=": {"scores": LOSSES},
    "val_accuracy=": {"val_accuracy": 0.7},
}
FORMS["outputs=, targets="]["targets"] = CLASSES
BESIDE: dict[str, dict[str, object]] = {
    "correct=": {"losses": LOSSES},
    "scores=": {"losses": LOSSES},
}
BESIDE["val_accuracy="] = {"val_loss": 1.0}
# What each row of the table speaks of, as columns of which one at least is recorded.
COLUMNS = {
    "accuracy or score": {"val_correct", "val_score_sum"},
    "blocks": {"val_block_correct", "val_block_score_sum"},
    "flips": {"val_correct_bits"},
    "classes": {"val_class_correct"},
    "validation loss": {"val_loss_sum"},
    "loss by block": {"val_block_loss_sum"},
    "temperature": {"temperature"},
}


def script(epoch, *settings):
    return RNG.normal(size=(N, 3)), CLASSES


def test_the_snippets_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recording, looping = SNIPPETS
    exec(recording, {"train_and_evaluate": script})
    assert len(done_trials(Store("runs/mine"))) == 1
    names = {"train_and_evaluate": script}
    exec(looping, names)
    rows, _, _ = train_loop(names["task"], Hyperparameters(epochs=3))
    assert len(rows) == 3


def table():
    rows = re.search(r"\| evidence \| `outputs.*?\n\n", PAGE, re.DOTALL)
    assert rows
    header, _, *lines = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in rows[0].strip().split("\n")
    )
    return [
        (line[0], form.strip("`"), said)
        for line in lines
        for form, said in zip(header[1:], line[1:], strict=True)
    ]


@pytest.mark.parametrize(("evidence", "form", "said"), table())
def test_the_table_says_what_each_form_gives(evidence, form, said):
    from raysweep.tasks import Loop

    (columns,) = [names for words, names in COLUMNS.items() if evidence.startswith(words)]

    def has(beside):
        loop = Loop(lambda trial, report: report(**FORMS[form], **beside), num_val=N)
        (row,), _, _ = train_loop(loop, Hyperparameters(epochs=1))
        return any(row.get(name) is not None for name in columns)

    assert has({}) == (said == "yes")
    assert has(BESIDE.get(form, {})) == (not said.startswith("no"))
