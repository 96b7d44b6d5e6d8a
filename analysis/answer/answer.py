"""The answer as data: `Answer` of a whole source, `RunAnswer` of each run or configuration."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from typing import Any

from analysis.answer import text

VERSION = 1  # of the JSON, see answer.schema.json


class Finding(StrEnum):
    """What `raysweep report --fail-on` can name."""

    OVERFITTING = "overfitting"  # the metric that counts ends worse than it was
    LOSS_RISES = "loss-rises"  # the validation loss does, whatever the metric that counts does
    COMES_APART = "comes-apart"  # training gets worse as well
    DIVERGED = "diverged"
    AT_CHANCE = "at-chance"  # nothing was learnt
    NOISE = "noise"  # the network itself moves from evaluation to evaluation
    STILL_LEARNING = "still-learning"
    CONSTANT = "constant-metric"


@dataclass(frozen=True)
class Series:
    """One metric of one run, in the order of its evaluations.

    role: val_accuracy, val_loss, val_score, train_accuracy, train_accuracy_running, train_loss,
        train_loss_running or learning_rate; val_score also of every other score
    name: as the log has it
    words: what it is, in plain words: "validation accuracy", "training loss, while training"
    is_share: values are fractions that a person reads in percent
    lower_is_better: of two values, the lower one is better
    at: the epoch or step of each evaluation, as the log counts
    values: one per evaluation; NaN where it is missing or not finite
    best: the place of the best single value in `values`; None where there is none
    """

    role: str
    name: str
    words: str
    is_share: bool
    lower_is_better: bool
    at: tuple[float, ...]
    values: tuple[float, ...]
    best: int | None = None

    @property
    def is_constant(self) -> bool:
        """Whether the metric never changes."""
        told = [value for value in self.values if math.isfinite(value)]
        return len(told) > 2 and len(set(told)) == 1

    def said(self, value: float, *, digits: int | None = None) -> str:
        """Write a value as a person reads it: `61.5 %`, `4.211`."""
        if not math.isfinite(value):
            return "nan"
        if self.is_share:
            return f"{100 * value:.{1 if digits is None else digits}f} %"
        return f"{value:.{4 if digits is None else digits}g}"


@dataclass(frozen=True)
class Todo:
    """One thing to do, and the measured effect that it rests on, where there is one."""

    text: str
    effect: str | None = None


@dataclass(frozen=True)
class Unchecked:
    """What could not be checked.

    what: the question; why: what is missing; settle: the number or column that would settle it;
    how: the option or the lines of code that give it, for the tool that the log came from
    """

    what: str
    why: str
    settle: str
    how: str | None = None


@dataclass(frozen=True)
class Checkpoint:
    """Which evaluation's weights to keep.

    sentence: the advice, with epochs in it
    metric: what it is judged by, in plain words
    keep: the epoch or step, as the log counts, whose weights to keep
    rule: "best window", "lowest smoothed loss" or "last"
    tied: epochs or steps that can't be told from the best one
    flatters: by how much the best single value is better than what it stands for, in the unit of
        the metric (a share is a fraction); None where it can't be told
    """

    sentence: str
    metric: str
    keep: float
    rule: str
    tied: tuple[float, ...] = ()
    flatters: float | None = None


@dataclass(frozen=True)
class RunAnswer:
    """What one run says; of a sweep, what one configuration says.

    name: of the run or the configuration
    settings: what tells it apart
    findings: what --fail-on can name, and what is so; `open` is what could not be judged
    labels: the verdict's words: status, noise, overfit; null where there is none
    headline: two sentences with numbers and epochs
    clock: "epoch", "step" or "evaluation": what `Series.at` counts
    loss_minimum: where the validation loss is lowest, as the log counts; None without a loss
    num_val: validation examples, given or logged
    """

    name: str
    settings: Mapping[str, Any]
    findings: tuple[Finding, ...]
    open: tuple[Finding, ...]
    labels: Mapping[str, str | None]
    headline: tuple[str, ...]
    do: tuple[Todo, ...]
    unchecked: tuple[Unchecked, ...]
    series: tuple[Series, ...]
    checkpoint: Checkpoint | None = None
    clock: str = "epoch"
    num_evaluations: int = 0
    loss_minimum: float | None = None
    num_val: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a source says. Print it, or let a notebook show it.

    name: of the source
    tool: what wrote the log; None of a sweep
    headline: two sentences about the whole: of the only run, or of all of them
    do: what to do first, at most five things
    unchecked: what could not be checked, and what would settle it
    read: what was read as what: (what, the log's name for it and its values)
    notes: what was odd about the log, or guessed
    runs: the answer of every run or configuration, the worst one first
    """

    name: str
    tool: str | None
    headline: tuple[str, ...]
    do: tuple[Todo, ...]
    unchecked: tuple[Unchecked, ...]
    read: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    runs: tuple[RunAnswer, ...] = field(default=())

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What holds of any run."""
        return tuple(one for one in Finding if any(one in run.findings for run in self.runs))

    @property
    def open(self) -> tuple[Finding, ...]:
        """What could not be judged in some run, and holds of none."""
        return tuple(
            one
            for one in Finding
            if one not in self.findings and any(one in run.open for run in self.runs)
        )

    def as_text(self) -> str:
        """Write the answer for a terminal: curves, two sentences, what to do, what is open."""
        return text.as_text(self)

    def __str__(self) -> str:
        return self.as_text()

    def _repr_html_(self) -> str:
        return text.as_html(self)

    def as_dict(self) -> dict[str, Any]:
        """Give the answer as plain values, as answer.schema.json describes them.

        Returns: dicts, lists, texts, numbers and None; what is not finite is None.
        """
        plain = _plain(self)
        assert isinstance(plain, dict)
        return {
            "version": VERSION,
            "findings": list(self.findings),
            "open": list(self.open),
            **plain,
        }


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return str(value)


def worst_first(runs: Iterator[RunAnswer] | list[RunAnswer]) -> list[RunAnswer]:
    """Sort answers of runs: by the gravest finding, else as they come."""
    order = [
        Finding.CONSTANT,
        Finding.DIVERGED,
        Finding.AT_CHANCE,
        Finding.COMES_APART,
        Finding.OVERFITTING,
        Finding.LOSS_RISES,
        Finding.NOISE,
        Finding.STILL_LEARNING,
    ]
    return sorted(
        runs,
        key=lambda run: min((order.index(one) for one in run.findings), default=len(order)),
    )
