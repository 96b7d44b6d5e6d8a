"""Trials of a loop, trained in this process: their rows, their checkpoints, how they ended."""

from pathlib import Path

from raysweep.loops.run import run_loop
from raysweep.planning.grid import Trial
from raysweep.spec import Checkpoints, Hyperparameters
from raysweep.training.checkpoints import Checkpointer, from_bytes
from raysweep.training.group import ALONE

EXAMPLES = Path(__file__).parents[2] / "examples"
PROBES = Trial("", "", {}, Hyperparameters(), 0).probes
IDENTITY = {"trial_id": "t", "probes": PROBES.model_dump(mode="json")}
TIMES = ("wall_s", "train_s")


def train_loop(loop, fields=None, *, seed=0, body=None, group=ALONE, every=None, between=None):
    """(rows, checkpoints by epoch, outcome) of one trial; body: of a checkpoint to go on from."""
    rows, kept = [], {}
    found = from_bytes(body, **IDENTITY) if body else None
    rule = Checkpoints(every_epochs=every, every_minutes=None)
    checkpointer = Checkpointer(rule, IDENTITY, group, kept.__setitem__, found)
    trial = Trial("t", "c", {}, fields or Hyperparameters(epochs=3), seed)
    passed = between or (lambda row: None)
    outcome = run_loop(loop, trial, group, checkpointer, rows.append, passed)
    return rows, kept, outcome


def timeless(rows):
    """Rows without what no two runs have alike."""
    return [{name: v for name, v in row.items() if name not in TIMES} for row in rows]
