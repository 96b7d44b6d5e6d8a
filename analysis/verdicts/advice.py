"""What to turn, from the labels of a configuration: one short clause each."""

import math
from typing import Any

from analysis.verdicts.margins import Margins

Row = dict[str, Any]
OPTIMIZER = "lower or decay the learning rate, take a larger batch, or average the weights"
EARLY = "warm the learning rate up, or pay no heed: the jitter is early and calms down by itself"
CALM = 0.5  # of the jitter: where the second half of training moves less, the jitter is early
SLOW = "decay the learning rate, and judge by the mean of many epochs instead of the best one"


def advice(row: Row, num_val: int, margins: Margins | None = None) -> list[str]:
    """What a practitioner would change first; empty where nothing was settled.

    Args: row: of `Analysis.configurations`; num_val: examples in the validation set.
    """
    m = margins or Margins()
    if row["status"] == "failed":
        return ["see its error under data quality"]
    if row["status"] == "diverged":
        return ["lower the learning rate, warm it up, or clip gradients"]
    if collapses(row, m):
        return ["lower the learning rate or clip gradients: training comes apart"]
    if row["status"] == "at chance":
        return ["another learning rate: at this one nothing is learnt"]
    said: list[str] = []
    if row["status"] == "still learning":
        moves = row["noise"] in ("optimizer", "both")
        faster = "" if moves else " or raise the learning rate"
        said.append(f"train longer{faster} before judging the rest")
    if row["noise"] in ("optimizer", "both"):
        early = (row["late_hf_sd"] or math.inf) < CALM * row["hf_sd"]
        said.append(EARLY if early else OPTIMIZER)
    if row["noise"] in ("validation set", "both"):
        said.append(
            f"validate on {quiet_set(row['fin_sd'], num_val, m)} examples or judge by the mean of "
            "several epochs; training need not change for that part"
        )
    if row["noise"] == "slow wander":
        said.append(SLOW)
    if row["overfit"] == "yes":
        near = f" near epoch {row['peak_epoch']:.0f}" if row["peak_epoch"] else " sooner"
        said.append(f"stop{near}, or regularise more: weight decay, dropout, augmentation")
    if row["overfit"] == "over-confident":
        said.append(
            "nothing for accuracy; if probabilities matter, fit a temperature, smooth labels or "
            "stop sooner"
        )
    if not said and row["noise"] == "no" and row["overfit"] == "no":
        return ["nothing: neither noise nor overfitting stands in the way"]
    return said


def collapses(row: Row, margins: Margins | None = None) -> bool:
    """Whether training accuracy itself falls from its peak: instability, no overfitting."""
    return (row["train_drop"] or 0) > (margins or Margins()).collapse


def quiet_set(fin_sd: float, num_val: int, margins: Margins | None = None) -> str:
    """About how many examples bring the validation set's part of the jitter to the margin."""
    needed = num_val * (fin_sd / (margins or Margins()).noise) ** 2
    digits = 10 ** max(math.floor(math.log10(needed)) - 1, 0)
    return f"{math.ceil(needed / digits) * digits:,}"
