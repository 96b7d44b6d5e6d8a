"""Which knob makes a response differ: variance shares of the axes and of their interactions.

On a full factorial the functional analysis of variance is exact. Where cells are missing, there is
a regression instead (causes/unbalanced.py) beside the largest full sub-grid, and both say so.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from scipy import optimize, special, stats

from analysis.causes import unbalanced
from analysis.curves import Floats
from analysis.stats.intervals import LEVEL, variance_factors
from analysis.stats.share_intervals import Squares, share_interval, sum_interval

Subset = tuple[int, ...]
_TAIL = (1 - LEVEL) / 2
_MAX_NAMED = 5
_NUM_NODES = 200  # values of the noise that limits are averaged over

ANOVA = "anova"
TOP_AS_ERROR = "anova, highest interaction as error"
GIVEN_ERROR = "anova, error variance as given"
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


def attribute(
    table: pl.DataFrame,
    axes: Sequence[str],
    response: str,
    *,
    replicate: str = "seed",
    error_variance: str | None = None,
) -> pl.DataFrame:
    """Variance shares of one response; columns as SCHEMA.

    Args: table: one row per planned trial with the axes' levels, `replicate` and the response,
        which is null where a trial diverged or failed; error_variance: column with the known
        variance of each value, used only where there is one trial per cell.
    Raises: ValueError where a cell has the same replicate twice.
    Source: Owen 2014 for the Shapley effects.
    """
    levels = [table[name].unique().sort().to_list() for name in axes]
    varied = [i for i, found in enumerate(levels) if len(found) > 1]
    names, levels = [axes[i] for i in varied], [levels[i] for i in varied]
    if not names:
        return _null(response, "no axis has two levels")
    Y, errors, seeds, crossed = _array(table, names, levels, response, replicate, error_variance)
    if not np.isfinite(Y).any():
        return _null(response, "no trial has a value")
    if np.isfinite(Y).all():
        return _anova(Y, errors, crossed, names).select(_named(response))
    reason = _missing(Y, names, levels)
    kept = unbalanced.largest_full(np.isfinite(Y))
    grid = Y[np.ix_(*kept)]
    left_out = [
        f"{name} {level}"
        for name, found, keep in zip([*names, replicate], [*levels, seeds], kept, strict=True)
        for i, level in enumerate(found)
        if i not in keep
    ]
    still = [axis for axis in range(len(names)) if len(kept[axis]) > 1]
    parts: list[pl.DataFrame] = []
    if still:
        shape = [len(kept[axis]) for axis in still]
        within = _anova(
            grid.reshape(*shape, -1),
            None if errors is None else errors[np.ix_(*kept)].reshape(*shape, -1),
            crossed,
            [names[axis] for axis in still],
        )
        words = f"{reason}; left out: {', '.join(left_out)}"
        parts.append(_remark(within, words, f" {SUB_GRID}"))
    parts.append(_remark(_regression(Y, crossed, names), reason))
    return pl.concat(parts).select(_named(response))


def _named(response: str) -> list[pl.Expr]:
    columns = [pl.lit(response).alias("response")]
    return columns + [pl.col(name).cast(kind) for name, kind in list(SCHEMA.items())[1:]]


def _null(response: str, reason: str) -> pl.DataFrame:
    return pl.DataFrame([{"response": response, "reason": reason}], schema=SCHEMA)


def _remark(rows: pl.DataFrame, words: str, method: str = "") -> pl.DataFrame:
    reason = pl.concat_str(pl.lit(words), "reason", separator="; ", ignore_nulls=True)
    return rows.with_columns(reason.alias("reason"), (pl.col("method") + method).alias("method"))


def _missing(Y: Floats, names: Sequence[str], levels: Sequence[Sequence[Any]]) -> str:
    """What keeps the grid from being full."""
    none = np.argwhere(~np.isfinite(Y).any(axis=-1))
    if not len(none):
        counts = np.isfinite(Y).sum(axis=-1)
        return f"{counts.min()} to {counts.max()} trials per cell"
    cells = [
        " · ".join(f"{name} {found[i]}" for name, found, i in zip(names, levels, cell, strict=True))
        for cell in none[:_MAX_NAMED]
    ]
    more = f" and {len(none) - len(cells)} more" if len(none) > len(cells) else ""
    total = np.prod(Y.shape[:-1])
    return f"no value in {len(none)} of {total} cells ({', '.join(cells)}{more})"


def _array(
    table: pl.DataFrame,
    names: list[str],
    levels: list[list[Any]],
    response: str,
    replicate: str,
    error_variance: str | None,
) -> tuple[Floats, Floats | None, list[Any], bool]:
    """Responses and their error variances (L1, ..., Ld, R), the replicates' names, and whether
    replicates are crossed with the cells; NaN where there is no value."""
    rows = table.with_columns(pl.col(response).cast(pl.Float64).fill_nan(None))
    if rows.select(*names, replicate).is_duplicated().any():
        raise ValueError(f"a cell of {', '.join(names)} has the same {replicate} twice")
    seeds = rows[replicate].unique().sort().to_list()
    per_cell = rows.group_by(names).agg(pl.col(replicate).n_unique().alias("num"))["num"]
    crossed = bool((per_cell == len(seeds)).all())
    column = replicate
    if not crossed:
        # Each cell has replicates of its own: number them, those without a value last.
        rows = rows.sort(pl.col(response).is_null(), replicate, maintain_order=True).with_columns(
            pl.int_range(pl.len()).over(names).alias("replicate")
        )
        seeds, column = list(range(int(per_cell.max()))), "replicate"  # pyright: ignore[reportArgumentType]
    place = tuple(
        rows[name].replace_strict(found, range(len(found)), return_dtype=pl.Int64).to_numpy()
        for name, found in zip([*names, column], [*levels, seeds], strict=True)
    )
    shape = (*map(len, levels), len(seeds))

    def filled(name: str) -> Floats:
        out = np.full(shape, np.nan)
        out[place] = rows[name].cast(pl.Float64).to_numpy()
        return out

    errors = None if error_variance is None else filled(error_variance)
    return filled(response), errors, seeds, crossed and len(seeds) > 1


# --- a full factorial


def subsets(num_axes: int) -> list[Subset]:
    """All subsets but the empty one, by size."""
    every = range(num_axes)
    return [u for size in every for u in itertools.combinations(every, size + 1)]


def sums_of_squares(cells: Floats) -> tuple[Floats, Floats]:
    """Mean square over the cells of each effect of the functional decomposition.

    Args: cells: means, (L1, ..., Ld). Returns: SS_u / N and df_u in the order of subsets(d).
    """
    squares: list[float] = []
    df: list[int] = []
    for u in subsets(cells.ndim):
        effect = cells
        for axis in range(cells.ndim):
            mean = effect.mean(axis=axis, keepdims=True)
            effect = effect - mean if axis in u else mean
        squares.append(float(np.mean(effect**2)))
        df.append(int(np.prod([cells.shape[axis] - 1 for axis in u])))
    return np.array(squares), np.array(df, float)


def _anova(
    Y: Floats,
    errors: Floats | None,
    crossed: bool,
    names: Sequence[str],
) -> pl.DataFrame:
    """Args: Y: (L1, ..., Ld, R), nothing missing."""
    num_cells, R = int(np.prod(Y.shape[:-1])), Y.shape[-1]
    N = num_cells * R
    cells = Y.mean(axis=-1)
    mean_squares, df = sums_of_squares(cells)
    every = subsets(cells.ndim)
    head = {"num_cells": num_cells, "num_trials": N, "method": ANOVA}
    seed_row: list[dict[str, Any]] = []
    if R > 1:
        residual = Y - cells[..., None]
        by_seed = residual.reshape(-1, R).mean(axis=0) if crossed else np.zeros(R)
        residual = residual - by_seed
        error_df = float((num_cells - crossed) * (R - 1))
        noise = float((residual**2).sum()) / error_df
        if crossed:
            square = float(num_cells * (by_seed**2).sum())
            seed_row = [_row("seed", "", 0, square, R - 1.0, N, noise, error_df)]
    elif errors is not None and np.isfinite(errors).all():
        noise, error_df = float(errors.mean()), 1e6
        head |= {"method": GIVEN_ERROR, "reason": "noise of these trials, not of new seeds"}
    elif cells.ndim > 1:
        noise, error_df = float(mean_squares[-1] * N / df[-1]), float(df[-1])
        every, mean_squares, df = every[:-1], mean_squares[:-1], df[:-1]
        head |= {"method": TOP_AS_ERROR, "reason": "one trial per cell"}
    else:
        return pl.DataFrame(
            [head | {"reason": "one trial per cell of one axis: noise is unknown"}], schema=SCHEMA
        )
    SS = mean_squares * N
    weight = np.array([[(axis in u) / len(u) for u in every] for axis in range(cells.ndim)])
    rows = [
        _row("effect", _words(u, names), len(u), square, nu, N, noise, error_df)
        for u, square, nu in zip(every, SS, df, strict=True)
    ]
    between = _row("between", "", 0, SS.sum(), df.sum(), N, noise, error_df)
    shapley = [{"kind": "shapley", "subset": name, "order": 1} for name in names]
    found = Squares(SS, df, noise, error_df)
    sums = [(found, weights) for weights in (*np.eye(len(df)), *weight)]
    _share_out([*rows, *shapley], sums, between, N)
    tail = [*seed_row, _noise(noise, error_df)]
    return pl.DataFrame([head | row for row in [*rows, *shapley, between, *tail]], schema=SCHEMA)


def _regression(Y: Floats, crossed: bool, names: Sequence[str]) -> pl.DataFrame:
    """Args: Y: (L1, ..., Ld, R), NaN where missing."""
    used = np.isfinite(Y)
    head: dict[str, Any] = {
        "num_cells": int(used.any(axis=-1).sum()),
        "num_trials": int(used.sum()),
        "method": REGRESSION,
    }
    fit = unbalanced.fit(Y, crossed)
    if fit is None:
        few = "too few trials for main effects and two-way interactions"
        return pl.DataFrame([head | {"reason": few}], schema=SCHEMA)
    N, noise, error_df = head["num_trials"], fit.noise, fit.error_df
    rows = [
        _row("effect", _words(u, names), len(u), square, nu, N, noise, error_df)
        for u, square, nu in zip(fit.terms, fit.squares, fit.df, strict=True)
        if nu > 0
    ]
    between = _row("between", "", 0, fit.explained, fit.explained_df, N, noise, error_df)
    shapley = [{"kind": "shapley", "subset": name, "order": 1} for name in names]
    _share_out(shapley, fit.shapley, between, N)
    every = [*rows, *shapley, between, _noise(noise, error_df)]
    return pl.DataFrame([head | row for row in every], schema=SCHEMA)


def _words(u: Subset, names: Sequence[str]) -> str:
    return " x ".join(names[axis] for axis in u)


def _share_out(
    rows: list[dict[str, Any]],
    sums: Sequence[tuple[Squares, Floats]],
    between: dict[str, Any],
    N: int,
) -> None:
    """Adds variances of the Shapley rows and shares of all rows, with limits.

    Args: sums: of each row, the effects and the weights that their variances have in it.
    """
    estimates = [
        float(weights @ (found.squares - found.df * found.noise)) / N for found, weights in sums
    ]
    if between["variance_high"] is None:
        for row, estimate in zip(rows, estimates, strict=True):
            row |= {
                "variance": estimate,
                "reason": "the trials of a cell agree: no noise, no limits",
            }
        return
    total = between["variance"]
    clear = between["variance_low"] is not None and between["variance_low"] > 0
    if clear:
        between["share"] = 1.0
    for row, estimate, (found, weights) in zip(rows, estimates, sums, strict=True):
        if row["kind"] == "shapley":
            low, high = sum_interval(found, weights)
            row |= {"variance": estimate, "variance_low": low / N, "variance_high": high / N}
        if clear:
            low, high = share_interval(found, weights)
            row |= {"share": estimate / total, "share_low": low, "share_high": high}
        else:
            row["reason"] = "the cells do not differ beyond their noise: nothing to share out"


def _noise(noise: float, df: float) -> dict[str, Any]:
    low, high = variance_factors(df)
    return {
        "kind": "noise",
        "subset": "",
        "order": 0,
        "df": int(df),
        "variance": noise,
        "variance_low": noise * float(low),
        "variance_high": noise * float(high),
    }


def _row(
    kind: str,
    subset: str,
    order: int,
    square: float,
    df: float,
    N: int,
    noise: float,
    error_df: float,
) -> dict[str, Any]:
    low, high = noncentral_limits(square, df, noise, error_df)
    return {
        "kind": kind,
        "subset": subset,
        "order": order,
        "df": int(df),
        "variance": (square - df * noise) / N,
        "variance_low": None if np.isnan(low) else low / N,
        "variance_high": None if np.isnan(high) else high / N,
    }


def noncentral_limits(
    square: float, df: float, noise: float, error_df: float
) -> tuple[float, float]:
    """Limits of the sum of squares that an effect would have without noise.

    Inverts the noncentral chi-square distribution of the observed one, averaged over what the noise
    may be given its estimate; 0 where even no effect would give more, by the F test. NaN where the
    noise is 0.
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
