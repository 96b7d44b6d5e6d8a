"""A row per trial: what a curve shows, each number with its interval."""
