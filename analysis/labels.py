"""The words that a verdict or an outcome can be."""

from enum import StrEnum

from raysweep.store import schema


class Outcome(StrEnum):
    """How the training of one trial ended."""

    COMPLETED, DIVERGED = schema.DONE
    STOPPED = schema.STOPPED
    FAILED = "failed"


class Status(StrEnum):
    """Whether a curve can be judged at all."""

    OK = "ok"
    STILL_LEARNING = "still learning"
    AT_CHANCE = "at chance"
    DIVERGED = "diverged"
    STOPPED = "stopped"  # by the scheduler
    FAILED = "failed"


class Noise(StrEnum):
    """What moves validation accuracy from epoch to epoch by more than the margin."""

    OPTIMIZER = "optimizer"  # the network itself
    VALIDATION_SET = "validation set"
    BOTH = "both"
    SLOW_WANDER = "slow wander"
    NONE = "no"
    UNDETERMINED = "undetermined"


class Overfit(StrEnum):
    """Whether training beyond the best epoch does harm."""

    YES = "yes"
    OVER_CONFIDENT = "over-confident"
    NO = "no"
    UNDETERMINED = "undetermined"


class Law(StrEnum):
    """Whether the jitter depends on learning rate over batch size alone."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    CANNOT_TELL = "cannot tell"
