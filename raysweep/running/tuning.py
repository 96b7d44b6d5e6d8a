"""Ray Tune schedules packs, and stops trials where a scheduler is asked for. The only file that
knows Ray Tune, which takes seconds to import."""

import logging
import math
import os
import threading
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import schedulers
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.stopper import NoopStopper

from raysweep.cluster.ray_internals import remove_group
from raysweep.planning.grid import Trial
from raysweep.recording.recorder import MAX_LOST_NODES
from raysweep.running.retries import ran_out_of_memory
from raysweep.running.worker import MAX_IDLE_STARTS, Assignment, train_pack
from raysweep.spec import Resources, Scheduler

_UNREADABLE = "the task can't be read"  # how such an error begins: Tune keeps its text alone


class Schedule:
    """Tune trains all packs while `run` is in a thread of its own; other threads may call the rest.

    error: why `run` ended before all packs were trained; None while it runs, and after a halt.
    """

    def __init__(
        self, planned: list[list[Trial]], given: Assignment, slots: int, rule: Scheduler | None
    ) -> None:
        """Args: slots: packs at a time; rule: stops trials, and each pack is one trial then."""
        self.error: BaseException | None = None
        self._planned, self._given, self._rule = planned, given, rule
        self._halted = threading.Event()
        self._search = BasicVariantGenerator(max_concurrent=slots)

    def set_slots(self, slots: int) -> None:
        """Train so many packs at a time from now on."""
        self._search.max_concurrent = slots

    def halt(self) -> None:
        """End `run` and the processes that train, within a second or so."""
        self._halted.set()

    def run(self, scratch: Path, retries: int) -> None:
        """Train until all packs are done, or `halt` is called.

        Args: scratch: a folder for Tune's own files; retries: of a trial whose process died.
        """
        try:
            for error in self._tuner(scratch, retries).fit().errors:
                raise error
        except BaseException as error:
            self.error = error

    def _tuner(self, scratch: Path, retries: int) -> tune.Tuner:
        _make_tune_quiet()
        planned, given, rule = self._planned, self._given, self._rule
        stored = [ray.put(pack) for pack in planned]
        report = tune.report if rule else None

        def pack_trainable(config: dict[str, Any]) -> None:
            train_pack(ray.get(stored[config["pack"]]), given, report)

        return tune.Tuner(
            tune.with_resources(pack_trainable, _request(given.resources)),
            param_space={"pack": tune.grid_search(list(range(len(planned))))},
            tune_config=tune.TuneConfig(
                scheduler=_scheduler(rule, planned[0][0].hyperparameters.epochs),
                search_alg=self._search,
                # A nested fit() does not survive its actor's reuse; a pack in the process does.
                reuse_actors=given.resources.workers == 1,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(scratch),
                verbose=0,
                callbacks=[_Silent(), _Ends(planned, given, self._halted, scheduled=bool(rule))],
                stop=_Halted(self._halted),
                # A pack starts again after its process died; the recorder charges the trial that
                # was claimed, so each trial of a pack costs its pack so many starts at most.
                failure_config=tune.FailureConfig(
                    max_failures=(retries + 1) * max(map(len, planned)) + MAX_LOST_NODES
                ),
            ),
        )


def _make_tune_quiet() -> None:
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the newer one prints a banner at any verbosity
    os.environ["TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S"] = "0"
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"  # a trial may end before it reports
    for name in ("ray.tune", "ray.train", "ray.air"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _request(resources: Resources) -> dict[str, float]:
    """What Tune reserves for a pack."""
    if resources.workers == 1:
        return {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
    # Drivers only wait, so they reserve next to nothing: with Ray's default of one CPU each they
    # starve the workers they started. They stay on the head, which is not preempted.
    return {"CPU": 0, "node:__internal_head__": 0.001}


class _Silent(TrialProgressCallback):
    """Tune adds a talking one where it finds none; our own display says all there is."""

    def _print(self, msg: str) -> None:
        pass


# Tune pickles the next two, to restore experiments with; nobody will, so it gets stand-ins.


class _Halted(tune.Stopper):
    """Stops everything once an event is set."""

    def __init__(self, halted: threading.Event) -> None:
        self._halted = halted

    def __reduce__(self) -> Any:
        return NoopStopper, ()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._halted.is_set()


class _Ends(tune.Callback):
    """Tells the recorder what the scheduler has stopped and what ran out of memory; kills what
    trains beyond a halt."""

    def __init__(
        self,
        planned: list[list[Trial]],
        given: Assignment,
        halted: threading.Event,
        *,
        scheduled: bool,
    ) -> None:
        self._planned, self._recorder, self._halted = planned, given.recorder, halted
        self._scheduled = scheduled
        self._actors: list[Any] = []
        self._unreadable = 0

    def __reduce__(self) -> Any:
        return tune.Callback, ()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._actors.append(trial.temporary_state.ray_actor)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if self._scheduled:
            (ended,), reached = self._planned[trial.config["pack"]], trial.last_result
            columns = {"epochs_run": "epoch", "seconds": "seconds", "node": "node"}
            outcome = {ours: reached.get(theirs) for ours, theirs in columns.items()}
            group: Any = ray.get(self._recorder.stop.remote(ended.trial_id, outcome))
            if group is not None:
                remove_group(group)

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        # A trial whose process Ray killed for its memory would need as much again.
        said = str(trial.get_error() or "").rpartition("Failure #")[2]
        if _UNREADABLE in said:
            self._unreadable += 1
            if self._unreadable == MAX_IDLE_STARTS:
                # It would start again as often as its trials may fail.
                line = said[said.rindex(_UNREADABLE) :].partition("\n")[0]
                self._recorder.abandon.remote(f"{line}, {MAX_IDLE_STARTS} times")
        if ran_out_of_memory(said):
            ids = [one.trial_id for one in self._planned[trial.config["pack"]]]
            line = "OutOfMemoryError: Ray killed the process, its node was short of memory"
            ray.get(self._recorder.blame.remote(ids, line, said))

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        # Tune has stopped every trial in this step, but would wait for those that train.
        while self._halted.is_set() and self._actors:
            ray.kill(self._actors.pop())


class _Median(schedulers.MedianStoppingRule):
    """Tune's own breaks on a trial that ended before it reported."""

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: Any) -> None:
        if "epoch" in result:
            super().on_trial_complete(tune_controller, trial, result)


def _scheduler(rule: Scheduler | None, epochs: int) -> Any:
    """Tune's scheduler. It hears of every epoch but the last, after which nothing is left to
    decide: it would stop a trial that has finished."""
    if rule is None:
        return schedulers.FIFOScheduler()
    common: dict[str, Any] = {
        "time_attr": "epoch",  # training_iteration starts again where a trial does
        "metric": rule.metric,
        "mode": "max" if rule.metric == "val_accuracy" else "min",
        "grace_period": rule.grace_period,
    }
    if rule.kind == "asha":
        return schedulers.ASHAScheduler(**common, max_t=epochs, reduction_factor=rule.factor)
    # With too few trials to compare, Tune would pause one, and start it from its beginning later.
    return _Median(**common, min_time_slice=math.inf)  # pyright: ignore[reportArgumentType]
