"""Grids that are not full: their largest full sub-grid, and a regression that takes them as is."""

import itertools
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from analysis.curves import Floats
from analysis.stats.share_intervals import Squares

Subset = tuple[int, ...]
_MAX_STATES = 20_000  # of the search; beyond, the best sub-grid so far


def subsets(num_axes: int) -> list[Subset]:
    """List all subsets of the axes by size, the empty one first."""
    every = range(num_axes)
    return [u for size in range(num_axes + 1) for u in itertools.combinations(every, size)]


def largest_full(present: NDArray[np.bool_]) -> list[list[int]]:
    """Find the levels of each axis whose full product is present, with the most cells.

    A cell that is missing costs one level of some axis: each choice is followed, widest first.

    Args: present: (L1, ..., Ld), at least one True.
    Returns: the places of the levels, for each axis.
    """
    best: list[tuple[int, ...]] = []
    best_size = 0
    start = tuple(tuple(range(length)) for length in present.shape)
    seen, stack = {start}, [start]
    while stack and len(seen) < _MAX_STATES:
        grid = stack.pop()
        size = int(np.prod([len(levels) for levels in grid]))
        if size <= best_size:
            continue
        missing = ~present[np.ix_(*grid)]
        if not missing.any():
            best, best_size = list(grid), size
            continue
        # Branch on the missing cell whose levels miss most; the most promising branch goes last.
        counts = [
            missing.sum(axis=tuple(a for a in range(missing.ndim) if a != axis))
            for axis in range(missing.ndim)
        ]
        gain = reduce(np.add.outer, [c * len(c) for c in counts])
        cell = np.unravel_index(np.argmax(np.where(missing, gain, -1)), missing.shape)
        order = sorted(range(missing.ndim), key=lambda a: counts[a][cell[a]] * len(counts[a]))
        for axis in order:
            levels = grid[axis]
            if len(levels) > 1:
                fewer = levels[: cell[axis]] + levels[cell[axis] + 1 :]
                state = (*grid[:axis], fewer, *grid[axis + 1 :])
                if state not in seen:
                    seen.add(state)
                    stack.append(state)
    if not best:
        best = [(int(i),) for i in np.argwhere(present)[0]]
    return [list(levels) for levels in best]


@dataclass(frozen=True)
class Fit:
    """Least squares on main effects and two-way interactions of d axes.

    terms, squares, df: each effect after all others that do not contain it (type II)
    explained, explained_df: sum of squares of all effects together
    shapley: of each axis, what it explains averaged over orders of entry: a sum of squares of
        orthogonal effects, and their weights in it
    """

    terms: list[Subset]
    squares: Floats
    df: Floats
    explained: float
    explained_df: float
    noise: float
    error_df: float
    shapley: list[tuple[Squares, Floats]]


def fit(Y: Floats, crossed: bool) -> Fit | None:
    """Fit main effects and two-way interactions by least squares.

    Args: Y: (L1, ..., Ld, R), NaN where missing; crossed: whether a replicate is the same seed in
        all cells, whose common part is then taken out first.
    Returns: None where nothing is left to tell the noise from.
    """
    place = np.argwhere(np.isfinite(Y))
    y = Y[tuple(place.T)]
    num_axes, N = Y.ndim - 1, len(y)
    dummies = [np.eye(length)[place[:, axis]][:, 1:] for axis, length in enumerate(Y.shape)]
    blocks = np.ones((N, 1))
    if crossed:
        blocks = np.hstack([blocks, dummies[-1]])
    nuisance = _basis(blocks, np.empty((N, 0)))
    y = y - nuisance @ (nuisance.T @ y)
    terms = [u for u in subsets(num_axes) if 1 <= len(u) <= 2]
    columns = {u: _without(_product([dummies[axis] for axis in u]), nuisance) for u in terms}

    def basis_of(chosen: list[Subset]) -> Floats:
        """Orthonormal, (N, rank)."""
        pieces = [np.empty((N, 0)), *[columns[u] for u in chosen]]
        return _basis(np.hstack(pieces), np.empty((N, 0)))

    pieces: list[Floats] = []
    for u in terms:
        pieces.append(_basis(columns[u], np.hstack([np.empty((N, 0)), *pieces])))
    Q = np.hstack(pieces)
    error_df = float(N - nuisance.shape[1] - Q.shape[1])
    if error_df < 1:
        return None
    along = Q.T @ y
    noise = float((y**2).sum() - (along**2).sum()) / error_df
    noise = max(noise, 0.0)
    squares: list[float] = []
    df: list[float] = []
    for u in terms:
        others = basis_of([w for w in terms if not set(u) <= set(w)])
        own = _basis(columns[u], others)
        squares.append(float(((own.T @ y) ** 2).sum()))
        df.append(float(own.shape[1]))
    within = [basis_of([u for u in terms if set(u) <= set(A)]).T @ Q for A in subsets(num_axes)]
    shares = _shapley(np.array([basis.T @ basis for basis in within]), num_axes)
    return Fit(
        terms=terms,
        squares=np.array(squares),
        df=np.array(df),
        explained=float((along**2).sum()),
        explained_df=float(Q.shape[1]),
        noise=noise,
        error_df=error_df,
        shapley=[_diagonal(share, along, noise, error_df) for share in shares],
    )


def _diagonal(form: Floats, along: Floats, noise: float, error_df: float) -> tuple[Squares, Floats]:
    """A quadratic form of `along` as a weighted sum of independent squares."""
    weights, axes = np.linalg.eigh(form)
    squares = (axes.T @ along) ** 2
    return Squares(squares, np.ones(len(weights)), noise, error_df), np.maximum(weights, 0)


def _product(dummies: list[Floats]) -> Floats:
    """All products of one column each. Args: (N, L - 1) each."""
    return reduce(lambda a, b: (a[:, :, None] * b[:, None, :]).reshape(len(a), -1), dummies)


def _without(X: Floats, Q: Floats) -> Floats:
    """What an orthonormal basis leaves of the columns."""
    return X - Q @ (Q.T @ X)


def _basis(X: Floats, Q: Floats) -> Floats:
    """Orthonormal basis of what Q leaves of the columns of X; cells that are missing may leave
    fewer columns than X has. (N, rank)."""
    left = _without(X, Q)
    if not left.size:
        return left[:, :0]
    U, s, _ = np.linalg.svd(left, full_matrices=False)
    return U[:, s > 1e-8 * max(1.0, float(np.linalg.norm(X)))]


def _shapley(values: Floats, num_axes: int) -> Floats:
    """Shapley values of a set function.

    Args: values: (2^d, ...) of the subsets by size, the empty one first. Returns: (d, ...).
    """
    every = [frozenset(A) for A in subsets(num_axes)]
    index = {A: k for k, A in enumerate(every)}
    out = np.zeros((num_axes, *values.shape[1:]))
    factorial = np.cumprod([1, *range(1, num_axes + 1)]).astype(float)
    for axis in range(num_axes):
        for A in every:
            if axis not in A:
                weight = factorial[len(A)] * factorial[num_axes - len(A) - 1] / factorial[num_axes]
                out[axis] += weight * (values[index[A | {axis}]] - values[index[A]])
    return out
