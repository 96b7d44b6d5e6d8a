"""Budgets: a sweep that is trained in parts, each of which can be analysed."""

import re
import shlex
import threading
from collections import Counter

import pytest

from analysis import analyze
from raysweep.cli import run_command_line
from raysweep.errors import InputError
from raysweep.planning import packs
from raysweep.planning.budget import Budget
from raysweep.running.sweep import run_sweep
from raysweep.store.files import Store
from tests.support.commands import run
from tests.support.interrupted import assert_nothing_is_left, held

SEEDS = (5, 0, 1)


@pytest.fixture
def trials(make_spec, expand_digits):
    axes = {"learning_rate": [0.01, 0.1], "dropout": [0.0, 0.1, 0.2]}
    return expand_digits(make_spec(axes=axes, seeds=list(SEEDS)))


def test_first_seeds_of_all_configurations_come_before_second_ones(trials):
    first, second = Budget(max_trials=8).waves(trials, SEEDS)
    assert [len(first), len(second)] == [6, 2]
    assert {trial.seed for trial in first} == {5}  # in the order of the spec
    assert {trial.seed for trial in second} == {0}
    assert len({trial.config_id for trial in first}) == 6


def test_the_parts_of_a_sweep_make_up_the_whole(trials):
    done, parts = set(), []
    while left := [trial for trial in trials if trial.trial_id not in done]:
        part = [trial for wave in Budget(max_trials=5).waves(left, SEEDS) for trial in wave]
        done |= {trial.trial_id for trial in part}
        parts.append(part)
        seeds = Counter(trial.config_id for one in parts for trial in one)
        assert max(seeds.values()) - min(seeds.values() if len(seeds) == 6 else [0]) <= 1
    assert list(map(len, parts)) == [5, 5, 5, 3]
    assert [t for wave in Budget(max_hours=1).waves(trials, SEEDS) for t in wave] == [
        t for part in parts for t in part
    ]
    assert Budget().waves(trials, SEEDS) == [trials]


def test_packs_can_keep_the_order_given(trials):
    planned = packs.plan(
        trials, lambda trial: float(trial.seed), slots=2, start_s=0.0, longest_first=False
    )
    assert [trial for pack in planned for trial in pack] == trials


def test_how_many_trials_end_within_a_time(trials):
    planned = [trials[:4], trials[4:6], trials[6:8]]

    def ended(limit_s):
        return packs.done_within(planned, lambda trial: 1.0, 2, limit_s)

    # One slot trains 4, the other 2 and 2.
    assert [ended(limit_s) for limit_s in (0.5, 1.0, 2.0, 3.0, 9.0)] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget(max_hours=0), "--max-hours 0: a number of hours above 0"),
        (Budget(max_hours=float("nan")), "--max-hours nan"),
        (Budget(max_trials=0), "--max-trials 0: at least one"),
    ],
)
def test_a_budget_of_nothing_is_refused(budget, message):
    with pytest.raises(InputError, match=message):
        budget.check()


def test_a_dry_run_says_what_the_budget_buys(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["run", "--dry-run", "--address", "local", "--max-hours", "0.01", "--max-trials", "40"]
    with pytest.raises(SystemExit) as end:
        run_command_line([*words, "--set", "scheduler=asha"])
    out = capsys.readouterr().out
    assert not end.value.code
    assert "budget: 40 of these 108 trials" in out
    assert re.search(r"it stops after 0:36 \(--max-hours\), with about \d+ trials trained", out)
    assert "asha stops trials at epochs 5, 15, 45, by val_accuracy" in out
    assert list(tmp_path.iterdir()) == []


def assert_tune_has_ended():
    """A sweep waits for Tune for seconds at most; a busy machine needs more."""
    (*threads,) = (thread for thread in threading.enumerate() if "(schedule)" in thread.name)
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


LONG = {"task": "odd_tasks:slow", "base": {"epochs": 400}, "axes": {"width": [8, 16]}}


@pytest.mark.usefixtures("local_ray")
def test_max_hours_ends_a_pack_in_its_middle(make_spec, tmp_path):
    before = held()
    store, seconds = Store(tmp_path), 8.0
    while not store.read("epochs").num_rows:  # of a stopped trial; a busy machine needs more time
        seconds *= 2
        result = run_sweep(make_spec(**LONG), store, max_hours=seconds / 3600)
        assert (result.trained, result.left, result.failures) == (0, 4, ())
        assert_tune_has_ended()
    assert_nothing_is_left(before)


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("workers", [1, 2])
def test_whatever_ends_a_sweep_leaves_no_process_and_no_placement_group(
    make_spec, tmp_path, workers
):
    before = held()

    def show(progress):
        if progress.running:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        run_sweep(make_spec(**LONG, resources={"workers": workers}), tmp_path, show=show)
    assert_tune_has_ended()
    assert_nothing_is_left(before)


def test_a_spent_budget_leaves_a_report_and_the_command_that_trains_the_rest(shared_ray, tmp_path):
    axes = "axes={learning_rate: [0.01, 0.1]}"
    words = ["run", "digits", "--address", shared_ray.address, "--set", "base.epochs=12"]
    words += ["--set", axes, "--seeds", "2"]
    part = run(*words, "--max-trials", "3", "--max-hours", "1", cwd=tmp_path)
    assert part.returncode == 0, part.stderr
    *_, last = part.stdout.splitlines()
    assert "the budget is spent; 1 of 4 trials are left" in last
    store = Store(tmp_path / "results" / "digits")
    seeds = Counter(row["seed"] for row in store.read("trials").to_pylist())
    assert seeds == {0: 2, 1: 1}
    assert analyze(store.root).trials.height == 3
    assert store.report.exists()
    assert "report: " in part.stdout

    said = shlex.split(last.rpartition("trains them: ")[2])
    assert said[0] == "raysweep"
    assert sorted(said[1:]) == sorted(words)
    rest = run(*said[1:], cwd=tmp_path)
    assert rest.returncode == 0, rest.stderr
    assert "trained 1 trial" in rest.stdout
    ends = store.read("trials").to_pylist()
    assert len({row["trial_id"] for row in ends}) == len(ends) == 4
