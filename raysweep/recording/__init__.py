"""The one process that writes a store, and the workers' line to it."""
