"""The page of one log: its curves, the answer, what to do, what could not be checked."""
