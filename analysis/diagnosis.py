"""What a notebook holds -> its answer: `diagnose`."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.answer.answer import Answer
from analysis.results import analyze
from analysis.sources.logs.reading import read_values
from analysis.sources.logs.runs import Options
from raysweep.errors import InputError, shown

# What an argument is called in a log.
_NAMES = {
    "val_accuracy": "val_accuracy",
    "val_loss": "val_loss",
    "val_score": "val_score",
    "train_accuracy": "train_accuracy_running",
    "train_loss": "train_loss_running",
    "learning_rate": "learning_rate",
}


def diagnose(
    val_accuracy: Any = None,
    *,
    val_loss: Any = None,
    val_score: Any = None,
    train_accuracy: Any = None,
    train_loss: Any = None,
    learning_rate: Any = None,
    num_val: int | None = None,
    percent: bool | None = None,
    lower_is_better: bool | None = None,
    name: str = "this run",
) -> Answer:
    """Say what the curves of one run say: noise or overfitting, what to do, which epoch to keep.

    Args:
        val_accuracy: one value per evaluation, a list or an array, fractions or percent; or a dict
            of such lists with the names of any tool, such as Keras' `history.history`.
        val_loss: the mean validation loss of each evaluation.
        val_score: any other score of each evaluation, in its own unit, where there is no accuracy.
        train_accuracy: as accumulated while training.
        train_loss: as accumulated while training.
        learning_rate: the rate of each epoch; one number where the rate never changes.
        num_val: how many examples the validation set has.
        percent: whether accuracies are percentages, by default judged by their values.
        lower_is_better: whether a lower score is better; by default a higher one is.
        name: what to call the run.

    Returns: the answer, which a notebook shows and `print` writes.
    Raises: InputError with one clear line where these are no curves.
    """
    given = {
        "val_accuracy": val_accuracy,
        "val_loss": val_loss,
        "val_score": val_score,
        "train_accuracy": train_accuracy,
        "train_loss": train_loss,
        "learning_rate": learning_rate,
    }
    values: dict[str, list[float | None]] = {}
    history = getattr(val_accuracy, "history", val_accuracy)  # of Keras: what fit() returns
    if isinstance(history, Mapping):
        values = {str(key): _numbers(str(key), some) for key, some in history.items()}
        given.pop("val_accuracy")
    told = {key: some for key, some in given.items() if some is not None}
    rate = told.get("learning_rate")
    if isinstance(rate, int | float):
        longest = max((len(some) for some in values.values()), default=0)
        lengths = [len(some) for key, some in told.items() if key != "learning_rate"]
        told["learning_rate"] = [rate] * max([longest, *lengths], default=1)
    values |= {_NAMES[key]: _numbers(key, some) for key, some in told.items()}
    if not any(values.values()):
        raise InputError("diagnose() needs a curve: val_accuracy, val_loss or val_score")
    lengths = {key: len(some) for key, some in values.items()}
    if len(set(lengths.values())) > 1:
        some = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise InputError(f"one value per evaluation is expected of each: {some}")
    # A dict has the names of its tool, lists have ours.
    roles = {} if isinstance(history, Mapping) else {key: key for key in values}
    options = Options(
        columns=roles, percent=percent, num_val=num_val, lower_is_better=lower_is_better
    )
    return analyze(read_values(values, options, name)).answer


def _numbers(name: str, some: Any) -> list[float | None]:
    """One value per evaluation as plain numbers, of whatever holds them."""
    if isinstance(some, str | bytes) or (
        not isinstance(some, Sequence) and not hasattr(some, "__iter__")
    ):
        raise InputError(f"{name} is {shown(some)}: one value per evaluation is expected")
    try:
        return [None if one is None else float(one) for one in some]
    except (TypeError, ValueError) as error:
        first = shown(next(iter(some), None))
        raise InputError(
            f"{name} holds {first}, where one number per evaluation is expected"
        ) from error
