"""The answer of a run -> its curves as they are drawn: one panel for each metric."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from scipy.signal import savgol_filter

from analysis.answer.answer import RunAnswer, Series

VALIDATION, TRAINING = "validation", "training"
_TREND_SHARE = 5  # the window of the band's trend is so small a part of a curve
_FEWEST_BAND = 20  # evaluations that a trend needs
_TO_LEARN = 0.2  # of the way from the first evaluation to the second half, where the band begins
_CLOSER = 4.0  # a closer look is at least so many times finer than the whole curve
_FEWEST_CLOSER = 8  # evaluations in a closer look
_Z = 1.96
_REGULAR = 0.8  # of a regular log's evaluations at least so many come at the same distance
# The role of a validation metric -> those of its training metric, the better one first.
_TRAINING_ROLES = {
    "val_accuracy": ("train_accuracy", "train_accuracy_running"),
    "val_score": (),
    "val_loss": ("train_loss", "train_loss_running"),
}


@dataclass(frozen=True)
class Panel:
    """The curves of one metric of one run; shares are in percent.

    lines: x, line, value; a value that is null breaks the line
    band: x, low, high, which the validation set alone can make; None where its size is not known
    best: (x, value) of the best single evaluation; None where it is not in the picture
    start: where a closer look begins; None of the whole curve
    """

    series: Series
    training: Series | None
    clock: str
    lines: pl.DataFrame
    band: pl.DataFrame | None = None
    num_val: int | None = None
    best: tuple[float, float] | None = None
    start: float | None = None

    @property
    def validation(self) -> pl.DataFrame:
        """The validation curve: x, value, without what is missing."""
        rows = self.lines.filter(pl.col("line") == VALIDATION)
        return rows.select("x", "value").drop_nulls()


def panels_of(run: RunAnswer) -> list[Panel]:
    """Make a panel for each validation metric of a run that has a finite value.

    Args: run: of several scores, the first one is drawn.
    """
    by_role: dict[str, Series] = {}
    for one in run.series:
        if np.isfinite(one.values).any():
            by_role.setdefault(one.role, one)
    if "val_accuracy" in by_role:
        by_role.pop("val_score", None)
    return [
        _panel(run, by_role[role], _first_of(by_role, training))
        for role, training in _TRAINING_ROLES.items()
        if role in by_role
    ]


def closer(panel: Panel) -> Panel | None:
    """Make a panel of a curve's end; None where the whole curve shows its end well enough."""
    shown = panel.validation
    x, values = shown["x"].to_numpy(), shown["value"].to_numpy()
    late = values[len(values) // 2 :]
    spread = float(np.ptp(late)) if len(late) else 0.0
    if len(late) < _FEWEST_CLOSER or spread == 0 or np.ptp(values) < _CLOSER * spread:
        return None
    low, high = late.min() - spread / 2, late.max() + spread / 2
    start = float(x[int(np.flatnonzero((values < low) | (values > high))[-1]) + 1])
    return replace(
        panel,
        lines=panel.lines.filter(pl.col("x") >= start),
        band=None if panel.band is None else panel.band.filter(pl.col("x") >= start),
        best=panel.best if panel.best is not None and panel.best[0] >= start else None,
        start=start,
    )


def _first_of(by_role: dict[str, Series], roles: Sequence[str]) -> Series | None:
    return next((by_role[role] for role in roles if role in by_role), None)


def _panel(run: RunAnswer, series: Series, training: Series | None) -> Panel:
    lines = [_with_breaks(_line(series, VALIDATION))]
    if training is not None:
        # What is logged now and then is one line all the same.
        lines.append(_line(training, TRAINING).drop_nulls())
    values = lines[0]["value"]
    best = None if values.n_unique() == 1 or series.best is None else series.best
    has_band = series.role == "val_accuracy" and run.num_val is not None
    return Panel(
        series=series,
        training=training,
        clock=run.clock,
        lines=pl.concat(lines),
        band=_band(lines[0], run.num_val) if has_band and run.num_val else None,
        num_val=run.num_val,
        best=None if best is None else (series.at[best], _scale(series) * series.values[best]),
    )


def _scale(series: Series) -> float:
    return 100.0 if series.is_share else 1.0


def _line(series: Series, name: str) -> pl.DataFrame:
    values = _scale(series) * np.array(series.values, float)
    values[~np.isfinite(values)] = np.nan
    x = np.array(series.at, float)
    frame = pl.DataFrame({"x": x, "line": [name] * len(x), "value": values})
    return frame.with_columns(pl.col("value").fill_nan(None))


def _with_breaks(line: pl.DataFrame) -> pl.DataFrame:
    """With a null where evaluations are missing of a log that evaluates regularly."""
    steps = line["x"].diff().drop_nulls()
    usual = steps.median()
    if not isinstance(usual, float) or (steps == usual).mean() < _REGULAR:  # pyright: ignore[reportOperatorIssue]
        return line
    after = line.filter(pl.col("x").diff() > 1.5 * usual)
    breaks = after.with_columns(pl.col("x") - usual, pl.lit(None, pl.Float64).alias("value"))
    return pl.concat([line, breaks]).sort("x")


def _band(line: pl.DataFrame, num_val: int) -> pl.DataFrame | None:
    """Where a network that stands still would stay in 95 of 100 evaluations, around its trend.

    sqrt(p (1 - p) / n) is the most that n examples make; the same examples in every evaluation
    make less. The band begins where most is learnt: a trend can't follow a steep beginning. None
    for a curve that is too short for a trend.
    """
    told = line.drop_nulls()
    num = told.height
    if num < _FEWEST_BAND:
        return None
    values = told["value"].to_numpy()
    trend = np.clip(np.asarray(savgol_filter(values, num // _TREND_SHARE | 1, 2)), 0, 100)
    half = _Z * np.sqrt(trend * (100 - trend) / num_val)
    end = np.median(values[num // 2 :])
    is_learnt = np.abs(trend - end) <= np.maximum(half, _TO_LEARN * abs(values[0] - end))
    first = int(np.argmax(is_learnt))
    band = {"low": np.clip(trend - half, 0, 100), "high": np.clip(trend + half, 0, 100)}
    return pl.DataFrame({"x": told["x"], **band})[first:]
