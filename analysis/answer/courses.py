"""What one metric did, in its own unit: where it was best, where it ends, how much it moves."""

import math
from dataclasses import dataclass

import numpy as np

from analysis.answer.answer import Series
from analysis.answer.checkpoints import levels
from analysis.curves import Floats
from analysis.labels import Course as Label
from analysis.stats.rise import loss_rises, rises
from analysis.verdicts.margins import Margins

_MARGINS = Margins()


@dataclass(frozen=True)
class Course:
    """What a metric did. Values are in its own unit, places are indices of its series.

    first, best, end: levels at the first evaluation, at the best place, at the end
    best_at: the place of the best level
    worse, worse_low, worse_high: how far the end is on the worse side of the best window, with
        one-sided 95 % limits; None with too few evaluations
    p: of "it does not get worse"
    jitter: SD of one evaluation around the level; None with too few evaluations
    worse_from: the place from which on it is worse for sure
    label: the verdict's, of the metric that counts, unless that is an accuracy
    """

    series: Series
    first: float
    best: float
    end: float
    best_at: int
    worse: float | None
    worse_low: float | None
    worse_high: float | None
    p: float | None
    jitter: float | None
    worse_from: int | None = None
    label: str | None = None

    @property
    def improves(self) -> bool:
        """Whether it still improves at its end; known of the metric that counts alone."""
        return self.label == Label.IMPROVES

    @property
    def gained(self) -> float:
        """How far the best level is on the better side of the first evaluation."""
        sign = 1 if self.series.lower_is_better else -1
        return max(sign * (self.first - self.best), 0.0)

    @property
    def worth(self) -> float:
        """The worsening that is worth a word."""
        return _MARGINS.course * max(min(abs(self.best), max(self.gained, 1e-12)), 1e-12)

    @property
    def gets_worse(self) -> bool:
        """Whether it gets worse for sure, and by as much as is worth a word."""
        if self.label is not None:
            return self.label == Label.WORSE
        if self.p is None or self.worse is None:
            return False
        return self.p <= _MARGINS.level and self.worse >= self.worth


def course_of(
    series: Series, rates: Floats | None = None, label: str | None = None
) -> Course | None:
    """Measure what a metric did. Args: rates: (1, T) learning rates; label: as of Course.

    Returns: None of a metric with fewer than two values.
    """
    values = np.array([series.values])
    known = np.flatnonzero(np.isfinite(values[0]))
    if len(known) < 2:
        return None
    worse = values if series.lower_is_better else -values
    level, noise = levels(-worse, rates)
    shown = np.where(np.isfinite(values[0]), level[0], -np.inf)
    best_at = int(shown.argmax())
    sign = -1.0 if series.lower_is_better else 1.0
    found = rises(worse, rates)
    if series.role == "val_loss":
        of_share = loss_rises(worse, rates)
        if not math.isnan(of_share.rise[0]):
            scaled = [part * of_share.best for part in of_share[:3]]
            found = found._replace(rise=scaled[0], low=scaled[1], high=scaled[2], p=of_share.p)

    def told(value: float) -> float | None:
        return None if math.isnan(value) else float(value)

    enough = len(known) >= 8
    worse_from = told(found.worse_from[0])
    return Course(
        series=series,
        first=float(values[0, known[0]]),
        best=sign * float(shown[best_at]),
        end=sign * float(level[0, known[-1]]),
        best_at=best_at,
        worse=told(found.rise[0]),
        worse_low=told(found.low[0]),
        worse_high=told(found.high[0]),
        p=told(found.p[0]),
        jitter=float(noise[0, known[-1]]) if enough else None,
        worse_from=None if worse_from is None else int(worse_from),
        label=label,
    )
