"""What is worth a claim: the margins of the verdicts."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Margins:
    """What is worth a claim. Accuracies are fractions; rises are shares of the smallest loss."""

    noise: float = 0.004  # SD from epoch to epoch
    drop: float = 0.005  # of accuracy
    loss_rise: float = 0.03  # of the refined loss, and of the loss
    course: float = 0.05  # of a loss alone or a score: a share of its level and of what it gained
    gain: float = 0.02  # of accuracy, that as many epochs again promise
    collapse: float = 0.05  # of training accuracy: a fall that it shares is no overfitting
    regained: float = 0.1  # of the fall of the training loss: with so much of it, likewise
    level: float = 0.05  # of each test and of each one-sided limit
    spikes: float = 2.25  # so much larger is the jitter's variance with them than without
    # An upper limit that is no larger is worth telling, although the margin is not excluded.
    useful_noise: float = 0.008
    useful_drop: float = 0.02
    useful_loss_rise: float = 0.1

    def in_words(self) -> str:
        """The margins in one sentence."""
        return (
            f"Margins: {100 * self.noise:g} pp of noise, {100 * self.drop:g} pp of accuracy lost, "
            f"{100 * self.loss_rise:g} % of loss, {100 * self.course:g} % where a loss or a score "
            f"is all that is known; one-sided {100 * (1 - self.level):g} % limits."
        )
