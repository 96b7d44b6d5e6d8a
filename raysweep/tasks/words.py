"""What a task says beside loading data and building a model, checked when the task is found."""

from pydantic import ValidationError

from raysweep.errors import InputError, shown
from raysweep.spec import Hyperparameters
from raysweep.tasks.definition import Task

_FUNCTIONS = ("loss", "score", "optimizer", "augment", "prepare")
_NUMBERS = ("baseline", "margin")


def check_words(task: Task) -> None:
    """Check the words of a task.

    Raises: InputError naming the word, its value and what is needed.
    """
    for name in _FUNCTIONS:
        value = getattr(task, name)
        if value is not None and not callable(value):
            raise InputError(f"{name} = {shown(value)}: a function is needed")
    for name in _NUMBERS:
        value = getattr(task, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InputError(f"{name} = {shown(value)}: a number is needed")
    if not (task.score_name is None or (isinstance(task.score_name, str) and task.score_name)):
        raise InputError(f"score_name = {shown(task.score_name)}: a text is needed")
    check_hyperparameters(task.hyperparameters)


def check_hyperparameters(kind: object) -> None:
    """Check the class of a trial's fields. Raises: InputError."""
    if not isinstance(kind, type) or not issubclass(kind, Hyperparameters):
        raise InputError(
            f"hyperparameters = {shown(kind)}: a class is needed that begins with "
            "class Trial(Hyperparameters)"
        )
    try:
        kind()
    except ValidationError as error:
        name = ".".join(map(str, error.errors()[0]["loc"]))
        raise InputError(
            f"hyperparameters: field {name!r} of {kind.__name__} needs a valid default: "
            f"{error.errors()[0]['msg']}"
        ) from None
