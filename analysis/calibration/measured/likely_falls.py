"""Tables of docs/method/likely-falls.md: falls told by the likelihood of the noise.

OMP_NUM_THREADS=1 python -m analysis.calibration.measured.likely_falls
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from analysis.calibration.measured.tables import Table, write_all
from analysis.calibration.simulate import ar1
from analysis.curves import Floats
from analysis.stats.likely_falls import LEVEL, likely_falls
from analysis.stats.windows import window_length, window_means

SEED = 20261102
NUM_CURVES = 400
SD = 0.006  # of the noise of an epoch
FALLS = (0.0, 0.011, 0.018, 0.028)  # between window means
Noise: TypeAlias = Callable[[np.random.Generator, tuple[int, int]], Floats]


def _of_memory(r: float, white: float = 0.0) -> Noise:
    def made(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
        slow = np.sqrt(1 - white) * ar1(rng, shape, r).astype(float)
        return slow + np.sqrt(white) * rng.standard_normal(shape)

    return made


def _dips(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """0.7 SD of white noise, and in 5 % of the epochs a dip of 2 to 8 SD."""
    dips = (rng.random(shape) < 0.05) * rng.uniform(2, 8, shape)
    return 0.7 * rng.standard_normal(shape) - dips


def _walk(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """A random walk with an SD of 1 over all curves and epochs."""
    walk = rng.standard_normal(shape).cumsum(axis=1)
    return walk / walk.std()


def _changing(first: float, last: float) -> Noise:
    def made(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
        return rng.standard_normal(shape) * np.geomspace(first, last, shape[1])

    return made


NOISES: dict[str, Noise] = {
    "white": _of_memory(0.0),
    "AR 0.3": _of_memory(0.3),
    "AR 0.6": _of_memory(0.6),
    "AR 0.9": _of_memory(0.9),
    "half white, half AR 0.9": _of_memory(0.9, 0.5),
    "t with 3 df": lambda rng, shape: rng.standard_t(3, shape) / np.sqrt(3),
    "5 % dips": _dips,
    "SD falls from 3 to 0.5": _changing(3, 0.5),
    "SD grows from 0.5 to 3": _changing(0.5, 3),
    "random walk": _walk,
}


def rates(num_epochs: int, sweep: int) -> Callable[[np.random.Generator], Table]:
    """How often a fall is told, in sweeps of so many curves with the same noise."""

    def table(rng: np.random.Generator) -> Table:
        time = np.arange(1, num_epochs + 1)
        past: Floats = np.clip((time - 0.3 * num_epochs) / (0.7 * num_epochs), 0, 1).astype(float)
        means = window_means(past[None], window_length(num_epochs))[0]
        past = past / float(means[-1] - means.min())
        labels = np.where(time <= max(3, np.ceil(0.15 * num_epochs)), -1, 0)
        num = NUM_CURVES if sweep > 1 else NUM_CURVES // 4
        rows: list[str] = []
        for name, noise in NOISES.items():
            told: list[str] = []
            for fall in FALLS:
                curves = 0.9 - 0.4 * np.exp(-time / 2) - fall * past
                curves = curves + SD * noise(rng, (num, num_epochs))
                every = np.broadcast_to(labels, curves.shape)
                found = [
                    likely_falls([(curves[at : at + sweep], every[at : at + sweep])])[0]
                    for at in range(0, num, sweep)
                ]
                likely, cautious = (
                    np.mean(np.concatenate([getattr(one, part).p for one in found]) <= LEVEL)
                    for part in ("likely", "cautious")
                )
                told.append(f"{likely:.3f}, {cautious:.3f}")
            rows.append(f"{name} | {' | '.join(told)}")
        head = "noise | no fall | " + " | ".join(f"{100 * fall:.1f} pp" for fall in FALLS[1:])
        return f"T = {num_epochs}, sweeps of {sweep}: share with p ≤ 0.05", head, rows

    return table


if __name__ == "__main__":
    cells = [(60, 20), (60, 400), (120, 20), (30, 20), (60, 1)]
    write_all({number: rates(*cell) for number, cell in enumerate(cells)}, SEED)
