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
    """What moves validation accuracy from epoch to epoch, and by how much."""

    OPTIMIZER = "optimizer"  # the network itself, by more than the margin
    VALIDATION_SET = "validation set"  # by itself, by more than the margin
    BOTH = "both"
    SLOW_WANDER = "slow wander"
    NONE = "no"  # neither from epoch to epoch nor over the plateau
    NO_JITTER = "no jitter"  # not from epoch to epoch; slow wander is open
    SPIKES = "a few spikes"  # a few epochs make it; without them the network's part is not shown
    SMALL = "small"  # below twice the margin, whoever makes it
    SOME_OPTIMIZER = "some optimizer"  # the network itself for sure, the margin is open
    SET_SUFFICES = "set suffices"  # no more than the validation set can make by itself
    UNDETERMINED = "undetermined"


class Overfit(StrEnum):
    """Whether training beyond the best epoch does harm, and how little where it does none."""

    YES = "yes"  # validation falls, and training is known not to
    ENDS_WORSE = "ends worse"  # validation falls; of training nothing is known
    COMES_APART = "comes apart"  # training falls as well, or the network ends at chance
    NOTHING_LEARNT = "nothing learnt"
    RUN_FELL = "this run fell"  # these weights for sure; whether another seed's would is open
    LOSS_RISES = "loss rises"  # what becomes of the accuracy is not known
    LOSS_ALONE = "loss rises, accuracy holds"
    OVER_CONFIDENT = "over-confident"  # the same, and the loss at the fitted temperature holds
    NO = "no"  # neither accuracy nor loss
    NO_ACCURACY = "no (accuracy)"  # of the loss nothing is known, or not enough
    LITTLE = "little"  # a fall can't be excluded, a large one can
    LOSS_HOLDS = "loss holds"  # of the accuracy nothing is known
    NOT_SHOWN = "no harm shown"  # of a loss or a score alone: noise hides what can't be excluded
    UNDETERMINED = "undetermined"


class Course(StrEnum):
    """What becomes of a loss, or of any score, after its best window."""

    WORSE = "gets worse"  # for sure, and by as much as is worth a claim
    SLIGHTLY = "gets slightly worse"  # for sure, by less than that
    IMPROVES = "still improves"
    HOLDS = "holds"  # as much as is worth a claim is excluded
    NOT_SHOWN = "no worsening shown"  # none to speak of is seen; noise hides what isn't excluded
    MAY = "may get worse"  # it is seen, and noise could make it
    UNDETERMINED = "undetermined"  # too few evaluations


class Law(StrEnum):
    """Whether the jitter depends on learning rate over batch size alone."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    CANNOT_TELL = "cannot tell"
