"""`raysweep recipes`: the sweeps that ship."""

from typing import Annotated

import typer

from raysweep.cli.words import say


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
        say(f"{recipe:{width}}  {recipes.summary(recipe)}")
