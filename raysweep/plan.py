"""Everything that is known before anything starts: the trials, what is done, what is left."""

import time
from pathlib import Path
from typing import NamedTuple

import torch

from raysweep.errors import InputError
from raysweep.grid import Identity, Trial, expand
from raysweep.packs import Speed
from raysweep.recorder import finished_in
from raysweep.spec import SweepSpec
from raysweep.splits import place
from raysweep.store import Store
from raysweep.tasks import (
    Data,
    TaskSource,
    data_digest,
    find_task,
    load_data,
    num_examples,
    traits,
    validation_digest,
)
from raysweep.train import measure_speed


class Plan(NamedTuple):
    """A sweep that can be trained."""

    spec: SweepSpec
    source: TaskSource
    data: Data
    trials: list[Trial]
    done: frozenset[str]  # ids that the store holds already
    val_digest: str

    @property
    def left(self) -> list[Trial]:
        """The trials that are still to be trained."""
        return [trial for trial in self.trials if trial.trial_id not in self.done]

    @property
    def n_train(self) -> int:
        """Number of training examples."""
        return num_examples(self.data.train)

    @property
    def n_val(self) -> int:
        """Number of validation examples."""
        return num_examples(self.data.validation)


def make_plan(spec: SweepSpec, store: Store) -> Plan:
    """Load the task and its data, expand the grid, look up what is done.

    Raises: InputError for whatever could never be trained.
    """
    source = find_task(spec.task, spec.folder)
    folder = None
    if spec.data is not None:
        folder = (spec.folder or Path()) / Path(spec.data).expanduser()
        if not folder.is_dir():
            raise InputError(f"data = {spec.data!r}: there is no folder {folder}")
    data = load_data(source, folder)
    n_train = num_examples(data.train)
    identity = Identity(
        task=source.reference,
        task_digest=source.digest,
        data_digest=data_digest(data),
        n_train=n_train,
        traits=traits(source.task, data, spec.base),
    )
    trials = expand(spec, identity)
    done = finished_in(store) & {trial.trial_id for trial in trials}
    return Plan(spec, source, data, trials, frozenset(done), validation_digest(data))


def speed_of(plan: Plan) -> Speed:
    """How fast this machine trains the task: two batch sizes, timed for a moment each."""
    placed = place(plan.data, torch.device("cpu"))
    fields = plan.trials[0].hyperparameters
    return measure_speed(fields, plan.source.task, plan.data, placed, time.perf_counter)
