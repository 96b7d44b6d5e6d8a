"""Loops for a real Ray: one dies in its midst, one trains with DDP, one says little."""

import os
import signal

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from raysweep.tasks import Loop
from raysweep.tasks.digits import load

DATA = load(None)
TRAIN_X, TRAIN_Y = (torch.from_numpy(part) for part in DATA.train)
VAL_X, VAL_Y = (torch.from_numpy(part) for part in DATA.validation)
SIZES = {"num_val": len(VAL_Y), "num_train": len(TRAIN_Y), "digest": "digits"}


def quiet(trial, report):
    """Trains, and goes on from a checkpoint."""
    model = nn.Linear(64, 10)
    optimizer = torch.optim.SGD(model.parameters(), trial.learning_rate)
    if report.state:
        model.load_state_dict(report.state["model"])
    for _ in report.epochs():
        for batch in torch.randperm(len(TRAIN_Y)).split(trial.batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(TRAIN_X[batch]), TRAIN_Y[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            logits = model(VAL_X)
        yield report.epoch + 1
        kept = {"model": model.state_dict()}
        report(outputs=logits, targets=VAL_Y, lr=trial.learning_rate, checkpoint=kept)


def whole(trial, report):
    """Trains undisturbed."""
    for _ in quiet(trial, report):
        pass


def dying(trial, report):
    """Is killed in its fourth epoch, once."""
    for epoch in quiet(trial, report):
        if epoch == 4 and report.state is None:
            os.kill(os.getpid(), signal.SIGKILL)


def in_a_group(trial, report):
    """Trains with DDP, and evaluates a share of the validation set in each process."""
    torch.manual_seed(report.seed)
    model = DistributedDataParallel(nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), trial.learning_rate)
    for _ in report.epochs():
        order = torch.randperm(len(TRAIN_Y), generator=torch.Generator().manual_seed(report.epoch))
        for batch in order.split(trial.batch_size):
            mine = batch[report.rank :: report.world_size]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(TRAIN_X[mine]), TRAIN_Y[mine]).backward()
            optimizer.step()
        with torch.no_grad():
            logits = model(VAL_X.tensor_split(report.world_size)[report.rank])
        parts = [None] * report.world_size
        dist.all_gather_object(parts, logits)
        report(outputs=torch.cat(parts), targets=VAL_Y)  # pyright: ignore[reportArgumentType]


undisturbed = Loop(whole, **SIZES)
killed = Loop(dying, **SIZES)
group = Loop(in_a_group, **SIZES)
