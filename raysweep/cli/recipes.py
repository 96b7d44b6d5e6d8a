"""`raysweep recipes`: the sweeps that ship, what each puts to the test, and how long it takes."""

from typing import Annotated

import typer

from raysweep.cli.words import count, say
from raysweep.errors import InputError
from raysweep.installed import needs_run


def list_recipes(
    name: Annotated[str | None, typer.Argument(help="Print this recipe's YAML.")] = None,
) -> None:
    """List the sweeps that ship, or print one as a start for your own."""
    from raysweep import recipes

    if name is not None:
        typer.echo(recipes.text(name), nl=False)
        return
    width = max(map(len, recipes.names()))
    for recipe in recipes.names():
        first, *more = recipes.summary(recipe)
        say(f"{recipe:{width}}  {first}")
        for line in [*more, _size(recipe)]:
            say(f"{'':{width}}  {line}")


def _size(recipe: str) -> str:
    """How many trials a recipe has, and how long they take on this machine, by their size."""
    from raysweep import recipes

    try:
        with needs_run("raysweep run"):
            spec = recipes.read(recipe)
            from raysweep.forecast import training_time
            from raysweep.planning.plan import make_plan
            from raysweep.store.files import Store

        plan = make_plan(spec, Store(f"results/{recipe}/of-no-sweep"))
        return f"{count(len(plan.trials), 'trial')}, {training_time(plan)}"
    except InputError as error:  # without torch, or without the recipe's data
        return str(error)
