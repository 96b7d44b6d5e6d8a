"""Answers of logs whose curves a test makes up."""

from typing import Any

import numpy as np

from analysis.answer.answer import Answer, RunAnswer, Series, Todo, Unchecked

WORDS = {
    "val_accuracy": "validation accuracy",
    "val_loss": "validation loss",
    "val_score": "validation F1",
    "train_accuracy": "training accuracy",
    "train_accuracy_running": "training accuracy, while training",
    "train_loss_running": "training loss, while training",
}


def series(role, values, *, first=1, every=1, lower=None):
    values = np.asarray(values, float)
    lower = "loss" in role if lower is None else lower
    finite = np.flatnonzero(np.isfinite(values))
    best = None
    if len(finite):
        best = int(finite[(np.argmin if lower else np.argmax)(values[finite])])
    at = tuple(float(first + every * k) for k in range(len(values)))
    is_share = "accuracy" in role
    return Series(role, role, WORDS[role], is_share, lower, at, tuple(values.tolist()), best)


def run_of(*some, name="mine", num_val=None, clock="epoch"):
    return RunAnswer(
        name=name,
        settings={},
        findings=(),
        open=(),
        labels={},
        headline=(f"What {name} says.", "How sure that is."),
        do=(),
        unchecked=(),
        series=tuple(some),
        clock=clock,
        num_evaluations=max((len(one.values) for one in some), default=0),
        num_val=num_val,
    )


def answer_of(*runs, **said):
    fields: dict[str, Any] = {
        "name": "log",
        "tool": "CSV",
        "headline": ("It jumps by 1.2 pp.", "It does not fall."),
        "do": (Todo("Keep epoch 7.", "0.4 pp better"), Todo("Stop there.")),
        "unchecked": (
            Unchecked("the gap", "no training metric", "log it in eval mode", "a()\nb()"),
        ),
        "read": (("validation accuracy", "val_acc"),),
        "notes": ("epoch 0 is the first",),
        "runs": runs,
    }
    return Answer(**(fields | said))


def curve(num, *, accuracy=0.9, noise=0.01, seed=0):
    rng = np.random.default_rng(seed)
    learnt = 1 - np.exp(-np.arange(1, num + 1) / 4)
    return np.clip(accuracy * learnt + noise * rng.standard_normal(num), 0, 1)


def whole(num, **given):
    """A run with everything that can be drawn."""
    accuracy = curve(num, seed=1)
    return run_of(
        series("val_accuracy", accuracy),
        series("val_loss", 0.3 + np.abs(np.linspace(-1, 1, num))),
        series("train_accuracy_running", curve(num, accuracy=0.99, seed=2)),
        series("train_loss_running", np.linspace(1, 0, num)),
        **given,
    )
