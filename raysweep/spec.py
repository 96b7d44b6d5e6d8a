"""What a sweep is: the frozen, strict models behind the YAML."""

import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from raysweep import claims
from raysweep.errors import InputError, shown
from raysweep.refusals import Frozen, explain, nested_model, unknown

# Enters every trial id: raise it when a change to the training loop changes results.
_TRAINING_VERSION = 1
# Fields that came after the first ids: at these values a trial is what it was before them.
_LATER_FIELDS: dict[str, Any] = {"micro_batch_size": None, "compile": False}

# Beyond these, correct-bits are recorded only on request.
_MAX_BITS_EXAMPLES, _MAX_BITS_BYTES = 100_000, 1e9

Probability = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]  # what an int32 column holds
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]

# More than anyone means: beyond these a slip of the pen would fill the memory of the planner.
MAX_TRIALS, _MAX_EPOCHS, _MAX_DEPTH = 1_000_000, 1_000_000, 1_000


class EarlyStopping(Frozen):
    """Training stops when `metric` has not improved by `min_delta` for `patience` epochs."""

    metric: Literal["val_loss", "val_accuracy"] = "val_loss"
    """what has to improve, on the validation set"""
    patience: Count = 10
    """epochs without an improvement that end it"""
    min_delta: NonNegative = 0.0
    """the smallest improvement that counts, in units of the metric"""
    restore_best: bool = True
    """whether the weights of the best epoch are evaluated once more"""


class Hyperparameters(Frozen):
    """The fields of one trial: `base` sets them for all trials, `axes` vary them."""

    epochs: Annotated[int, Field(ge=1, le=_MAX_EPOCHS)] = 40
    """passes over the training set"""
    batch_size: Count = 128
    """examples in a batch, all workers together; at most the data set"""
    learning_rate: Positive = 0.1
    """after the warm-up, at the reference batch size"""
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = "sgd"
    """PyTorch's optimizer of this name"""
    momentum: Probability = 0.0
    """of sgd and rmsprop; the others have their own"""
    weight_decay: NonNegative = 0.0
    """the optimizer's: an L2 penalty, and decoupled for adamw"""
    dropout: Probability = 0.0
    """share of units that are switched off; the task's model uses it"""
    label_smoothing: Probability = 0.0
    """share of the target that is spread over all classes, in training"""
    schedule: Literal["constant", "step", "cosine", "linear"] = "constant"
    """how the learning rate goes on after the warm-up"""
    warmup_epochs: NonNegative = 0.0
    """epochs in which the learning rate rises linearly from 0"""
    step_epochs: Count = 30
    """schedule step: epochs between two drops"""
    step_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """schedule step: what a drop multiplies the learning rate by"""
    lr_scaling: Literal["none", "linear", "sqrt"] = "none"
    """how the learning rate grows with the batch size"""
    reference_batch_size: Count = 128
    """where lr_scaling changes nothing"""
    width: Count = 128
    """units (or channels) of a hidden layer"""
    depth: Annotated[int, Field(ge=1, le=_MAX_DEPTH)] = 2
    """hidden layers"""
    grad_clip: Positive | None = None
    """largest norm of the gradient; null: no clipping"""
    early_stopping: EarlyStopping | None = None
    """a rule that ends training; null: all epochs are trained"""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """of the model's operations; weights and losses stay fp32, and fp16 scales the loss"""
    micro_batch_size: Count | None = None
    """examples that go through the model at once in a worker, whose gradients add up to those of
    the batch; null: all of them"""
    compile: bool = False
    """whether torch.compile makes the model faster"""

    def effective_learning_rate(self) -> float:
        """Scale the learning rate with the batch size, by `lr_scaling`."""
        ratio = self.batch_size / self.reference_batch_size
        power = {"none": 0.0, "linear": 1.0, "sqrt": 0.5}[self.lr_scaling]
        return self.learning_rate * ratio**power

    def digest(self, **identity: Any) -> str:
        """Digest the content of these fields and whatever else makes them what they are.

        Numbers are canonical because the fields are typed (a float field holds 1.0, never 1).

        Returns: 12 hexadecimal digits.
        """
        fields = self.model_dump(mode="json")
        for name, before in _LATER_FIELDS.items():
            if fields[name] == before:
                del fields[name]
        content = {"training": _TRAINING_VERSION, "fields": fields, **identity}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    def columns(self) -> dict[str, Any]:
        """Give a flat value per field, `early_stopping_patience` and so on for the nested ones.

        Fields of a task's own are one value: JSON text in `own_fields`, null where there are none.
        """
        names = type(self).model_fields.keys() - Hyperparameters.model_fields.keys()
        own = self.model_dump(mode="json", include=set(names))
        flat: dict[str, Any] = {"own_fields": json.dumps(own) if own else None}
        for name, kind in nested_fields():
            value = getattr(self, name)
            if kind is None:
                flat[name] = value
            else:
                flat[name] = value is not None
                for inner in kind.model_fields:
                    flat[f"{name}_{inner}"] = None if value is None else getattr(value, inner)
        return flat


def nested_fields() -> list[tuple[str, type[BaseModel] | None]]:
    """List every field of a trial with the model nested in it, or None for a plain value."""
    return [(name, nested_model(field)) for name, field in Hyperparameters.model_fields.items()]


class Probes(Frozen):
    """Evidence that is taken beside training. None of it changes what is trained or a trial's
    identity: what is switched on later is recorded in trials that train later."""

    ema_half_life: Positive | None = None
    """averaged weights are evaluated at every epoch; those of so many epochs ago count half;
    null: no average"""
    gradient_noise_every: Count | None = 128
    """steps between two measurements; null: none"""
    confidence: bool = True
    """whether every epoch records the temperature and the loss at it, the Brier score and the
    calibration error"""
    correct_bits: bool | None = None
    """whether every epoch records which validation examples are right; null: while they are at
    most 100,000 and the sweep's bits stay under 1 GB"""
    repeat_evaluation: bool = True
    """whether the first and the last epoch's weights are evaluated twice"""

    def settled(self, n_val: int, num_epochs: int) -> "Probes":
        """Decide `correct_bits`. Args: n_val: validation examples; num_epochs: of all trials."""
        if self.correct_bits is not None:
            return self
        small = n_val <= _MAX_BITS_EXAMPLES and num_epochs * n_val / 8 < _MAX_BITS_BYTES
        return self.model_copy(update={"correct_bits": small})


class Resources(Frozen):
    """What one trial trains on."""

    workers: Count = 1
    """DDP workers (world size)"""
    cpus_per_worker: Positive = 1.0
    """cores that Ray reserves"""
    gpus_per_worker: NonNegative = 0.0
    """GPUs; with one worker a share of one, 0.5 for instance, is allowed"""

    @field_validator("gpus_per_worker")
    @classmethod
    def _gpus_that_work(cls, value: float, info: ValidationInfo) -> float:
        if value > 1 and value != int(value):
            raise ValueError("whole, above 1")
        if 0 < value < 1 and info.data.get("workers", 1) > 1:
            raise ValueError("0, 1 or more: workers of one trial can't share a GPU")
        return value


class Checkpoints(Frozen):
    """When a running trial's state is kept, so that it can go on after its process or node died.
    A resumed trial is the trial it would have been, so these are no part of its identity."""

    every_epochs: Count | None = None
    """epochs between two checkpoints; null: not by epochs"""
    every_minutes: Positive | None = 5.0
    """minutes between two checkpoints; null: not by time"""
    folder: str | None = None
    """where they go: a folder on a disk that all nodes share, or s3://; null: into the store"""


class Scheduler(Frozen):
    """Let Ray Tune stop trials that do worse than others at the same epoch. Their curves are cut
    short (censored): this finds good configurations. It is no part of a trial's identity."""

    kind: Literal["asha", "median"]
    """asha: the best 1 / reduction_factor pass a rung; median: Tune's stopping rule"""
    metric: Literal["val_accuracy", "val_loss"] = "val_accuracy"
    """what trials are compared by"""
    grace_period: Count = 5
    """epochs that every trial trains"""
    reduction_factor: Annotated[int, Field(ge=2)] | None = None
    """of asha: its rungs are at grace_period x reduction_factor^k; null: 3"""

    @model_validator(mode="after")
    def _fields_of_its_kind(self) -> Self:
        if self.kind == "median" and self.reduction_factor is not None:
            raise ValueError("scheduler.reduction_factor is of asha; median has no rungs")
        return self

    @property
    def factor(self) -> int:
        """The reduction factor of asha."""
        return self.reduction_factor or 3


def _plain_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
        raise ValueError("allowed: letters, digits, '.', '_', '-', at most 80, no leading sign")
    return name


class SweepSpec(Frozen):
    """A base trial, the axes that vary, and replicate seeds."""

    name: Annotated[str, AfterValidator(_plain_name)]
    """letters, digits, `.`, `_` and `-`; names the folder of the results"""
    task: str
    """a shipped task's name, or your own as module:object"""
    data: str | None = None
    """folder that the task reads, seen from the sweep file"""
    base: Hyperparameters = Hyperparameters()
    """what all trials have in common"""
    axes: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """field of a trial -> list of its values; all combinations"""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    """a number of seeds, which start at 0, or a list of them"""
    probes: Probes = Probes()
    """what is measured beside training"""
    resources: Resources = Resources()
    """what one trial trains on"""
    checkpoints: Checkpoints = Checkpoints()
    """when the state of a running trial is kept"""
    retries: Annotated[int, Field(ge=0, le=1_000)] = 2
    """new starts of a trial whose process died; a lost node costs none"""
    scheduler: Scheduler | None = None
    """asha, median, or a mapping; null: all curves are trained whole"""
    claim: claims.Claims = ()
    """what the sweep puts to the test, or a list of that; the report answers it"""

    # Where a `module:object` task of this spec may be found: the folder of its YAML file.
    _folder: Path | None = PrivateAttr(None)

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_of_seeds(cls, seeds: Any) -> Any:
        if isinstance(seeds, int) and not isinstance(seeds, bool):
            if seeds < 1:
                raise ValueError("at least one seed is needed")
            if seeds > MAX_TRIALS:
                raise ValueError(f"at most {MAX_TRIALS:,} seeds can be trained")
            return tuple(range(seeds))
        return tuple(seeds) if isinstance(seeds, list) else seeds

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed stands twice")
        return seeds

    @field_validator("scheduler", mode="before")
    @classmethod
    def _scheduler_by_name(cls, scheduler: Any) -> Any:
        return {"kind": scheduler} if isinstance(scheduler, str) else scheduler

    @field_validator("axes", mode="before")
    @classmethod
    def _axes_hold_lists(cls, axes: Any) -> Any:
        if not isinstance(axes, Mapping):
            return axes
        kind = cls.hyperparameters()
        for name, values in axes.items():
            if name not in kind.model_fields:
                raise ValueError(unknown(f"axis {shown(name)}", name, kind, "a trial"))
            if not isinstance(values, list | tuple):
                raise ValueError(f"axis {name!r} = {shown(values)}: a list of values is needed")
            if not values:
                raise ValueError(f"axis {name!r} is empty: give it at least one value")
        return {name: tuple(values) for name, values in axes.items()}

    @model_validator(mode="after")
    def _axes_are_valid(self) -> Self:
        kind = self.hyperparameters()
        for name, values in self.axes.items():
            if name in self.base.model_fields_set:
                raise ValueError(f"{name!r} stands in base and in axes; keep one of them")
            typed = []
            for value in values:
                try:
                    trial = kind.model_validate({name: value})
                except ValidationError as error:
                    raise ValueError(f"axis {explain(error.errors()[0], kind)}") from None
                typed.append(getattr(trial, name))
            if any(value in typed[:place] for place, value in enumerate(typed)):
                raise ValueError(f"axis {name!r} = {shown(list(values))}: a value stands twice")
            self.axes[name] = tuple(typed)
        num_trials = math.prod(map(len, self.axes.values())) * len(self.seeds)
        if num_trials > MAX_TRIALS:
            raise ValueError(f"axes x seeds are {num_trials:,} trials; at most {MAX_TRIALS:,}")
        return self

    @model_validator(mode="after")
    def _scheduler_fits(self) -> Self:
        rule = self.scheduler
        if rule is None:
            return self
        reasons = {"epochs": "compares trials epoch by epoch", "early_stopping": "cuts curves too"}
        for name in reasons.keys() & self.axes.keys():
            raise ValueError(f"scheduler {reasons[name]}, so {name} can't be an axis beside it")
        if rule.grace_period >= self.base.epochs:
            raise ValueError(
                f"scheduler.grace_period = {rule.grace_period} leaves nothing of "
                f"{self.base.epochs} epochs to save: it should be less than base.epochs"
            )
        return self

    @model_validator(mode="after")
    def _claims_fit(self) -> Self:
        claims.check(self.claim, self.axes)
        return self

    @property
    def folder(self) -> Path | None:
        """The folder that a `module:object` task is looked up in, besides the current one."""
        return self._folder

    @classmethod
    def hyperparameters(cls) -> type[Hyperparameters]:
        """Give the class of its trials' fields: the one that its task has, or the plain one."""
        return cls.model_fields["base"].annotation  # pyright: ignore[reportReturnType]

    @classmethod
    def from_mapping(
        cls,
        content: Any,
        *,
        folder: Path | None = None,
        hyperparameters: type[Hyperparameters] = Hyperparameters,
    ) -> "SweepSpec":
        """Check a sweep and make it whole.

        Args: content: a mapping as a sweep file holds it; folder: where a task of yours lies;
            hyperparameters: the class of a trial's fields, where the task has one of its own.
        Returns: the sweep, with a default for every field that is not given.
        Raises: InputError naming the field, the value and the rule.
        """
        if not isinstance(content, Mapping):
            raise InputError(f"a sweep file holds a mapping, not {type(content).__name__}")
        kind = _spec_with(hyperparameters)
        try:
            spec = kind.model_validate(dict(content))
        except ValidationError as error:
            first, *more = error.errors()
            rest = f" (and {len(more)} more)" if more else ""
            raise InputError(explain(first, kind) + rest) from None
        spec._folder = folder
        return spec


@functools.cache
def _spec_with(hyperparameters: type[Hyperparameters]) -> type[SweepSpec]:
    """A sweep whose trials have these fields."""
    if hyperparameters is Hyperparameters:
        return SweepSpec
    base: Any = (hyperparameters, hyperparameters())
    return create_model("SweepSpec", __base__=SweepSpec, base=base)
