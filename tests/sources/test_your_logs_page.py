"""docs/your-logs.md is true: its snippets run, its options exist, its table is what is printed."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from analysis import analyze, read_curves
from analysis.sources.columns import KNOWN
from tests.support.commands import run_here

PAGE = (Path(__file__).parents[2] / "docs" / "your-logs.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"{epoch},{0.5 + epoch / 100},0.1,9" for epoch in range(1, 31)]
    for run in ("a", "b"):
        (tmp_path / "runs" / run).mkdir(parents=True)
        head = "Epoch,Test/Accuracy,Parameters/Learning Rate,Train/Loss per Iteration"
        (tmp_path / "runs" / run / "log.csv").write_text("\n".join([head, *rows]))
    return tmp_path


def test_the_first_snippet_writes_a_report_and_the_table_is_as_shown(here, capsys):
    exec(PYTHON[0], {})
    assert (here / "report.html").exists()
    printed = capsys.readouterr().out
    (shown,) = re.findall(r"```\nruns/: (.*?)```", PAGE, re.DOTALL)
    for line in shown.splitlines()[1:-1]:
        assert re.split(r"\s{2,}", line.strip())[0][:30] in printed, line
    assert printed.splitlines()[-1].startswith("wrong? --column val_accuracy=NAME")


def test_the_options_of_the_page_are_options_of_the_command(capsys):
    _, told, _ = run_here(capsys, "report", "--help")
    for option in set(re.findall(r"--[a-z][a-z-]+", PAGE)):
        assert option in told, option


def test_the_columns_of_the_page_are_those_that_are_known():
    (table,) = re.findall(r"\| column \| what it is .*?\n\n", PAGE, re.DOTALL)
    named = set(
        re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\| [^|]*\|", table, re.MULTILINE)))
    )
    assert named == {*KNOWN, "val_correct_bits"}


def test_a_loop_of_your_own_logs_bits(here):
    names = {}
    exec(PYTHON[1], names)
    rng = np.random.default_rng(0)
    for epoch in range(1, 41):
        right = rng.random(200) < 0.6 + epoch / 200
        names["log_epoch"]("bits.jsonl", epoch, right, 0.5, 0.4, 0.9)
    row = analyze("bits.jsonl").trials.row(0, named=True)
    assert row["n_val"] == 200
    assert row["fin_sd"] is not None
    assert row["gap"] is not None


@pytest.mark.filterwarnings("ignore")
def test_the_callback_for_keras_logs_bits(here, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras

        exec(PYTHON[1] + PYTHON[2], names)
        x = np.random.default_rng(0).normal(size=(128, 4)).astype("float32")
        y = (x[:, 0] > 0).astype("int32")
        model = keras.Sequential([keras.layers.Dense(2)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, metrics=["accuracy"])
        log = names["LogBits"]("bits.jsonl", x[96:], y[96:], x[:96], y[:96])
        data = {"validation_data": (x[96:], y[96:]), "epochs": 4, "verbose": 0}
        history = model.fit(x[:96], y[:96], callbacks=[log], **data).history
    log = read_curves("bits.jsonl")
    assert log.curves["val_accuracy"].to_list() == pytest.approx(history["val_accuracy"])
    assert {"train_accuracy", "val_correct_bits"} <= set(log.curves.columns)
    assert analyze(log).trials["n_val"].to_list() == [32]


@pytest.mark.filterwarnings("ignore")
def test_the_base_class_for_lightning_logs_bits(here):
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lightning
        import torch

        exec(PYTHON[1] + PYTHON[3], names)

    class Model(names["Bits"]):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 2)

        def training_step(self, batch, number):
            return torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

        def validation_step(self, batch, number):
            logits = self.layer(batch[0])
            self.add_right(logits, batch[1])
            self.log("val_loss", torch.nn.functional.cross_entropy(logits, batch[1]))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    x = torch.randn(96, 4)
    data = torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long())
    loaders = [torch.utils.data.DataLoader(data, batch_size=16) for _ in range(2)]
    trainer = lightning.Trainer(
        max_epochs=4,
        accelerator="cpu",
        enable_model_summary=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(Model(), loaders[0], loaders[1])
    log = read_curves("bits.jsonl")
    assert log.curves["epoch"].to_list() == [1, 2, 3, 4]
    assert {"val_loss", "val_correct_bits"} <= set(log.curves.columns)
    assert analyze(log).trials["n_val"].to_list() == [96]
