"""How often a label claims what is not there, over kinds of noise and schedules.

What is known is accuracy, loss, training accuracy and the number of examples.

Each cell is a kind of noise of the population, a schedule of the learning rate (logged or not), a
length of training, a number of examples. Nothing is lost, or exactly what a label says is not: so
every claim in the table is false.
"""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.calibration.error_rates import rate
from analysis.calibration.judged import judged
from analysis.calibration.simulate import ar1
from analysis.curves import Curves, Floats
from analysis.labels import Noise, Overfit, Status
from analysis.verdicts.margins import Margins

SEED = 20260405
_MARGINS = Margins()
_JITTER = 0.006  # SD of the population's accuracy, but where a claim is tested at its margin
_LOSS_NOISE = 0.01  # SD of the loss, as a share
_AT_ONCE = 500

Kind = Callable[[np.random.Generator, tuple[int, int]], Floats]


def _ar(correlation: float) -> Kind:
    return lambda rng, shape: ar1(rng, shape, correlation).astype(float)


def _walk(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    steps = rng.standard_normal(shape).cumsum(axis=1)
    return steps / np.sqrt(shape[1])


def _dips(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    sizes = rng.uniform(2, 8, shape) * (rng.random(shape) < 0.05)
    return 0.5 * rng.standard_normal(shape) - sizes


def _calming(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.standard_normal(shape) * np.geomspace(3, 0.5, shape[1])


def _growing(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.standard_normal(shape) * np.geomspace(0.5, 2, shape[1])


def _cycle(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    phase = rng.uniform(0, 2 * np.pi, (shape[0], 1))
    return np.sqrt(2) * np.sin(2 * np.pi * np.arange(shape[1]) / 12 + phase)


KINDS: dict[str, Kind] = {
    "AR 0": _ar(0.0),
    "AR 0.6": _ar(0.6),
    "AR 0.9": _ar(0.9),
    "half AR 0.9": lambda rng, shape: np.sqrt(0.5) * (_ar(0.9)(rng, shape) + _ar(0.0)(rng, shape)),
    "random walk": _walk,
    "t, 3 df": lambda rng, shape: rng.standard_t(3, shape) / np.sqrt(3),
    "dips": _dips,
    "calming": _calming,
    "growing": _growing,
    "cycle": _cycle,
}
SCHEDULES = ("flat", "step", "step, not logged", "cosine", "linear", "one-cycle")
SHAPES = ((12, 1000), (30, 200), (60, 1000), (120, 10_000), (300, 5000))
# Of the kinds; a schedule is tried with the first and the second of them.
_CELLS = [(kind, "flat") for kind in KINDS] + list(product(("AR 0", "AR 0.6"), SCHEDULES[1:]))


def schedule(name: str, num_epochs: int) -> tuple[Floats, Floats, Floats]:
    """The rates, what accuracy gains by their fall, and how loud the noise is. (T,) each."""
    part = np.arange(num_epochs) / num_epochs
    if name.startswith("step"):
        rate_ = np.select([part < 0.5, part < 0.75], [1.0, 0.1], 0.01)
    elif name == "cosine":
        rate_ = (1 + np.cos(np.pi * part)) / 2
    elif name == "linear":
        rate_ = 1 - part * (1 - 1 / num_epochs)
    elif name == "one-cycle":
        rate_ = np.where(part < 0.3, 0.1 + 3 * part, 1 - (part - 0.3) / 0.7)
    else:
        rate_ = np.ones(num_epochs)
    rate_ = np.maximum(rate_, 1e-3)
    gain = np.zeros(num_epochs) if name == "flat" else 0.04 * (1 - np.sqrt(rate_))
    return rate_, gain, np.sqrt(np.clip(rate_, 0.1, 1))


def curves(
    rng: np.random.Generator, num: int, kind: str, name: str, shape: tuple[int, int]
) -> Curves:
    """Curves that learn, gain what the schedule gives, and lose nothing.

    Args: shape: epochs, examples.
    """
    num_epochs, num_val = shape
    rates, gain, loud = schedule(name, num_epochs)
    learnt = np.exp(-np.arange(1, num_epochs + 1) / max(num_epochs / 20, 1))
    size = (num, num_epochs)
    accuracy = 0.88 + gain - 0.38 * learnt + _JITTER * loud * KINDS[kind](rng, size)
    loss = (0.4 - 2 * gain + learnt) * (1 + _LOSS_NOISE * loud * KINDS[kind](rng, size))
    known: dict[str, NDArray[np.float64]] = {"val_loss": np.maximum(loss, 1e-3)}
    if name not in ("flat", "step, not logged"):
        known["lr"] = np.broadcast_to(rates, size).copy()
    return Curves.of_accuracy(
        rng.binomial(num_val, np.clip(accuracy, 0, 1)) / num_val,
        train_accuracy=rng.binomial(2000, np.clip(accuracy + 0.05, 0, 1)) / 2000,
        val_n=np.full(num, float(num_val)),
        **known,
    )


# What is false of curves that lose nothing and, but for the walk, do not learn at the end.
CLAIMS = {
    "overfits, ends worse": pl.col("overfit").is_in([Overfit.YES, Overfit.ENDS_WORSE]),
    "loss rises": pl.col("overfit").is_in(
        [Overfit.LOSS_RISES, Overfit.LOSS_ALONE, Overfit.OVER_CONFIDENT]
    ),
    "comes apart, nothing learnt": pl.col("overfit").is_in(
        [Overfit.COMES_APART, Overfit.NOTHING_LEARNT]
    ),
    "still learning": pl.col("status") == Status.STILL_LEARNING,
    "validation set": pl.col("noise").is_in([Noise.VALIDATION_SET, Noise.BOTH]),
}


def false_claims(scale: float) -> Iterator[dict[str, Any]]:
    """A row per cell and claim."""
    for (kind, name), shape in product(_CELLS, SHAPES):
        key = [SEED, list(KINDS).index(kind), SCHEDULES.index(name), *shape]
        rng = np.random.default_rng(key)
        num = max(int(2000 * scale), 20)
        parts = [
            judged(curves(rng, min(_AT_ONCE, num - first), kind, name, shape), 1)
            for first in range(0, num, _AT_ONCE)
        ]
        rows = pl.concat(parts)
        for claim, holds in CLAIMS.items():
            hits = int(rows.select(holds.fill_null(value=False).sum()).item())
            cell = {"kind": kind, "schedule": name, "epochs": shape[0], "n": shape[1]}
            yield {"claim": claim, **cell, **rate(hits, rows.height)}
