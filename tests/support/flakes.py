"""Runs the tests that use a Ray several times beside busy loops, and prints what failed how often.

    python -m tests.support.flakes --rounds 3 --busy 2

A test that fails here now and then is a fault, in the test or in what it tests.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
TESTS = ["-m", "ray or cluster", "-n", "2", "--dist", "loadgroup"]


def one_round(results: Path, asked: list[str]) -> tuple[int, list[str]]:
    """(number of tests that ran, names of those that failed) of one run."""
    command = [sys.executable, "-m", "pytest", *TESTS, f"--junitxml={results}", *asked]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code not in (0, 1):
        sys.exit(f"pytest ended with code {code}")
    cases = [
        case for case in ElementTree.parse(results).iter("testcase") if case.find("skipped") is None
    ]
    bad = [
        case for case in cases if case.find("failure") is not None or case.find("error") is not None
    ]
    return len(cases), [f"{case.get('classname')}::{case.get('name')}" for case in bad]


def main() -> None:
    """From the command line; further arguments go to pytest."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, default=2, help="busy loops beside them")
    asked, more = parser.parse_known_args()
    loops = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(asked.busy)
    ]
    failures: Counter[str] = Counter()
    num_tests = 0
    try:
        with tempfile.TemporaryDirectory() as folder:
            for number in range(asked.rounds):
                num_tests, failed = one_round(Path(folder) / f"{number}.xml", more)
                failures.update(failed)
                print(f"round {number + 1} of {asked.rounds}: {len(failed)} failed", flush=True)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    print(
        f"{num_tests} tests, {asked.rounds} rounds, {asked.busy} busy loops beside them:", end=" "
    )
    print(f"{sum(failures.values())} failures")
    for name, times in failures.most_common():
        print(f"  {times} of {asked.rounds}: {name}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
