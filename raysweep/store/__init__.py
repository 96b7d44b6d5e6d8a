"""What lies on a disk or in an object store; no Ray, no torch."""
