"""What a person types to get what a report misses."""

import shlex
from pathlib import Path

from analysis.results import Analysis

BUDGET = ("--max-hours", "--max-trials")  # of one invocation; the next one has its own


def run_again(analysis: Analysis, *options: str) -> str:
    """`raysweep run ...` with these options in place of its own, in backticks; without the
    command that made the trials, only their names."""
    command = [str(word) for word in analysis.record.get("command", [])]
    if len(command) < 2 or Path(command[0]).name != "raysweep" or command[1] != "run":
        command = ["raysweep", "run", "..."]
    kept: list[str] = []
    words = iter(command[2:])
    for word in words:
        if (word == "--seeds" and "--seeds" in options) or word in BUDGET:
            next(words, None)
        elif not word.startswith(tuple(f"{option}=" for option in BUDGET)) and word != "--dry-run":
            kept.append(word)
    return f"`{shlex.join(['raysweep', 'run', *kept, *options])}`".replace("'...'", "...")


def num_seeds(analysis: Analysis) -> int:
    """Seeds per configuration, as planned."""
    return len(analysis.record["spec"]["seeds"])


def more_seeds(analysis: Analysis) -> str:
    """The command with enough seeds to compare, or twice as many."""
    return run_again(analysis, "--seeds", str(max(3, 2 * num_seeds(analysis))))
