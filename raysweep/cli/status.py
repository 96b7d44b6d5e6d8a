"""`raysweep status`: how far the latest sweep of a store has come."""

from typing import Annotated

import typer

from raysweep.cli.words import say
from raysweep.errors import InputError


def status(store: Annotated[str, typer.Argument(help="Folder or URI of the results.")]) -> None:
    """Say how far the latest sweep of a store has come."""
    from raysweep.store.files import Store

    place = Store.existing(store)
    sweeps, damaged = place.sweeps(), place.damaged()
    for path, reason in damaged:
        say(f"{place.root}/{path} can't be used: {reason}")
    if not sweeps:
        raise InputError(f"{place.root} holds no sweep yet: run one with that store first")
    latest = sweeps[-1]
    planned = {trial_id for trial_id, *_ in latest.trials}
    rows = place.read("trials", ["trial_id", "attempt", "status"]).sort_by("attempt").to_pydict()
    ended = dict(zip(rows["trial_id"], rows["status"], strict=True))
    counts = [ended.get(trial_id, "missing") for trial_id in planned]
    kinds = [
        f"{counts.count(kind)} {kind}"
        for kind in ("completed", "diverged", "stopped", "failed", "missing")
        if counts.count(kind)
    ]
    say(f"{latest.spec['name']}: {len(planned)} trials planned: {', '.join(kinds)}")
    say(f"started {latest.started_at}, invocation {len(sweeps)} of this store")
    others = set(ended) - planned
    if others:
        say(f"{len(others)} further trials, of other sweeps, are in this store")
    if place.report.exists():
        say(f"report: {place.report.resolve()}")
