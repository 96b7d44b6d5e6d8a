"""Read a store, answer, draw."""
