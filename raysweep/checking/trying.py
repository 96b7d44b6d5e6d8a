"""The child's part of a check: a sweep is read, its task imported, its data and models tried."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from raysweep import recipes
from raysweep.checking.axes import idle_axes
from raysweep.checking.examples import SAID, WARNING, faults
from raysweep.checking.one_batch import Cost, read_seconds, run_one_batch
from raysweep.errors import InputError, did_you_mean, one_line, place_of
from raysweep.planning.grid import Identity, Trial, expand
from raysweep.planning.identity import identify, load_task, try_here
from raysweep.running.progress import duration
from raysweep.spec import Hyperparameters, SweepSpec
from raysweep.tasks import Data, Loop, Task, data_digest, num_examples, num_parameters
from raysweep.tasks.child import DOING, ERROR, Message
from raysweep.tasks.listing import WHAT_IT_MEANS, is_listing
from raysweep.tasks.models.watching import WatchedTrial

MOST_MODELS = 8  # that are tried
_LOAD_S, _LOOK_S = 1_800.0, 120.0
_MAX_TRAIN_EVAL = 1_000


def try_sweep(target: str, settings: Sequence[str], seeds: str | None) -> Iterator[Message]:
    """Try all that a sweep's trials need, on one batch each.

    Yields: what was seen, warnings and errors; "fault", a model's name and what is wrong with it.
    Raises: InputError for what can't be trained at all.
    """
    torch.set_num_threads(1)
    yield DOING, "the task was imported", _LOAD_S
    spec = recipes.read(target, settings, seeds)
    state = torch.get_rng_state()
    yield DOING, "the data were loaded", _LOAD_S
    source, data = load_task(spec.task, spec.folder, spec.data)
    if isinstance(source.task, Loop):
        expand(spec, identify(spec, source, data, try_here(source, data)))
        yield SAID, f"data: {num_examples(data.validation)} validation examples"
        yield SAID, "a loop trains its models itself: each report() is checked when it comes"
        return
    yield (
        SAID,
        f"data: {num_examples(data.train) or 'endless'} training and "
        f"{num_examples(data.validation)} validation examples",
    )
    if is_listing(data.digest):
        yield SAID, f"ids: {WHAT_IT_MEANS}"
    yield DOING, "the examples were compared", _LOOK_S
    found = list(faults(data, of_classes=source.task.of_classes(data)))
    yield from found
    if any(kind == ERROR for kind, *_ in found):
        return  # what such data do to a model is no news
    yield from _loads_alike(spec, data, state)
    yield DOING, "build() was called", _LOOK_S
    # Without the plan's own refusals of models: here each is named.
    identity = identify(spec, source, data, try_here(source, data))
    trials = expand(spec, identity)
    distinct: dict[tuple[str, ...], list[Trial]] = {}
    for trial in trials:
        distinct.setdefault(identity.key(trial.hyperparameters), []).append(trial)
    chosen = list(distinct.values())
    if len(chosen) > MOST_MODELS:
        step = (len(chosen) - 1) / (MOST_MODELS - 1)
        chosen = [chosen[round(at * step)] for at in range(MOST_MODELS)]
    tried = f"{len(chosen)} of {len(distinct)}" if len(chosen) < len(distinct) else len(chosen)
    yield "models", str(tried), len(chosen)
    read, costs = set[str](), dict[tuple[str, ...], Cost]()
    for alike in chosen:
        fields = alike[0].hyperparameters
        yield "model", ", ".join(f"{axis} {getattr(fields, axis)}" for axis in identity.axes)
        if too_large := _too_large(source.task, data, fields):
            yield SAID, too_large
            continue
        sizes = [trial.hyperparameters.batch_size for trial in alike]
        task = _watched(source.task, fields, read)
        try:
            for kind, *said in run_one_batch(
                task, data, fields, sizes=sizes, workers=spec.resources.workers
            ):
                if kind == "cost":
                    costs[identity.key(fields)] = Cost(*said)
                else:
                    yield (kind, *said)
        except InputError as error:
            yield ERROR, str(error)
        except (Exception, SystemExit) as error:  # whatever the task raises is one line
            yield ERROR, _in_words(error, fields)
    yield "model", None
    for line in idle_axes(spec, source.task, read | set(identity.axes)):
        yield WARNING, line
    if costs:
        yield from _forecast(spec, data, trials, identity, costs)


def _loads_alike(spec: SweepSpec, data: Data, state: torch.Tensor) -> Iterator[Message]:
    """Whether load() gives the same in each process: torch's generator begins there as here."""
    if spec.task.partition(":")[1] == "":
        return
    torch.set_rng_state(state)
    yield DOING, "the data were loaded a second time", _LOAD_S
    _, again = load_task(spec.task, spec.folder, spec.data)
    if data_digest(again) != data_digest(data):
        yield (
            ERROR,
            "load() gives other data each time: no trial would ever be found done; draw with a "
            "seeded generator, numpy.random.default_rng(0)",
        )


def _too_large(task: Task, data: Data, fields: Hyperparameters) -> str | None:
    """Say so where a model would not fit this machine's memory, which need not be where it trains.

    Weights, gradients and an optimizer's two averages are four numbers a parameter.
    """
    needed = 16 * num_parameters(task, data, fields)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed < memory / 2:
        return None
    return f"not tried: {needed / 2**30:.0f} GiB would go to its weights and its optimizer alone"


def _watched(task: Task, fields: Hyperparameters, read: set[str]) -> Task:
    """The task, with a note of which fields of a trial its functions read."""
    watched = WatchedTrial(fields, read)

    def noting(function: Any) -> Any:
        return None if function is None else lambda trial, *rest: function(watched, *rest)

    return task._replace(
        build=noting(task.build),
        optimizer=noting(task.optimizer),
        augment=noting(task.augment),
        prepare=noting(task.prepare),
    )


def _in_words(error: BaseException, fields: Hyperparameters) -> str:
    """Write what a task raised as one line; a field that a trial lacks is named as such."""
    where = place_of(error)
    if isinstance(error, AttributeError) and isinstance(
        getattr(error, "obj", None), Hyperparameters
    ):
        known = type(fields).model_fields
        hint = did_you_mean(error.name, known)
        return (
            f"trial.{error.name} is not a field of a trial{hint} A task's own fields are those of "
            f"its Task(hyperparameters=...) ({where})"
        )
    return one_line(error, where)


def _forecast(
    spec: SweepSpec,
    data: Data,
    trials: Sequence[Trial],
    identity: Identity,
    costs: Mapping[tuple[str, ...], Cost],
) -> Iterator[Message]:
    """What training takes by the measured steps, one trial at a time on this machine's CPU."""
    fields = trials[0].hyperparameters
    slowest = max(costs.values(), key=lambda cost: cost.step(fields.batch_size))
    read = read_seconds(data.validation)
    reading = "" if read is None else f", {_milliseconds(read)} for an example to be read"
    yield (
        SAID,
        f"time on this CPU: {_milliseconds(slowest.step(fields.batch_size))} for a step of "
        f"{fields.batch_size} examples, {_milliseconds(slowest.evaluation)} for an example to be "
        f"evaluated{reading}",
    )
    if spec.resources.gpus_per_worker:
        yield SAID, "forecast: none from here, because the trials will train on GPUs"
        return
    evaluated = num_examples(data.validation) + min(_MAX_TRAIN_EVAL, num_examples(data.train))
    seconds = 0.0
    for trial in trials:
        fields = trial.hyperparameters
        cost = costs.get(identity.key(fields), slowest)
        steps = data.steps_per_epoch(fields.batch_size)
        an_epoch = steps * cost.step(fields.batch_size) + evaluated * cost.evaluation
        seconds += fields.epochs * an_epoch
    yield (
        SAID,
        f"forecast: {len(trials)} trials take about {duration(seconds)} on one core, one after "
        "another",
    )


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"
