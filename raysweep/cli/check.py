"""`raysweep check`: try one batch of each model of a sweep before anything is trained."""

from typing import Annotated

import typer

from raysweep.cli.words import count, say
from raysweep.installed import needs_run

_SET_HELP = "Change one thing of the sweep: a dotted path and a YAML value, base.epochs=10."


def check(
    target: Annotated[str, typer.Argument(help="A recipe's name or a sweep file.")] = "digits",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help=_SET_HELP)
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="N|+N", help="Number of seeds, or of further ones.")
    ] = None,
) -> None:
    """Try one batch of each model of a sweep, and say what is wrong with it."""
    with needs_run("raysweep check"):
        from raysweep.checking.check import check as tried

    found = tried(target, settings or [], seeds)
    if not found.errors:
        suspicions = f"; {count(len(found.warnings), 'warning')}" if found.warnings else ""
        say(f"nothing keeps {target} from being trained{suspicions}")
    for line in found.warnings:
        say(f"warning: {line}")
    for line in found.said:
        say(f"  {line}")
    for line in found.errors:
        say(f"raysweep: {line}", err=True)
    if found.errors:
        raise typer.Exit(2)
