"""The errors that people see: one clear line each, and the exit code that goes with it."""


class RaysweepError(Exception):
    """Something failed while running; the message names the thing and where to look."""

    exit_code = 1
    leaves_threads = False  # something may still run inside Ray


class InputError(RaysweepError):
    """What was asked for can't be done: the message names the thing, the value, what is allowed."""

    exit_code = 2


class StorageError(RaysweepError):
    """The store, or the log of what is on its way there, can't be written. No trial's fault."""
