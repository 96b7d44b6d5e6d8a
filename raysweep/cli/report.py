"""`raysweep report`: the answer of a store, or of a log that any tool wrote, and its page."""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raysweep.cli.words import say
from raysweep.errors import InputError, did_you_mean
from raysweep.installed import load_analysis

if TYPE_CHECKING:
    from analysis import Answer

FOUND, CANT_BE_JUDGED = 1, 4  # exit codes of --fail-on

_COLUMN_HELP = "What a name in a log is: val_accuracy=my_metric."


def report(
    sources: Annotated[
        list[str],
        typer.Argument(help="Folders or URIs of results; or logs of any tool; - reads a paste."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "--out", help="Default: report.html, in the store or here."),
    ] = None,
    columns: Annotated[
        list[str] | None, typer.Option("--column", metavar="ROLE=NAME", help=_COLUMN_HELP)
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="The settings that tell a log's configurations apart."),
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The column that is the seed; run: every run is one."),
    ] = None,
    trial: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column that tells runs apart.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A name in a log that is nothing.")
    ] = None,
    percent: Annotated[
        bool | None,
        typer.Option("--percent/--fraction", help="What a log's accuracies are."),
    ] = None,
    num_val: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Examples in the validation set.")
    ] = None,
    epoch_zero: Annotated[
        str | None, typer.Option(metavar="untrained|first", help="What epoch 0 of a log is.")
    ] = None,
    score: Annotated[
        str | None, typer.Option(metavar="NAME", help="The score to take, where there are several.")
    ] = None,
    lower_is_better: Annotated[
        bool | None,
        typer.Option("--lower-is-better/--higher-is-better", help="Where its name doesn't say."),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the answer as JSON and write no page without --out."),
    ] = False,
    fail_on: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Exit code 1 where that is found, such as overfitting,diverged."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is understood of a log; write nothing.")
    ] = False,
) -> None:
    """Say what a store's latest sweep says, or a log that any tool wrote, and write its page."""
    from raysweep.store.files import Store

    load_analysis()
    from analysis import analyze, read_curves
    from analysis.sources.frames import is_log

    unwanted = _findings(fail_on)
    logs = [source for source in sources if is_log(source)]
    options: dict[str, Any] = {
        "columns": dict(map(_pair, columns or [])),
        "config": config.split(",") if config else None,
        "seed": seed,
        "trial": trial,
        "ignore": ignore or [],
        "percent": percent,
        "num_val": num_val,
        "epoch_zero": epoch_zero,
        "score": score,
        "lower_is_better": lower_is_better,
    }
    if len(logs) < len(sources):
        given = [name for name, value in options.items() if value not in (None, [], {})]
        if given or dry_run:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given) or "--dry-run"
            raise InputError(f"{names.replace('columns', 'column')}: for logs, not for stores")
    parts: list[Any] = [Store.existing(source) for source in sources if source not in logs]
    if logs:
        with _passed_on(as_json=as_json):
            log = read_curves(logs, **options)
        if dry_run:
            say(str(log))
            return
        parts.append(log)
        if not as_json:
            say(f"{log.understood.heading}\n")
    found = analyze(parts)
    answer = found.answer
    if as_json:
        say(json.dumps(answer.as_dict(), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        say(f"{answer}\n")
    if output is not None or not as_json:
        from analysis import write_report  # draws, which an answer alone need not wait for

        one_store = len(parts) == 1 and not logs
        place = parts[0].report if one_store else Path("report.html")
        written = write_report(found, output or place)
        say(f"report: {written.resolve()}", err=as_json)
    _judge(answer, unwanted)


@contextlib.contextmanager
def _passed_on(*, as_json: bool) -> Iterator[None]:
    """What comes through a pipe goes on to standard output; to the other one, where JSON alone is
    wanted."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield


def _findings(names: str | None) -> list[str]:
    """What --fail-on names. Raises: InputError where nothing is called so."""
    from analysis.answer.answer import Finding

    asked = [name.strip() for name in (names or "").split(",") if name.strip()]
    known = [str(one) for one in Finding]
    for name in asked:
        if name not in known:
            hint = did_you_mean(name, known)
            raise InputError(f"--fail-on {name!r}{hint} It can be: {', '.join(known)}")
    return asked


def _judge(answer: "Answer", unwanted: Sequence[str]) -> None:
    """Exit with 1 where something unwanted was found, with 4 where it can't be judged."""
    for name in unwanted:
        whose = [run.name for run in answer.runs if name in run.findings]
        if whose:
            say(f"raysweep: {name}: {', '.join(whose[:5])}", err=True)
            raise typer.Exit(FOUND)
    unknown = [name for name in unwanted if name in answer.open]
    if unknown:
        say(f"raysweep: can't be judged: {', '.join(unknown)}", err=True)
        raise typer.Exit(CANT_BE_JUDGED)


def _pair(setting: str) -> tuple[str, str]:
    ours, sign, theirs = setting.partition("=")
    if not sign:
        raise InputError(f"--column {setting!r}: ROLE=NAME is expected")
    return ours, theirs
