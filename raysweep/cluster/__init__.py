"""The Ray that a sweep runs on: connected, checked before the start, watched meanwhile."""
