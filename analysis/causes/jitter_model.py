"""How the network's own jitter goes with learning rate, batch size and the other knobs.

The jitter that a curve shows is the network's own plus what the finite validation set makes, which
is known: so the sum is fitted, and trials whose own part reads negative stay in.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from analysis.curves import Curves, Floats
from analysis.measures.decomposition import MIN_EXAMPLES, MIN_FLIPS, block_gram, split_of_blocks
from analysis.stats.intervals import mean_interval
from analysis.stats.trend import MIN_POINTS, contrast_variance, usable_segments

LAW_MARGIN = 0.15  # of the exponent: doubling both then changes the jitter by 11 % at most
LAW_TAIL = 0.05  # of each of the two one-sided tests
MIN_SPARE_TRIALS = 10  # beyond the number of terms; with fewer, interactions are left out
_MAX_STEPS = 100

PHASES = {
    "trial_id": pl.String,
    "phase": pl.Int64,  # segment of constant conditions, or third of a smooth schedule, from 0
    "lr": pl.Float64,  # geometric mean over its usable epochs
    "num_usable": pl.Int64,
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
    """Jitter and its finite-set part per trial and phase of training; columns as PHASES.

    Phases with fewer than MIN_POINTS usable epochs are left out. The finite-set part is null below
    MIN_EXAMPLES, below MIN_FLIPS over the whole trial, and without blocks.
    """
    labels = usable_segments(trials)
    accuracy, blocks = np.nan_to_num(trials.val_accuracy), np.nan_to_num(trials.block_accuracy)
    log_lr = np.log(np.where(trials.lr > 0, trials.lr, np.nan))
    flips = np.where((labels >= 0) & np.isfinite(trials.flips), trials.flips, 0.0).sum(axis=1)
    known = (trials.val_n >= MIN_EXAMPLES) & (flips >= MIN_FLIPS)
    parts = [pl.DataFrame(schema=PHASES)]
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
                "num_usable": num[enough],
                "hf_var": variance,
                "hf_df": df,
                "finite_var": np.where(known[enough], finite, np.nan),
            }
        )
        parts.append(part.cast(PHASES))  # pyright: ignore[reportArgumentType]
    return pl.concat(parts).with_columns(pl.col(pl.Float64).fill_nan(None))


@dataclass(frozen=True)
class GammaFit:
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
) -> GammaFit:
    """Quasi-likelihood of E[variance] = exp(2 X beta) + known, Var = phi 2 E^2 / df.

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
    return GammaFit(beta, covariance, spare, converged, Vt.T @ Vt)


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


def regress(
    phases: pl.DataFrame, trials: pl.DataFrame, factors: Sequence[str] = ()
) -> pl.DataFrame:
    """Exponents of learning rate and batch size, log ratios of factors, and the noise-scale law.

    Every term is conditional on all others and on the phase of training. Terms are centred, so a
    main effect is that in the middle of the grid. The law: jitter depends on learning rate over
    batch size alone, b_lr + b_batch = 0, judged by equivalence within LAW_MARGIN.

    Args: phases: as phase_variances; trials: trial_id, batch_size and the factors; factors: other
        axes, whose levels are compared with the first. Returns: columns as SCHEMA.
    """
    rows = phases.drop_nulls(["hf_var", "hf_df", "lr"]).filter(pl.col("hf_df") > 0)
    rows = rows.join(trials, on="trial_id", how="inner", maintain_order="left")
    remarks: list[str] = []
    if rows["finite_var"].null_count() < rows.height:
        lost = rows["finite_var"].null_count()
        if lost:
            remarks.append(f"{lost} phases without a known finite-set part left out")
        rows = rows.drop_nulls("finite_var")
    else:
        remarks.append("the finite-set part is unknown and stays in")
    num_trials = rows["trial_id"].n_unique()
    counts = {"num_trials": num_trials, "num_phases": rows.height}
    columns = _columns(rows, factors) if rows.height else []
    if not columns:
        return _frame([counts | {"reason": "no knob has two values"}])
    pairs = [(a, b) for a, b in itertools.combinations(columns, 2) if a[0] != b[0]]
    phase = rows["phase"].to_numpy()
    dummies = [(phase == level).astype(float) for level in np.unique(phase)[1:]]
    num_base = 1 + len(dummies) + len(columns)
    if num_trials < num_base + 2 or not (rows["hf_var"] > 0).any():
        return _frame(
            [counts | {"reason": f"{num_trials} trials are too few for {num_base} terms"}]
        )
    if num_trials < num_base + len(pairs) + MIN_SPARE_TRIALS:
        pairs = []
        remarks.append("interactions left out: too few trials")
    names = [name for _, name, _ in columns] + [f"{a[1]} x {b[1]}" for a, b in pairs]
    values = [x for _, _, x in columns] + [a[2] * b[2] for a, b in pairs]
    X = np.stack([np.ones(rows.height), *dummies, *values], axis=1)
    fit = fit_gamma(
        X,
        rows["hf_var"].to_numpy(),
        rows["finite_var"].fill_null(0.0).to_numpy(),
        rows["hf_df"].to_numpy(),
        rows["trial_id"].rank("dense").to_numpy().astype(np.int64) - 1,
    )
    if not fit.converged:
        few = "no convergence: somewhere nothing is left beside the finite-set part"
        return _frame([counts | {"reason": "; ".join([few, *remarks])}])
    first = 1 + len(dummies)
    units = np.eye(X.shape[1])
    out: list[dict[str, Any]] = [
        _term(fit, name, "main" if k < len(columns) else "interaction", units[first + k])
        for k, name in enumerate(names)
    ]
    if {"learning_rate", "batch_size"} <= set(names):
        both = (
            units[first + names.index("learning_rate")] + units[first + names.index("batch_size")]
        )
        out.append(_law(fit, both))
    for row in out:
        row |= counts
        row["reason"] = "; ".join([*row.pop("reasons"), *remarks]) or None
    return _frame(out)


def _frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA)


def _columns(rows: pl.DataFrame, factors: Sequence[str]) -> list[tuple[str, str, Floats]]:
    """Axis, name of the term, centred values (n,) of everything that varies."""
    found: list[tuple[str, str, Floats]] = []
    for axis, column in (("learning_rate", "lr"), ("batch_size", "batch_size")):
        if column in rows.columns:
            x = np.log(rows[column].cast(pl.Float64).to_numpy())
            found.append((axis, axis, x - x.mean()))
    for axis in factors:
        for level in rows[axis].unique().sort().to_list()[1:]:
            x = (rows[axis] == level).to_numpy().astype(float)
            found.append((axis, f"{axis} {level}", x - x.mean()))
    return [term for term in found if np.ptp(term[2]) > 1e-9]


def _term(fit: GammaFit, name: str, kind: str, c: Floats) -> dict[str, Any]:
    if not fit.estimable(c):
        why = "does not vary by itself: only together with other knobs"
        return {"term": name, "kind": kind, "reasons": [why]}
    estimate, se = fit.estimate(c)
    low, high = mean_interval(estimate, se, fit.df)
    return {
        "term": name,
        "kind": kind,
        "estimate": estimate,
        "low": float(low),
        "high": float(high),
        "df": fit.df,
        "reasons": [],
    }


def _law(fit: GammaFit, c: Floats) -> dict[str, Any]:
    row = _term(fit, "law", "law", c)
    if "estimate" in row:
        estimate, se = fit.estimate(c)
        row["verdict"] = equivalence(estimate, se, fit.df, LAW_MARGIN)
    return row


def equivalence(estimate: float, se: float, df: float, margin: float) -> str:
    """Whether a number is zero for practical purposes: two one-sided tests at LAW_TAIL.

    Returns: "holds" (both limits within the margin), "does not hold" (both beyond it on one side),
    "cannot tell". Source: Schuirmann 1987.
    """
    half = float(stats.t.isf(LAW_TAIL, df)) * se
    if -margin < estimate - half and estimate + half < margin:
        return "holds"
    if estimate - half > margin or estimate + half < -margin:
        return "does not hold"
    return "cannot tell"
