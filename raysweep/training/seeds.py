"""Where randomness begins: seeds made of what they belong to, and the generators that get them."""

import contextlib
import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def derive_seed(*parts: int | str) -> int:
    """Make a generator's seed of (seed, epoch, rank) or the like: each gives another stream."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def reset_global_state(seed: int) -> None:
    """Start every trial from the same global state, whatever trained in this process before."""
    seed_generators(seed)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False  # by default convolutions have 10 bits, unlike on a CPU
    torch.backends.cudnn.benchmark = False


def seed_generators(seed: int) -> None:
    """Begin every epoch with the same generators, wherever the one before it was trained: nothing
    of them has to be kept."""
    seed_host(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def seed_host(seed: int) -> None:
    """Seed the generators of the CPU, which datasets draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - for user code that draws from it
    # What torch.manual_seed does, without its look at the call stack, which costs most.
    torch.default_generator.manual_seed(seed)


def host_state() -> tuple[Any, ...]:
    """Take down the state of the generators of the CPU."""
    return random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002


def set_host_state(state: tuple[Any, ...]) -> None:
    """Go on from `host_state`."""
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    torch.set_rng_state(state[2])


@contextlib.contextmanager
def kept_generators() -> Iterator[None]:
    """Leave the generators of the CPU as they were, whatever is drawn meanwhile."""
    state = host_state()
    try:
        yield
    finally:
        set_host_state(state)
