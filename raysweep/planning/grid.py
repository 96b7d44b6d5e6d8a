"""From a sweep to its trials: the product of the axes and the seeds, each with its identity."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from raysweep.errors import InputError
from raysweep.spec import Hyperparameters, Probes, SweepSpec
from raysweep.store.record import PlannedTrial, SweepRecord
from raysweep.tasks import Traits


class Trial(NamedTuple):
    """One configuration with one seed. Ids are content digests, equal in every store."""

    trial_id: str
    config_id: str
    point: dict[str, Any]  # the axes' values
    hyperparameters: Hyperparameters
    seed: int
    probes: Probes = Probes()  # what is measured beside its training; no part of its identity


class Model(NamedTuple):
    """What of a trial's model enters its identity."""

    traits: Traits
    signature: str | None = None  # of what `build` makes; None for a task that ships


class Identity(NamedTuple):
    """What besides its fields makes a trial what it is."""

    task: str  # module:object
    task_digest: str
    data_digest: str
    n_train: int
    models: Mapping[tuple[str, ...], Model]  # the distinct ones, by their `key`
    axes: tuple[str, ...] = ()  # that make a model what it is

    def key(self, fields: Hyperparameters) -> tuple[str, ...]:
        """Tell which of the sweep's models a trial has."""
        return model_key(fields, self.axes)

    def model(self, fields: Hyperparameters) -> Model:
        """Find the model of a trial."""
        return self.models[self.key(fields)]


def model_key(fields: Hyperparameters, axes: Sequence[str]) -> tuple[str, ...]:
    """Write the values of these axes as texts: a field of a task's own may hold a list, say."""
    return tuple(repr(getattr(fields, name)) for name in axes)


def expand(spec: SweepSpec, identity: Identity) -> list[Trial]:
    """List all trials of a sweep, in the order of its axes, seeds innermost.

    Raises: InputError when a point can't be trained at all.
    """
    trials: list[Trial] = []
    for point in points(spec):
        fields = spec.base.model_copy(update=point)
        _check_trainable(fields, spec.resources.workers, identity)
        signature = identity.model(fields).signature
        config_id = fields.digest(
            task=identity.task,
            task_digest=identity.task_digest,
            data_digest=identity.data_digest,
            world_size=_identity_world_size(fields, spec.resources.workers, identity),
            **({} if signature is None else {"model": signature}),
        )
        for seed in spec.seeds:
            content = f"{config_id} seed {seed}".encode()
            trial_id = hashlib.blake2b(content, digest_size=6).hexdigest()
            trials.append(Trial(trial_id, config_id, point, fields, seed))
    return trials


def listed(record: SweepRecord, trials: Sequence[Trial]) -> SweepRecord:
    """Put a sweep's trials and their configurations into its record."""
    return replace(
        record,
        trials=tuple(PlannedTrial(trial.trial_id, trial.config_id, trial.seed) for trial in trials),
        configurations={
            trial.config_id: {
                name: value.model_dump(mode="json") if hasattr(value, "model_dump") else value
                for name, value in trial.point.items()
            }
            for trial in trials
        },
    )


def points(spec: SweepSpec) -> Iterator[dict[str, Any]]:
    """Go through the grid: one mapping of axis to value per configuration."""
    for values in itertools.product(*spec.axes.values()):
        yield dict(zip(spec.axes, values, strict=True))


def _identity_world_size(fields: Hyperparameters, workers: int, identity: Identity) -> int:
    """Tell the world size where it can change results; it is 1 where it can't."""
    return workers if fields.dropout > 0 or any(identity.model(fields).traits) else 1


def _check_trainable(fields: Hyperparameters, workers: int, identity: Identity) -> None:
    """Refuse what can never be trained. Raises: InputError naming value and rule."""
    size, n_train = fields.batch_size, identity.n_train
    if size < workers:
        raise InputError(
            f"batch_size = {size} is smaller than the number of workers, {workers}: "
            "every worker needs a share of a global batch"
        )
    if 0 < n_train < size:  # an IterableDataset has no length
        raise InputError(f"batch_size = {size} is larger than the training set: {n_train} examples")
    if fields.warmup_epochs >= fields.epochs:
        raise InputError(
            f"warmup_epochs = {fields.warmup_epochs:g} leaves nothing of {fields.epochs} epochs"
        )
    smallest = min(size, n_train % size or size) // workers
    if identity.model(fields).traits.batch_norm and smallest < 2:
        raise InputError(
            f"batch_size = {size} leaves a worker {smallest} of the last batch's "
            f"{n_train % size or size} examples; batch norm needs 2 or more"
        )
