"""Training data that depend on the trial: what a task's `prepare` makes of what it loaded."""

from raysweep.errors import InputError
from raysweep.spec import Hyperparameters
from raysweep.tasks import Data, Task, validation_digest
from raysweep.tasks.checks import checked
from raysweep.training.group import Group
from raysweep.training.seeds import derive_seed, seed_generators
from raysweep.training.splits import Placed, place

_last: list[tuple[Task, Hyperparameters, Data, Group, tuple[Data, Placed]]] = []


def prepared(
    task: Task, fields: Hyperparameters, data: Data, placed: Placed, group: Group
) -> tuple[Data, Placed]:
    """Prepare a trial's data. The seeds of a configuration, which train one after another, share
    them: what is drawn does not depend on the seed.

    Raises: InputError when the validation set is not what was loaded, or too little is left.
    """
    if task.prepare is None:
        return data, placed
    for for_task, for_fields, for_data, for_group, found in _last:
        same = for_task is task and for_data is data
        if same and (for_fields, for_group) == (fields, group):
            return found
    _last.clear()
    seed_generators(derive_seed("prepare"))
    made = task.prepare(fields, data)
    try:
        made = checked(made, crossed=task.loss is None)
    except InputError as error:
        raise InputError(f"prepare(trial, data): {error}") from error
    same_validation = _same_validation(made, data)
    if not same_validation and not task.varies_validation:
        raise InputError(
            "prepare(trial, data) changed the validation set, which all trials must share; "
            "change train alone, data._replace(train=...), or, where the validation set "
            "is what you vary, say Task(..., varies_validation=True)"
        )
    if 0 < made.steps_per_epoch(1) < fields.batch_size and made.loader.steps_per_epoch is None:
        raise InputError(
            f"prepare(trial, data) leaves {made.steps_per_epoch(1)} training examples, and "
            f"batch_size = {fields.batch_size}"
        )
    here = place(made, group.device)
    if same_validation:  # it lies where it has been, read and kept
        here = here._replace(validation=placed.validation)
    found = made, here
    _last.append((task, fields, data, group, found))
    return found


def _same_validation(made: Data, data: Data) -> bool:
    same = made.validation is data.validation and made.val_clusters is data.val_clusters
    return same or validation_digest(made) == validation_digest(data)
