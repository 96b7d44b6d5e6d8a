"""Ray Train's set-up of torch for a group of workers, which frees what it held where that fails."""

from typing import Any

from ray.train.backend import Backend
from ray.train.torch import TorchConfig

TORCH: type[Backend] = TorchConfig().backend_cls


class FreeingBackend(TORCH):
    """A group whose set-up fails gives its placement group back: Ray Train 2.60 takes it for one
    that trains already, and so keeps its CPUs and GPUs until the whole job ends."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Form the process group. Raises: what the workers raised, with the group shut down."""
        try:
            super().on_start(worker_group, backend_config)
        except BaseException:
            worker_group.shutdown()
            raise


class FreeingTorchConfig(TorchConfig):
    """`TorchConfig`, set up by `FreeingBackend`."""

    @property
    def backend_cls(self) -> type[Backend]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """See `TorchConfig`."""
        return FreeingBackend
