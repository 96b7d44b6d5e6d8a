"""The shipped cut-offs of the harm test, and how to read them.

`python -m analysis.calibration` makes the table; docs/error-rates.md shows what it is worth.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.curves import Floats

TAIL_FROM = 0.01  # the level from which the slope of the tail is read


@dataclass(frozen=True)
class Cutoffs:
    """Cut-offs in standard errors, for lengths of training and autocorrelations of the noise.

    With T lengths, R correlations and P levels. Between them they are interpolated linearly (in
    the logarithm of the length); beyond them the nearest is taken.
    """

    lengths: Floats  # (T,) epochs
    correlations: Floats  # (R,) as harm.noise estimates them
    p: Floats  # (P,) levels, falling
    fall: Floats  # (T, R, P): the largest fall of a flat curve exceeds it with that probability
    pair: Floats  # (T, R): a fixed pair of windows differs by more in one direction in 5 %
    made_by: dict[str, Any]  # seed, version, number of curves, target

    def at(self, table: Floats, num_epochs: int, correlation: Floats) -> Floats:
        """The table at a length, for correlations (N,). Returns: (N,) or (N, P)."""
        length = np.log(np.clip(num_epochs, self.lengths[0], self.lengths[-1]))
        i, u = _place(np.log(self.lengths), np.atleast_1d(length))
        of_length = (1 - u[0]) * table[i[0]] + u[0] * table[i[0] + 1]
        j, v = _place(self.correlations, np.nan_to_num(correlation))
        v = v.reshape(-1, *[1] * (of_length.ndim - 1))
        return (1 - v) * of_length[j] + v * of_length[j + 1]

    def p_value(self, z: Floats, num_epochs: int, correlation: Floats) -> Floats:
        """How often a flat curve falls by as many standard errors. (N,) -> (N,).

        Interpolated in log p; 1 where there is no fall. Beyond the smallest level log p goes on
        linearly in log z, as it does on average from TAIL_FROM to there: the tails of normal and of
        Student's distributions only get steeper. With a smallest p of 0.001 a single curve could
        never be told among many (Benjamini-Hochberg).
        """
        at = self.at(self.fall, num_epochs, correlation)
        tail = int(np.flatnonzero(np.isclose(self.p, TAIL_FROM))[0])
        with np.errstate(invalid="ignore", divide="ignore"):
            beyond = np.log(z / at[:, -1])
        steepness = np.log(TAIL_FROM / self.p[-1]) / np.log(at[:, -1] / at[:, tail])
        far = self.p[-1] * np.exp(-steepness * np.maximum(beyond, 0))
        at = np.concatenate([np.zeros((len(at), 1)), at], axis=1)
        log_p = np.log(np.concatenate([[1.0], self.p]))
        # Position of z in its own row; the rows rise strictly.
        k = np.clip((at <= z[:, None]).sum(axis=1) - 1, 0, at.shape[1] - 2)
        rows = np.arange(len(at))
        low, high = at[rows, k], at[rows, k + 1]
        u = np.clip((z - low) / (high - low), 0, 1)
        out = np.exp((1 - u) * log_p[k] + u * log_p[k + 1])
        return np.where(np.isfinite(z), np.where(z > at[:, -1], far, out), np.nan)

    def critical(self, level: float, num_epochs: int, correlation: Floats) -> Floats:
        """The fall, in standard errors, with that p-value. `level` is one of `p`. (N,) -> (N,)."""
        at = self.at(self.fall, num_epochs, correlation)
        return at[:, int(np.flatnonzero(np.isclose(self.p, level))[0])]

    def as_json(self) -> dict[str, Any]:
        """What `of_json` reads."""
        tables = ("lengths", "correlations", "p", "fall", "pair")
        return {
            "made_by": self.made_by,
            **{name: np.round(getattr(self, name), 4).tolist() for name in tables},
        }


def _place(nodes: Floats, values: ArrayLike) -> tuple[NDArray[np.int64], Floats]:
    """Which interval a value lies in and how far along it, clipped to the ends."""
    x = np.clip(np.asarray(values, float), nodes[0], nodes[-1])
    i = np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, len(nodes) - 2)
    return i, (x - nodes[i]) / (nodes[i + 1] - nodes[i])


def of_json(read: dict[str, Any]) -> Cutoffs:
    """Of the content of cutoffs.json."""
    arrays = {
        name: np.asarray(read[name], float)
        for name in ("lengths", "correlations", "p", "fall", "pair")
    }
    return Cutoffs(**arrays, made_by=read["made_by"])


@cache
def shipped() -> Cutoffs:
    """The table that comes with the package."""
    text = resources.files("analysis.measures").joinpath("cutoffs.json").read_text("utf-8")
    return of_json(json.loads(text))
