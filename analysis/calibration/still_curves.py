"""Curves of a network that stands still, falls by 3 pp or by 8: what is said of them, by the number
of validation examples alone."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from analysis.calibration.judged import judged
from analysis.calibration.known_columns import share
from analysis.curves import Curves
from analysis.labels import Noise, Overfit

SEED = 20260404
SIZES = (200, 1000, 10_000)
# Fall of the accuracy after epoch 20, and rise of the loss.
FALLS = ((0.0, 0.0), (0.03, 0.1), (0.08, 0.3))
TIMES = (2.0, 4.0)  # time constants of the learning, epochs
NUM_EPOCHS = 60
_PEAK = 20
_ACCURACY, _LOSS = 0.945, 0.3  # where the learning ends
_LOSS_NOISE = 0.021  # SD of the loss of 200 examples, as a share
_TOLD = (
    *(Overfit.YES, Overfit.ENDS_WORSE, Overfit.RUN_FELL),
    *(Overfit.LOSS_RISES, Overfit.LOSS_ALONE, Overfit.OVER_CONFIDENT),
)


def still(
    rng: np.random.Generator, num: int, num_val: int, fall: float, rise: float, learning: float
) -> Curves:
    """Curves whose jitter comes from the finite validation set alone, drawn anew in every epoch."""
    time = np.arange(1, NUM_EPOCHS + 1)
    past = np.clip((time - _PEAK) / (NUM_EPOCHS - _PEAK), 0, 1)
    learnt = np.exp(-time / learning)
    accuracy = _ACCURACY - (_ACCURACY - 0.5) * learnt - fall * past
    loss = (_LOSS + 1.2 * learnt) * (1 + rise * past)
    shape = (num, NUM_EPOCHS)
    noise = _LOSS_NOISE * np.sqrt(200 / num_val) * rng.standard_normal(shape)
    training = np.broadcast_to(0.98 - 0.48 * learnt, shape)
    return Curves.of_accuracy(
        rng.binomial(num_val, np.broadcast_to(accuracy, shape)) / num_val,
        val_loss=loss * (1 + noise),
        train_accuracy=rng.binomial(1000, training) / 1000,
        val_n=np.full(num, float(num_val)),
    )


def still_curves(scale: float) -> Iterator[dict[str, Any]]:
    """A row per cell: how often a fall is told, and how often the noise label says something."""
    for learning in TIMES:
        for num_val in SIZES:
            for fall, rise in FALLS:
                rng = np.random.default_rng([SEED, num_val, int(1000 * fall), int(learning)])
                num = max(int(2000 * scale), 20)
                rows = judged(still(rng, num, num_val, fall, rise, learning), 1)
                yield {
                    "learning": learning,
                    "n": num_val,
                    "fall": fall,
                    "num": num,
                    "told": share(rows, pl.col("overfit").is_in(_TOLD)),
                    "noise": share(rows, pl.col("noise") != Noise.UNDETERMINED),
                    "optimizer": share(rows, pl.col("noise").is_in([Noise.OPTIMIZER, Noise.BOTH])),
                }
