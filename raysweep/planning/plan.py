"""Everything that is known before anything starts: the trials, what is done, what is left."""

from typing import NamedTuple

from raysweep.planning.grid import Identity, Trial, expand
from raysweep.planning.identity import identify, load_task, try_in_child
from raysweep.planning.packs import Speed
from raysweep.spec import SweepSpec
from raysweep.store.done import done_trials
from raysweep.store.files import Store
from raysweep.tasks import (
    Data,
    TaskSource,
    num_examples,
    tried,
    validation_digest,
)

# What a core and a GPU do in practice, in floating-point operations a second, and what a step
# costs beside them: orders of magnitude, to pack trials by and to say roughly how long it takes.
_CPU_FLOPS, _CPU_STEP_S = 2e10, 3e-4
_GPU_FLOPS, _GPU_STEP_S = 2e13, 3e-4


class Plan(NamedTuple):
    """A sweep that can be trained."""

    spec: SweepSpec
    source: TaskSource
    data: Data
    identity: Identity
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
    source, data = load_task(spec.task, spec.folder, spec.data)
    kind = source.task.hyperparameters
    if spec.hyperparameters() is not kind:  # it was made without the fields that the task adds
        given = spec.model_dump(exclude_unset=True)
        spec = SweepSpec.from_mapping(given, folder=spec.folder, hyperparameters=kind)
    identity = identify(spec, source, data, try_in_child(spec))
    trials = expand(spec, identity)
    num_epochs = sum(trial.hyperparameters.epochs for trial in trials)
    probes = spec.probes.settled(num_examples(data.validation), num_epochs)
    trials = [trial._replace(probes=probes) for trial in trials]
    done = done_trials(store, pruned=spec.scheduler is not None) & {
        trial.trial_id for trial in trials
    }
    return Plan(spec, source, data, identity, trials, frozenset(done), validation_digest(data))


def speed_of(plan: Plan) -> Speed:
    """Judge how fast the sweep trains, by the size of each model that it builds.

    Raises: InputError when a model does not fit the data.
    """
    resources = plan.spec.resources
    on_gpu = resources.gpus_per_worker > 0
    rate = _GPU_FLOPS * min(1.0, resources.gpus_per_worker) if on_gpu else _CPU_FLOPS
    rate *= resources.workers * (1 if on_gpu else max(1.0, resources.cpus_per_worker))
    identity = plan.identity
    distinct = {identity.key(trial.hyperparameters): trial.hyperparameters for trial in plan.trials}
    found = {key: tried(plan.source.task, plan.data, one) for key, one in distinct.items()}
    problems = [model.problem for model in found.values() if model.problem]
    return Speed(
        _GPU_STEP_S if on_gpu else _CPU_STEP_S,
        lambda fields: found[identity.key(fields)].flops_per_example / rate,
        problems[0] if problems else None,
    )
