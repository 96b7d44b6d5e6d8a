"""Whoever logged them: curves as three frames, of trials, of epochs and of what was refused."""
