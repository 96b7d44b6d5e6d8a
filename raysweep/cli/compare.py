"""`raysweep compare`: two sweeps side by side."""

import json
from typing import Annotated

import typer

from raysweep.cli.words import count, say
from raysweep.installed import load_analysis


def compare(
    first: Annotated[str, typer.Argument(help="Folder or URI of results, or a log.")],
    second: Annotated[str, typer.Argument(help="What is compared with it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON alone.")] = False,
) -> None:
    """Say what changed from one sweep to another, and what that did, paired where trials match."""
    load_analysis()
    from analysis import analyze
    from analysis.claims.two_sweeps import as_dict, as_lines, compare_sweeps

    analyses = [analyze(source) for source in (first, second)]
    found = compare_sweeps(*analyses)
    if as_json:
        say(json.dumps(as_dict(found), allow_nan=False, indent=1))
        return
    for word, source, analysis in zip(("first", "second"), (first, second), analyses, strict=True):
        name, trials = analysis.record["spec"]["name"], count(analysis.trials.height, "trial")
        say(f"{word}: {source} ({name}, {trials})")
    for line in as_lines(found):
        say(line)
