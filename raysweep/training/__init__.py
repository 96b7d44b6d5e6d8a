"""One trial: torch, without Ray."""
