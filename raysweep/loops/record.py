"""`raysweep.record`: a training that somebody has already writes a store; no sweep, no Ray."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from raysweep.loops.report import Report, Rules
from raysweep.loops.runs import Run, Runs, Sizes, trial_of
from raysweep.loops.validation import Validation
from raysweep.spec import Checkpoints, Probes
from raysweep.training.checkpoints import Checkpointer, UnusableCheckpointError, from_bytes, on_all
from raysweep.training.group import ALONE, Group

_CHECKPOINTS = Checkpoints()
_MANY_EPOCHS = 1_000  # where nobody says how many there will be


@contextlib.contextmanager
def record(
    folder: Path | str,
    *,
    num_val: int,
    num_train: int | None = None,
    digest: str | None = None,
    val_clusters: np.ndarray | None = None,
    seed: int = 0,
    epochs: int | None = None,
    checkpoints: Checkpoints = _CHECKPOINTS,
    **settings: Any,
) -> Iterator[Report]:
    """Record one training run in a store, which `raysweep report FOLDER` reads.

    with raysweep.record("runs/mine", num_val=len(val_y), learning_rate=0.1, seed=0) as report:
        ...
        report(outputs=logits, targets=val_y)  # after each epoch

    Runs of other settings or seeds are recorded into the same folder, one after another. A run that
    was interrupted goes on when it is started again: from what it kept with `checkpoint=`, else
    from its beginning. Of several processes that train together (torchrun), all make the same
    calls, and the first one writes.

    Args:
        folder: a folder, or s3:// and the like.
        num_val: number of validation examples.
        num_train: number of training examples.
        digest: any text that changes when the data change.
        val_clusters: shape (num_val,); validation examples that belong together share a number.
        seed: of this run, as the training uses it; runs that differ in it alone are replicates.
        epochs: how many there will be, where that is known.
        checkpoints: when `checkpoint=` of a report is kept.
        settings: the hyperparameters of this run, by any name.

    Returns: a context manager that gives what to call after each epoch, a Report.
    Raises: InputError naming what is wrong, or that the store holds this run already.
    """
    sizes = Sizes(num_val, num_train, digest, val_clusters)
    group = _this_process()
    known = settings if epochs is None else {"epochs": epochs, **settings}
    if group.rank:
        with contextlib.nullcontext(
            report_of(sizes, known, seed, None, group, checkpoints)
        ) as report:
            yield report
        return
    runs = Runs(folder, sizes)
    try:
        run = runs.begin(known, seed)
        report = report_of(sizes, known, seed, run, group, checkpoints)
        try:
            yield report
            run.finish(report.outcome() | {"world_size": group.world_size})
        except Exception as error:
            run.fail(error)
            raise
    finally:
        runs.close()


def report_of(
    sizes: Sizes,
    settings: Mapping[str, Any],
    seed: int,
    run: Run | None,
    group: Group = ALONE,
    checkpoints: Checkpoints = _CHECKPOINTS,
    clock: Callable[[], float] = time.perf_counter,
) -> Report:
    """Make what a run calls after each epoch.

    Args: run: what rank 0 writes to; clock: gives the seconds that the rows' times are made of.
    """
    epochs, batch_size = (
        value if type(value := settings.get(name)) is int else None
        for name in ("epochs", "batch_size")
    )
    rules = Rules(seed, epochs, batch_size, sizes.num_train, stops=False)
    probes = Probes().settled(sizes.num_val, epochs or _MANY_EPOCHS)
    clusters = None if sizes.val_clusters is None else np.asarray(sizes.val_clusters)
    validation = Validation(
        sizes.num_val, clusters, bits=bool(probes.correct_bits), fits=probes.confidence
    )
    trial_id = trial_of(sizes, settings, seed).trial_id
    identity = {"trial_id": trial_id, "probes": probes.model_dump(mode="json")}
    found = _found(run, group, identity)
    if run and found:
        run.start_epoch = found["epoch"] + 1
    put = run.keep if run else lambda epoch, body: None
    checkpointer = Checkpointer(checkpoints, identity, group, put, found)
    emit = run.emit if run else lambda row: None
    return Report(rules, validation, group, checkpointer, emit, clock=clock)


def _found(run: Run | None, group: Group, identity: dict[str, Any]) -> dict[str, Any] | None:
    """What an earlier attempt kept, on all processes; where they can't speak yet, nothing."""
    if group.world_size > 1 and not dist.is_initialized():
        return None
    body = run.checkpoint() if run else None
    if run and body is not None:
        try:
            from_bytes(body, **identity)
        except UnusableCheckpointError as error:
            run.drop_checkpoint(str(error))
            body = None
    body = on_all(body, group)
    if body is None:
        return None
    return from_bytes(body, **identity)


def _this_process() -> Group:
    """This process among those that train together, as torchrun numbers them."""
    rank, world_size = (
        int(os.environ.get(name, n)) for name, n in (("RANK", 0), ("WORLD_SIZE", 1))
    )
    if dist.is_initialized():
        rank, world_size = dist.get_rank(), dist.get_world_size()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Group(rank, world_size, device)
