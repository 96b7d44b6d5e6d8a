"""Prints a line to the terminal, and counts nouns."""

import typer


def say(line: str, *, err: bool = False) -> None:
    """Print a line, to standard error if `err`."""
    typer.echo(line, err=err)


def count(number: int, noun: str) -> str:
    """Write a number before its noun, in the plural where that is due."""
    return f"{number} {noun}{'s' * (number != 1)}"
