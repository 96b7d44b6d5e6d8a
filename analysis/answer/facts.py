"""An analysis -> the facts of each run or configuration that its answer is made of."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import polars as pl

from analysis.answer.answer import Series
from analysis.answer.checkpoints import FEWEST, Kept, kept
from analysis.curves import Floats
from analysis.labels import Status
from analysis.sources.logs.reading import VALUES, Log

ACCURACY, SCORE, LOSS = "val_accuracy", "val_score", "val_loss"
# Columns of the epochs: role, what it is, whether it is a share, whether lower is better.
_METRICS = {
    "val_accuracy": (ACCURACY, "validation accuracy", True, False),
    "val_loss": (LOSS, "validation loss", False, True),
    "train_eval_accuracy": ("train_accuracy", "training accuracy, eval mode", True, False),
    "train_accuracy": ("train_accuracy_running", "training accuracy, while training", True, False),
    "train_eval_loss": ("train_loss", "training loss, eval mode", False, True),
    "train_loss": ("train_loss_running", "training loss, while training", False, True),
    "lr": ("learning_rate", "learning rate", False, True),
}
_FEWEST = 3  # evaluations from which it can be told that nothing was learnt
_LEARNT = 0.95  # of the training loss that it began with
TRAINING = ("train_accuracy", "train_accuracy_running", "train_loss", "train_loss_running")


class Found(Protocol):
    """What an answer reads of an `Analysis`."""

    # An analysis is frozen, so these are read, never set.
    @property
    def record(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def trials(self) -> pl.DataFrame: ...  # noqa: D102
    @property
    def configurations(self) -> pl.DataFrame: ...  # noqa: D102
    @property
    def epochs(self) -> pl.DataFrame: ...  # noqa: D102
    @property
    def points(self) -> pl.DataFrame: ...  # noqa: D102
    @property
    def log(self) -> Log | None: ...  # noqa: D102


class Place(NamedTuple):
    """An evaluation as a person calls it: `epoch 12`."""

    clock: str
    at: float

    def __str__(self) -> str:
        """Name the evaluation."""
        return f"{self.clock} {self.at:,g}" if self.at >= 10_000 else f"{self.clock} {self.at:g}"


@dataclass(frozen=True)
class Facts:
    """One run, or one configuration of several seeds.

    row: its measured columns and labels, of Analysis.trials or .configurations
    series: what was logged; the first one is the metric that counts
    numbers: of the evaluations, 1, 2, ..., with gaps where one is missing
    kept: of the metric that counts; None with too few evaluations
    proposed_num_val: where the accuracies tell it
    tool: that wrote the log; VALUES of what a program gave; None of a sweep
    names: of the columns of the log
    """

    name: str
    settings: Mapping[str, Any]
    row: Mapping[str, Any]
    series: tuple[Series, ...]
    numbers: tuple[int, ...]
    clock: str
    kept: Kept | None
    num_seeds: int
    num_val: int | None
    proposed_num_val: int | None
    tool: str | None
    names: frozenset[str]

    @property
    def main(self) -> Series:
        """The metric that counts: accuracy, else a score, else the loss."""
        return self.series[0]

    def of(self, role: str) -> Series | None:
        """The series of a role."""
        return next((one for one in self.series if one.role == role), None)

    def place(self, index: int) -> Place:
        """Name the evaluation that stands at an index of the series."""
        return Place(self.clock, self.main.at[index])

    def number(self, name: str) -> float | None:
        """A measured column, or None where it is not known."""
        value = self.row.get(name)
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    def how_to_say(self, role: str) -> str | None:
        """Write the option, or the argument, that names a column; None of a sweep."""
        if self.tool is None:
            return None
        argument = role.removesuffix("_running")
        return (
            f"{argument}=..."
            if self.tool == VALUES
            else f"--column {argument}=NAME, if it is there"
        )

    @property
    def status(self) -> str | None:
        """The verdict's status, unless the log tells that something was learnt."""
        status = self.row.get("status")
        if status != Status.AT_CHANCE or self.row.get("learnt_nothing"):
            return status
        top = [one for one in self.series if "top-" in one.words]
        many = any(value < 1 for one in top for value in one.values)  # classes, more than 5
        return Status.OK if many or len(self.main.at) < _FEWEST or self.training_falls else status

    @property
    def training_falls(self) -> bool:
        """Whether the training loss has clearly fallen."""
        losses = [one for one in self.series if one.role in ("train_loss", "train_loss_running")]
        told = [value for one in losses[:1] for value in one.values if math.isfinite(value)]
        return len(told) > 1 and told[-1] < _LEARNT * told[0]

    def level(self, index: int) -> float:
        """The level of the metric that counts at an evaluation, without its noise."""
        if self.kept is None:
            return self.main.values[index]
        sign = -1 if self.main.lower_is_better else 1
        return sign * float(self.kept.level[0, index])


def facts_of(found: Found) -> Iterator[Facts]:
    """Gather the facts of every configuration that was trained; of a log, of every run."""
    epochs = found.epochs.filter(pl.col("weights_kind") == "raw")
    by_trial = epochs.partition_by("trial_id", as_dict=True)
    points = dict(found.points.select("config_id", "point").iter_rows())
    for (config_id,), group in found.trials.group_by("config_id", maintain_order=True):
        rows = group.rows(named=True)
        pooled = found.configurations.filter(pl.col("config_id") == config_id)
        row = rows[0] if len(rows) == 1 or not pooled.height else pooled.row(0, named=True)
        curves = [by_trial[one["trial_id"],] for one in rows if (one["trial_id"],) in by_trial]
        if curves:
            yield _facts(found, row, rows, curves, str(points.get(config_id) or ""))


def _facts(
    found: Found,
    row: Mapping[str, Any],
    trials: Sequence[Mapping[str, Any]],
    curves: Sequence[pl.DataFrame],
    point: str,
) -> Facts:
    log, trial_id = found.log, str(trials[0]["trial_id"])
    whole = curves[0] if len(curves) == 1 else _mean(curves)
    whole = whole.sort("epoch")
    numbers = whole["epoch"].cast(pl.Int64).to_list()
    clock, at = _clock(log, trial_id, numbers)
    asked = SCORE in whole.columns and whole[SCORE].null_count() < whole.height
    rank = _RANK | ({SCORE: -1} if asked else {})
    series = sorted(_series(whole, at, log, trial_id, numbers), key=lambda one: rank[one.role])
    num_val = next((n for one in trials if (n := one.get("n_val"))), None)
    main = series[0]
    return Facts(
        name=_name(found, trials, point),
        settings=_settings(found, trials[0]),
        row=row,
        series=tuple(series),
        numbers=tuple(numbers),
        clock=clock,
        kept=_kept(main, whole, num_val),
        num_seeds=len(curves),
        num_val=num_val,
        proposed_num_val=log.proposed_num_val.get(trial_id) if log else None,
        tool=log.understood.tool if log else None,
        names=frozenset(log.understood.every_name if log else ()),
    )


_RANK = {ACCURACY: 0, SCORE: 1, LOSS: 2} | {
    role: place for place, role in enumerate((*TRAINING, "learning_rate"), 3)
}


def _name(found: Found, trials: Sequence[Mapping[str, Any]], point: str) -> str:
    if found.trials["config_id"].n_unique() == 1:
        return str(found.log.name if found.log else found.record["spec"]["name"])
    run = trials[0].get("run")
    return str(run) if run is not None and len(trials) == 1 else point


def _settings(found: Found, trial: Mapping[str, Any]) -> dict[str, Any]:
    names = found.record["spec"]["axes"]
    return {name: trial[name] for name in names if name in trial and name != "run"}


def _mean(curves: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The mean over seeds, of the epochs that all of them have."""
    names = [name for name in (*_METRICS, SCORE) if name in curves[0].columns]
    stacked = pl.concat([one.select("epoch", *names) for one in curves], how="vertical_relaxed")
    means = stacked.group_by("epoch").agg(pl.len().alias("num"), *[pl.col(n).mean() for n in names])
    return means.filter(pl.col("num") == len(curves)).drop("num").sort("epoch")


def _clock(log: Log | None, trial_id: str, numbers: Sequence[int]) -> tuple[str, tuple[float, ...]]:
    """What orders the evaluations, and where each one stands on it."""
    if log is None:
        return "epoch", tuple(map(float, numbers))
    labels = log.labels.filter(pl.col("trial_id") == trial_id)
    for clock in ("epoch", "step"):
        told = dict(labels.select("epoch", f"logged_{clock}").iter_rows())
        at = [told.get(number) for number in numbers]
        values = [value for value in at if value is not None]
        if len(values) == len(at) and len(set(values)) == len(values):
            return clock, tuple(values)
    return "evaluation", tuple(map(float, numbers))


def _series(
    whole: pl.DataFrame,
    at: tuple[float, ...],
    log: Log | None,
    trial_id: str,
    numbers: Sequence[int],
) -> Iterator[Series]:
    names = log.understood.names if log else {}
    for column, (role, words, is_share, lower) in _METRICS.items():
        values = whole[column].to_list() if column in whole.columns else []
        yield from _one(role, names.get(role, role), words, is_share, lower, at, values)
    if log is None:
        return
    for score in log.scores:
        mine = (pl.col("trial_id") == trial_id) & (pl.col("score") == score.name)
        told = dict(log.scored.filter(mine).select("epoch", "value").iter_rows())
        values = [told.get(number) for number in numbers]
        alone = sum(other.word == score.word for other in log.scores) == 1
        words = f"validation {_as_written(score.word)}" if alone else score.name
        yield from _one(SCORE, score.name, words, False, score.lower_is_better, at, values)


def _as_written(word: str) -> str:
    """`mAP`, `F1`, `WER`: a score's word as people write it."""
    odd = {"map": "mAP", "miou": "mIoU", "iou": "IoU", "dice": "Dice", "r2": "R²"}
    if word.startswith("map") and word != "mape":
        return f"mAP{word[3:]}"
    odd |= {"top5": "top-5 accuracy", "top3": "top-3 accuracy"}
    return odd.get(word, word.upper() if len(word) <= 4 else word)


def _one(
    role: str,
    name: str,
    words: str,
    is_share: bool,
    lower: bool,
    at: tuple[float, ...],
    values: Sequence[float | None],
) -> Iterator[Series]:
    told = tuple(math.nan if value is None else float(value) for value in values)
    known = [place for place, value in enumerate(told) if math.isfinite(value)]
    if not known:
        return
    pick = min if lower else max
    best = pick(known, key=lambda place: told[place]) if role in _RANK and _RANK[role] < 3 else None
    yield Series(role, name, words, is_share, lower, at, told, best)


def _kept(main: Series, whole: pl.DataFrame, num_val: int | None) -> Kept | None:
    values = np.array([main.values])
    if np.isfinite(values).sum() < FEWEST:
        return None
    rates = whole["lr"].cast(pl.Float64).to_numpy()[None] if "lr" in whole.columns else None
    if rates is not None and not np.isfinite(rates).all():
        rates = None
    set_var: Floats | None = None
    if num_val and main.role == ACCURACY:
        p = float(np.nanmean(values[0, main.best or 0]))
        set_var = np.array([p * (1 - p) / num_val])
    return kept(-values if main.lower_is_better else values, rates, set_var)
