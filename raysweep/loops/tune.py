"""A logger callback for a Ray Tune `Tuner` that exists already: its trials become a store."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ray.tune.logger import LoggerCallback

from raysweep.errors import InputError, did_you_mean
from raysweep.loops.record import report_of
from raysweep.loops.report import Report
from raysweep.loops.runs import Run, Runs, Sizes
from raysweep.loops.terminal import tell

_FORMS = ("outputs", "correct", "scores", "val_accuracy")
_BESIDE = ("targets", "losses", "val_loss", "train_accuracy", "train_loss", "train_n")
_RUNNING = ("running_accuracy", "running_loss", "lr")


class RecordCallback(LoggerCallback):
    """Records what each trial reports to Tune, one report an epoch.

    RunConfig(callbacks=[RecordCallback("runs/mine", num_val=1000)])

    A result is read by the names that `report` takes (val_accuracy, val_loss, correct, losses and
    so on). A trial's config are its settings; `seed` in it is its seed.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        num_val: int,
        num_train: int | None = None,
        digest: str | None = None,
        val_clusters: np.ndarray | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        """Args: folder, num_val, num_train, digest, val_clusters: as raysweep.record takes them;
        names: what the results call something, where that is another name:
        {"val_accuracy": "mean_accuracy"}."""
        self._folder, self._names = folder, dict(names or {})
        self._sizes = Sizes(num_val, num_train, digest, val_clusters)
        self._runs: Runs | None = None
        self._live: dict[str, tuple[Run, Report]] = {}
        self._seen: Counter[str] = Counter()  # trials of the same settings that name no seed
        self._seconds = 0.0
        self._told: set[str] = set()  # trials that Tune has told to end
        self._stopped: list[tuple[Run, Report]] = []  # of them, those that have
        self._longest = 0  # epochs of the longest trial

    def __reduce__(self) -> Any:
        # Tune pickles its callbacks; what is open here stays in this process.
        return _unopened, (self._folder, self._sizes, self._names)

    def log_trial_start(self, trial: Any) -> None:
        """Begin a run. Raises: InputError where the store can't take it."""
        if trial.trial_id in self._live:
            return  # Tune has started it again
        settings = _flat(trial.config)
        seed = settings.pop("seed", None)
        if not isinstance(seed, int):
            key = json.dumps(settings, sort_keys=True)
            seed, self._seen[key] = self._seen[key], self._seen[key] + 1
        if self._runs is None:
            self._runs = Runs(self._folder, self._sizes)
        run = self._runs.begin(settings, seed)
        report = report_of(self._sizes, settings, seed, run, clock=lambda: self._seconds)
        self._live[trial.trial_id] = run, report

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        """Take one epoch of a trial. Raises: InputError where the result lacks what is needed."""
        _, report = self._live[trial.trial_id]
        if result.get("training_iteration", report.epoch + 1) <= report.epoch:
            return  # trained again, after a failure
        self._seconds = float(result.get("time_total_s", 0.0))
        named = {name: self._names.get(name, name) for name in (*_FORMS, *_BESIDE, *_RUNNING)}
        said = {name: result[key] for name, key in named.items() if key in result}
        if not any(name in said for name in _FORMS):
            keys = [key for key, value in result.items() if isinstance(value, float)]
            self.on_experiment_end([])  # Tune ends without a word to its callbacks
            raise InputError(
                f"the results have no {named['val_accuracy']!r}"
                f"{did_you_mean(named['val_accuracy'], keys)} Give RecordCallback names="
                '{"val_accuracy": the name there}; they have ' + ", ".join(sorted(keys))
            )
        report(**said)
        tell(report)
        if result.get("done"):
            self._told.add(trial.trial_id)

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        """End a run; a failure is named."""
        run, report = self._live.pop(trial.trial_id)
        if failed:
            # Tune knows the error of a trial only after it has told its callbacks.
            run.fail(
                RuntimeError(f"Ray Tune says that it failed; its log is in {trial.local_path}")
            )
        elif trial.trial_id in self._told:
            self._stopped.append((run, report))
        else:
            run.finish(report.outcome())
        self._longest = max(self._longest, report.epoch)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Close the store. A trial that Tune has ended is no whole curve if others are longer."""
        for run, report in self._stopped:
            end = run.stop if report.epoch < self._longest else run.finish
            end(report.outcome())
        self._stopped = []
        if self._runs is not None:
            self._runs.close()
            self._runs = None


def _unopened(folder: Path | str, sizes: Sizes, names: dict[str, str]) -> RecordCallback:
    return RecordCallback(folder, **sizes._asdict(), names=names)


def _flat(config: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """The settings of a config, with a / in the names of nested ones."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name}/")
        else:
            plain = isinstance(value, str | int | float | None | np.generic)
            found[before + name] = value if plain else str(value)
    return found
