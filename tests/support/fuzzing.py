"""What the fuzz tests share: how long they run, what may come out, and odd values.

`HYPOTHESIS_PROFILE=long` runs thousands of cases from `--hypothesis-seed`; without it a few fixed
ones run, the same everywhere.
"""

import os
import resource
import signal
from contextlib import contextmanager

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from raysweep.errors import RaysweepError

CPU_SECONDS = 30  # of one case; more is a hang
MAX_GROWTH_KB = 1_500_000  # of the memory of this process, in all cases together
SCALE = float(os.environ.get("FUZZ_SCALE", "1"))
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
# The clock of a busy machine says nothing, so CPU time is watched instead; explaining a failure
# traces every line, which takes longer than all the rest.
QUIET = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [phase for phase in Phase if phase != Phase.explain],
}


def cases(short, long):
    """Settings of a test: how many cases in `make test`, and how many in `make fuzz`."""
    if LONG:
        return settings(max_examples=max(1, int(long * SCALE)), print_blob=True, **QUIET)
    return settings(max_examples=short, derandomize=True, database=None, **QUIET)


@contextmanager
def _bounded():
    def stop(number, frame):
        raise AssertionError(f"a case took more than {CPU_SECONDS} s of CPU time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


_AT_START = []


def outcome(call):
    """The result of a call, or the RaysweepError that refused it: nothing else may come out.

    The error is one line of bounded length; time and memory are bounded too.
    """
    if not _AT_START:
        _AT_START.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    with _bounded():
        try:
            result = call()
        except RaysweepError as error:
            result = error
    if isinstance(result, RaysweepError):
        assert "\n" not in str(result), str(result)
        assert 0 < len(str(result)) < 3000, str(result)[:200]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - _AT_START[0]
    assert grown < MAX_GROWTH_KB, f"memory grew by {grown} KB"
    return result


TEXTS = st.one_of(
    st.sampled_from(
        [
            "",
            " ",
            "\0",
            "\ud800",
            "\n",
            "../..",
            "/etc/passwd",
            "a" * 5000,
            "é",
            "\u202e",
            "<b>",
            "</script>",
            "{{7*7}}",
            "NaN",
            "nan",
            "-inf",
            "null",
            "true",
            "0x10",
            "1e400",
            "_",
            "=",
        ]
    ),
    st.text(max_size=8),
)
NUMBERS = st.one_of(
    st.sampled_from(
        [
            0,
            1,
            -1,
            2,
            10**9,
            10**12,
            2**31 - 1,
            2**31,
            2**53 + 1,
            2**63 - 1,
            2**63,
            -(2**63) - 1,
            2**64,
            10**30,
            10**400,
            0.5,
            -0.0,
            5e-324,
            1e-310,
            1e308,
            1e-3,
            float("nan"),
            float("inf"),
            float("-inf"),
        ]
    ),
    st.integers(-3, 40),
    st.floats(),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def damaged(draw, body):
    """Bytes with a few cuts, flipped bits, repeated or foreign stretches."""
    body = bytearray(body)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["cut", "flip", "drop", "repeat", "insert", "zero"]))
        place = draw(st.integers(0, max(len(body) - 1, 0)))
        length = draw(st.sampled_from([1, 2, 4, 8, 64]))
        if kind == "cut":
            del body[place:]
        elif kind == "flip" and body:
            body[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "drop":
            del body[place : place + length]
        elif kind == "repeat":
            body[place:place] = body[place : place + length] * draw(st.integers(1, 4))
        elif kind == "insert":
            body[place:place] = draw(st.binary(min_size=1, max_size=8))
        else:
            body[place : place + length] = bytes(len(body[place : place + length]))
    return bytes(body)
