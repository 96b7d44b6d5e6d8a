"""What a person types to get what a report misses."""

import re
import shlex
from pathlib import Path

from analysis.results import Analysis

_BUDGET = ("--max-hours", "--max-trials")  # of one invocation; the next one has its own


def without_folders(word: str) -> str:
    """A word of a command with the last name of a whole path alone.

    A page that is sent on tells nobody's folders: `/home/me/x.yaml` becomes `x.yaml`.
    """
    return re.sub(r"(^|[=,]|: )(?:file://)?[~]?/(?:[^\s/]+/)*(?=[^\s/]*)", r"\1", word)


def run_again(analysis: Analysis, *options: str) -> str:
    """Write `raysweep run ...` with these options in place of its own, in backticks.

    Where the command that made the trials is not known, three dots stand for it.
    """
    command = [without_folders(str(word)) for word in analysis.record.get("command", [])]
    if len(command) < 2 or Path(command[0]).name != "raysweep" or command[1] != "run":
        command = ["raysweep", "run", "..."]
    others: list[str] = []
    words = iter(command[2:])
    for word in words:
        if (word == "--seeds" and "--seeds" in options) or word in _BUDGET:
            next(words, None)
        elif not word.startswith(tuple(f"{option}=" for option in _BUDGET)) and word != "--dry-run":
            others.append(word)
    return f"`{shlex.join(['raysweep', 'run', *others, *options])}`".replace("'...'", "...")


def enough_seeds(analysis: Analysis) -> int:
    """Count the seeds per configuration that would do: 3, or twice as many as were planned."""
    return max(3, 2 * len(analysis.record["spec"]["seeds"]))


def more_seeds(analysis: Analysis) -> str:
    """Write the command with enough seeds."""
    return run_again(analysis, "--seeds", str(enough_seeds(analysis)))
