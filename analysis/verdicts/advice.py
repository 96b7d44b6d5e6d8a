"""What to turn, from the labels of a configuration: one short clause each."""

import math
from typing import Any

from analysis.labels import Noise, Overfit, Status
from analysis.verdicts.margins import Margins

Row = dict[str, Any]
_MARGINS = Margins()
CALM = 0.5  # of the jitter: where the second half of training moves less, the jitter is early

_BY_STATUS = {
    Status.FAILED: "see its error under data quality",
    Status.DIVERGED: "lower the learning rate, warm it up, or clip gradients",
    Status.AT_CHANCE: "another learning rate: at this one nothing is learnt",
}
_COLLAPSED = "lower the learning rate or clip gradients: training comes apart"
_OPTIMIZER = "lower or decay the learning rate, take a larger batch, or average the weights"
_EARLY = "warm the learning rate up, or pay no heed: the jitter is early and calms down by itself"
_WANDER = "decay the learning rate, and judge by the mean of many epochs instead of the best one"
_OVER_CONFIDENT = (
    "nothing for accuracy; if probabilities matter, fit a temperature, smooth labels or stop sooner"
)
_RUN_FELL = "keep the weights of the best window instead of the last ones"
_LOSS_RISES = (
    "judge by the accuracy where that is what counts; stop sooner where probabilities count"
)
_SET_SUFFICES = (
    "before training is changed, validate on more examples: those at hand can make such a jitter"
)
_SPIKES = "look at the epochs that stand out: clip gradients, or find what their batches hold"
_QUIET = (Noise.NONE, Noise.NO_JITTER)
_SPARED = (Overfit.NO, Overfit.NO_ACCURACY)
_NOTHING = "nothing: neither noise nor overfitting stands in the way"


def advice(row: Row, num_val: int) -> list[str]:
    """Advise what a practitioner would change first.

    Args: row: of `Analysis.configurations`; num_val: examples in the validation set.
    Returns: clauses, the most urgent one first; none where nothing was settled.
    """
    status, noise, overfit = row["status"], row["noise"], row["overfit"]
    if status in (Status.FAILED, Status.DIVERGED):
        return [_BY_STATUS[status]]
    if overfit == Overfit.COMES_APART or collapses(row):
        return [_COLLAPSED]
    if status == Status.AT_CHANCE:
        return [_BY_STATUS[status]]
    if status == Status.OK and noise in _QUIET and overfit in _SPARED:
        return [_NOTHING]
    moves = noise in (Noise.OPTIMIZER, Noise.BOTH)
    harmed = overfit in (Overfit.YES, Overfit.ENDS_WORSE)
    clauses: list[str] = []
    if status == Status.STILL_LEARNING:
        faster = "" if moves else " or raise the learning rate"
        clauses.append(f"train longer{faster} before judging the rest")
    if moves:
        is_early = (row["late_hf_sd"] or math.inf) < CALM * row["hf_sd"]
        clauses.append(_EARLY if is_early else _OPTIMIZER)
    if noise in (Noise.VALIDATION_SET, Noise.BOTH):
        clauses.append(
            f"validate on {_quiet_size(row['fin_sd'], num_val)} examples or judge by the mean "
            "of several epochs; training need not change for that part"
        )
    if noise == Noise.SLOW_WANDER:
        clauses.append(_WANDER)
    if noise == Noise.SPIKES:
        clauses.append(_SPIKES)
    if noise == Noise.SET_SUFFICES:
        clauses.append(_SET_SUFFICES)
    if overfit == Overfit.RUN_FELL:
        clauses.append(_RUN_FELL)
    if harmed:
        peak = row["peak_epoch"] or row["score_best_epoch"] or row["run_loss_best_epoch"]
        near = f" near epoch {peak:.0f}" if peak else " sooner"
        clauses.append(f"stop{near}, or regularise more: weight decay, dropout, augmentation")
    if overfit in (Overfit.OVER_CONFIDENT, Overfit.LOSS_ALONE):
        clauses.append(_OVER_CONFIDENT)
    if overfit == Overfit.LOSS_RISES:
        clauses.append(_LOSS_RISES)
    return clauses


def collapses(row: Row) -> bool:
    """Tell whether training accuracy itself falls from its peak: instability, no overfitting."""
    return (row["train_drop"] or 0) > _MARGINS.collapse


def _quiet_size(fin_sd: float | None, num_val: int) -> str:
    """About how many examples bring the validation set's part of the jitter to the margin."""
    if fin_sd is None:  # limits decide a label where the estimate itself is null
        return "more"
    needed = num_val * (fin_sd / _MARGINS.noise) ** 2
    digits = 10 ** max(math.floor(math.log10(needed)) - 1, 0)
    return f"{math.ceil(needed / digits) * digits:,}"
