"""docs/your-logs.md is true: its snippets run, its options exist, its table is what is printed."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from analysis import analyze, read_curves
from analysis.answer.snippets import BITS
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
    printed, _, told = capsys.readouterr().out.partition("wrong? --column val_accuracy=NAME")
    assert "validation accuracy  " in told  # the answer
    (shown,) = re.findall(r"```\nruns/: (.*?)```", PAGE, re.DOTALL)
    for line in shown.splitlines()[1:-1]:
        assert re.split(r"\s{2,}", line.strip())[0][:30] in printed, line


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


def test_the_answer_s_snippets_are_those_of_the_page():
    for lines in BITS.values():
        assert lines in PAGE


def test_a_notebook_s_lists_are_answered():
    accuracy = [0.9 - 0.4 * 0.8**k for k in range(30)]
    names = {
        "val_accuracy": accuracy,
        "val_loss": [1 - one for one in accuracy],
        "train_loss": [1 - one for one in accuracy],
        "history": {"val_accuracy": accuracy},
    }
    exec(PYTHON[1], names)
    assert names["answer"].headline


def block(holding):
    return next(one for one in PYTHON if holding in one)


LOOP, KERAS = block("def log_epoch"), block("import keras")
LIGHTNING, TRANSFORMERS = block("import lightning"), block("compute_metrics")


def test_a_loop_of_your_own_logs_bits(here):
    names = {}
    exec(LOOP, names)
    rng = np.random.default_rng(0)
    for epoch in range(1, 41):
        right = rng.random(200) < 0.6 + epoch / 200
        metrics = {"val_loss": 0.5, "train_loss": 0.4, "train_accuracy": 0.9}
        names["log_epoch"]("bits.jsonl", epoch, right, **metrics)
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

        exec(LOOP + KERAS, names)
        x = np.random.default_rng(0).normal(size=(128, 4)).astype("float32")
        y = (x[:, 0] > 0).astype("int32")
        model = keras.Sequential([keras.layers.Dense(2)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, metrics=["accuracy"])
        names |= {"x_val": x[96:], "y_val": y[96:]}
        data = {"validation_data": (x[96:], y[96:]), "epochs": 4, "verbose": 0}
        history = model.fit(x[:96], y[:96], callbacks=[names["Bits"]()], **data).history
    log = read_curves("bits.jsonl")
    assert log.curves["val_accuracy"].to_list() == pytest.approx(history["val_accuracy"])
    assert {"val_loss", "val_correct_bits"} <= set(log.curves.columns)
    assert analyze(log).trials["n_val"].to_list() == [32]


@pytest.mark.filterwarnings("ignore")
def test_the_base_class_for_lightning_logs_bits(here):
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lightning
        import torch

        exec(LOOP + LIGHTNING, names)

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 2)

        def training_step(self, batch, number):
            return torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

        def validation_step(self, batch, number):
            logits = self.layer(batch[0])
            self.right += (logits.argmax(dim=1) == batch[1]).tolist()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    x = torch.randn(96, 4)
    data = torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long())
    loaders = [torch.utils.data.DataLoader(data, batch_size=16) for _ in range(2)]
    trainer = lightning.Trainer(
        max_epochs=4,
        callbacks=[names["Bits"]()],
        accelerator="cpu",
        enable_model_summary=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(Model(), loaders[0], loaders[1])
    log = read_curves("bits.jsonl")
    assert log.curves["epoch"].to_list() == [1, 2, 3, 4]
    assert "val_correct_bits" in log.curves.columns
    assert analyze(log).trials["n_val"].to_list() == [96]


def test_the_metrics_for_hugging_face_log_bits(here):
    from transformers import EvalPrediction, TrainerState

    class Trainer:
        state = TrainerState(epoch=1.0)

    names = {"trainer": Trainer()}
    exec(LOOP + TRANSFORMERS, names)
    scores, labels = np.eye(4)[[0, 1, 2, 3, 0]], np.array([0, 1, 2, 0, 0])
    for epoch in (1.0, 2.0):
        Trainer.state.epoch = epoch
        told = names["compute_metrics"](EvalPrediction(predictions=scores, label_ids=labels))
        assert told == {"accuracy": 0.8}
    assert read_curves("bits.jsonl").curves["val_accuracy"].to_list() == [0.8, 0.8]
