"""What a sweep is: the frozen, strict models behind the YAML."""

import difflib
import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from raysweep.errors import InputError, shown

# Enters every trial id: raise it when a change to the training loop changes results.
TRAINING_VERSION = 1

# Fields that came after the first release, with the value that means "as before": at that value
# they stay out of the digest, so the ids of older stores survive.
NEUTRAL: dict[str, Any] = {"precision": "fp32"}

# Beyond these, correct-bits are recorded only on request.
MAX_BITS_EXAMPLES, MAX_BITS_BYTES = 100_000, 1e9

Probability = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]  # what an int32 column holds
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]

# More than anyone means: beyond these a slip of the pen would fill the memory of the planner.
MAX_TRIALS, MAX_EPOCHS, MAX_DEPTH = 1_000_000, 1_000_000, 1_000


class Frozen(BaseModel):
    """A value that exists is valid: strict types, no unknown keys, no changes."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class EarlyStopping(Frozen):
    """Stop when `metric` has not improved by `min_delta` for `patience` epochs."""

    metric: Literal["val_loss", "val_accuracy"] = "val_loss"
    patience: Count = 10
    min_delta: NonNegative = 0.0
    restore_best: bool = True


class Hyperparameters(Frozen):
    """The fields of one trial: `base` sets them, `axes` vary them."""

    epochs: Annotated[int, Field(ge=1, le=MAX_EPOCHS)] = Field(
        default=40, description="passes over the training set"
    )
    batch_size: Count = Field(default=128, description="global: all workers together")
    learning_rate: Positive = Field(
        default=0.1, description="at the reference batch size, if scaled"
    )
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = "sgd"
    momentum: Probability = Field(
        default=0.0, description="of sgd and rmsprop; the others have their own"
    )
    weight_decay: NonNegative = 0.0
    dropout: Probability = 0.0
    label_smoothing: Probability = 0.0
    schedule: Literal["constant", "step", "cosine"] = "constant"
    warmup_epochs: NonNegative = Field(default=0.0, description="linear, from 0")
    step_epochs: Count = Field(default=30, description="schedule step: epochs between two drops")
    step_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    lr_scaling: Literal["none", "linear", "sqrt"] = "none"
    reference_batch_size: Count = Field(default=128, description="where lr_scaling changes nothing")
    width: Count = Field(default=128, description="units (or channels) of a hidden layer")
    depth: Annotated[int, Field(ge=1, le=MAX_DEPTH)] = Field(default=2, description="hidden layers")
    grad_clip: Positive | None = Field(default=None, description="largest gradient norm")
    early_stopping: EarlyStopping | None = None
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="of the model's operations; weights and losses stay fp32"
    )

    @property
    def shape(self) -> tuple[int, int]:
        """Width and depth, on which the size of a model and its kinds of layers depend."""
        return self.width, self.depth

    def effective_learning_rate(self) -> float:
        """The learning rate after scaling with the batch size."""
        ratio = self.batch_size / self.reference_batch_size
        power = {"none": 0.0, "linear": 1.0, "sqrt": 0.5}[self.lr_scaling]
        return self.learning_rate * ratio**power

    def digest(self, **identity: Any) -> str:
        """Content digest of these fields and whatever else makes them what they are.

        Numbers are canonical because the fields are typed (a float field holds 1.0, never 1).

        Returns: 12 hexadecimal digits.
        """
        fields = {
            name: value
            for name, value in self.model_dump(mode="json").items()
            if not (name in NEUTRAL and value == NEUTRAL[name])
        }
        content = {"training": TRAINING_VERSION, "fields": fields, **identity}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    def columns(self) -> dict[str, Any]:
        """One flat value per field, `early_stopping_patience` and so on for the nested ones."""
        flat: dict[str, Any] = {}
        for name, kind in nested_fields():
            value = getattr(self, name)
            if kind is None:
                flat[name] = value
            else:
                flat[name] = value is not None
                for inner in kind.model_fields:
                    flat[f"{name}_{inner}"] = None if value is None else getattr(value, inner)
        return flat


def nested_fields() -> list[tuple[str, type[Frozen] | None]]:
    """Every field of a trial with the model nested in it, or None for a plain value."""
    found: list[tuple[str, type[Frozen] | None]] = []
    for name, field in Hyperparameters.model_fields.items():
        options = [field.annotation, *get_args(field.annotation)]
        models = [kind for kind in options if isinstance(kind, type) and issubclass(kind, Frozen)]
        found.append((name, models[0] if models else None))
    return found


class Probes(Frozen):
    """Evidence that is taken beside training. None of it changes what is trained, so it is no part
    of a trial's identity: what is switched on later is recorded in trials that train later."""

    ema_half_life: Positive | None = Field(
        default=None,
        description="epochs; averaged weights, evaluated at every epoch. null: none",
    )
    gradient_noise_every: Count | None = Field(
        default=128, description="steps from one measurement to the next. null: none"
    )
    confidence: bool = Field(
        default=True, description="temperature and the loss at it, Brier score, calibration error"
    )
    correct_bits: bool | None = Field(
        default=None,
        description="which validation examples are right, at every epoch. null: while they are at "
        "most 100,000 and the sweep's bits stay under 1 GB",
    )
    repeat_evaluation: bool = Field(
        default=True, description="evaluate the first and the last epoch's weights twice"
    )

    def settled(self, n_val: int, num_epochs: int) -> "Probes":
        """With `correct_bits` decided. Args: num_epochs: of all trials of the sweep."""
        if self.correct_bits is not None:
            return self
        small = n_val <= MAX_BITS_EXAMPLES and num_epochs * n_val / 8 < MAX_BITS_BYTES
        return self.model_copy(update={"correct_bits": small})


class Resources(Frozen):
    """What one trial trains on."""

    workers: Count = Field(default=1, description="DDP workers (world size)")
    cpus_per_worker: Positive = 1.0
    gpus_per_worker: NonNegative = 0.0

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
    Never part of a trial's identity: a resumed trial is the trial it would have been."""

    every_epochs: Count | None = Field(default=None, description="null: not by epochs")
    every_minutes: Positive | None = Field(
        default=5.0, description="from the trial's start on; null: not by time"
    )
    folder: str | None = Field(
        default=None, description="on a disk that all nodes share, or s3://; null: in the store"
    )


class Scheduler(Frozen):
    """Let Ray Tune stop trials that do worse than others at the same epoch. Their curves are cut
    short (censored): this finds good configurations. It is no part of a trial's identity."""

    kind: Literal["asha", "median"] = Field(
        description="asha: the best 1 / reduction_factor pass a rung; median: Tune's stopping rule"
    )
    metric: Literal["val_accuracy", "val_loss"] = "val_accuracy"
    grace_period: Count = Field(default=5, description="epochs that every trial trains")
    reduction_factor: Annotated[int, Field(ge=2)] | None = Field(
        default=None, description="of asha: rungs at grace_period x reduction_factor^k; 3"
    )

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
    task: str = Field(description="a shipped task's name, or module:object")
    data: str | None = Field(
        default=None, description="folder that the task reads, where it needs one"
    )
    base: Hyperparameters = Hyperparameters()
    axes: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    probes: Probes = Probes()
    resources: Resources = Resources()
    checkpoints: Checkpoints = Checkpoints()
    retries: Annotated[int, Field(ge=0, le=1_000)] = Field(
        default=2, description="of a trial whose process died; a lost node does not count"
    )
    scheduler: Scheduler | None = Field(
        default=None, description="asha, median, or a mapping; null: full curves"
    )

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
        for name, values in axes.items():
            if name not in Hyperparameters.model_fields:
                raise ValueError(unknown(f"axis {shown(name)}", name, Hyperparameters, "a trial"))
            if not isinstance(values, list | tuple):
                raise ValueError(f"axis {name!r} = {shown(values)}: a list of values is needed")
            if not values:
                raise ValueError(f"axis {name!r} is empty: give it at least one value")
        return {name: tuple(values) for name, values in axes.items()}

    @model_validator(mode="after")
    def _axes_are_valid(self) -> Self:
        for name, values in self.axes.items():
            if name in self.base.model_fields_set:
                raise ValueError(f"{name!r} stands in base and in axes; keep one of them")
            typed = []
            for value in values:
                try:
                    trial = Hyperparameters.model_validate({name: value})
                except ValidationError as error:
                    raise ValueError(f"axis {_explain(error.errors()[0], ())}") from None
                typed.append(getattr(trial, name))
            if len(set(typed)) < len(typed):
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

    @property
    def folder(self) -> Path | None:
        """The folder that a `module:object` task is looked up in, besides the current one."""
        return self._folder

    @classmethod
    def from_mapping(cls, content: Any, *, folder: Path | None = None) -> "SweepSpec":
        """A spec from parsed YAML. Raises: InputError naming the field, the value, the rule."""
        if not isinstance(content, Mapping):
            raise InputError(f"a sweep file holds a mapping, not {type(content).__name__}")
        try:
            spec = cls.model_validate(dict(content))
        except ValidationError as error:
            first, *more = error.errors()
            rest = f" (and {len(more)} more)" if more else ""
            raise InputError(_explain(first, content) + rest) from None
        spec._folder = folder
        return spec


def unknown(what: str, name: object, model: type[BaseModel], owner: str) -> str:
    """The sentence for a name that nothing here has, with the nearest one that exists."""
    fields = list(model.model_fields)
    near = difflib.get_close_matches(str(name), fields, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"{what} is not a field of {owner}{hint} Fields: {', '.join(fields)}"


_OWNERS: dict[str, tuple[type[BaseModel], str]] = {
    "base": (Hyperparameters, "a trial"),
    "probes": (Probes, "probes"),
    "resources": (Resources, "resources"),
    "checkpoints": (Checkpoints, "checkpoints"),
    "early_stopping": (EarlyStopping, "early_stopping"),
    "scheduler": (Scheduler, "scheduler"),
}


def _explain(error: Any, content: Any) -> str:
    """One of pydantic's errors as one sentence: the thing, the value, what is allowed."""
    # Pydantic names the branch of a union that it tried; that is no key of the file.
    keys = [key for key in error["loc"] if key not in ("EarlyStopping", "constrained-float")]
    path = shown(".".join(str(key) for key in keys))[1:-1]  # a key may hold anything
    if error["type"] == "extra_forbidden":
        parent = next((str(k) for k in reversed(keys[:-1]) if str(k) in _OWNERS), None)
        model, owner = _OWNERS[parent] if parent else (SweepSpec, "a sweep")
        return unknown(f"'{path}'", keys[-1], model, owner)
    if error["type"] == "missing":
        return f"'{path}' is missing: every sweep needs it"
    message = error["msg"].removeprefix("Value error, ")
    if not path or (error["type"] == "value_error" and path == "axes"):
        return message
    message = message.removeprefix("Input should be ")
    return f"{path} = {shown(error['input'])} is not allowed: it should be {message}"
