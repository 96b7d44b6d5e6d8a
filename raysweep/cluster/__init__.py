"""The Ray that a sweep runs on: connected, checked before the start, watched meanwhile."""

from typing import Any


def __getattr__(name: str) -> Any:
    # Lazy: the import of Ray takes a second.
    if name == "running_address":
        from raysweep.cluster.address import running_address

        return running_address
    raise AttributeError(f"module 'raysweep.cluster' has no attribute {name!r}")
