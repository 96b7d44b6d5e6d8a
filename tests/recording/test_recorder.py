"""The recorder, without Ray: claims, charges, durability."""

import pytest

from raysweep.errors import one_line
from raysweep.recording.handle import RecorderHandle
from raysweep.recording.recorder import FLUSH_SECONDS, MAX_LOST_NODES, RETRIES, Recorder
from raysweep.store.done import done_trials, has_epochs
from raysweep.store.files import Store, StoreWriter
from raysweep.store.lease import SupersededError
from raysweep.store.record import SweepRecord
from raysweep.store.schema import packed, unpacked


class Clock:
    """Time that passes when told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def trials(make_spec, expand_digits):
    return expand_digits(make_spec())


@pytest.fixture
def start(tmp_path, trials, clock):
    """Starts a recorder, in the place of the last one: as a later invocation, or as the same one
    whose recorder has died."""
    last = []

    def start(*, again=False):
        invocation = last[-1].lease.holder.invocation if again else None
        if last and not again:
            last[-1].lease.end()
        arguments = tmp_path / "store", SweepRecord(), trials, {"task": "t"}, clock
        last.append(Recorder(*arguments, invocation=invocation))
        return last[-1]

    return start


def rows(trial_id, attempt, *epochs, start_epoch=1):
    key = {"trial_id": trial_id, "attempt": attempt, "start_epoch": start_epoch}
    made = [{**key, "epoch": epoch, "weights_kind": "raw"} for epoch in epochs]
    return packed(made)


OUTCOME = {"status": "completed", "seconds": 1.0, "epochs_run": 4}


def keys(store):
    table = store.read("epochs", ["trial_id", "attempt", "epoch"]).to_pylist()
    return sorted(tuple(row.values()) for row in table)


def finish(recorder, trial_id, accuracy=0.9, status="completed"):
    attempt = recorder.claim(trial_id)
    outcome = {"status": status, "seconds": 1.0, "epochs_run": 2}
    recorder.finish(trial_id, attempt, rows(trial_id, attempt, 1, 2), outcome, accuracy, None)


def test_a_trial_is_complete_only_when_its_rows_are_in_segments(start, trials, tmp_path):
    recorder, store = start(), Store(tmp_path / "store")
    first, second = trials[0].trial_id, trials[1].trial_id
    finish(recorder, first)
    assert done_trials(store) == {first}  # the first rows become a segment at once
    finish(recorder, second)
    assert done_trials(store) == {first}
    recorder.flush()
    assert done_trials(store) == {first, second}
    assert store.read("epochs").num_rows == 4


def test_segments_appear_by_themselves_after_a_while(start, trials, tmp_path, clock):
    recorder, store = start(), Store(tmp_path / "store")
    finish(recorder, trials[0].trial_id)
    finish(recorder, trials[1].trial_id)
    clock.now += FLUSH_SECONDS
    assert len(done_trials(store)) == 1
    recorder.progress()
    assert len(done_trials(store)) == 2


def test_what_is_done_is_not_to_do_for_this_recorder_and_the_next(start, trials):
    ids = [trial.trial_id for trial in trials]
    recorder = start()
    finish(recorder, ids[0], status="diverged")
    assert recorder.todo(ids) == ids[1:]
    recorder.close()
    assert start().todo(ids) == ids[1:]


def test_the_next_recorder_recovers_what_the_last_one_had_only_logged(start, trials):
    ids = [trial.trial_id for trial in trials]
    recorder = start()
    finish(recorder, ids[0])
    finish(recorder, ids[1])  # logged and never flushed: as if the process had died here
    assert start().todo(ids) == ids[2:]


def test_a_process_death_is_charged_to_the_claimed_trial_alone(start, trials):
    ids = [trial.trial_id for trial in trials]
    recorder = start()
    finish(recorder, ids[0])
    recorder.claim(ids[1])
    for attempt in (2, 3):  # its pack starts again: two more tries
        assert recorder.todo(ids) == ids[1:]
        assert recorder.claim(ids[1]) == attempt
    assert recorder.todo(ids) == ids[2:]
    (failure,) = recorder.progress().failures
    assert failure.trial_id == ids[1]
    assert "died, 3 times" in failure.error


def test_a_node_that_left_is_not_charged_even_where_that_is_known_only_later(start, trials):
    ids = [trials[0].trial_id]
    recorder = start()
    for spot in range(MAX_LOST_NODES):
        recorder.claim(ids[0], ["head", f"spot {spot}"])
        alive = ["head"] + [f"spot {spot}"] * (spot % 2)  # Ray notices some of them late
        assert recorder.todo(ids, alive) == ids
    for _ in range(2):
        recorder.claim(ids[0], ["head"])
        assert recorder.todo(ids, ["head"]) == ids
    recorder.claim(ids[0], ["head"])
    assert recorder.todo(ids, ["head"]) == []
    assert "died, 3 times" in recorder.progress().failures[0].error


def test_a_trial_that_loses_node_after_node_ends(start, trials):
    ids = [trials[0].trial_id]
    recorder = start()
    for _ in range(MAX_LOST_NODES):
        recorder.claim(ids[0], ["spot"])
        assert recorder.todo(ids, ["head"]) == ids
    recorder.claim(ids[0], ["spot"])
    assert recorder.todo(ids, ["head"]) == []
    assert "left, 21 times" in recorder.progress().failures[0].error


def test_one_checkpoint_is_kept_while_the_trial_runs(start, trials, tmp_path):
    trial_id, other = trials[0].trial_id, trials[1].trial_id
    recorder, there = start(), tmp_path / "store" / "resume"
    assert recorder.checkpoint(trial_id) is None
    attempt = recorder.claim(trial_id)
    recorder.append(rows(trial_id, attempt, 1, 2, 3))
    for epoch in (1, 2, 3):
        recorder.save_checkpoint(trial_id, attempt, epoch, b"%d" % epoch)
        assert [path.name for path in there.iterdir()] == [f"{trial_id}-1-{epoch}.pt"]
    recorder.save_checkpoint(trial_id, attempt - 1, 9, b"of an attempt that was given up")
    assert recorder.kept([trial_id, other]) == [trial_id]
    assert recorder.checkpoint(trial_id) == (3, b"3")
    again = start()  # its process died, and another invocation goes on
    assert again.kept([trial_id, other]) == [trial_id]
    assert again.checkpoint(trial_id) == (3, b"3")
    finish(again, trial_id)
    assert again.kept([trial_id]) == list(there.iterdir()) == []


def test_a_checkpoint_that_was_cut_off_goes_unless_others_may_be_writing(start, trials, tmp_path):
    recorder = start()
    recorder.claim(trials[0].trial_id)
    torn = tmp_path / "store" / "resume" / f".{trials[0].trial_id}-1-2.pt.4711.tmp"
    torn.write_bytes(b"half")
    start(again=True)  # workers of this invocation live
    assert torn.exists()
    start()
    assert not torn.exists()


def test_a_checkpoint_beyond_the_rows_in_the_store_is_not_used(start, trials, tmp_path):
    trial_id = trials[0].trial_id
    recorder = start()
    recorder.append(rows(trial_id, recorder.claim(trial_id), 1, 2, 4))
    recorder.save_checkpoint(trial_id, 1, 4, b"4")
    assert recorder.checkpoint(trial_id) is None
    assert recorder.kept([trial_id]) == list((tmp_path / "store" / "resume").iterdir()) == []
    (log,) = (tmp_path / "store" / "logs").iterdir()
    assert "not used: the store lacks rows" in log.read_text()


def test_epochs_count_as_there_only_while_they_are_live(start, trials, tmp_path):
    trial_id, store = trials[0].trial_id, Store(tmp_path / "store")
    recorder = start()
    recorder.claim(trial_id)
    recorder.append(rows(trial_id, 1, 1, 2, 3))
    recorder.claim(trial_id)
    recorder.append(rows(trial_id, 2, 3, 4, start_epoch=3))
    recorder.flush()
    assert has_epochs(store, trial_id, 4)
    assert not has_epochs(store, trial_id, 5)
    assert not has_epochs(store, trials[1].trial_id, 1)
    recorder.claim(trial_id)
    recorder.append(rows(trial_id, 3, 1, start_epoch=1))
    recorder.flush()
    assert has_epochs(store, trial_id, 1)
    assert not has_epochs(store, trial_id, 2)


def test_an_error_is_final_and_its_traceback_is_in_the_log(start, trials, tmp_path):
    recorder = start()
    attempt = recorder.claim(trials[0].trial_id)
    recorder.fail(trials[0].trial_id, attempt, "ValueError: no (on here)", "the traceback")
    assert trials[0].trial_id not in recorder.todo([trials[0].trial_id])
    (failure,) = recorder.progress().failures
    assert (tmp_path / "store" / failure.log).read_text() == "the traceback"
    recorder.close()
    table = Store(tmp_path / "store").read("trials").to_pylist()
    assert [(row["status"], row["error"]) for row in table] == [
        ("failed", "ValueError: no (on here)")
    ]
    assert start().todo([trials[0].trial_id])  # a later invocation tries again
    assert start().claim(trials[0].trial_id) == 2


def test_blame_falls_on_the_claimed_trial_if_there_is_one(start, trials):
    ids = [trial.trial_id for trial in trials]
    recorder = start()
    assert not recorder.blame(ids, "e", "d")
    recorder.claim(ids[2])
    assert recorder.blame(ids, "e", "d")
    assert recorder.todo(ids) == [ids[0], ids[1], ids[3]]


def test_calls_that_come_again_change_nothing_and_get_the_same_answer(start, trials, tmp_path):
    recorder, store = start(), Store(tmp_path / "store")
    first, second, third = (trial.trial_id for trial in trials[:3])
    assert recorder.claim(first, token="token") == recorder.claim(first, token="token") == 1
    for _ in range(2):
        recorder.append(rows(first, 1, 1, 2))
        recorder.append(rows(first, 1, 3))
        recorder.flush()
    for _ in range(2):
        recorder.finish(first, 1, rows(first, 1, 4), OUTCOME, 0.9, b"weights")
    recorder.append(rows(first, 1, 3))
    recorder.claim(second, token="other")
    assert recorder.blame([second], "ValueError: no", "d")
    assert recorder.blame([second], "ValueError: no", "d")
    recorder.claim(third, token="third")
    assert recorder.todo([third]) == recorder.todo([third]) == [third]
    assert recorder.claim(third, token="fourth") == 2  # charged once
    recorder.close()
    assert keys(store) == [(first, 1, epoch) for epoch in (1, 2, 3, 4)]
    assert store.read("trials").num_rows == 2


def test_rows_of_an_attempt_that_was_given_up_are_left_out(start, trials, tmp_path):
    recorder, trial_id = start(), trials[0].trial_id
    recorder.claim(trial_id)
    recorder.append(rows(trial_id, 1, 1))
    assert recorder.todo([trial_id]) == [trial_id]
    recorder.claim(trial_id)
    recorder.append(rows(trial_id, 1, 2))  # its process was taken for dead, and is not
    recorder.finish(trial_id, 1, rows(trial_id, 1, 3), OUTCOME, 0.9, None)
    assert recorder.progress().done == 0
    recorder.finish(trial_id, 2, rows(trial_id, 2, 1), OUTCOME, 0.9, None)
    recorder.close()
    store = Store(tmp_path / "store")
    assert keys(store) == [(trial_id, 1, 1), (trial_id, 2, 1)]
    assert store.read("trials", ["attempt"]).to_pylist() == [{"attempt": 2}]


def test_a_recorder_that_starts_again_stands_where_the_dead_one_stood(start, trials, tmp_path):
    ids = [trial.trial_id for trial in trials]
    recorder = start()
    finish(recorder, ids[0])
    finish(recorder, ids[1], status="diverged")
    recorder.claim(ids[2], token="token")
    recorder.append(rows(ids[2], 1, 1, 2))
    attempt = recorder.claim(ids[3])
    recorder.fail(ids[3], attempt, "ValueError: no", "d")
    before = recorder.progress()
    for _ in range(2):
        recorder = start(again=True)
        assert recorder.progress() == before._replace(num_rows=0)  # arrived at this one
        assert recorder.claim(ids[2], token="token") == 1
        recorder.append(rows(ids[2], 1, 1, 2))
    recorder.append(rows(ids[2], 1, 3))
    recorder.finish(ids[2], 1, rows(ids[2], 1, 4), OUTCOME, 0.9, None)
    recorder.close()
    store = Store(tmp_path / "store")
    expected = [(t, 1, epoch) for t in ids[:2] for epoch in (1, 2)]
    assert keys(store) == sorted(expected + [(ids[2], 1, epoch) for epoch in (1, 2, 3, 4)])
    assert store.read("trials").num_rows == 4
    assert len(store.sweeps()) == 1
    assert not list(store.log_folder.iterdir())


def test_deaths_are_counted_over_the_recorders_own(start, trials):
    trial_id = trials[0].trial_id
    start().claim(trial_id)
    for _ in range(RETRIES):
        assert start(again=True).todo([trial_id]) == [trial_id]
        start(again=True).claim(trial_id)
    assert start(again=True).todo([trial_id]) == []
    (failure,) = start(again=True).progress().failures
    assert f"died, {RETRIES + 1} times" in failure.error


def test_a_recorder_that_another_writer_superseded_stops(start, trials, tmp_path):
    recorder = start()
    trial_id = trials[0].trial_id
    recorder.claim(trial_id)
    new = StoreWriter(Store(tmp_path / "store"))
    with pytest.raises(SupersededError, match="another writer has taken over"):
        recorder.append(rows(trial_id, 1, 1))
    for call in (recorder.flush, recorder.progress):
        with pytest.raises(SupersededError):
            call()
    new.append("epochs", unpacked(rows(trials[1].trial_id, 1, 1)))
    new.flush()
    assert keys(Store(tmp_path / "store")) == [(trials[1].trial_id, 1, 1)]


def test_progress_names_the_best_configuration_by_its_seed_mean(start, trials):
    recorder = start()
    for trial, accuracy in zip(trials, (0.5, 0.7, 0.65, 0.65), strict=True):
        finish(recorder, trial.trial_id, accuracy)
    progress = recorder.progress()
    assert (progress.done, progress.planned, progress.running) == (4, 4, 0)
    assert progress.best_point == {"learning_rate": 0.1}
    assert progress.best_accuracy == pytest.approx(0.65)
    assert progress.best_num_seeds == 2


def test_a_sweep_that_nothing_can_train_is_told_so(start):
    recorder = start()
    assert recorder.progress().abandoned is None
    recorder.abandon("a group of 2 workers failed 3 times")
    assert recorder.progress().abandoned == "a group of 2 workers failed 3 times"


def test_the_handle_names_calls_that_the_recorder_answers():
    assert all(callable(getattr(Recorder, name)) for name in RecorderHandle.__annotations__)


def test_an_error_reads_as_one_line():
    assert one_line(ValueError("a\n  b"), "on rank 1") == "ValueError: a b (on rank 1)"
    assert one_line(KeyError(), "here") == "KeyError (here)"
    assert one_line(OSError("no")) == "OSError: no"


def test_an_error_is_a_line_of_a_bounded_length_whatever_it_says():
    class Mute(Exception):  # noqa: N818
        def __str__(self):
            raise AttributeError

    assert one_line(Mute(), "here") == "Mute (here)"
    said = one_line(ValueError("x\n" * 300_000), "on vm")
    assert said.endswith("... (599,999 characters) (on vm)")
    assert len(said) < 600
