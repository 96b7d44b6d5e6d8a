"""`raysweep init`: write a sweep and a task that run as they are, to be filled in."""

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from raysweep.cli.words import say
from raysweep.errors import InputError, did_you_mean, shown

_SWEEP, _TASK = "my_sweep.yaml", "my_task.py"


def kinds() -> list[str]:
    """List the kinds of training that there is a start for, the simplest one first."""
    files = resources.files("raysweep").joinpath("templates").iterdir()
    found = [file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")]
    return sorted(found, key=lambda kind: (kind != "classes", kind != "regression", kind))


def init(
    folder: Annotated[Path, typer.Argument(help="Where the two files go.")] = Path(),
    kind: Annotated[
        str, typer.Option(help="What is trained: classes, regression or huggingface.")
    ] = "classes",
) -> None:
    """Write a sweep file and a task that run as they are, as a start for your own."""
    if kind not in kinds():
        raise InputError(
            f"--kind {shown(kind)} is unknown{did_you_mean(kind, kinds())} "
            f"Allowed: {', '.join(kinds())}"
        )
    for name in (_SWEEP, _TASK):
        if (folder / name).exists() or (folder / name).is_symlink():
            raise InputError(
                f"{folder / name} exists, and is not written over; name another folder"
            )
    templates = resources.files("raysweep").joinpath("templates")
    names = {"{name}": "mine", "{module}": Path(_TASK).stem}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, template in ((_SWEEP, f"{kind}.yaml"), (_TASK, f"{kind}.py.txt")):
            text = templates.joinpath(template).read_text(encoding="utf-8")
            for mark, value in names.items():
                text = text.replace(mark, value)
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder} can't be written to: {error.strerror}") from error
    sweep = folder / _SWEEP
    say(f"{sweep} and {folder / _TASK} are written, and run as they are:")
    say(f"  raysweep check {sweep}")
    say(f"  raysweep run {sweep}")
