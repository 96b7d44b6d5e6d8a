"""`raysweep export`: a store's results for other tools."""

from pathlib import Path
from typing import Annotated

import typer

from raysweep.cli.words import say
from raysweep.errors import InputError
from raysweep.installed import load_analysis


def export(
    store: Annotated[str, typer.Argument(help="Folder or URI of the results.")],
    to: Annotated[str, typer.Option(metavar="csv|parquet|tensorboard|mlflow", help="The form.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "--out", help="A new folder; default: <sweep>-<form>, here."),
    ] = None,
) -> None:
    """Write a store's latest sweep for another tool, each row once."""
    from raysweep.store.files import Store

    load_analysis()
    from analysis.sources.exports import export as write

    place = Store.existing(store)
    sweeps = place.sweeps()
    if not sweeps:
        raise InputError(f"{place.root} holds no sweep yet: run one with that store first")
    for line in write(place, to, output or Path(f"{sweeps[-1].spec['name']}-{to}")):
        say(line)
