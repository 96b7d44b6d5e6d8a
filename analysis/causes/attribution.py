"""Which knob makes a response differ: variance shares of the axes and of their interactions.

On a full factorial the functional analysis of variance is exact. Where cells are missing, there is
a regression instead (causes/unbalanced.py) beside the largest full sub-grid, and both say so.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from scipy import optimize, special, stats

from analysis.causes import unbalanced
from analysis.curves import Floats
from analysis.stats.intervals import LEVEL, variance_factors
from analysis.stats.share_intervals import Squares, share_interval, sum_interval
from analysis.words import first_few

Row = dict[str, Any]
_TAIL = (1 - LEVEL) / 2
_MAX_NAMED = 5
_NUM_NODES = 200  # values of the noise that limits are averaged over
_MAX_CELLS = 5  # for each trial; a grid of more is not what was searched

ANOVA = "anova"
TOP_AS_ERROR = "anova, highest interaction as error"
SUB_GRID = "of the largest full sub-grid"
REGRESSION = "regression on main effects and two-way interactions"

SCHEMA = {
    "response": pl.String,
    # effect: one subset of the axes; shapley: one axis with its part of all interactions;
    # between: all cells; seed: what the seeds share over all cells; noise: the rest, per trial
    "kind": pl.String,
    "subset": pl.String,  # "batch_size", "batch_size x dropout"; "" for between, seed, noise
    "order": pl.Int64,  # number of axes in it
    "df": pl.Int64,
    "variance": pl.Float64,  # in squared units of the response; signed
    "variance_low": pl.Float64,
    "variance_high": pl.Float64,
    "share": pl.Float64,  # of `between`; effects add up to 1 (anova), shapley rows always
    "share_low": pl.Float64,
    "share_high": pl.Float64,
    "num_cells": pl.Int64,
    "num_trials": pl.Int64,
    "method": pl.String,
    "reason": pl.String,  # why something is null, or what was left out
}


def attribute(table: pl.DataFrame, axes: Sequence[str], response: str) -> pl.DataFrame:
    """Share the variance of one response out among the axes.

    Args: table: one row per planned trial with the axes' levels, `seed` and the response, which is
        null where a trial diverged or failed; axes: columns of the table.
    Returns: columns as SCHEMA; a single row with a reason where nothing can be told.
    Raises: ValueError where a cell has the same seed twice.
    Source: Owen 2014 for the Shapley effects.
    """
    levels = {name: table[name].unique().sort().to_list() for name in axes}
    levels = {name: of_axis for name, of_axis in levels.items() if len(of_axis) > 1}
    names = list(levels)
    if not names:
        return _null(response, "no axis has two levels")
    if too_many := _too_many_cells(table, levels):
        return _null(response, too_many)
    Y, seeds, crossed = _array(table, levels, response)
    if not np.isfinite(Y).any():
        return _null(response, "no trial has a value")
    if np.isfinite(Y).all():
        return _anova(Y, crossed, names).select(_named(response))
    reason = _missing(Y, levels)
    parts = [_remark(_regression(Y, crossed, names), reason)]
    full = unbalanced.largest_full(np.isfinite(Y))
    varied = [axis for axis in range(len(names)) if len(full[axis]) > 1]
    if varied:
        shape = [len(full[axis]) for axis in varied]
        part = Y[np.ix_(*full)].reshape(*shape, -1)
        within = _anova(part, crossed, [names[axis] for axis in varied])
        left_out = [
            f"{name} {level}"
            for (name, of_axis), held in zip((levels | {"seed": seeds}).items(), full, strict=True)
            for place, level in enumerate(of_axis)
            if place not in held
        ]
        words = f"{reason}; left out: {', '.join(left_out)}"
        parts.insert(0, _remark(within, words, f" {SUB_GRID}"))
    return pl.concat(parts).select(_named(response))


def _named(response: str) -> list[pl.Expr]:
    columns = [pl.lit(response).alias("response")]
    return columns + [pl.col(name).cast(kind) for name, kind in list(SCHEMA.items())[1:]]


def _null(response: str, reason: str) -> pl.DataFrame:
    return pl.DataFrame([{"response": response, "reason": reason}], schema=SCHEMA)


def _remark(rows: pl.DataFrame, words: str, method: str = "") -> pl.DataFrame:
    reason = pl.concat_str(pl.lit(words), "reason", separator="; ", ignore_nulls=True)
    return rows.with_columns(reason.alias("reason"), (pl.col("method") + method).alias("method"))


def _too_many_cells(table: pl.DataFrame, levels: dict[str, list[Any]]) -> str | None:
    """Why a random search has no shares: nearly all cells of its grid are empty."""
    num_cells = math.prod(len(of_axis) for of_axis in levels.values())
    if num_cells <= _MAX_CELLS * table.height:
        return None
    most = sorted(levels, key=lambda name: len(levels[name]), reverse=True)
    words = first_few([f"{name} has {len(levels[name])} levels" for name in most], 3)
    return (
        f"{table.height} trials are too few for a grid of {num_cells:,} cells ({words}): shares "
        f"need fewer levels, or a trial in at least every {_MAX_CELLS}th cell"
    )


def _missing(Y: Floats, levels: dict[str, list[Any]]) -> str:
    """What keeps the grid from being full."""
    empty = np.argwhere(~np.isfinite(Y).any(axis=-1))
    if not len(empty):
        counts = np.isfinite(Y).sum(axis=-1)
        return f"{counts.min()} to {counts.max()} trials per cell"
    cells = [
        " · ".join(
            f"{name} {of_axis[i]}" for (name, of_axis), i in zip(levels.items(), cell, strict=True)
        )
        for cell in empty
    ]
    total = np.prod(Y.shape[:-1])
    return f"no value in {len(cells)} of {total} cells ({first_few(cells, _MAX_NAMED)})"


def _array(
    table: pl.DataFrame, levels: dict[str, list[Any]], response: str
) -> tuple[Floats, list[Any], bool]:
    """Responses (L1, ..., Ld, R), NaN where there is no value; the names of the replicates; and
    whether these are the same seeds in all cells."""
    rows = table.with_columns(pl.col(response).cast(pl.Float64).fill_nan(None))
    names = list(levels)
    if rows.select(*names, "seed").is_duplicated().any():
        raise ValueError(f"a cell of {', '.join(names)} has the same seed twice")
    seeds = rows["seed"].unique().sort().to_list()
    per_cell = rows.group_by(names).agg(pl.col("seed").n_unique().alias("num"))["num"]
    crossed = bool((per_cell == len(seeds)).all())
    if not crossed:
        # Each cell has seeds of its own: number them, those without a value last.
        rows = rows.sort(pl.col(response).is_null(), "seed", maintain_order=True).with_columns(
            pl.int_range(pl.len()).over(names).alias("seed")
        )
        seeds = list(range(int(per_cell.max())))  # pyright: ignore[reportArgumentType]
    every = levels | {"seed": seeds}
    place = tuple(
        rows[name].replace_strict(of_axis, range(len(of_axis)), return_dtype=pl.Int64).to_numpy()
        for name, of_axis in every.items()
    )
    Y = np.full([len(of_axis) for of_axis in every.values()], np.nan)
    Y[place] = rows[response].to_numpy()
    return Y, seeds, crossed and len(seeds) > 1


# --- a full factorial


def _sums_of_squares(cells: Floats) -> tuple[Floats, Floats]:
    """Mean square over the cells of each effect of the functional decomposition.

    Args: cells: means, (L1, ..., Ld). Returns: SS_u / N and df_u, of all subsets by size.
    """
    squares: list[float] = []
    df: list[int] = []
    for u in unbalanced.subsets(cells.ndim)[1:]:
        effect = cells
        for axis in range(cells.ndim):
            mean = effect.mean(axis=axis, keepdims=True)
            effect = effect - mean if axis in u else mean
        squares.append(float(np.mean(effect**2)))
        df.append(int(np.prod([cells.shape[axis] - 1 for axis in u])))
    return np.array(squares), np.array(df, float)


def _anova(Y: Floats, crossed: bool, names: Sequence[str]) -> pl.DataFrame:
    """Args: Y: (L1, ..., Ld, R), nothing missing."""
    num_cells, R = int(np.prod(Y.shape[:-1])), Y.shape[-1]
    N = num_cells * R
    cells = Y.mean(axis=-1)
    mean_squares, df = _sums_of_squares(cells)
    every = unbalanced.subsets(cells.ndim)[1:]
    head: Row = {"num_cells": num_cells, "num_trials": N, "method": ANOVA}
    seed_row: list[Row] = []
    if R > 1:
        residual = Y - cells[..., None]
        by_seed = residual.reshape(-1, R).mean(axis=0) if crossed else np.zeros(R)
        residual = residual - by_seed
        error_df = float((num_cells - crossed) * (R - 1))
        noise = _Noise(float((residual**2).sum()) / error_df, error_df, N)
        if crossed:
            square = float(num_cells * (by_seed**2).sum())
            seed_row = [_row("seed", square, R - 1.0, noise)]
    elif cells.ndim > 1:
        noise = _Noise(float(mean_squares[-1] * N / df[-1]), float(df[-1]), N)
        every, mean_squares, df = every[:-1], mean_squares[:-1], df[:-1]
        head |= {"method": TOP_AS_ERROR, "reason": "one trial per cell"}
    else:
        return pl.DataFrame(
            [head | {"reason": "one trial per cell of one axis: noise is unknown"}], schema=SCHEMA
        )
    SS = mean_squares * N
    between = _between(SS.sum(), df.sum(), noise)
    squares = Squares(SS, df, noise.square, noise.df)
    effects = [
        _row("effect", square, nu, noise, [names[axis] for axis in u])
        | _share(squares, weights, between, N)
        for u, square, nu, weights in zip(every, SS, df, np.eye(len(df)), strict=True)
    ]
    weights = np.array([[(axis in u) / len(u) for u in every] for axis in range(cells.ndim)])
    shapley = _shapley([(squares, of_axis) for of_axis in weights], names, between, N)
    rows = [*effects, *shapley, between, *seed_row, _noise_row(noise)]
    return pl.DataFrame([head | row for row in rows], schema=SCHEMA)


def _regression(Y: Floats, crossed: bool, names: Sequence[str]) -> pl.DataFrame:
    """Args: Y: (L1, ..., Ld, R), NaN where missing."""
    used = np.isfinite(Y)
    head: Row = {
        "num_cells": int(used.any(axis=-1).sum()),
        "num_trials": int(used.sum()),
        "method": REGRESSION,
    }
    fit = unbalanced.fit(Y, crossed)
    if fit is None:
        few = "too few trials for main effects and two-way interactions"
        return pl.DataFrame([head | {"reason": few}], schema=SCHEMA)
    noise = _Noise(fit.noise, fit.error_df, head["num_trials"])
    between = _between(fit.explained, fit.explained_df, noise)
    effects = [
        _row("effect", square, nu, noise, [names[axis] for axis in u])
        for u, square, nu in zip(fit.terms, fit.squares, fit.df, strict=True)
        if nu > 0
    ]
    shapley = _shapley(fit.shapley, names, between, noise.num_trials)
    rows = [*effects, *shapley, between, _noise_row(noise)]
    return pl.DataFrame([head | row for row in rows], schema=SCHEMA)


class _Noise(NamedTuple):
    """The variance of one trial, with its df, and how many trials there are."""

    square: float
    df: float
    num_trials: int


def _shapley(
    sums: Sequence[tuple[Squares, Floats]], names: Sequence[str], between: Row, N: int
) -> list[Row]:
    """A row per axis. Args: sums: the squares that an axis has a part in, and their weights."""
    rows: list[Row] = []
    for name, (squares, weights) in zip(names, sums, strict=True):
        row: Row = {"kind": "shapley", "subset": name, "order": 1}
        row["variance"] = _variance(squares, weights, N)
        if squares.noise > 0:
            low, high = sum_interval(squares, weights)
            row |= {"variance_low": low / N, "variance_high": high / N}
        rows.append(row | _share(squares, weights, between, N))
    return rows


def _variance(squares: Squares, weights: Floats, N: int) -> float:
    return float(weights @ (squares.squares - squares.df * squares.noise)) / N


def _share(squares: Squares, weights: Floats, between: Row, N: int) -> Row:
    """The share of a weighted sum of squares in `between`, with limits, or why it has none."""
    if between["variance_high"] is None:
        return {"reason": "the trials of a cell agree: no noise, no limits"}
    if not between["variance_low"] > 0:
        return {"reason": "the cells do not differ beyond their noise: nothing to share out"}
    low, high = share_interval(squares, weights)
    share = _variance(squares, weights, N) / between["variance"]
    return {"share": share, "share_low": low, "share_high": high}


def _row(kind: str, square: float, df: float, noise: _Noise, axes: Sequence[str] = ()) -> Row:
    """What a sum of squares with df says of the variance that is no noise."""
    low, high = noncentral_limits(square, df, noise.square, noise.df)
    N = noise.num_trials
    return {
        "kind": kind,
        "subset": " x ".join(axes),
        "order": len(axes),
        "df": int(df),
        "variance": (square - df * noise.square) / N,
        "variance_low": None if np.isnan(low) else low / N,
        "variance_high": None if np.isnan(high) else high / N,
    }


def _between(square: float, df: float, noise: _Noise) -> Row:
    """What all cells together explain; its share is 1 where that is clear."""
    row = _row("between", square, df, noise)
    return row | {"share": 1.0 if (row["variance_low"] or 0) > 0 else None}


def _noise_row(noise: _Noise) -> Row:
    variance, (low, high) = noise.square, variance_factors(noise.df)
    limits = {"variance_low": variance * float(low), "variance_high": variance * float(high)}
    row = {"kind": "noise", "subset": "", "order": 0, "df": int(noise.df), "variance": variance}
    return row | limits


def noncentral_limits(
    square: float, df: float, noise: float, error_df: float
) -> tuple[float, float]:
    """Find limits of the sum of squares that an effect would have without noise.

    The noncentral chi-square distribution of the observed sum is inverted, averaged over what the
    noise may be given its estimate.

    Args: square: the observed sum, with df; noise: mean square of the error, with error_df.
    Returns: low, high; 0 where even no effect would give more, by the F test; NaN where the noise
        is 0.
    """
    if not noise > 0:
        return np.nan, np.nan
    if square > 1e5 * noise * (df + 1):  # there the distribution is normal in the root
        half = stats.norm.isf(_TAIL) * np.sqrt(noise)
        return float((np.sqrt(square) - half) ** 2), float((np.sqrt(square) + half) ** 2)
    ranks = (np.arange(_NUM_NODES) + 0.5) / _NUM_NODES
    possible = noise * error_df / stats.chi2.ppf(ranks, error_df)

    def below(truth: float) -> float:
        return float(special.chndtr(square / possible, df, truth / possible).mean())

    def limit(level: float) -> float:
        if below(0.0) <= level:
            return 0.0
        high = 4 * square + 20 * noise
        while below(high) > level:
            high *= 2
        return float(optimize.brentq(lambda truth: below(truth) - level, 0.0, high))  # pyright: ignore[reportArgumentType]

    return limit(1 - _TAIL), limit(_TAIL)
