"""How the network's own jitter goes with learning rate, batch size and the other knobs.

The jitter that a curve shows is the network's own plus what the finite validation set makes, which
is known: so the sum is fitted, and trials whose own part reads negative stay in.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from analysis.curves import Curves, Floats
from analysis.labels import Law
from analysis.measures.decomposition import MIN_EXAMPLES, MIN_FLIPS, block_gram, split_of_blocks
from analysis.stats.intervals import mean_interval
from analysis.stats.trend import MIN_POINTS, contrast_variance, usable_segments

_LAW_MARGIN = 0.15  # of the exponent: doubling both then changes the jitter by 11 % at most
_LAW_TAIL = 0.05  # of each of the two one-sided tests
_MIN_SPARE_TRIALS = 10  # beyond the number of terms; with fewer, interactions are left out
_MAX_STEPS = 100

_PHASES = {
    "trial_id": pl.String,
    "phase": pl.Int64,  # segment of constant conditions, or third of a smooth schedule, from 0
    "lr": pl.Float64,  # geometric mean over its usable epochs
    "hf_var": pl.Float64,  # squared accuracy, as a fraction
    "hf_df": pl.Float64,
    "finite_var": pl.Float64,  # its part from the finite validation set
}
SCHEMA = {
    "term": pl.String,  # "learning_rate", "dropout 0.5", "learning_rate x dropout 0.5", "law"
    "kind": pl.String,  # main, interaction, law
    # Of the SD: an exponent for learning_rate and batch_size, the log of a ratio for a level.
    "estimate": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "df": pl.Float64,
    "verdict": pl.String,  # of the law: holds, does not hold, cannot tell
    "num_trials": pl.Int64,
    "num_phases": pl.Int64,  # observations: one per trial and phase
    "reason": pl.String,
}


def phase_variances(trials: Curves) -> pl.DataFrame:
    """Measure the jitter and its finite-set part per trial and phase of training.

    Phases with fewer than MIN_POINTS usable epochs are left out. The finite-set part is null below
    MIN_EXAMPLES, below MIN_FLIPS over the whole trial, and without blocks.

    Returns: columns as _PHASES.
    """
    labels = usable_segments(trials)
    accuracy, blocks = np.nan_to_num(trials.val_accuracy), np.nan_to_num(trials.block_accuracy)
    log_lr = np.log(np.where(trials.lr > 0, trials.lr, np.nan))
    flips = np.where((labels >= 0) & np.isfinite(trials.flips), trials.flips, 0.0).sum(axis=1)
    is_split = (trials.val_n >= MIN_EXAMPLES) & (flips >= MIN_FLIPS)
    parts = [pl.DataFrame(schema=_PHASES)]
    for phase in range(labels.max(initial=-1) + 1):
        here = labels == phase
        num = here.sum(axis=1)
        enough = np.flatnonzero(num >= MIN_POINTS)
        if not len(enough):
            continue
        masked = np.where(here, 0, -1)[enough]
        variance, df = contrast_variance(accuracy[enough], masked)
        weight = trials.block_weight[enough]
        finite = split_of_blocks(block_gram(blocks[enough], weight, masked), weight, df).finite_var
        mean_log = np.where(here, log_lr, 0.0)[enough].sum(axis=1) / num[enough]
        part = pl.DataFrame(
            {
                "trial_id": [trials.trial_ids[i] for i in enough],
                "phase": np.full(len(enough), phase),
                "lr": np.exp(mean_log),
                "hf_var": variance,
                "hf_df": df,
                "finite_var": np.where(is_split[enough], finite, np.nan),
            }
        )
        parts.append(part.cast(_PHASES))  # pyright: ignore[reportArgumentType]
    return pl.concat(parts).with_columns(pl.col(pl.Float64).fill_nan(None))


@dataclass(frozen=True)
class _GammaFit:
    """Coefficients of log SD; only combinations c with estimable(c) mean anything."""

    beta: Floats  # (p,)
    covariance: Floats  # (p, p), robust, clustered
    df: float
    converged: bool
    _seen: Floats  # (p, p), projection on what the design can tell

    def estimable(self, c: Floats) -> bool:
        """Whether the design tells c @ beta."""
        return bool(np.abs(self._seen @ c - c).max() < 1e-6)

    def estimate(self, c: Floats) -> tuple[float, float]:
        """c @ beta and its standard error."""
        return float(c @ self.beta), float(np.sqrt(max(c @ self.covariance @ c, 0.0)))


def fit_gamma(
    X: Floats, variance: Floats, known: Floats, df: Floats, cluster: NDArray[np.int64]
) -> _GammaFit:
    """Maximize the quasi-likelihood of E[variance] = exp(2 X beta) + known, Var = phi 2 E^2 / df.

    Standard errors by a sandwich over clusters with each cluster's own influence taken out, as if
    it had been left out of the fit (CR3). `phi` need not be known.

    Args: X: (n, p), which may be of less than full rank; variance, known, df: (n,), variance >= 0,
        df > 0; cluster: (n,) 0, 1, ...
    Source: Wedderburn 1974 for the quasi-likelihood, Bell and McCaffrey 2002 for the sandwich.
    """
    scale = float(variance.mean())
    y, v = variance / scale, known / scale
    _, s, Vt = np.linalg.svd(X, full_matrices=False)
    Vt: Floats = Vt[s > 1e-9 * s[0]].astype(float)
    Z = X @ Vt.T
    start = np.log(np.maximum(y - v, 0.1 * np.maximum(y, 1e-6)))
    theta: Floats = np.linalg.lstsq(Z, start / 2, rcond=None)[0].astype(float)

    def loss(theta: Floats) -> float:
        mean = np.exp(np.clip(2 * (Z @ theta), -700, 700)) + v
        return float((df / 2 * (np.log(mean) + y / mean)).sum())

    now, damping, converged = loss(theta), 1e-6, False
    for _ in range(_MAX_STEPS):
        J, r = _weighted(Z, theta, y, v, df)
        gradient, information = J.T @ r, J.T @ J
        ridge = damping * np.diag(np.diag(information) + 1e-12)
        step = np.linalg.solve(information + ridge, gradient)
        if np.abs(Z @ step).max() < 1e-8:
            converged = True
            break
        ahead = loss(theta + step)
        if ahead < now + 1e-12 * abs(now):
            theta, now, damping = theta + step, ahead, max(damping / 10, 1e-9)
        else:
            damping = max(damping * 10, 1e-3)
    J, r = _weighted(Z, theta, y, v, df)
    information = J.T @ J
    # A group whose own part is next to nothing has a coefficient on its way to minus infinity.
    converged = converged and bool(np.linalg.cond(information) < 1e10)
    num_clusters = int(cluster.max()) + 1
    spare = float(num_clusters - Z.shape[1])
    covariance = np.full((X.shape[1], X.shape[1]), np.nan)
    if converged and spare >= 1:
        inverse = np.linalg.inv(information).astype(float)
        scores = _scores(J, r, inverse, cluster)
        shrink = (num_clusters - 1) / num_clusters
        covariance = Vt.T @ (inverse @ (scores.T @ scores) @ inverse * shrink) @ Vt
    beta = Vt.T @ theta
    # The scale belongs to the constant, which is the first column by convention.
    beta[0] += np.log(scale) / 2
    return _GammaFit(beta, covariance, spare, converged, Vt.T @ Vt)


def _weighted(Z: Floats, theta: Floats, y: Floats, v: Floats, df: Floats) -> tuple[Floats, Floats]:
    """Derivatives and residuals, both over the standard deviation of y. (n, p), (n,)."""
    own = np.exp(np.clip(2 * (Z @ theta), -700, 700))
    root = np.sqrt(df / 2) / (own + v)
    return (2 * own * root)[:, None] * Z, root * (y - own - v)


def _scores(J: Floats, r: Floats, inverse: Floats, cluster: NDArray[np.int64]) -> Floats:
    """J_g' (I - H_gg)^-1 r_g of each cluster. (G, p)."""
    order = np.argsort(cluster, kind="stable")
    sizes = np.bincount(cluster)
    place = np.arange(len(cluster)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    padded = np.zeros((len(sizes), sizes.max(), J.shape[1]))
    rest = np.zeros((len(sizes), sizes.max()))
    padded[cluster[order], place], rest[cluster[order], place] = J[order], r[order]
    H = padded @ inverse @ padded.transpose(0, 2, 1)
    # A cluster that alone tells a coefficient has an eigenvalue of 1: its residual is 0 anyhow.
    freed = np.linalg.solve(np.eye(sizes.max()) * (1 + 1e-9) - H, rest[:, :, None])
    return (padded.transpose(0, 2, 1) @ freed)[:, :, 0]


class _Term(NamedTuple):
    """A column of the design."""

    axis: str
    name: str
    kind: str
    values: Floats  # (n,), centred


def regress(
    phases: pl.DataFrame, trials: pl.DataFrame, factors: Sequence[str] = ()
) -> pl.DataFrame:
    """Fit exponents of learning rate and batch size, and log ratios of the factors' levels.

    Every term is conditional on all others and on the phase of training. Terms are centred, so a
    main effect is that in the middle of the grid. The law: jitter depends on learning rate over
    batch size alone, b_lr + b_batch = 0, judged by equivalence within _LAW_MARGIN.

    Args: phases: as phase_variances; trials: trial_id, batch_size and the factors; factors: other
        axes, whose levels are compared with the first.
    Returns: columns as SCHEMA; a single row with a reason where nothing can be fitted.
    """
    rows, remarks = _observations(phases, trials)
    num_trials = rows["trial_id"].n_unique()
    counts = {"num_trials": num_trials, "num_phases": rows.height}

    def without(reason: str) -> pl.DataFrame:
        return pl.DataFrame([counts | {"reason": reason}], schema=SCHEMA)

    if not rows.height:
        return without("no finished run is long enough to measure its jitter")
    terms = _main_terms(rows, factors)
    if not terms:
        known = phases.drop_nulls("lr")
        every = known.join(trials, on="trial_id", how="inner", maintain_order="left")
        if every.height and _main_terms(every, factors):
            return without("; ".join(["too few trials are left to compare two values", *remarks]))
        return without("no knob has two values")
    phase = rows["phase"].to_numpy()
    base = [np.ones(rows.height)]
    base += [(phase == level).astype(float) for level in np.unique(phase)[1:]]
    num_terms = len(base) + len(terms)
    if num_trials < num_terms + 2 or not (rows["hf_var"] > 0).any():
        return without(f"{num_trials} trials are too few for {num_terms} terms")
    interactions = [
        _Term("", f"{a.name} x {b.name}", "interaction", a.values * b.values)
        for a, b in itertools.combinations(terms, 2)
        if a.axis != b.axis
    ]
    if num_trials < num_terms + len(interactions) + _MIN_SPARE_TRIALS:
        remarks.append("interactions left out: too few trials")
    else:
        terms += interactions
    fit = fit_gamma(
        np.stack([*base, *(term.values for term in terms)], axis=1),
        rows["hf_var"].to_numpy(),
        rows["finite_var"].fill_null(0.0).to_numpy(),
        rows["hf_df"].to_numpy(),
        rows["trial_id"].rank("dense").to_numpy().astype(np.int64) - 1,
    )
    if not fit.converged:
        few = "no convergence: somewhere nothing is left beside the finite-set part"
        return without("; ".join([few, *remarks]))
    units = dict(
        zip([term.name for term in terms], np.eye(len(fit.beta))[len(base) :], strict=True)
    )
    estimates = [_estimate(fit, term.name, term.kind, units[term.name]) for term in terms]
    if {"learning_rate", "batch_size"} <= set(units):
        estimates.append(_law(fit, units["learning_rate"] + units["batch_size"]))
    for row in estimates:
        row |= counts
        row["reason"] = "; ".join(filter(None, [row.get("reason"), *remarks])) or None
    return pl.DataFrame(estimates, schema=SCHEMA)


def _observations(phases: pl.DataFrame, trials: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """The phases that can be used, with their trials' columns, and remarks on the others."""
    rows = phases.drop_nulls(["hf_var", "hf_df", "lr"]).filter(pl.col("hf_df") > 0)
    rows = rows.join(trials, on="trial_id", how="inner", maintain_order="left")
    num_lost = rows["finite_var"].null_count()
    if num_lost == rows.height:
        return rows, ["the finite-set part is unknown and stays in"]
    remarks = [f"{num_lost} phases without a known finite-set part left out"] if num_lost else []
    return rows.drop_nulls("finite_var"), remarks


def _main_terms(rows: pl.DataFrame, factors: Sequence[str]) -> list[_Term]:
    """Everything that varies."""
    columns = [
        (axis, axis, np.log(rows[column].cast(pl.Float64).to_numpy()))
        for axis, column in (("learning_rate", "lr"), ("batch_size", "batch_size"))
        if column in rows.columns
    ]
    columns += [
        (axis, f"{axis} {level}", (rows[axis] == level).to_numpy().astype(float))
        for axis in factors
        for level in rows[axis].unique().sort().to_list()[1:]
    ]
    terms = [_Term(axis, name, "main", x - x.mean()) for axis, name, x in columns]
    return [term for term in terms if np.ptp(term.values) > 1e-9]


def _estimate(fit: _GammaFit, name: str, kind: str, c: Floats) -> dict[str, Any]:
    row: dict[str, Any] = {"term": name, "kind": kind}
    if not fit.estimable(c):
        return row | {"reason": "does not vary by itself: only together with other knobs"}
    estimate, se = fit.estimate(c)
    low, high = mean_interval(estimate, se, fit.df)
    return row | {"estimate": estimate, "low": float(low), "high": float(high), "df": fit.df}


def _law(fit: _GammaFit, c: Floats) -> dict[str, Any]:
    row = _estimate(fit, "law", "law", c)
    if "estimate" in row:
        row["verdict"] = equivalence(*fit.estimate(c), fit.df, _LAW_MARGIN)
    return row


def equivalence(estimate: float, se: float, df: float, margin: float) -> Law:
    """Judge whether a number is zero for practical purposes, by two one-sided tests at _LAW_TAIL.

    Args: estimate, with its standard error se and degrees of freedom df; margin: of what is as good
        as zero, in the estimate's unit.
    Returns: HOLDS where both limits lie within the margin, DOES_NOT_HOLD where both lie beyond it
        on one side, else CANNOT_TELL.
    Source: Schuirmann 1987.
    """
    half = float(stats.t.isf(_LAW_TAIL, df)) * se
    if -margin < estimate - half and estimate + half < margin:
        return Law.HOLDS
    if estimate - half > margin or estimate + half < -margin:
        return Law.DOES_NOT_HOLD
    return Law.CANNOT_TELL
