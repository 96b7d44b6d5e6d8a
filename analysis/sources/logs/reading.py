"""A log of whatever tool -> the tidy frame that `analyze` takes, and what was understood of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis.sources.columns import KNOWN, LISTS, refusals
from analysis.sources.formats import opening
from analysis.sources.formats.parts import Part
from analysis.sources.logs import configurations
from analysis.sources.logs.roles import ASKABLE, Roles, Score
from analysis.sources.logs.runs import EpochZero, Options, Run, runs_of, shaped
from analysis.sources.logs.understood import Understood, understood
from analysis.sources.names import plain
from raysweep.errors import InputError, did_you_mean, shown

VALUES = "values"  # the tool of what a program holds


@dataclass(frozen=True)
class Log:
    """What `read_curves` read; `analyze` takes it as it is, and `print` shows the table.

    curves: one row per run and evaluation, as docs/your-logs.md describes the columns; val_score is
        the validation score of a log without accuracy, or that was asked for, in its own unit
    notes: one line per thing that was guessed, odd or left out
    config: the columns that are settings
    scores: every score of the validation set that the log has; the first is val_score
    proposed_num_val: by run, where the accuracies tell how many validation examples there are
    scored: every score in every evaluation: trial_id, epoch, score (its name), value
    labels: trial_id, epoch, and the logged_epoch and logged_step that the log has for it
    """

    name: str
    curves: pl.DataFrame
    notes: list[str]
    config: tuple[str, ...]
    understood: Understood
    scores: tuple[Score, ...] = ()
    proposed_num_val: Mapping[str, int] = field(default_factory=dict)
    scored: pl.DataFrame = field(default_factory=pl.DataFrame)
    labels: pl.DataFrame = field(default_factory=pl.DataFrame)

    def __str__(self) -> str:
        """The table of what was understood."""
        return str(self.understood)


def read_curves(
    path: Path | str | Sequence[Path | str],
    *,
    columns: Mapping[str, str] | None = None,
    config: Sequence[str] | None = None,
    seed: str | None = None,
    trial: str | None = None,
    ignore: Sequence[str] = (),
    percent: bool | None = None,
    num_val: int | None = None,
    epoch_zero: EpochZero | None = None,
    score: str | None = None,
    lower_is_better: bool | None = None,
) -> Log:
    """Read the curves in a log that any tool wrote; print what this returns to see the table.

    Args:
        path: a file, a folder, or several of them; "-" is standard input.
        columns: our name -> the log's, for what is not recognised or not meant.
        config: the settings that tell configurations apart, by default all that are found.
        seed: the column or setting that is the seed; "run" makes every run a seed.
        trial: the column that tells runs apart.
        ignore: names that are left out.
        percent: whether accuracies are percentages, by default judged for each run.
        num_val: how many examples the validation set has.
        epoch_zero: what the log's epoch 0 is: the "first" epoch or the "untrained" network.
        score: the validation score to take, where the log has several.
        lower_is_better: whether a lower score is better, by default judged by its name.

    Returns: the curves, one row per run and evaluation, and what was understood. Accuracies are
        fractions; evaluation k of a run is epoch k.
    Raises: InputError with one clear line; its notes hold the table of what was understood.
    """
    paths = [path] if isinstance(path, Path | str) else list(path)
    options = Options(
        columns=dict(columns or {}),
        config=config,
        seed=seed,
        trial=trial,
        ignore=tuple(ignore),
        percent=percent,
        num_val=num_val,
        epoch_zero=epoch_zero,
        score=score,
        lower_is_better=lower_is_better,
    )
    _check(options)
    with refusals():
        return _Reading(paths, options, opening.parts_of(paths)).log()


def read_values(values: Mapping[str, Sequence[Any]], options: Options, name: str) -> Log:
    """Read what a program holds, as a log is read.

    Args: values: name -> one value per evaluation; name: what to call all of it.
    Raises: InputError as of read_curves().
    """
    longest = max((len(some) for some in values.values()), default=0)
    rows = [
        {"epoch": place + 1}
        | {key: some[place] for key, some in values.items() if place < len(some)}
        for place in range(longest)
    ]
    _check(options)
    with refusals():
        return _Reading([name], options, [Part(VALUES, name, rows)]).log()


def _check(options: Options) -> None:
    for role in options.columns:
        if role not in ASKABLE:
            hint = did_you_mean(role, ASKABLE)
            raise InputError(f"{shown(role)} is no column of a curve{hint} {', '.join(ASKABLE)}")
    if options.epoch_zero not in (None, "first", "untrained"):
        raise InputError(f"epoch zero {options.epoch_zero!r}: it is first or untrained")
    if options.num_val is not None and not 1 <= options.num_val < 2**53:
        raise InputError(f"num_val {options.num_val}: a number of examples is expected")


class _Reading:
    """One reading of some paths: its parts, their runs, and errors that show both."""

    def __init__(
        self, paths: Sequence[Path | str], options: Options, parts: Sequence[Part]
    ) -> None:
        self.paths = paths
        self.parts: list[Part] = [shaped(part) for part in parts]
        self.options = options = self._with_names_of_the_log(options)
        self.runs: list[Run] = []
        self.roles: list[Roles] = []
        self.config: list[str] = []
        self.notes: list[str] = []
        for part in self.parts:
            runs, roles = runs_of(part, options)
            self.runs += runs
            self.roles.append(roles)

    def _check_names(self) -> None:
        """Raises: InputError where an option names what the log does not have."""
        options = self.options
        asked = [("--column", name) for name in options.columns.values()]
        asked += [("--ignore", name) for name in options.ignore]
        asked += [("--trial", options.trial), ("--score", options.score)]
        for option, name in asked:
            if name is not None and name not in self.all_names():
                near = did_you_mean(name, self.all_names())
                raise InputError(
                    f"{option}: no column {shown(name)}{near} Columns: {self._columns()}"
                )

    def _with_names_of_the_log(self, options: Options) -> Options:
        """Names as the log has them, where a person wrote `val acc` for `Val Acc (%)`."""
        known = self.all_names()
        by_plain = {plain(name): name for name in reversed(known)}

        def its(name: str) -> str:
            return name if name in known else by_plain.get(plain(name), name)

        return replace(
            options,
            columns={role: its(name) for role, name in options.columns.items()},
            ignore=tuple(map(its, options.ignore)),
            trial=options.trial and its(options.trial),
            score=options.score and its(options.score),
        )

    def all_names(self) -> list[str]:
        return list(dict.fromkeys(name for part in self.parts for name in part.names()))

    def where(self) -> str:
        some = ["standard input" if str(p) == opening.STDIN else str(p) for p in self.paths]
        return some[0] if len(some) == 1 else f"{some[0]} and {len(some) - 1} more"

    def table(self) -> Understood:
        tools = [part.tool for part in self.parts]
        return understood(
            *(self.where(), tools, self.runs, self.roles, self.all_names(), self.config, self.notes)
        )

    def _columns(self) -> str:
        return ", ".join(shown(name, 60)[1:-1] for name in self.all_names()[:30]) or "none"

    def log(self) -> Log:
        """Say what was read. Raises: InputError with the table as its note."""
        try:
            self._check_names()
            self.runs = configurations.counted(self.runs, self.options, self.notes)
            if not self.runs:
                raise self._without_validation()
            self.config = configurations.settle(self.runs, self.options, self.notes)
        except InputError as error:
            error.add_note(str(self.table()))
            raise
        self._gather_notes()
        curves = self._frame()
        scores = tuple(dict.fromkeys(s for roles in self.roles for s in roles.scores))
        if self.options.lower_is_better is not None and scores:
            first = scores[0]._replace(lower_is_better=self.options.lower_is_better)
            scores = (first, *scores[1:])
        return Log(
            name=_title(self.paths),
            curves=curves,
            notes=self.notes,
            config=tuple(self.config),
            understood=self.table(),
            scores=scores,
            proposed_num_val={
                run.name: run.proposed_num_val for run in self.runs if run.proposed_num_val
            },
            scored=self._scored(),
            labels=self._labels(),
        )

    def _without_validation(self) -> InputError:
        unsettled = [n for roles in self.roles for n in roles.unsettled.get("val_accuracy", [])]
        if unsettled:
            name = shown(unsettled[0], 60)
            return InputError(
                f"nothing says whether {name} is of training or of validation: --column "
                f"val_accuracy={shown(unsettled[0], 60)[1:-1]} takes it for validation"
            )
        return InputError(
            f"{self.where()} holds no validation metric that is known; say which column is one: "
            f"--column val_accuracy=NAME, or val_loss=NAME. Columns: {self._columns()}"
        )

    def _gather_notes(self) -> None:
        """What is said of roles and of runs; what all runs share is said once."""
        said: dict[str, list[str]] = {}
        for roles in self.roles:
            for note in roles.notes:
                said.setdefault(note, [])
        for run in self.runs:
            for note in run.notes:
                said.setdefault(note, []).append(run.name)
            every = run.course.every
            if every != 1 and run.course.clock == "epoch" and len(run.evaluations) > 1:
                first = run.evaluations[0].epoch or 0
                zero = " (the log counts from 0)" if first == every - 1 else ""
                first += first == every - 1
                note = (
                    f"there is an evaluation every {every:g} epochs, after epochs {first:g}, "
                    f"{first + every:g}, ...{zero}: each counts as one epoch"
                )
                said.setdefault(note, []).append(run.name)
        for note, some in said.items():
            whose = "" if len(some) in (0, len(self.runs)) else f"{_first_few(some)}: "
            self.notes.append(f"{whose}{note}")

    def _scored(self) -> pl.DataFrame:
        rows = [
            (run.name, one.number, name, value)
            for run in self.runs
            for one in run.evaluations
            for name, value in one.scores.items()
        ]
        schema = {
            "trial_id": pl.String,
            "epoch": pl.Int64,
            "score": pl.String,
            "value": pl.Float64,
        }
        return pl.DataFrame(rows, schema=schema, orient="row")

    def _labels(self) -> pl.DataFrame:
        rows = [
            (run.name, one.number, one.epoch, one.step)
            for run in self.runs
            for one in run.evaluations
        ]
        schema = {
            "trial_id": pl.String,
            "epoch": pl.Int64,
            "logged_epoch": pl.Float64,
            "logged_step": pl.Float64,
        }
        return pl.DataFrame(rows, schema=schema, orient="row")

    def _frame(self) -> pl.DataFrame:
        """The tidy frame: a row per evaluation, with what is constant in a run."""
        rows: list[dict[str, Any]] = []
        seeds = configurations.numbered(self.runs)
        for run in self.runs:
            fixed: dict[str, Any] = {key: run.settings.get(key) for key in self.config}
            if any(value is not None for value in seeds.values()):
                fixed["seed"] = seeds[run.name]
            if run.initial_train_loss is not None:
                fixed["initial_train_loss"] = run.initial_train_loss
            fixed["num_val"] = run.num_val
            for one in run.evaluations:
                row = {"trial_id": run.name, "epoch": one.number} | fixed
                row |= {r: v for r, v in one.values.items() if r in _CARRIED and r not in fixed}
                row |= {role: float(np.mean(some)) for role, some in one.training.items() if some}
                if one.rates and "learning_rate" not in fixed:
                    row["learning_rate"] = one.rates[-1]
                rows.append(row)
        columns = dict.fromkeys(name for row in rows for name in row)
        frame = pl.DataFrame(
            {name: _series(name, [row.get(name) for row in rows]) for name in columns}
        )
        empty = [name for name in frame.columns if frame[name].null_count() == frame.height]
        return frame.drop([name for name in empty if name not in self.config])


_OWN = ("trial_id", "epoch", "seed")  # columns that are not carried as they are
_CARRIED = {*KNOWN, "val_correct_bits"} - {*_OWN}


def _series(name: str, values: list[Any]) -> pl.Series:
    if name in LISTS or name == "val_correct_bits":
        return pl.Series(name, values, strict=False)
    if any(isinstance(value, str) for value in values):
        return pl.Series(name, [None if v is None else str(v) for v in values], pl.String)
    return pl.Series(name, values, strict=False)


def _first_few(some: Sequence[str]) -> str:
    more = f" and {len(some) - 3} more" if len(some) > 3 else ""
    return ", ".join(some[:3]) + more


def _title(paths: Sequence[Path | str]) -> str:
    places = [opening.place_of(path) for path in paths]
    full = [place and place.resolve() for place in places]
    said = ["standard input" if one is None else one.stem or one.name for one in full]
    return ", ".join(dict.fromkeys(said[:4])) + ", ..." * (len(said) > 4)
