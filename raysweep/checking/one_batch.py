"""One batch through a model, by the loop that trains: what goes in, what comes out, what it costs.

The data are cut to one batch of training examples and a few validation examples, and a trial is
trained on them for an epoch: forward, loss, backward, a step of the optimizer, evaluation.
"""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from torch.utils.data import IterableDataset, Subset

from raysweep.checking.examples import WARNING, guessing_loss
from raysweep.spec import Hyperparameters, Probes
from raysweep.tasks import Arrays, Data, Task, num_examples
from raysweep.tasks.batches import call, few, length, tensors
from raysweep.tasks.child import DOING, ERROR, Message
from raysweep.training.splits import place
from raysweep.training.train import Training

SAID = "said"

_EXAMPLES, _VALIDATION = 32, 64
_BUILD_S, _STEP_S = 60.0, 60.0
_LONG_S = 2.0  # a step that takes longer is judged by the one of _EXAMPLES examples
_PROBES = Probes(
    gradient_noise_every=None, confidence=False, correct_bits=False, repeat_evaluation=False
)


class Cost(NamedTuple):
    """Seconds on this machine's CPU, the reading of examples included."""

    per_step: float  # of training, whatever its size
    per_example: float  # of a step
    evaluation: float  # of one example

    def step(self, batch_size: int) -> float:
        """Judge the seconds of a step."""
        return self.per_step + batch_size * self.per_example


class _Seen:
    """What was seen of a model while it trained: its last inputs and outputs, by mode."""

    def __init__(self) -> None:
        self.model: nn.Module | None = None
        self.calls: dict[bool, tuple[tuple[Any, ...], dict[str, Any], Any]] = {}

    def watch(self, model: nn.Module) -> nn.Module:
        self.model = model
        model.register_forward_hook(self._note, with_kwargs=True)
        return model

    def _note(self, module: nn.Module, given: Any, named: Any, outputs: Any) -> None:
        self.calls[module.training] = given, named, getattr(outputs, "logits", outputs)


def run_one_batch(
    task: Task, data: Data, fields: Hyperparameters, *, sizes: Sequence[int], workers: int
) -> Iterator[Message]:
    """Train a trial on one batch, and evaluate it.

    Args: sizes: of batches that this model is trained with, for what a step costs.
    Yields: what was seen, warnings, errors; "cost" and the parts of a Cost.
    Raises: whatever the task raises.
    """
    seen = _Seen()
    size, largest = min(*sizes, _EXAMPLES), max(sizes)
    watched = task._replace(build=lambda trial, given: seen.watch(task.build(trial, given)))
    yield DOING, "one batch of it was trained", _BUILD_S + _STEP_S
    if task.prepare is not None:
        data, watched = task.prepare(fields, data), watched._replace(prepare=None)
    before, training, row = _trained(watched, data, fields, size)
    model = seen.model
    assert model is not None
    found = list(_outputs(seen, data, task, workers, row))
    yield from found
    if any(kind == ERROR for kind, *_ in found):
        return
    yield from _losses(before, row, data, task)
    yield from _steps(model, row, fields, workers)
    yield from _evaluation(seen, model)
    seconds, evaluation = _seconds(training)
    per_example = 0.0
    if size < largest:
        per_example = seconds / size
        if seconds / size * largest < _LONG_S:
            yield DOING, "a whole batch of it was trained", _STEP_S
            _, again, _ = _trained(watched, data, fields, largest)
            longer, evaluation = _seconds(again)
            per_example = max(0.0, longer - seconds) / (largest - size)
    yield "cost", *Cost(max(0.0, seconds - per_example * size), per_example, evaluation)


def _trained(
    task: Task, data: Data, fields: Hyperparameters, size: int
) -> tuple[float, Training, dict[str, Any]]:
    """Train for an epoch of one batch. Returns: the loss before it, the trial, the epoch's row."""
    small = _cut(data, size)
    changes = {"batch_size": size, "warmup_epochs": 0.0, "early_stopping": None, "compile": False}
    training = Training(
        fields.model_copy(update=changes),
        0,
        task,
        small,
        place(small, torch.device("cpu")),
        probes=_PROBES,
    )
    row = training.epoch()[-1]
    return training.outcome().initial_train_eval_loss, training, row


def _cut(data: Data, size: int) -> Data:
    """The same data, with one batch to train on, and a few examples to evaluate."""
    loader = data.loader._replace(num_workers=0)
    if isinstance(data.train, IterableDataset):
        loader = loader._replace(steps_per_epoch=1)
    chosen = _spread(num_examples(data.train), size)
    few_of_them = _spread(num_examples(data.validation), _VALIDATION)
    return data._replace(
        train=_part(data.train, chosen),
        train_eval=None if data.train_eval is None else _part(data.train_eval, chosen),
        validation=_part(data.validation, few_of_them),
        val_clusters=None if data.val_clusters is None else data.val_clusters[few_of_them],
        loader=loader,
    )


def _spread(n: int, count: int) -> np.ndarray:
    """Choose examples from all over a split, which may be sorted by class."""
    return np.unique(np.linspace(0, n - 1, min(n, count)).astype(int)) if n else np.arange(0)


def _part(examples: Any, index: np.ndarray) -> Any:
    if isinstance(examples, Arrays):
        return Arrays(examples.x[index], examples.y[index])
    return examples if isinstance(examples, IterableDataset) else Subset(examples, index.tolist())


def _outputs(
    seen: _Seen, data: Data, task: Task, workers: int, row: dict[str, Any]
) -> Iterator[Message]:
    if True not in seen.calls:
        yield ERROR, "the model's forward was never called through the model itself"
        return
    given, named, outputs = seen.calls[True]
    targets = few(data.train, 2, data.loader)[1]
    yield (
        SAID,
        f"inputs {_shapes([*given, *named.values()])}, outputs {_shapes(outputs)}, "
        f"targets {_shapes(targets)}",
    )
    floats = [value.detach() for value in tensors(outputs) if value.is_floating_point()]
    if any(not torch.isfinite(value).all() for value in floats):
        yield ERROR, "its outputs hold NaN or infinite values before anything is learnt"
        return
    if task.of_classes(data) and isinstance(outputs, torch.Tensor):
        shape = (length(outputs), data.num_classes)
        if tuple(outputs.shape) != shape:
            yield (
                ERROR,
                f"its outputs have shape {tuple(outputs.shape)}; {shape} is needed, one output for "
                f"each of the {data.num_classes} classes (num_classes)",
            )
            return
        yield from _squashed(outputs.detach(), seen)


def _squashed(outputs: torch.Tensor, seen: _Seen) -> Iterator[Message]:
    """A softmax, a sigmoid or a ReLU between the last layer and cross-entropy."""
    shaken = _shaken(seen)
    if len(outputs) < 2 or shaken is None or shaken.shape != outputs.shape:
        return
    both = torch.cat([outputs, shaken])
    low, high = float(both.min()), float(both.max())
    if low >= 0 and torch.allclose(both.sum(1), torch.ones(1), atol=1e-3):
        squash = "softmax"
    elif low >= 0 and high <= 1:
        squash = "sigmoid"
    elif low == 0 and float((both == 0).float().mean()) > 0.1:
        yield (
            WARNING,
            "none of its outputs is below 0, and many are 0: a ReLU stands before the loss, which "
            "keeps classes from being told apart; return what goes into it",
        )
        return
    else:
        return
    yield (
        WARNING,
        f"its outputs all lie between 0 and 1: a {squash} stands before the loss, and "
        f"cross-entropy takes a softmax itself; return what goes into the {squash}",
    )


def _shaken(seen: _Seen) -> torch.Tensor | None:
    """What the model gives with large random weights, which no output's range outlives by chance.

    Returns: None where that can't be tried.
    """
    (given, named, _), model = seen.calls[True], seen.model
    assert model is not None
    draws = torch.Generator().manual_seed(0)
    weights = {
        name: 10 * torch.randn(value.shape, generator=draws, dtype=value.dtype)
        for name, value in model.named_parameters()
        if value.is_floating_point()
    }
    try:
        with torch.no_grad():
            outputs = functional_call(model, weights, tuple(given), named)
    except Exception:  # of a model that can't be run with other weights nothing is suspected
        return None
    outputs = outputs.float() if isinstance(outputs, torch.Tensor) else None
    return outputs if outputs is not None and bool(torch.isfinite(outputs).all()) else None


def _losses(before: float, row: dict[str, Any], data: Data, task: Task) -> Iterator[Message]:
    if not math.isfinite(before):
        yield ERROR, f"the loss is {before:g} before the first step"
        return
    if not task.of_classes(data):
        yield SAID, f"loss before training: {before:.4g}"
        return
    guess = guessing_loss(data)
    yield SAID, f"loss before training: {before:.4g}; guessing gives {guess:.4g}"
    if before > 3 * guess + 1:
        yield (
            WARNING,
            f"the loss before training is far above that of guessing, {guess:.4g}: are the inputs "
            "scaled?",
        )


def _steps(
    model: nn.Module, row: dict[str, Any], fields: Hyperparameters, workers: int
) -> Iterator[Message]:
    named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    unused = [name for name, value in named if value.grad is None]
    if unused and len(unused) < len(named):
        line = f"{len(unused)} of {len(named)} parameters get no gradient: {_some(unused)}"
        if workers > 1:
            yield ERROR, f"{line}; with several workers each parameter needs one"
        else:
            yield WARNING, line
    update = row.get("update_norm")
    if row["status"] == "diverged" or not math.isfinite(row["train_loss"]):
        yield WARNING, "the loss is not finite after one step: the learning rate may be too high"
    elif not named or (update is not None and update == 0 and fields.learning_rate > 0):
        yield ERROR, "a step of the optimizer changes no parameter"


def _evaluation(seen: _Seen, model: nn.Module) -> Iterator[Message]:
    """Whether the model gives the same twice when it is evaluated."""
    if False not in seen.calls:
        return
    given, named, _ = seen.calls[False]
    model.eval()
    with torch.no_grad():
        once, twice = (
            [value.float() for value in tensors(call(model, named or tuple(given)))]
            for _ in range(2)
        )
    if any(not torch.equal(a, b) for a, b in zip(once, twice, strict=True)):
        yield (
            WARNING,
            "in eval mode it gives other outputs for the same inputs each time: dropout or a "
            "random draw is not switched off",
        )


def _seconds(training: Training) -> tuple[float, float]:
    """Time one more step of training, and the evaluation of an example."""
    row = training.epoch()[-1]
    step = row["wall_s"] if row["train_s"] is None else row["train_s"]
    return step, max(0.0, row["wall_s"] - step) / max(1, row["val_n"] + row["train_eval_n"])


def read_seconds(examples: Any) -> float | None:
    """Measure how long one example of a dataset takes to be read; None for arrays."""
    if isinstance(examples, Arrays | IterableDataset):
        return None
    count = min(8, num_examples(examples))
    began = time.perf_counter()
    for index in range(count):
        examples[index]
    return (time.perf_counter() - began) / count


def _shapes(value: Any) -> str:
    """Write the shapes and types of a batch's parts."""
    found = [
        f"({', '.join(['batch', *map(str, part.shape[1:])])}) "
        f"{str(part.dtype).removeprefix('torch.')}"
        for part in tensors(value)
    ]
    return " and ".join(found) or type(value).__name__


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
