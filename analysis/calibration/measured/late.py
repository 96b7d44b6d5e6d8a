"""Tables of docs/method/overfitting.md: the slope at the end, and how often "still learning" is so.

OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 python -m analysis.calibration.measured.late
"""

import numpy as np
import polars as pl

from analysis.calibration.measured.tables import PP, Table, bias, cells, write_all
from analysis.calibration.simulate import ar1
from analysis.curves import Curves, Floats
from analysis.measures.late import late_trend
from analysis.verdicts.margins import Margins

SEED = 20260404
_NUM = 500  # curves a cell
_CORRELATIONS = (0.0, 0.6, 0.9)

# What a curve does after it has learnt, and its learning rate, by the part of training.
Shape = tuple[Floats, Floats]


def shapes(num_epochs: int) -> dict[str, tuple[Shape, float]]:
    """Trends of accuracy, each with its learning rates and what as many epochs again would add.

    A lower rate raises the accuracy: the step at once or within some epochs, the others slowly.
    """
    part = np.arange(num_epochs) / num_epochs
    learnt = 0.9 - 0.4 * np.exp(-20 * part)
    constant = np.ones(num_epochs)
    half, late = np.where(part < 0.5, 1, 0.1), np.where(part < 0.75, 1, 0.1)
    slow = np.where(part < 0.6, 1, np.exp(-(part - 0.6) * num_epochs / 3))
    cosine = 0.5 * (1 + np.cos(np.pi * part))
    one_cycle = np.where(part < 0.3, part / 0.3, (1 - part) / 0.7)
    unknown = np.full(num_epochs, np.nan)
    return {
        "constant, flat": ((learnt, constant), 0.0),
        "constant, learnt early": ((0.9 - 0.4 * np.exp(-6 * part), constant), 0.001),
        "step at 1/2": ((learnt - 0.05 * (half == 1), half), 0.0),
        "step at 3/4": ((learnt - 0.08 * (late == 1), late), 0.0),
        "step, slow answer": ((learnt - 0.05 * slow, np.where(part < 0.6, 1, 0.1)), 0.0),
        "cosine": ((learnt - 0.06 * cosine, cosine + 1e-4), 0.0),
        "linear": ((learnt - 0.08 * (1 - part), 1 - part), 0.0),
        "one-cycle": ((learnt - 0.08 * one_cycle, one_cycle + 1e-4), 0.0),
        "cosine, not logged": ((learnt - 0.06 * cosine, unknown), 0.0),
        "step at 3/4, not logged": ((learnt - 0.08 * (late == 1), unknown), 0.0),
        "constant, rises in a line": ((learnt - 0.04 + 0.04 * part, constant), 0.04),
        "constant, rises less and less": ((0.9 - 0.172 * np.exp(-part), constant), 0.04),
    }


def told(trend: Floats, rates: Floats, noise: float, correlation: float, num: int) -> float:
    """How often such curves are told to be still learning."""
    rng = np.random.default_rng([SEED, len(trend), int(1000 * correlation)])
    shown = trend + noise * ar1(rng, (num, len(trend)), correlation)
    found = late_trend(Curves.of_accuracy(shown.astype(float), lr=np.tile(rates, (num, 1))))
    rises = found.select(pl.max_horizontal("late_slope_low", "late_rise_low") > 0).to_series()
    rising = rises & (found["projected_gain"] > Margins().gain)
    return float(rising.fill_null(value=False).to_numpy().mean())


def slopes(rng: np.random.Generator) -> Table:
    """The slope of a line that rises by 0.1 pp an epoch."""
    rows = []
    for num_epochs in (15, 20, 30, 60, 120):
        for correlation in (0.0, 0.3, 0.6, 0.9):
            noise = 0.01 * ar1(rng, (_NUM, num_epochs), correlation).astype(float)
            line = 0.5 + 0.001 * np.arange(num_epochs)
            found = late_trend(Curves.of_accuracy(line + noise))
            known = found.drop_nulls("late_slope")
            slope, low = (known[name].to_numpy() for name in ("late_slope", "late_slope_low"))
            rows.append(
                f"{num_epochs} | {correlation} | {bias(slope - 0.001)} | {slope.std() / PP:.3f} | "
                f"{np.median(slope - low) / PP:.3f} | {np.mean(low <= 0.001):.3f}"
            )
    head = "T | AR | bias, pp an epoch | SD | median distance of the limit | late_slope_low ≤ truth"
    return "Slope over the last half, jitter of 1 pp", head, rows


def still_learning(_: np.random.Generator) -> Table:
    """How often curves are told to be still learning, by what they truly gain."""
    rows = []
    for name in shapes(60):
        for num_epochs in (60, 120):
            (trend, rates), gain = shapes(num_epochs)[name]
            rates_told = [
                100 * told(trend, rates, noise, correlation, _NUM)
                for noise in (0.003, 0.005)
                for correlation in _CORRELATIONS
            ]
            rows.append(f"{name} | {gain / PP:g} | {num_epochs} | {cells('.1f', rates_told)}")
    columns = [f"{noise} pp, AR {r:g}" for noise in (0.3, 0.5) for r in _CORRELATIONS]
    head = " | ".join(["learning rate, accuracy", "true gain, pp", "T", *columns])
    return "Told to be still learning, %", head, rows


if __name__ == "__main__":
    write_all({0: slopes, 1: still_learning}, SEED)
