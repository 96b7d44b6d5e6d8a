"""A callback for the Trainer of Hugging Face: each evaluation becomes a report."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from raysweep.loops.report import Report
from raysweep.loops.terminal import tell

# What makes of predictions and labels the arguments of a report.
Measure = Callable[[Any, Any], dict[str, Any]]


def logits_and_classes(predictions: Any, labels: Any) -> dict[str, Any]:
    """Take the predictions as logits, the labels as classes; a tuple begins with the logits."""
    outputs = predictions[0] if isinstance(predictions, tuple) else predictions
    return {"outputs": outputs, "targets": labels}


class ReportCallback(TrainerCallback):
    """Reports each evaluation while training:

    callback = ReportCallback(report)
    Trainer(..., compute_metrics=callback.compute_metrics, callbacks=[callback]).train()

    Where `eval_dataset` is a dict, the part called "train" is taken as training examples, measured
    in eval mode, and stands first; the other part is the validation set.
    """

    def __init__(self, report: Report, measure: Measure = logits_and_classes) -> None:
        """Args: measure: makes of (predictions, labels) what `report` takes, where they are no
        logits with classes."""
        self._report, self._measure = report, measure
        self._said: dict[str, Any] = {}
        self._of_training: dict[str, Any] = {}
        self._running: dict[str, Any] = {}
        self._step = -1  # that of the last report

    def compute_metrics(self, found: Any) -> dict[str, float]:
        """Take an evaluation's predictions. Returns: accuracy, where there are classes."""
        self._said = self._measure(found.predictions, found.label_ids)
        accuracy = _accuracy(self._said)
        return {} if accuracy is None else {"accuracy": accuracy}

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **others: Any,
    ) -> None:
        """Take the running loss and the learning rate."""
        if logs and "loss" in logs:
            self._running = {"running_loss": logs["loss"], "lr": logs.get("learning_rate")}

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, Any] | None = None,
        **others: Any,
    ) -> None:
        """Report the evaluation."""
        said, self._said = self._said, {}
        if not said or state.global_step == self._step:
            return  # an evaluation after the training, of what was reported
        if metrics and "eval_train_loss" in metrics:
            loss, accuracy = metrics["eval_train_loss"], metrics.get("eval_train_accuracy")
            size = len(next(value for value in said.values() if value is not None))
            self._of_training = {"train_loss": loss, "train_accuracy": accuracy, "train_n": size}
            return
        self._step = state.global_step
        self._report(**said, **self._of_training, **self._running)
        self._of_training, self._running = {}, {}
        tell(self._report)


def _accuracy(said: dict[str, Any]) -> float | None:
    if said.get("outputs") is not None and said.get("targets") is not None:
        outputs, targets = (np.asarray(torch.as_tensor(said[n])) for n in ("outputs", "targets"))
        if outputs.ndim == targets.ndim + 1:
            return float((outputs.argmax(-1) == targets).mean())
    return None if said.get("correct") is None else float(np.mean(said["correct"]))
