"""What lies on a disk or in an object store; no Ray, no torch."""

from raysweep.store.files import Store, StoreWriter

__all__ = ["Store", "StoreWriter"]
