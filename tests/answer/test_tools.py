"""Logs of a loss or a score alone that real tools wrote: each is answered in its own unit."""

import json
import os
import warnings
from dataclasses import replace

import numpy as np
import pytest

from analysis import analyze, read_curves
from analysis.answer.answer import Finding

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # theirs
    pytest.mark.timeout(900),
]
TIME = np.arange(40)


def course(start, best, *, fall=0.5, seed=0):
    """To a best level at a third, then half of the way back."""
    noise = 0.01 * np.random.default_rng(seed).standard_normal(len(TIME))
    way = 1 - np.exp(-TIME / 3) - fall * np.clip(TIME - 13, 0, None) / 26 + noise
    return start + (best - start) * way


def told(path, word, *, lower):
    """The answer's text; it says what there is, and nothing of an accuracy."""
    answer = analyze(path).answer
    (run,) = answer.runs
    assert word in run.series[0].words
    assert run.series[0].lower_is_better is lower
    text = f"{answer}\n{answer._repr_html_()}"
    assert "accuracy" not in text
    assert " pp" not in text
    return answer


@pytest.mark.parametrize(
    ("metric", "word", "lower"),
    [("RootMeanSquaredError", "root_mean_squared_error", True), ("R2Score", "R²", False)],
)
def test_keras_regression(tmp_path, metric, word, lower):
    os.environ["KERAS_BACKEND"] = "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras
    rng = np.random.default_rng(0)
    x = rng.normal(size=(128, 6)).astype("float32")
    y = (x @ rng.normal(size=(6, 1)) + 0.1 * rng.normal(size=(128, 1))).astype("float32")
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.02), "mse", metrics=[getattr(keras.metrics, metric)()])
    history = model.fit(
        *(x, y),
        validation_split=0.25,
        epochs=12,
        verbose="0",
        callbacks=[keras.callbacks.CSVLogger(tmp_path / "training.log")],
    ).history
    log = read_curves(tmp_path / "training.log")
    (name,) = [key for key in history if key.startswith("val_") and key != "val_loss"]
    assert log.curves["val_score"].to_list() == pytest.approx(history[name])
    answer = told(tmp_path / "training.log", "validation", lower=lower)
    assert Finding.OVERFITTING not in answer.findings


@pytest.mark.parametrize(
    ("name", "start", "best", "word"),
    [("wer", 0.9, 0.2, "WER"), ("perplexity", 80.0, 20.0, "perplexity"), ("f1", 0.2, 0.8, "F1")],
)
def test_hugging_face_trainer_state(tmp_path, name, start, best, word):
    from transformers import TrainerState

    state = TrainerState()
    for k, value in enumerate(course(start, best), 1):
        state.log_history += [
            {"epoch": float(k), "step": 50 * k, "loss": 2.0 / k, "learning_rate": 1e-4},
            {"epoch": float(k), "step": 50 * k, f"eval_{name}": value, "eval_runtime": 2.0},
        ]
    state.save_to_json(str(tmp_path / "trainer_state.json"))
    answer = told(tmp_path / "trainer_state.json", word, lower=best < start)
    assert Finding.OVERFITTING in answer.findings
    assert answer.headline[0].startswith("It overfits: ")


def test_hugging_face_tells_the_number_of_validation_examples_by_its_speed(tmp_path):
    from transformers import TrainerState

    state = TrainerState()
    rng = np.random.default_rng(0)
    for k, right in enumerate(rng.binomial(1839, 0.6, 12), 1):
        runtime = 2 + 0.1 * rng.random()
        told = {"eval_runtime": round(runtime, 4), "eval_accuracy": right / 1839}
        told |= {"eval_samples_per_second": round(1839 / runtime, 3), "eval_loss": 1.0}
        state.log_history.append({"epoch": float(k), "step": k, **told})
    state.save_to_json(str(tmp_path / "trainer_state.json"))
    answer = analyze(tmp_path / "trainer_state.json").answer
    assert answer.runs[0].num_val == 1839
    assert "of 1,839 examples" in answer.headline[1]


@pytest.mark.parametrize(
    ("name", "start", "best", "word"),
    [("val/mAP", 0.1, 0.6, "mAP"), ("val/mIoU", 0.2, 0.7, "mIoU"), ("val/rmse", 5.0, 1.0, "RMSE")],
)
def test_tensorboard_and_lightning_loggers(tmp_path, name, start, best, word):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
    loggers = [CSVLogger(tmp_path, name="csv"), TensorBoardLogger(tmp_path, name="tb")]
    for logger in loggers:
        for k, value in enumerate(course(start, best)):
            logger.log_metrics({name: float(value), "train/loss": 2.0 / (k + 1)}, step=100 * k)
            logger.save()
        logger.finalize("success")
    first, second = (told(tmp_path / where, word, lower=best < start) for where in ("csv", "tb"))
    assert first.findings == second.findings
    assert Finding.OVERFITTING in first.findings
    one, other = first.runs[0].checkpoint, second.runs[0].checkpoint
    assert one is not None
    assert other is not None
    assert one.flatters == pytest.approx(other.flatters, rel=1e-4)  # event files hold 32 bits
    assert replace(one, flatters=other.flatters) == other


def test_mlflow_and_a_loss_alone(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    with mlflow.start_run(run_name="one"):
        for k, value in enumerate(course(3.0, 1.0)):
            mlflow.log_metric("val_loss", float(value), step=k)
            mlflow.log_metric("train_loss", 3.0 / (k + 1), step=k)
    answer = told(tmp_path / "mlflow.db", "validation loss", lower=True)
    assert Finding.OVERFITTING in answer.findings
    json.dumps(answer.as_dict(), allow_nan=False)


def test_optuna_reports_a_score_of_each_trial(tmp_path):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial):
        rate = trial.suggest_float("lr", 1e-3, 1e-1, log=True)
        values = 0.5 + 0.3 * (1 - np.exp(-rate * 10 * TIME))
        for step, value in enumerate(values):
            trial.report(float(value), step)
        return float(values[-1])

    study = optuna.create_study(
        storage=f"sqlite:///{tmp_path / 'study.db'}", study_name="s", direction="maximize"
    )
    study.optimize(objective, n_trials=3)
    log = read_curves(tmp_path / "study.db")
    assert log.config == ("lr",)
    answer = analyze(log).answer
    assert len(answer.runs) == 3
    for run, trial in zip(
        sorted(answer.runs, key=lambda one: one.settings["lr"]),
        sorted(study.trials, key=lambda one: one.params["lr"]),
        strict=True,
    ):
        assert run.settings["lr"] == pytest.approx(trial.params["lr"])
        assert run.series[0].values == pytest.approx(list(trial.intermediate_values.values()))
