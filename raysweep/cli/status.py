"""`raysweep status`: how far the latest sweep of a store has come."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from raysweep.cli.words import say
from raysweep.errors import InputError

if TYPE_CHECKING:
    from raysweep.store.files import Store

_WATCH_S = 2.0  # between two looks at a store


def status(
    store: Annotated[str, typer.Argument(help="Folder or URI of the results.")],
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on until every trial of the sweep has ended.")
    ] = False,
) -> None:
    """Say how far the latest sweep of a store has come."""
    from raysweep.store.files import Store

    place = Store.existing(store)
    said, num_missing = _state(place)
    for line in said:
        say(line)
    while watch and num_missing:
        time.sleep(_WATCH_S)
        before, (said, num_missing) = said, _state(place)
        for line in said:
            if line not in before:  # a line again only when it says something new
                say(line)


def _state(place: "Store") -> tuple[list[str], int]:
    """Lines about the latest sweep, and how many of its trials have not ended."""
    sweeps = place.sweeps()
    said = [f"{place.root}/{path} can't be used: {reason}" for path, reason in place.damaged()]
    if not sweeps:
        for line in said:
            say(line)
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
    said.append(f"{latest.spec['name']}: {len(planned)} trials planned: {', '.join(kinds)}")
    said.append(f"started {latest.started_at}, invocation {len(sweeps)} of this store")
    others = set(ended) - planned
    if others:
        said.append(f"{len(others)} further trials, of other sweeps, are in this store")
    if place.report.exists():
        said.append(f"report: {place.report.resolve()}")
    return said, counts.count("missing")
