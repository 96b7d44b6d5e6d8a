"""Which errors are a trial's own, and which only came over it: those are tried again."""

import re

import torch
import torch.distributed as dist
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

# gloo says with a plain RuntimeError that another worker is gone or does not answer.
_GLOO = re.compile(
    r"gloo/transport|Connection (closed|reset) by peer|Connection refused|Timed out waiting"
    r"|Application timeout|Broken pipe",
    re.IGNORECASE,
)

_CUDA = re.compile(r"CUDA error|CUBLAS_STATUS|CUDNN_STATUS|device-side assert")


def is_transient(error: BaseException) -> bool:
    """Whether another attempt may well succeed: some other worker or node died or fell silent.

    Not so memory that ran out, an import that fails, a bad value: they would do so again.
    """
    if isinstance(error, RayTaskError | OutOfMemoryError):
        return False  # raised by code, here or at the other end of a call
    if isinstance(error, RayError | dist.DistError):
        return True
    return isinstance(error, RuntimeError) and bool(_GLOO.search(str(error)))


def broke_the_gpu(error: BaseException) -> bool:
    """Whether this process can't use its GPU any more: CUDA gives a process one context, and an
    assert or a bad access leaves it unusable. Memory that ran out does not."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    if isinstance(error, torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and bool(_CUDA.search(str(error)))


def ran_out_of_memory(error: BaseException | str) -> bool:
    """Whether Ray killed a process because its node ran out of memory, as far as Ray says so.

    Args: error: or its text, which is all that Tune keeps of it.
    """
    if isinstance(error, str):
        return "running low on memory" in error
    return isinstance(error, OutOfMemoryError)
