"""What our epoch loop costs beside a bare torch loop, and what its evidence costs.

One process, one torch thread, contenders in turn.
`python benchmarks/step_cost.py [--repeats 9] [--device cuda]`
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import measure
import numpy as np
import torch
from problems import SEED, Problem, begun, epochs_in_turn, fresh, learner, problems, seconds
from torch import nn
from torch.nn import functional

from raysweep.spec import Checkpoints, Probes
from raysweep.store.folder import Folder
from raysweep.store.resume import ResumeFolder
from raysweep.store.schema import packed
from raysweep.training.checkpoints import Checkpointer, to_bytes
from raysweep.training.evaluation import evaluate
from raysweep.training.passes import train_epoch
from raysweep.training.seeds import derive_seed
from raysweep.training.train import Training, train

ROWS_PER_BATCH = 50  # epoch rows that leave for the recorder together
NO_PROBE = Probes(
    gradient_noise_every=None, confidence=False, correct_bits=False, repeat_evaluation=False
)
PROBES = {
    "no probe": NO_PROBE,
    "gradient noise": NO_PROBE.model_copy(update={"gradient_noise_every": 128}),
    "confidence": NO_PROBE.model_copy(update={"confidence": True}),
    "correct bits": NO_PROBE.model_copy(update={"correct_bits": True}),
    "averaged weights": NO_PROBE.model_copy(update={"ema_half_life": 1.0}),
    "defaults": Probes(),
    "everything": Probes(ema_half_life=1.0),
}


def bare_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    chosen: Problem,
    epoch: int,
    *,
    metrics: bool = False,
) -> None:
    """The loop as it stands in every tutorial. metrics: with its running loss and accuracy."""
    x, y = chosen.train_set
    model.train()
    for settings in optimizer.param_groups:
        settings["lr"] = chosen.fields.learning_rate
    total, correct = 0.0, 0
    generator = torch.Generator().manual_seed(derive_seed(SEED, epoch))
    order = torch.randperm(len(y), generator=generator).to(x.device)
    for index in order.split(chosen.fields.batch_size):
        inputs, classes = x[index], y[index]
        optimizer.zero_grad()
        logits = model(inputs)
        loss = functional.cross_entropy(logits, classes)
        loss.backward()
        optimizer.step()
        if metrics:
            total += loss.item() * len(classes)
            correct += int((logits.argmax(1) == classes).sum().item())


def plain_validation(model: nn.Module, chosen: Problem) -> tuple[float, float]:
    """Loss and accuracy of the validation set."""
    x, y = chosen.validation
    model.eval()
    with torch.no_grad():
        logits = model(x)
        loss = functional.cross_entropy(logits, y).item()
        return loss, (logits.argmax(1) == y).float().mean().item()


def bare_train(chosen: Problem) -> nn.Module:
    """A whole trial, written by hand."""
    model, optimizer = fresh(chosen)
    for epoch in chosen.epochs:
        bare_epoch(model, optimizer, chosen, epoch)
        plain_validation(model, chosen)
    return model


def our_train(chosen: Problem) -> list[dict[str, Any]]:
    """A whole trial by `train`: its rows as they are sent, each with the time it was emitted."""
    rows: list[dict[str, Any]] = []
    emitted: list[float] = []

    def emit(row: dict[str, Any]) -> None:
        rows.append({**row, "trial_id": "0123456789ab", "attempt": 1, "start_epoch": 1})
        emitted.append(time.perf_counter())

    train(
        Training(chosen.fields, SEED, chosen.task, chosen.data, chosen.placed, group=chosen.group),
        emit,
    )
    return [{**row, "emitted": at} for row, at in zip(rows, emitted, strict=True)]


def same_work(chosen: Problem) -> None:
    """Both loops must do the same: after two epochs their models agree.

    Raises: AssertionError.
    """
    ours, bare = learner(chosen), fresh(chosen)
    for epoch in (1, 2):
        train_epoch(*ours, chosen.fields, chosen.train_set, SEED, epoch, chosen.group)
        bare_epoch(*bare, chosen, epoch)
    for mine, theirs in zip(ours[0].parameters(), bare[0].parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def steps(chosen: Problem, repeats: int) -> dict[str, list[float]]:
    """The training pass alone."""
    bare, with_metrics, ours = fresh(chosen), fresh(chosen), learner(chosen)
    return epochs_in_turn(
        chosen.epochs,
        {
            "bare loop": lambda e: bare_epoch(*bare, chosen, e),
            "bare loop, running metrics": lambda e: bare_epoch(
                *with_metrics, chosen, e, metrics=True
            ),
            "train_epoch": lambda e: train_epoch(
                *ours, chosen.fields, chosen.train_set, SEED, e, chosen.group
            ),
        },
        repeats,
    )


def whole(chosen: Problem, repeats: int) -> dict[str, list[float]]:
    """A whole trial: model, epochs, validation, and for `train` all of its evidence."""
    return measure.in_turn(
        {
            "bare training": lambda: 1e3 * seconds(lambda: bare_train(chosen)),
            "train": lambda: 1e3 * seconds(lambda: our_train(chosen)),
        },
        repeats,
    )


def training_passes(chosen: Problem, rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Seconds of the training pass of each epoch: recorded; for a GPU, that is not, timed anew."""
    if chosen.device.type == "cpu":
        return [row["train_s"] for row in rows if row["weights_kind"] == "raw"]
    ours = learner(chosen)

    def one(epoch: int) -> Callable[[], object]:
        return lambda: train_epoch(
            *ours, chosen.fields, chosen.train_set, SEED, epoch, chosen.group
        )

    return [seconds(one(epoch)) for epoch in chosen.epochs]


def evidence(chosen: Problem, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of an epoch: its training pass and each thing that is not.

    `evidence` is all that `train` does beyond training steps and one plain validation pass, from
    one emitted row to the next, and the row's way into the buffer that is sent.
    """
    figures: dict[str, list[float]] = {}
    our_train(chosen)
    packed([])  # pyarrow looks for pandas at the first one
    for _ in range(repeats):
        model, _optimizer = fresh(chosen)
        rows = our_train(chosen)
        emitted = [row.pop("emitted") for row in rows]
        cycles = np.diff(emitted)
        training = np.array(training_passes(chosen, rows)[1:])
        many = (rows * ROWS_PER_BATCH)[:ROWS_PER_BATCH]
        send = seconds(lambda many=many: packed(many))
        plain = _median(lambda model=model: plain_validation(model, chosen))
        exact = _median(
            lambda model=model: evaluate(
                model, chosen.placed.validation, chosen.group, nullcontext()
            )
        )
        subset = _median(
            lambda model=model: evaluate(
                model, chosen.placed.train_eval, chosen.group, nullcontext()
            )
        )
        beyond = statistics.median(cycles - training) - plain
        parts = {
            "training pass": statistics.median(training),
            "plain validation": plain,
            "evidence": beyond + send / ROWS_PER_BATCH,
            "training subset": subset,
            "validation, exact - plain": exact - plain,
            "sums, norms, row": beyond - subset - (exact - plain),
            "sending": send / ROWS_PER_BATCH,
        }
        for name, value in parts.items():
            figures.setdefault(name, []).append(1e3 * value)
    return figures


def probes(chosen: Problem, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of an epoch, without its first and last, which evaluate twice: of CPU time, or
    on a GPU of wall time."""
    on_cpu = chosen.device.type == "cpu"

    def epochs(which: Probes) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        train(
            Training(
                chosen.fields,
                SEED,
                chosen.task,
                chosen.data,
                chosen.placed,
                probes=which,
                group=chosen.group,
                clock=time.process_time if on_cpu else time.perf_counter,
            ),
            rows.append,
        )
        return [row for row in rows if row["weights_kind"] == "raw"]

    def mean(inner: Iterable[float]) -> float:
        return 1e3 * statistics.fmean(list(inner)[1:-1])

    def whole(which: Probes) -> float:
        return mean(row["wall_s"] for row in epochs(which))

    contenders: dict[str, Callable[[], float]] = {
        "training pass": lambda: mean(training_passes(chosen, epochs(NO_PROBE) if on_cpu else []))
    }
    contenders |= {name: lambda p=which: whole(p) for name, which in PROBES.items()}
    return measure.in_turn(contenders, repeats)


def checkpoint(chosen: Problem, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of a checkpoint: the state as bytes, and those as a durable file."""
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        resume = ResumeFolder(Folder(folder), "resume")
        resume.look()

        def put(epoch: int, body: bytes) -> None:
            resume.write("0123456789ab", 1, epoch, body)
            resume.note("0123456789ab", 1, epoch)

        class Timed(Checkpointer):
            def keep(self, epoch: int, state: Mapping[str, Any]) -> None:
                as_bytes = seconds(lambda: to_bytes(state))
                both = seconds(lambda: super(Timed, self).keep(epoch, state))
                taken["state as bytes"].append(as_bytes)
                taken["with its file"].append(both)

        for _ in range(repeats):
            rows: list[dict[str, Any]] = []
            taken: dict[str, list[float]] = {"state as bytes": [], "with its file": []}
            rule = Checkpoints(every_epochs=1, every_minutes=None)
            train(
                Training(
                    chosen.fields,
                    SEED,
                    chosen.task,
                    chosen.data,
                    chosen.placed,
                    group=chosen.group,
                    checkpointer=Timed(rule, {}, chosen.group, put),
                ),
                rows.append,
            )
            found = {"training pass": training_passes(chosen, rows), **taken}
            for name, values in found.items():
                figures.setdefault(name, []).append(1e3 * statistics.median(values))
    return figures


def _median(run: Callable[[], object], times: int = 5) -> float:
    return statistics.median(seconds(run) for _ in range(times))


def main() -> None:
    """Print the tables."""
    asked = begun(__doc__)
    chosen = problems(asked.device, short=asked.short)
    for one in chosen:
        same_work(one)
        title = f"Training pass: {one.name}"
        print(measure.table(title, steps(one, asked.repeats), "bare loop", "ms per epoch"))
        title = f"Whole trial of {one.fields.epochs} epochs: {one.name}"
        print(measure.table(title, whole(one, asked.repeats), "bare training", "ms"), flush=True)
    rows: list[list[str]] = []
    names: list[str] = []
    for one in chosen:
        found = evidence(one, asked.repeats)
        training = statistics.median(found["training pass"])
        shares = [100 * value / training for value in found["evidence"]]
        rows.append(
            [one.name, f"{measure.spread(shares)} %", *(measure.spread(v) for v in found.values())]
        )
        names = list(found)
    head = ["", "evidence / training pass", *(f"{name}, ms" for name in names)]
    print(measure.grid("Evidence of an epoch", head, rows))
    for one in chosen:
        title = f"Probes: {one.name}"
        costs = probes(one, asked.repeats)
        unit = "CPU ms per epoch" if asked.device.type == "cpu" else "ms per epoch"
        print(measure.table(title, costs, "training pass", unit), flush=True)
    for one in chosen:
        title = f"A checkpoint: {one.name}"
        print(
            measure.table(title, checkpoint(one, asked.repeats), "training pass", "ms"), flush=True
        )


if __name__ == "__main__":
    sys.exit(main())
