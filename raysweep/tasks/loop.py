"""A training loop of one's own, which a sweep runs as it is, once for each trial."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from raysweep.errors import InputError, shown
from raysweep.spec import Hyperparameters
from raysweep.tasks.definition import Data


class Loop(NamedTuple):
    """A training loop of one's own in the place of a Task.

    run: is called as `run(trial, report)` once for each trial. `trial` has the hyperparameters;
        `report` is called after each epoch, see raysweep.loops.report.Report.
    num_val: number of validation examples. Each report must speak of all of them, once each and
        always in the same order.
    num_train: number of training examples, where that is known.
    digest: any text that changes when the data change; it enters each trial's id.
    val_clusters: shape (num_val,); validation examples that belong together (frames of one video,
        say) share a number, so that they fall into one block.
    hyperparameters: a class of one's own, derived from raysweep.spec.Hyperparameters, whose fields
        can be set and varied as the others are.
    baseline, score_name, margin: of scores, as raysweep.Task has them.
    """

    run: Callable[[Any, Any], None]
    num_val: int
    num_train: int | None = None
    digest: str | None = None
    val_clusters: np.ndarray | None = None
    hyperparameters: type[Hyperparameters] = Hyperparameters
    baseline: float | None = None
    score_name: str | None = None
    margin: float | None = None


class _Unseen:
    """Examples that only the loop reads: their number is all that is known of them."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __len__(self) -> int:
        return self._number


def sizes(loop: Loop) -> Data:
    """Describe the data of a loop, of which nothing but sizes is known.

    Raises: InputError naming an argument of Loop that is wrong.
    """
    clusters = checked_sizes(loop.num_val, loop.num_train, loop.val_clusters)
    if not callable(loop.run):
        raise InputError(f"Loop(run = {shown(loop.run)}): a function run(trial, report) is needed")
    if loop.digest is not None and not isinstance(loop.digest, str):
        raise InputError(f"Loop(digest = {shown(loop.digest)}): a text is needed")
    digest = f"loop {loop.num_train} {loop.num_val} {loop.digest}"
    train, validation = _Unseen(loop.num_train or 0), _Unseen(loop.num_val)
    unseen: Any = Data(train, validation, 0, val_clusters=clusters, digest=digest)  # pyright: ignore[reportArgumentType]
    return unseen


def checked_sizes(num_val: object, num_train: object, val_clusters: object) -> np.ndarray | None:
    """Check what is said of the data of a loop. Returns: the clusters as an array.

    Raises: InputError naming the argument, its value and what is allowed.
    """
    for name, number in (("num_val", num_val), ("num_train", num_train)):
        missing = number is None and name == "num_train"
        whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
        if not missing and not (whole and number >= 1):  # pyright: ignore[reportOperatorIssue]
            raise InputError(f"{name} = {shown(number)}: a number of examples is needed, 1 or more")
    if val_clusters is None:
        return None
    try:
        clusters = np.asarray(val_clusters)
    except ValueError as error:
        raise InputError(f"val_clusters: {error}; a number for each example is needed") from None
    if clusters.shape != (num_val,):
        raise InputError(
            f"val_clusters has shape {clusters.shape}; ({num_val},) is needed, one number for each "
            "of the num_val validation examples"
        )
    return clusters
