"""What a trial carries from one epoch to the next, as bytes, and when it is kept."""

import hashlib
import io
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from raysweep.spec import Checkpoints
from raysweep.training.group import Group

_DIGEST_SIZE = 16


class UnusableCheckpointError(Exception):
    """A checkpoint that can't be gone on from; the message says why."""


def to_bytes(state: Mapping[str, Any]) -> bytes:
    """Write mappings and lists of tensors and plain values as bytes, behind their digest."""
    buffer = io.BytesIO()
    torch.save(_on_host(state), buffer)
    # PyTorch's own file format does not notice a flipped bit.
    return _digest(buffer.getbuffer()) + buffer.getbuffer()


def from_bytes(body: bytes, trial_id: str, probes: Mapping[str, Any]) -> dict[str, Any]:
    """Read back what `to_bytes` was given, on the host.

    Raises: UnusableCheckpointError when it is damaged, foreign, another trial's, or of a sweep
        with other probes, whose rows would not fit those to come.
    """
    payload = memoryview(body)[_DIGEST_SIZE:]
    if bytes(body[:_DIGEST_SIZE]) != _digest(payload):
        raise UnusableCheckpointError("it is damaged, or no checkpoint")
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever unpickling strangers' bytes raises
        raise UnusableCheckpointError(f"it does not load: {error}") from error
    if not isinstance(state, dict) or state.get("trial_id") != trial_id:
        raise UnusableCheckpointError(f"it is not of trial {trial_id}")
    if "optimizer" in state:
        raise UnusableCheckpointError("an older raysweep saved it")
    if state["probes"] != probes:
        raise UnusableCheckpointError("it was saved with other probes")
    return state


def _digest(payload: Any) -> bytes:
    return hashlib.blake2b(payload, digest_size=_DIGEST_SIZE).digest()


def _on_host(state: Any) -> Any:
    """The same with every tensor on the host; a GPU is waited for once, at the end."""

    def moved(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.detach().to("cpu", non_blocking=True)
        if isinstance(value, Mapping):
            return {key: moved(inner) for key, inner in value.items()}
        return [moved(inner) for inner in value] if isinstance(value, list) else value

    host = moved(state)
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return host


def weights(model: nn.Module) -> dict[str, Any]:
    """Collect a model's parameters and all of its buffers."""
    return {"kept": model.state_dict(), "buffers": dict(model.named_buffers())}


@torch.no_grad()
def load_weights(model: nn.Module, saved: Mapping[str, Any]) -> None:
    """Give a model what `weights` returned."""
    model.load_state_dict(saved["kept"])
    for name, buffer in model.named_buffers():
        buffer.copy_(saved["buffers"][name])  # those that a state dict leaves out as well


class Checkpointer:
    """One trial's checkpoints: when they are due, and on rank 0 where they go.

    found: what `from_bytes` returned, the same on all workers, to go on from; None for a trial
    that begins.
    """

    def __init__(
        self,
        rule: Checkpoints,
        identity: Mapping[str, Any],
        group: Group,
        put: Callable[[int, bytes], None],
        found: dict[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: identity: trial_id and probes, as `from_bytes` expects them; put: takes an epoch
        and its checkpoint."""
        self.found = found
        self._rule, self._identity, self._group, self._put = rule, identity, group, put
        self._clock = clock
        self._began = clock() - (found["seconds"] if found else 0.0)
        self._kept_at = clock()

    @property
    def seconds(self) -> float:
        """Seconds since the trial began, without those that died with an earlier attempt."""
        return self._clock() - self._began

    def due(self, epoch: int) -> bool:
        """Tell whether to keep the end of this epoch. All workers ask; rank 0's clock decides."""
        every, minutes = self._rule.every_epochs, self._rule.every_minutes
        if every is not None and epoch % every == 0:
            return True
        if minutes is None:
            return False
        due = self._clock() - self._kept_at >= 60 * minutes
        return bool(self._group.from_first(torch.tensor(due, device=self._group.device)).item())

    def keep(self, epoch: int, state: Mapping[str, Any]) -> None:
        """Keep the state after an epoch, in place of an earlier one."""
        if self._group.rank == 0:
            head = {**self._identity, "epoch": epoch, "seconds": self.seconds}
            self._put(epoch, to_bytes({**head, **state}))
        self._kept_at = self._clock()


def on_all(body: bytes | None, group: Group) -> bytes | None:
    """Give every worker the bytes of rank 0, or its None."""
    if group.world_size == 1:
        return body
    size = int(group.from_first(torch.tensor(len(body or b""), device=group.device)).item())
    if not size:
        return None
    numbers = torch.frombuffer(bytearray(body or size), dtype=torch.uint8)
    return group.from_first(numbers.to(group.device)).cpu().numpy().tobytes()
