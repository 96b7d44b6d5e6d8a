"""A callback for PyTorch Lightning: what `validation_step` returns becomes a report."""

from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DistributedSampler

from raysweep.errors import InputError, shown
from raysweep.loops.report import Report
from raysweep.loops.terminal import tell

_FORMS = ("outputs", "targets", "correct", "scores", "losses")


class ReportCallback(Callback):
    """Reports each validation pass: `Trainer(callbacks=[ReportCallback(report)])`.

    `validation_step` returns (outputs, targets), or a dict with the names that `report` takes:
    outputs and targets, correct, scores, losses; the first axis of each is the examples of the
    batch. A second validation loader is taken as training examples, measured in eval mode.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._seen: list[list[dict[str, torch.Tensor]]] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a pass."""
        self._seen = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take what `validation_step` returned for a batch."""
        while len(self._seen) <= dataloader_idx:
            self._seen.append([])
        self._seen[dataloader_idx].append(_named(outputs))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the pass. Raises: InputError where a step returned something else."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        said: dict[str, Any] = {}
        for place, batches in enumerate(self._seen):
            loaders = trainer.val_dataloaders
            loader = loaders[place] if isinstance(loaders, list | tuple) else loaders
            dealt = isinstance(getattr(loader, "sampler", None), DistributedSampler)
            whole = {name: _joined([b[name] for b in batches], dealt) for name in batches[0]}
            said |= whole if place == 0 else _of_training(whole)
        rates = [
            group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups
        ]
        self._report(**said, lr=rates[0] if rates else None)
        tell(self._report)


def _named(returned: Any) -> dict[str, torch.Tensor]:
    if isinstance(returned, tuple | list) and len(returned) == 2:
        returned = dict(zip(("outputs", "targets"), returned, strict=True))
    if isinstance(returned, dict):
        found = {name: returned[name].detach().cpu() for name in _FORMS if name in returned}
        if found:
            return found
    raise InputError(
        f"validation_step returned {shown(returned)}; (outputs, targets) is needed, or a dict with "
        f"some of {', '.join(_FORMS)}, one row for each example of the batch"
    )


def _joined(batches: list[torch.Tensor], dealt: bool) -> torch.Tensor:
    """The rows of a pass, of all workers. Args: dealt: in turn, by PyTorch's own sampler."""
    mine = torch.cat(batches)
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return mine
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, mine)
    if not dealt:
        return torch.cat(parts)
    whole = mine.new_empty((sum(map(len, parts)), *mine.shape[1:]))
    for rank, part in enumerate(parts):
        whole[rank :: len(parts)] = part
    return whole


def _of_training(whole: dict[str, torch.Tensor]) -> dict[str, Any]:
    """What a pass over training examples says."""
    if "outputs" in whole:
        outputs, targets = whole["outputs"].float(), whole["targets"].long()
        correct, losses = outputs.argmax(1) == targets, _losses(outputs, targets)
    else:
        correct, losses = whole.get("correct"), whole.get("losses")
    said: dict[str, Any] = {}
    if correct is not None:
        said |= {"train_accuracy": correct.double().mean().item(), "train_n": len(correct)}
    if losses is not None:
        said |= {"train_loss": losses.double().mean().item(), "train_n": len(losses)}
    return said


def _losses(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
