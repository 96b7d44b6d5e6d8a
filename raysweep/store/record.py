"""What a store holds of one invocation of a sweep: what was asked, with what, on what."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self


class PlannedTrial(NamedTuple):
    """A trial that an invocation asks for, whether it was trained or not."""

    trial_id: str
    config_id: str
    seed: int


@dataclass(frozen=True)
class SweepRecord:
    """One file in sweeps/. It is written once, before anything trains."""

    spec: dict[str, Any] = field(default_factory=dict)  # SweepSpec's, as JSON
    trials: tuple[PlannedTrial, ...] = ()  # in the order of the grid
    configurations: dict[str, dict[str, Any]] = field(default_factory=dict)  # axes' values, by id
    versions: dict[str, str] = field(default_factory=dict)  # by package
    git_commit: str | None = None  # of the folder where the sweep was started
    hardware: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {"nodes": []})
    command: list[str] = field(default_factory=list)
    started_at: str = ""  # ISO 8601, UTC
    invocation: str = ""  # its token; see lease.Invocation

    def to_json(self) -> dict[str, Any]:
        """The record as JSON holds it."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return fields | {"trials": [list(trial) for trial in self.trials]}

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """What `to_json` returned. Raises: ValueError when it is something else."""
        try:
            trials = tuple(PlannedTrial(*trial) for trial in content["trials"])
            return cls(**{**content, "trials": trials})
        except (TypeError, KeyError):
            raise ValueError("it is no record of a sweep") from None
