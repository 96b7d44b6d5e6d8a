"""How far a model's confidence can be trusted: temperature, Brier score, calibration error.

All of it comes from the logits that the evaluation of the validation set has computed anyway.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from raysweep.training.group import Group

# Validation logits are kept (as float32) while there are no more of them: half a gigabyte.
MAX_KEPT_LOGITS = 2**27
_NUM_BINS = 15
# Temperatures that are searched. A model that is always right wants 0, one worse than chance
# infinity; they get the end of this range.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0
# Relative. Newton's error after a step is about the square of that step.
_LAST_STEP, _MAX_STEPS = 1e-2, 100
_SHRINKS = (
    0.9  # a step of Newton's that is no smaller than this times the last gives way to halving
)


class LogitMargins(NamedTuple):
    """Logits of a batch of examples, less the largest of each example.

    all: shape (num_classes, batch), 0 at the predicted class. true: of the true class, (batch,).
    """

    all: torch.Tensor
    true: torch.Tensor


def as_they_are(
    batches: Sequence[LogitMargins], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Judge this worker's shard at temperature 1.

    Returns: the sum of Brier scores, (1,); the confidence in each prediction, (shard,)."""
    brier = torch.zeros(1, dtype=torch.float64, device=device)
    confidence = [torch.zeros(0, device=device)]
    for z, true in batches:
        e = z.exp()
        total = e.sum(0)
        # sum over classes of (p - [true class])²
        scores = e.square_().sum(0) / total.square() - 2 * true.exp() / total + 1
        brier += scores.double().sum()
        confidence.append(1 / total)
    return brier, torch.cat(confidence)


def fit_temperature(batches: Sequence[LogitMargins], n: int, group: Group) -> tuple[float, float]:
    """Find the temperature at which the validation loss is smallest, and the mean loss there.

    The loss is convex in 1 / temperature. Newton's method finds its minimum; where its steps leave
    the bracket or stop shrinking (a model that is nearly always right), the bracket is halved.
    Each step is exact over workers.

    Args: n: examples over all workers.
    Returns: (temperature, loss); NaN where a logit is not finite.
    Source: Guo et al. 2017, arXiv 1706.04599.
    """
    inverse, low, high = 1.0, 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    previous = None  # the last step, if it was Newton's
    for _ in range(_MAX_STEPS):
        zeros = torch.zeros(3, dtype=torch.float64, device=group.device)
        sums = sum((_loss_and_derivatives(batch, inverse) for batch in batches), zeros)
        loss, slope, curvature = group.sum(sums).tolist()
        if not math.isfinite(loss):
            break
        if slope <= 0:  # 0 where all is right beyond float's reach: sharper is no worse
            low = inverse
        else:
            high = inverse
        step = -slope / curvature if curvature > 0 else math.inf
        shrinks = previous is None or abs(step) <= _SHRINKS * abs(previous)
        newton = shrinks and low <= inverse + step <= high
        if not newton:
            step = math.sqrt(low * high) - inverse
        if abs(step) <= _LAST_STEP * inverse and not (newton and previous is None):
            return 1 / (inverse + step), (loss + slope * step + curvature * step**2 / 2) / n
        inverse += step
        previous = step if newton else None
    return math.nan, math.nan


def _loss_and_derivatives(batch: LogitMargins, inverse: float) -> torch.Tensor:
    """Sums over examples of the loss at 1 / temperature = `inverse` and of its first and second
    derivative in it: with p = softmax(inverse z), E_p[z] - z_true and Var_p[z]."""
    z, true = batch
    e = (z * inverse).exp_()
    total = e.sum(0)
    ez = e * z
    mean = ez.sum(0) / total
    variance = (ez * z).sum(0) / total - mean.square()
    loss = total.log() - inverse * true
    return torch.stack([loss, mean - true, variance]).sum(1, dtype=torch.float64)


def block_losses(
    batches: Sequence[LogitMargins], temperature: float, blocks: torch.Tensor, num_blocks: int
) -> torch.Tensor:
    """Sum the losses of this worker's shard at the temperature by block; (num_blocks,).

    Args: blocks: of each example of the shard, in order; (shard,).
    """
    zeros = torch.zeros(0, dtype=torch.float64, device=blocks.device)
    each = [(z / temperature).exp_().sum(0).log() - true / temperature for z, true in batches]
    losses = torch.cat([zeros, *[loss.double() for loss in each]])
    total = torch.zeros(num_blocks, dtype=torch.float64, device=blocks.device)
    return total.index_add_(0, blocks, losses)


def calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float | None:
    """Compute the expected calibration error over bins of equal mass.

    Args: confidence in the predicted class, and whether it was right; shape (n,) each.
    Returns: mean over bins of |mean confidence - accuracy|, weighted by size; null below
        _NUM_BINS examples.
    Source: Naeini et al. 2015 for the error, Nixon et al. 2019, arXiv 1904.01685, for equal mass.
    """
    n = len(confidence)
    if n < _NUM_BINS:
        return None
    excess = (confidence - correct)[np.argsort(confidence, kind="stable")]
    starts = np.arange(_NUM_BINS) * n // _NUM_BINS
    return float(np.abs(np.add.reduceat(excess, starts)).sum() / n)


def confidence_columns(
    fitted: tuple[float, float],
    block_sums: list[float],
    brier_sum: float,
    confidence: np.ndarray,
    correct: np.ndarray,
) -> dict[str, Any]:
    """Name the columns of an epoch's row; none where a logit was not finite."""
    temperature, loss = fitted
    if not math.isfinite(temperature + brier_sum):
        return {}
    return {
        "temperature": temperature,
        "val_nll_at_temperature": loss,
        "val_block_nll_sum": block_sums,
        "brier": brier_sum / len(confidence),
        "ece": calibration_error(confidence, correct),
    }
