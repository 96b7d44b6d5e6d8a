"""`raysweep report`: the report of a store, or of a log that any tool wrote."""

from pathlib import Path
from typing import Annotated, Any

import typer

from raysweep.cli.words import say
from raysweep.errors import InputError
from raysweep.installed import load_analysis

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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is understood of a log; write nothing.")
    ] = False,
) -> None:
    """Write the report of a store's latest sweep again, or of a log that any tool wrote."""
    from raysweep.store.files import Store

    load_analysis()
    from analysis import analyze, read_curves, write_report
    from analysis.sources.frames import is_log

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
        log = read_curves(logs, **options)
        say(str(log))
        if dry_run:
            return
        parts.append(log)
    found = analyze(parts)
    one_store = len(parts) == 1 and not logs
    place = parts[0].report if one_store else Path("report.html")
    written = write_report(found, output or place)
    say(f"report: {written.resolve()}")


def _pair(setting: str) -> tuple[str, str]:
    ours, sign, theirs = setting.partition("=")
    if not sign:
        raise InputError(f"--column {setting!r}: ROLE=NAME is expected")
    return ours, theirs
