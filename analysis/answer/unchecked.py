"""What could not be checked of a run, which number or column would settle it, and how to get it."""

from analysis.answer.answer import Unchecked
from analysis.answer.courses import Course
from analysis.answer.facts import ACCURACY, LOSS, TRAINING, Facts
from analysis.answer.snippets import bits_for, tool_of
from analysis.labels import Noise, Overfit, Status
from analysis.sources.logs.reading import VALUES

_FEW = 8  # evaluations
_SETTLED = (Noise.NONE, Noise.NO_JITTER, Noise.SMALL, Noise.OPTIMIZER, Noise.VALIDATION_SET)


def unchecked_of(facts: Facts, main: Course | None) -> tuple[Unchecked, ...]:
    """List it, what decides most first."""
    if facts.status in (Status.DIVERGED, Status.FAILED) or facts.main.is_constant:
        return ()
    if main is None or (main.p is None and facts.number("hf_sd") is None):
        return (
            Unchecked(
                "noise and overfitting",
                f"{_settled(facts)} of {len(facts.main.at)} evaluations have settled",
                f"at least {_FEW} that have",
                "evaluate more often: after every epoch, or several times in one",
            ),
        )
    some: list[Unchecked] = []
    if facts.main.role == ACCURACY:
        some += _of_accuracy(facts)
    if facts.of(LOSS) is None:
        some.append(
            Unchecked(
                "whether the network grows over-confident",
                "there is no validation loss",
                "the validation loss of each evaluation",
                facts.how_to_say("val_loss"),
            )
        )
    if not any(facts.of(role) for role in TRAINING):
        some.append(
            Unchecked(
                "whether it is overfitting, or training that comes apart",
                "there is no training metric",
                "the training loss or accuracy of each epoch",
                facts.how_to_say("train_loss"),
            )
        )
    if facts.of("learning_rate") is None:
        some.append(
            Unchecked(
                "whether a rise at the end is the schedule's, and what training longer would give",
                "the learning rate is not known",
                "the learning rate of each epoch",
                facts.how_to_say("learning_rate"),
            )
        )
    return tuple(some)


def _settled(facts: Facts) -> int:
    return int(facts.number("num_usable_epochs") or 0)


def _of_accuracy(facts: Facts) -> list[Unchecked]:
    some: list[Unchecked] = []
    noise, overfit = facts.row.get("noise"), facts.row.get("overfit")
    if facts.num_val is None and noise not in (Noise.NONE, Noise.NO_JITTER, Noise.SMALL):
        proposed = facts.proposed_num_val
        how = (
            f"num_val={proposed or 'N'}" if facts.tool == VALUES else f"--num-val {proposed or 'N'}"
        )
        how += ", which would fit all accuracies" if proposed else ""
        some.append(
            Unchecked(
                "whether the network or the validation set makes it jump",
                "the number of validation examples is not known",
                "that one number",
                how,
            )
        )
    has_blocks = facts.number("fin_sd") is not None
    not_told = noise not in _SETTLED and facts.num_val is not None
    if not has_blocks and (not_told or overfit in (Overfit.UNDETERMINED, Overfit.LITTLE)):
        some.append(
            Unchecked(
                "how much of the jumps, and of a fall, is the luck of this validation set",
                "which examples are right is not known",
                "which validation examples are right at each evaluation",
                bits_for(tool_of(facts.names)),
            )
        )
    return some
