"""Progress: one live block on a terminal, plain lines elsewhere."""

import io

from rich.console import Console

from raysweep.recording.state import Progress
from raysweep.running.progress import Display, describe_point, duration
from raysweep.spec import EarlyStopping

MIDDLE = Progress(
    planned=10,
    done=4,
    running=2,
    diverged=1,
    stopped=0,
    failures=(),
    best_point={"batch_size": 32, "learning_rate": 1e-3},
    best_accuracy=0.91234,
    best_num_seeds=3,
)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_off_a_terminal_a_plain_line_comes_every_10_seconds():
    clock, out = Clock(), io.StringIO()
    with Display(Console(file=out), done_before=0, clock=clock) as display:
        for clock.now in range(26):
            display.show(MIDDLE)
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("4 of 10 trials done, 2 running, 1 diverged; 0:10")
    assert (
        "91.2 % at the last epoch, mean of 3 seeds: batch_size=32 learning_rate=0.001" in lines[0]
    )


def test_on_a_terminal_a_block_is_drawn_and_cleared():
    clock, out = Clock(), io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with Display(console, done_before=0, clock=clock) as display:
        display.show(MIDDLE)
    assert "4 of 10 trials done" in out.getvalue()
    assert "\x1b[" in out.getvalue()


def test_the_time_left_follows_the_pace_after_start_up():
    clock = Clock()
    with Display(Console(file=io.StringIO()), done_before=2, clock=clock) as display:
        clock.now = 20.0
        display.lines(MIDDLE._replace(done=3))  # the first of this run, after a slow start
        clock.now = 24.0
        (counts, _) = display.lines(MIDDLE._replace(done=5))
    assert "about 0:10 left" in counts  # 5 to go at 2 s each


def test_what_the_scheduler_stopped_and_the_rest_of_the_budget_are_said():
    clock = Clock()
    display = Display(
        Console(file=io.StringIO()), done_before=0, to_train=6, seconds=60.0, clock=clock
    )
    clock.now = 10.0
    display.lines(MIDDLE._replace(done=1))
    clock.now = 16.0
    counts, _ = display.lines(MIDDLE._replace(stopped=2))
    assert "2 stopped by the scheduler" in counts
    assert "about 0:04 left; the budget ends in 0:44" in counts  # 2 of 6 to go, at 2 s each


def test_words():
    assert [duration(s) for s in (5, 65, 3725)] == ["0:05", "1:05", "1:02:05"]
    rule = EarlyStopping(patience=7)
    assert describe_point({"early_stopping": rule}) == "early_stopping=val_loss/7"
    assert describe_point({}) == "the base trial"
