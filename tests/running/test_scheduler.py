"""Trials that a scheduler stops: at rungs, with all their rows, and nothing left behind."""

import asyncio

import polars as pl
import pytest

from analysis import analyze
from raysweep.errors import InputError
from raysweep.running.gate import Turnstile
from raysweep.running.sweep import run_sweep
from raysweep.spec import Scheduler
from raysweep.store.done import done_trials
from raysweep.store.files import Store
from raysweep.store.record import SweepRecord
from tests.support.interrupted import assert_nothing_is_left, held

RUNGS = {2, 4, 8}
SEED = 2  # its better trial comes first, so that the worse one meets a rung with something on it
ASHA = {"kind": "asha", "grace_period": 2, "reduction_factor": 2}


@pytest.fixture
def raced(make_spec):
    """One learning rate of two is too small to learn anything."""

    def make(**changes):
        base = {"epochs": 9, "batch_size": 256}
        content = {"base": base, "axes": {"learning_rate": [1e-7, 0.3]}, "scheduler": ASHA}
        return make_spec(**(content | changes))

    return make


def trials_of(store):
    return pl.DataFrame(store.read("trials")).sort("trial_id", "attempt")


def epochs_of(store, trial_id, attempt=1):
    rows = pl.DataFrame(store.read("epochs")).filter(
        (pl.col("trial_id") == trial_id) & (pl.col("attempt") == attempt)
    )
    return rows.filter(pl.col("weights_kind") == "raw")["epoch"].to_list()


@pytest.mark.usefixtures("local_ray")
def test_asha_stops_at_rungs_and_a_later_sweep_without_it_trains_the_stopped_to_their_end(
    raced, tmp_path
):
    before = held()
    first = run_sweep(raced(seeds=3), tmp_path)
    assert (first.trained, first.left, first.failures) == (6, 0, ())
    assert_nothing_is_left(before)
    trials = trials_of(first.store)
    assert trials.height == 6
    stopped = trials.filter(pl.col("status") == "stopped")
    # The first to reach a rung passes it, whatever it is; two train at once, in no fixed order.
    assert stopped.filter(pl.col("learning_rate") < 0.1).height >= 1
    assert set(stopped["epochs_run"]) <= RUNGS
    assert (stopped["seconds"] > 0).all()
    for trial_id, epochs in stopped.select("trial_id", "epochs_run").iter_rows():
        assert epochs_of(first.store, trial_id) == list(range(1, epochs + 1))
    survivors = trials.filter(pl.col("status") == "completed")
    assert set(survivors["epochs_run"]) == {9}
    assert survivors.filter(pl.col("learning_rate") > 0.1).height >= 1

    with_it = run_sweep(raced(seeds=3), tmp_path)
    assert (with_it.trained, with_it.skipped) == (0, 6)
    without = run_sweep(raced(seeds=3, scheduler=None), tmp_path)
    assert (without.trained, without.skipped) == (stopped.height, survivors.height)
    whole = analyze(tmp_path)
    assert set(whole.trials["outcome"]) <= {"completed", "diverged"}
    assert set(whole.trials["epochs_run"]) == {9}
    assert not whole.quality["check"].str.contains("stopped").any()


@pytest.mark.usefixtures("local_ray")
def test_two_workers_that_the_scheduler_stops_leave_no_process_and_no_placement_group(
    raced, tmp_path
):
    before = held()
    spec = raced(seeds=[SEED], resources={"workers": 2})
    result = run_sweep(spec, tmp_path)
    assert (result.trained, result.failures) == (2, ())
    trials = trials_of(result.store).sort("learning_rate")
    assert trials["status"].to_list() == ["stopped", "completed"]
    assert trials["epochs_run"].to_list() == [2, 9]
    for trial_id, epochs in trials.select("trial_id", "epochs_run").iter_rows():
        assert epochs_of(result.store, trial_id) == list(range(1, epochs + 1))
    assert_nothing_is_left(before)


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("kind", ["asha", "median"])
def test_what_is_worse_than_most_is_stopped_and_what_ends_before_it_reports_disturbs_nothing(
    raced, expand_digits, tmp_path, kind
):
    def racing(seed):
        return raced(
            task="odd_tasks:unlucky",  # at width 13
            base={"epochs": 6},
            axes={"learning_rate": [0.3, 0.2, 0.1, 1e-7], "width": [8, 13]},
            seeds=[seed],
            scheduler={"kind": kind, "grace_period": 3, "metric": "val_loss"},
            resources={"cpus_per_worker": 2},
        )

    def last(spec):
        """With one slot trials come one after the other, in the order of their ids."""
        fields = max(expand_digits(spec), key=lambda trial: trial.trial_id).hyperparameters
        return fields.learning_rate, fields.width

    spec = next(spec for spec in map(racing, range(200)) if last(spec) == (1e-7, 8))
    result = run_sweep(spec, tmp_path)
    assert (result.trained, len(result.failures)) == (4, 4)
    trials = trials_of(result.store)
    assert set(trials["attempt"]) == {1}  # nothing is started twice
    learnt = trials.filter(pl.col("width") == 8).sort("learning_rate")
    assert learnt["status"].to_list()[0] == "stopped"
    assert learnt["epochs_run"].to_list()[0] == 3
    assert learnt["status"].to_list().count("completed") >= 1
    for trial_id, epochs in learnt.select("trial_id", "epochs_run").iter_rows():
        assert epochs_of(result.store, trial_id) == list(range(1, epochs + 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheduler": "ashe"}, "scheduler.kind = 'ashe' is not allowed"),
        ({"scheduler": {"kind": "asha", "metrik": "val_loss"}}, "did you mean 'metric'"),
        (
            {"scheduler": {"kind": "asha", "grace_period": 9}},
            "grace_period = 9 leaves nothing of 9",
        ),
        ({"scheduler": {"kind": "asha", "reduction_factor": 1}}, "reduction_factor = 1 is not"),
        ({"scheduler": {"kind": "median", "reduction_factor": 3}}, "reduction_factor is of asha"),
        ({"base": {}, "axes": {"epochs": [20, 30]}}, "epochs can't be an axis beside it"),
        ({"axes": {"early_stopping": [None, {"patience": 3}]}}, "early_stopping can't be an axis"),
    ],
)
def test_a_scheduler_that_makes_no_sense_is_refused(raced, changes, message):
    with pytest.raises(InputError, match=message):
        raced(**changes)


def test_the_scheduler_by_its_name_alone_and_it_enters_no_id(raced, expand_digits):
    spec = raced(scheduler="asha")
    assert spec.scheduler == Scheduler(kind="asha")
    assert spec.scheduler.factor == 3
    plain = expand_digits(raced(scheduler=None))
    assert [t.trial_id for t in expand_digits(spec)] == [t.trial_id for t in plain]


def test_who_asks_at_the_turnstile_passes_only_when_let():
    async def story():
        gate = Turnstile()
        asking = asyncio.create_task(gate.ask("a", {"epoch": 1}))
        assert await gate.asked("a") == {"epoch": 1}
        await asyncio.sleep(0)
        assert not asking.done()
        await gate.let_pass("a")
        await asking
        await gate.close("a")
        assert await gate.asked("a") is None

    asyncio.run(story())


def test_a_driver_that_died_takes_nothing_from_the_one_that_follows():
    async def story():
        gate = Turnstile()
        await gate.open("a")
        dead = asyncio.create_task(gate.asked("a"))  # its process is gone, the call is not
        await asyncio.sleep(0)
        await gate.open("a")
        asking = asyncio.create_task(gate.ask("a", {"epoch": 1}))
        assert await asyncio.wait_for(gate.asked("a"), 5) == {"epoch": 1}
        await gate.let_pass("a")
        await asyncio.wait_for(asking, 5)
        assert not dead.done()
        dead.cancel()

    asyncio.run(story())


def test_stopped_trials_are_done_only_while_the_sweep_has_a_scheduler(
    make_spec, expand_digits, tmp_path
):
    from raysweep.recording.recorder import Recorder

    trials = expand_digits(make_spec())
    one, other = trials[0].trial_id, trials[1].trial_id
    recorder = Recorder(tmp_path, SweepRecord(), trials, {}, pruned=True)
    recorder.claim(one)
    recorder.use([one], "group")
    assert recorder.groups() == {"group"}
    assert recorder.stop(one, {"epochs_run": 2}) == "group"
    assert recorder.stop(one, {"epochs_run": 2}) == "group"  # told once more
    assert recorder.stop(other, {}) is None  # it never started
    assert recorder.groups() == set()
    assert (recorder.progress().done, recorder.progress().stopped) == (1, 1)
    recorder.close()
    store = Store(tmp_path)
    assert done_trials(store) == set()
    assert done_trials(store, pruned=True) == {one}
