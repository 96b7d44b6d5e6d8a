"""A trial that a loop of one's own trains: the loop is called once, and its reports are rows."""

import contextlib
from collections.abc import Callable
from typing import Any

from raysweep.loops.report import LoopOver, Report, Rules
from raysweep.loops.validation import Validation
from raysweep.planning.grid import Trial
from raysweep.tasks import Loop
from raysweep.training.checkpoints import Checkpointer
from raysweep.training.group import Group
from raysweep.training.seeds import derive_seed, reset_global_state


def run_loop(
    loop: Loop,
    trial: Trial,
    group: Group,
    checkpointer: Checkpointer,
    emit: Callable[[dict[str, Any]], None],
    between: Callable[[dict[str, Any]], None] = lambda row: None,
) -> dict[str, Any]:
    """Train a trial by its loop. All workers of the trial call it, and rank 0 passes rows on.

    Args: emit, between: as raysweep.training.train.train takes them.
    Returns: how the trial ended: columns of the store's trials.
    Raises: InputError naming an argument of a report that is wrong; whatever the loop raises.
    """
    fields = trial.hyperparameters
    rules = Rules(
        trial.seed,
        fields.epochs,
        fields.batch_size,
        loop.num_train,
        fields.early_stopping,
    )
    bits = bool(trial.probes.settled(loop.num_val, fields.epochs).correct_bits)
    validation = Validation(
        loop.num_val, loop.val_clusters, bits=bits, fits=trial.probes.confidence
    )
    reset_global_state(derive_seed(trial.seed, "model"))
    report = Report(rules, validation, group, checkpointer, emit, between)
    with contextlib.suppress(LoopOver):
        loop.run(fields, report)
    return report.outcome()
