"""A trial that sends nothing any more is found by what its own epochs take, and no other is."""

import pytest

from raysweep.recording.pace import FIRST_ROW_S, STILL_EPOCHS, STILL_S, Pace


def still(pace, now, *ids):
    return [trial.trial_id for trial in pace.standing(dict.fromkeys(ids, "pid 1 on vm"), now)]


@pytest.mark.parametrize("epoch_s", [0.1, 5.0, 100.0])
def test_a_trial_stands_still_after_many_of_its_usual_epochs(epoch_s):
    pace = Pace()
    pace.begin("a", 0.0)
    for epoch in range(1, 11):
        pace.hear("a", 1, epoch * epoch_s)
        assert not still(pace, epoch * epoch_s, "a")
    limit = max(STILL_S, STILL_EPOCHS * epoch_s)
    assert not still(pace, 10 * epoch_s + limit, "a")
    assert still(pace, 10 * epoch_s + limit + 1, "a") == ["a"]
    (found,) = pace.standing({"a": "pid 1 on vm"}, 10 * epoch_s + limit + 1)
    assert found.usual_s == pytest.approx(epoch_s)
    pace.hear("a", 1, 10 * epoch_s + limit + 2)
    assert not still(pace, 10 * epoch_s + limit + 3, "a")


def test_before_its_first_row_a_trial_is_judged_by_the_slowest_other_one():
    pace = Pace()
    pace.begin("slow", 0.0)
    pace.hear("slow", 2, 40.0)  # 20 s each
    pace.end("slow")
    pace.begin("fast", 40.0)
    pace.hear("fast", 10, 50.0)
    pace.begin("new", 50.0)
    pace.hear("fast", 300, 440.0)
    assert not still(pace, 449.0, "new", "fast")
    assert still(pace, 451.0, "new", "fast") == ["new"]


def test_where_no_epoch_is_known_patience_is_long():
    pace = Pace()
    pace.begin("a", 0.0)
    assert not still(pace, FIRST_ROW_S, "a")
    assert still(pace, FIRST_ROW_S + 1, "a") == ["a"]


def test_a_claim_of_an_earlier_recorder_counts_from_when_this_one_first_looks():
    pace = Pace()
    assert not still(pace, 5000.0, "a")
    assert not still(pace, 5000.0 + FIRST_ROW_S, "a")
    assert still(pace, 5001.0 + FIRST_ROW_S, "a") == ["a"]
