"""Logs that the real tools wrote here are read with every value that they hold."""

import contextlib
import io
import json
import os
import warnings

import numpy as np
import polars as pl
import pytest

from analysis import read_curves
from analysis.sources.formats.event_files import scalars

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # theirs
    pytest.mark.timeout(900),
]
ACCURACY = [0.512, 0.634, 0.701, 0.688, 0.725, 0.731, 0.729, 0.742]
LOSS = [1.31, 1.02, 0.88, 0.91, 0.84, 0.83, 0.86, 0.85]
TRAIN_LOSS = [1.5, 1.1, 0.9, 0.8, 0.7, 0.6, 0.55, 0.5]


def values(log, column="val_accuracy", trial=None):
    curves = log.curves if trial is None else log.curves.filter(pl.col("trial_id") == trial)
    return curves[column].to_list()


@pytest.fixture(scope="module")
def keras_logs(tmp_path_factory):
    """A folder with a CSV log, the history and the printed output of one fit, and the history."""
    os.environ["KERAS_BACKEND"] = "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras

        folder = tmp_path_factory.mktemp("keras")
        rng = np.random.default_rng(0)
        x = rng.normal(size=(256, 8)).astype("float32")
        model = keras.Sequential([keras.layers.Dense(2)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            history = model.fit(
                *(x, (x[:, 0] > 0).astype("int32")),
                validation_split=0.25,
                epochs=6,
                callbacks=[keras.callbacks.CSVLogger(folder / "training.log")],
            ).history
    (folder / "printed.txt").write_text(printed.getvalue())
    (folder / "history.json").write_text(json.dumps(history))
    return folder, history


@pytest.mark.parametrize("file", ["training.log", "history.json", "printed.txt"])
def test_keras(keras_logs, file):
    folder, history = keras_logs
    log = read_curves(folder / file)
    rounded = 6e-5 if file == "printed.txt" else 1e-9
    names = {"val_accuracy": "val_accuracy", "val_loss": "val_loss", "loss": "train_loss_running"}
    for theirs, ours in (*names.items(), ("accuracy", "train_accuracy_running")):
        assert values(log, ours) == pytest.approx(history[theirs], abs=rounded), log
    assert log.curves["epoch"].to_list() == list(range(1, 7))


@pytest.fixture(scope="module")
def lightning_logs(tmp_path_factory):
    """A folder with Lightning's CSV log, its event files and its progress bar, and the values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lightning
        import torch
        from lightning.pytorch.callbacks import TQDMProgressBar
        from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    folder = tmp_path_factory.mktemp("lightning")
    seen = []

    class Model(lightning.LightningModule):
        def __init__(self, lr=0.1, width=8):
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(8, 2)

        def _loss(self, batch):
            return torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

        def training_step(self, batch, number):
            loss = self._loss(batch)
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch, number):
            right = (self.layer(batch[0]).argmax(1) == batch[1]).float().mean()
            self.log("val_acc", right, prog_bar=True)
            self.log("val_loss", self._loss(batch), prog_bar=True)

        def on_validation_epoch_end(self):
            if not self.trainer.sanity_checking:
                seen.append(float(self.trainer.callback_metrics["val_acc"]))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    torch.manual_seed(0)
    x = torch.randn(256, 8)
    data = torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long())
    train, val = torch.utils.data.random_split(data, [192, 64])
    loggers = [CSVLogger(folder, name="csv"), TensorBoardLogger(folder, name="tb")]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        trainer = lightning.Trainer(
            max_epochs=6,
            logger=loggers,
            enable_checkpointing=False,
            enable_model_summary=False,
            log_every_n_steps=2,
            accelerator="cpu",
            callbacks=[TQDMProgressBar()],
        )
        loaders = [torch.utils.data.DataLoader(part, batch_size=16) for part in (train, val)]
        trainer.fit(Model(), loaders[0], loaders[1])
    (folder / "printed.txt").write_text(printed.getvalue())
    return folder, seen


@pytest.mark.parametrize("where", ["csv", "tb", "printed.txt", "."])
def test_lightning(lightning_logs, where):
    folder, seen = lightning_logs
    log = read_curves(folder / where)
    rounded = 6e-4 if where == "printed.txt" else 1e-6
    assert values(log) == pytest.approx(seen, abs=rounded), log
    assert log.curves["trial_id"].n_unique() == 1, log
    if where in ("csv", "tb"):
        assert set(log.config) == {"lr", "width"}
        assert {"val_loss", "train_loss_running"} <= set(log.curves.columns)


def test_tensorboards_own_reader_agrees_on_every_scalar(lightning_logs, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(50):
            writer.add_scalar("val/acc", 0.5 + step / 1000, step)
            writer.add_scalar("new/style", step / 7, step, new_style=True)
            writer.add_scalar("double", step / 9, step, new_style=True, double_precision=True)
            writer.add_histogram("weights", np.arange(9.0), step)
            writer.add_text("words", "some", step)
    files = [*tmp_path.glob("*tfevents*"), *lightning_logs[0].rglob("*tfevents*")]
    assert len(files) > 1
    for path in files:
        theirs = EventAccumulator(str(path), {"scalars": 0, "tensors": 0}).Reload()
        expected = {
            (tag, one.step): one.value
            for tag in theirs.Tags()["scalars"]
            for one in theirs.Scalars(tag)
        }
        for tag in theirs.Tags()["tensors"]:
            for one in theirs.Tensors(tag):
                if one.tensor_proto.dtype in (1, 2):
                    number = one.tensor_proto.float_val or one.tensor_proto.double_val
                    content = np.frombuffer(one.tensor_proto.tensor_content)
                    expected[tag, one.step] = [*number, *content][0]
        found = {(one.tag, one.step): one.value for one in scalars(path.read_bytes())}
        assert found == pytest.approx(expected)


def test_tensorboard_runs_with_a_folder_for_each_stage(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    for run in ("a", "b"):
        for stage, accuracy in (("train", TRAIN_LOSS), ("validation", ACCURACY)):
            with SummaryWriter(str(tmp_path / run / stage)) as writer:
                for step, value in enumerate(accuracy):
                    writer.add_scalar("epoch_accuracy", min(value, 1), step)
                    writer.add_scalar("epoch_loss", LOSS[step], step)
    log = read_curves(tmp_path)
    assert log.curves["trial_id"].unique(maintain_order=True).to_list() == ["a", "b"]
    assert values(log, trial="a") == pytest.approx(ACCURACY)
    assert values(log, "train_accuracy_running", "a") == pytest.approx(np.minimum(TRAIN_LOSS, 1))


@pytest.mark.parametrize("kind", ["files", "database"])
def test_mlflow(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    import mlflow

    place = tmp_path / ("mlruns" if kind == "files" else "mlflow.db")
    mlflow.set_tracking_uri(f"file://{place}" if kind == "files" else f"sqlite:///{place}")
    mlflow.set_experiment("e")
    for rate in (0.1, 0.2):
        with mlflow.start_run(run_name=f"rate {rate}"):
            mlflow.log_params({"rate": rate, "optimizer": "sgd"})
            for step, (accuracy, loss) in enumerate(zip(ACCURACY, LOSS, strict=True)):
                mlflow.log_metrics({"val/acc": accuracy + rate / 10, "val_loss": loss}, step=step)
                mlflow.log_metric("train_loss", TRAIN_LOSS[step], step=step)
    log = read_curves(place)
    assert set(log.config) == {"rate", "optimizer"}
    runs = log.curves.sort("rate", "epoch").partition_by("rate", maintain_order=True)
    for rate, run in zip((0.1, 0.2), runs, strict=True):
        assert run["val_accuracy"].to_list() == pytest.approx(np.array(ACCURACY) + rate / 10)
        assert run["val_loss"].to_list() == LOSS
        assert run["train_loss_running"].to_list() == TRAIN_LOSS


@pytest.mark.parametrize("kind", ["database", "journal"])
def test_optuna(tmp_path, kind):
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = tmp_path / "study"
    storage = f"sqlite:///{path}"
    if kind == "journal":
        storage = JournalStorage(JournalFileBackend(str(path)))

    def objective(trial):
        trial.suggest_float("lr", 1e-3, 1, log=True)
        trial.suggest_categorical("optimizer", ["sgd", "adam"])
        trial.suggest_int("width", 8, 64)
        for step, accuracy in enumerate(ACCURACY):
            trial.report(accuracy - trial.number / 100, step)
        return ACCURACY[-1]

    study = optuna.create_study(storage=storage, direction="maximize")
    study.optimize(objective, n_trials=3)
    log = read_curves(path)
    first = log.curves.group_by("trial_id", maintain_order=True).first()
    params = [{name: row[name] for name in log.config} for row in first.iter_rows(named=True)]
    assert params == [trial.params for trial in study.trials]
    expected = [a - number / 100 for number in range(3) for a in ACCURACY]
    assert values(log) == pytest.approx(expected)


def test_transformers_trainer_state(tmp_path):
    from transformers.trainer_callback import TrainerState

    history = []
    for epoch, (accuracy, loss) in enumerate(zip(ACCURACY, LOSS, strict=True), 1):
        at = {"epoch": float(epoch), "step": 50 * epoch}
        mean = {"loss": TRAIN_LOSS[epoch - 1], "learning_rate": 1e-5 / epoch, "grad_norm": 1.0}
        speed = {"eval_runtime": 2.0, "eval_samples_per_second": 250.0}
        history += [mean | at, {"eval_loss": loss, "eval_accuracy": accuracy} | speed | at]
    path = tmp_path / "trainer_state.json"
    state = TrainerState(log_history=history, global_step=400, epoch=8.0, max_steps=400)
    state.save_to_json(str(path))
    log = read_curves(path)
    assert (values(log), values(log, "val_loss")) == (ACCURACY, LOSS)
    assert values(log, "train_loss_running") == TRAIN_LOSS
    assert values(log, "learning_rate") == pytest.approx([1e-5 / k for k in range(1, 9)])
    assert set(values(log, "num_val")) == {500}


def test_ray_tune(local_ray, tmp_path, monkeypatch):
    from ray import tune  # noqa: TID251

    # A sweep in this process has told Tune to write no files of its own.
    monkeypatch.delenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", raising=False)

    def train(config):
        for accuracy, loss in zip(ACCURACY, LOSS, strict=True):
            tune.report({"val_accuracy": accuracy - config["lr"], "val_loss": loss})

    space = {"lr": tune.grid_search([0.1, 0.01]), "seed": tune.grid_search([0, 1])}
    to = tune.RunConfig(name="exp", storage_path=str(tmp_path), verbose=0)
    tune.Tuner(train, param_space=space, run_config=to).fit()
    log = read_curves(tmp_path / "exp")
    assert log.config == ("lr",)
    assert sorted(log.curves["seed"].unique()) == [0, 1]
    for (rate, _), run in log.curves.group_by("lr", "seed"):
        assert run["val_accuracy"].to_list() == pytest.approx(np.array(ACCURACY) - rate)
