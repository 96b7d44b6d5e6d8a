"""The command line: a module for each command, and what an error of one becomes."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import raysweep
from raysweep.cli.check import check
from raysweep.cli.compare import compare
from raysweep.cli.export import export
from raysweep.cli.init import init
from raysweep.cli.recipes import list_recipes
from raysweep.cli.report import report
from raysweep.cli.run import run
from raysweep.cli.status import status
from raysweep.cli.words import say
from raysweep.errors import RaysweepError

# Each command imports what is heavier than typer where it is used: --help must not wait for torch.

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Is it noise or overfitting? Train a grid with replicate seeds on Ray, and read a report.",
)
for command in (run, check, init, status, report, compare, export):
    app.command()(command)
app.command("recipes")(list_recipes)


def _say_version(wanted: bool) -> None:
    if wanted:
        say(f"raysweep {raysweep.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say which it is."),
    ] = False,
) -> None:
    """Take the options that belong to no command."""


def run_command_line(arguments: Sequence[str]) -> None:
    """Run one command and exit.

    The exit code is 0 when it is done, 1 when it failed or `--fail-on` found something, 2 for bad
    input, 3 when some trials failed, 4 when `--fail-on` can't be judged, 128 + n after signal n.
    """
    try:
        app(list(arguments), prog_name="raysweep")
    except RaysweepError as error:
        for note in getattr(error, "__notes__", []):  # what was understood of a log
            say(note, err=True)
        say(f"raysweep: {error}", err=True)
        if error.exit_code > 128 or error.leaves_threads:
            # Stopped in the midst: Tune's thread may still be inside Ray, and
            # tearing the interpreter down around it crashes now and then.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(error.exit_code)
        sys.exit(error.exit_code)
