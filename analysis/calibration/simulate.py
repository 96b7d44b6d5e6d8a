"""Curves whose truth is known: what the method is tested on and calibrated with.

Every example of the population has a margin m ~ N(0, 1) and at epoch t the score
z = m + level_t + churn * u_t, u being a stationary AR(1) of its own. It is right where z > 0, so
the accuracy of the whole population is Phi(level_t / sqrt(1 + churn^2)), whatever the validation
set. The network says that it is right with probability 1 / (1 + exp(-sharpness_t z)); the best
sharpness is 2 level_t / (1 + churn^2), and one that grows beyond it makes the loss rise while
neither the accuracy nor the loss at the fitted temperature does.

    from analysis.calibration.simulate import Scenario, simulate
    made = simulate(Scenario(num_epochs=60, fall=0.02), 100, np.random.default_rng(0))
    made.curves, made.accuracy, made.fall
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from analysis.curves import Curves, Floats
from analysis.stats.windows import window_length

AT_ONCE = 1 << 18  # scores in memory at a time: they fit into a processor's cache


@dataclass(frozen=True)
class Scenario:
    """What the trials are made of. Accuracies are fractions, correlations lag-1 per epoch."""

    num_epochs: int = 60
    num_val: int = 1000
    num_seeds: int = 1  # trials that share one validation set and one training subset
    accuracy: float = 0.9  # of the population, when learning is done
    start: float = 0.5  # of the population, before the first epoch
    learning_epochs: float = 2.0  # time constant of the rise; 0 for none
    slope: float = 0.0  # of a rise that goes on for ever, an epoch; 0 at the end of training
    jitter: float = 0.004  # SD of the population's accuracy around its trend
    correlation: float = 0.0  # of the jitter
    wander: float = 0.0  # SD of a slow wave of random phase in the population's accuracy
    wander_period: float = 15.0  # epochs
    churn: float = 0.3  # SD of each example's own movement, in SDs of the margin
    memory: float = 0.5  # correlation of that movement
    shared: float = 0.0  # share of that movement's variance that the seeds have in common
    fall: float = 0.0  # accuracy that the population loses after the peak, linearly
    peak: float = 0.3  # where the fall and the over-confidence begin, a share of training
    over_confidence: float = 0.0  # the sharpness ends at 1 + this times the best one
    gap: float = 0.05  # training accuracy above validation accuracy, before a fall
    num_train_eval: int = 200  # examples of the training subset
    num_blocks: int = 20

    def past_peak(self) -> Floats:
        """(T,) 0 until the peak, 1 at the end."""
        time = np.arange(1, self.num_epochs + 1)
        peak = np.floor(self.peak * self.num_epochs)
        return np.clip((time - peak) / max(self.num_epochs - peak, 1), 0, 1)

    def trend(self) -> Floats:
        """(T,) accuracy of the population without jitter and wander."""
        time = np.arange(1, self.num_epochs + 1)
        learnt = 1 - np.exp(-time / self.learning_epochs) if self.learning_epochs else 1.0
        rise = self.slope * (time - self.num_epochs)
        return (
            self.start
            + (self.accuracy - self.start) * learnt
            + rise
            - self.fall * (self.past_peak())
        )


@dataclass(frozen=True)
class Simulated:
    """Curves and their truth. Trials stand in the order of configurations, then seeds."""

    curves: Curves
    accuracy: Floats  # (N, T), of the population: trend, jitter and wander
    trend: Floats  # (T,), of the population
    fall: float  # of the trend: its largest window mean minus the last
    loss_rise: float  # of the trend's loss: last window mean over the smallest, minus 1
    refined_rise: float  # the same of the loss at the best temperature
    correct: NDArray[np.bool_] = field(repr=False)  # (N, T, n); n = 0 unless asked for


def ar1(
    rng: np.random.Generator, shape: tuple[int, ...], correlation: float
) -> NDArray[np.float32]:
    """Stationary AR(1) with unit variance along the last axis."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    fresh = np.float32(np.sqrt(1 - correlation**2))
    for t in range(1, shape[-1]):
        noise[..., t] = np.float32(correlation) * noise[..., t - 1] + fresh * noise[..., t]
    return noise


def simulate(
    scenario: Scenario,
    num_configs: int,
    rng: np.random.Generator,
    *,
    losses: bool = True,
    bits: bool = False,
    margins: Floats | None = None,
) -> Simulated:
    """Trials of `num_configs` configurations, each with its own validation set.

    Args: losses: whether to make the losses, which doubles the time; without, they are missing.
        bits: whether to keep which example is right when (N * T * n bytes). margins: (n,), those of
        one validation set that all configurations share; by default each draws its own.
    Raises: ValueError when a block would be empty.
    """
    s = scenario
    S, T, n, K = s.num_seeds, s.num_epochs, s.num_val, s.num_blocks
    if n < K:
        raise ValueError(f"num_val is {n}; with {K} blocks it must be at least {K}")
    trend = s.trend()
    accuracy = trend + _movement(s, (num_configs, S, T), rng)
    sharpness = _best_sharpness(trend, s.churn) * (1 + s.over_confidence * s.past_peak())
    chunk = max(1, AT_ONCE // (S * n))
    parts = []
    for first in range(0, num_configs, chunk):
        rows = slice(first, min(first + chunk, num_configs))
        seen = sharpness if losses else None
        validation = observe(s, accuracy[rows], n, K, seen, rng, bits=bits, margins=margins)
        # What the population loses after the peak, the training set doesn't: it overfits.
        trained = accuracy[rows] + s.gap + s.fall * s.past_peak()
        training = observe(s, trained, s.num_train_eval, 1, None, rng)
        parts.append(validation | {"train_accuracy": training["accuracy"]})
    made = {
        name: np.concatenate([part[name] for part in parts]).reshape(
            num_configs * S, *parts[0][name].shape[2:]
        )
        for name in parts[0]
    }
    correct = made.pop("correct")
    N = num_configs * S
    curves = Curves.of_accuracy(
        made.pop("accuracy"),
        **made,
        trial_ids=[f"{i:06d}" for i in range(N)],
        train_n=np.full(N, float(s.num_train_eval)),
        val_n=np.full(N, float(n)),
        block_weight=np.tile(_block_sizes(n, K) / n, (N, 1)),
    )
    refined, loss = population_losses(trend, s.churn, sharpness)
    return Simulated(
        curves=curves,
        accuracy=accuracy.reshape(N, T),
        trend=trend,
        fall=_rise(-trend),
        loss_rise=_rise(loss) / float(_window_means(loss).min()),
        refined_rise=_rise(refined) / float(_window_means(refined).min()),
        correct=correct,
    )


def population_losses(accuracy: Floats, churn: float, sharpness: Floats) -> tuple[Floats, Floats]:
    """The population's loss at the best sharpness and at this one. Args: all (T,)."""
    spread = np.sqrt(1 + churn**2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    z = spread * (special.ndtri(accuracy)[:, None] + nodes)
    best = _best_sharpness(accuracy, churn)
    refined, loss = (
        (np.logaddexp(0, -k[:, None] * z) * weights).sum(axis=1) for k in (best, sharpness)
    )
    return refined, loss


def _best_sharpness(accuracy: Floats, churn: float) -> Floats:
    """2 level / (1 + churn^2): with z normal, log p(z) / p(-z) is that times z. Not below 0.05."""
    return np.maximum(2 * special.ndtri(accuracy) / np.sqrt(1 + churn**2), 0.05)


def _movement(s: Scenario, shape: tuple[int, int, int], rng: np.random.Generator) -> Floats:
    """What the population's accuracy does around its trend."""
    jitter = s.jitter * ar1(rng, shape, s.correlation).astype(float)
    if not s.wander:
        return jitter
    phase = rng.uniform(0, 2 * np.pi, (*shape[:2], 1))
    wave = np.sin(2 * np.pi * np.arange(shape[2]) / s.wander_period + phase)
    return jitter + s.wander * np.sqrt(2) * wave


def observe(
    s: Scenario,
    accuracy: Floats,
    n: int,
    num_blocks: int,
    sharpness: Floats | None,
    rng: np.random.Generator,
    *,
    bits: bool = False,
    margins: Floats | None = None,
) -> dict[str, Any]:
    """What n examples show, epoch by epoch, of populations with these accuracies (C, S, T).

    Examples are exchangeable, so blocks are runs of them.
    """
    C, S, T = accuracy.shape
    level = np.float32(np.sqrt(1 + s.churn**2)) * special.ndtri(np.clip(accuracy, 0.001, 0.999))
    level = level.astype(np.float32)
    margin = rng.standard_normal((C, 1, n), dtype=np.float32)
    if margins is not None:
        margin = margins.astype(np.float32)
    own = rng.standard_normal((C, S, n), dtype=np.float32)
    fresh = np.empty_like(own)
    if s.shared:
        common = rng.standard_normal((C, 1, n), dtype=np.float32)
        own = np.float32(np.sqrt(1 - s.shared)) * own + np.float32(np.sqrt(s.shared)) * common
    starts = np.arange(num_blocks) * n // num_blocks
    size = _block_sizes(n, num_blocks)
    out: dict[str, Any] = {
        "accuracy": np.empty((C, S, T)),
        "block_accuracy": np.empty((C, S, T, num_blocks)),
        "to_wrong": np.full((C, S, T), np.nan),
        "to_right": np.full((C, S, T), np.nan),
        "correct": np.empty((C, S, T, n if bits else 0), bool),
    }
    if sharpness is not None:
        out |= {name: np.empty((C, S, T)) for name in ("val_loss", "refined_loss")}
        out |= {name: np.empty((C, S, T, num_blocks)) for name in ("block_loss", "block_refined")}
    before = np.zeros((C, S, n), bool)
    for t in range(T):
        if t:
            rng.standard_normal(out=fresh, dtype=np.float32)
            if s.shared:
                common = rng.standard_normal((C, 1, n), dtype=np.float32)
                fresh *= np.float32(np.sqrt(1 - s.shared))
                fresh += np.float32(np.sqrt(s.shared)) * common
            own *= np.float32(s.memory)
            own += np.float32(np.sqrt(1 - s.memory**2)) * fresh
        z = margin + level[..., t, None] + np.float32(s.churn) * own
        right = z > 0
        by_block = np.add.reduceat(right.view(np.int8), starts, axis=2, dtype=np.int32)
        out["block_accuracy"][:, :, t] = by_block / size
        out["accuracy"][:, :, t] = by_block.sum(axis=2) / n
        if t:
            for name, flipped in (("to_wrong", before > right), ("to_right", right > before)):
                out[name][:, :, t] = np.count_nonzero(flipped, axis=2)
        if bits:
            out["correct"][:, :, t] = right
        if sharpness is not None:
            loss = np.add.reduceat(_softplus(-np.float32(sharpness[t]) * z), starts, axis=2)
            out["block_loss"][:, :, t] = loss / size
            out["val_loss"][:, :, t] = loss.sum(axis=2, dtype=float) / n
            refined = np.add.reduceat(_softplus(-_best_fit(z) * z), starts, axis=2)
            out["block_refined"][:, :, t] = refined / size
            out["refined_loss"][:, :, t] = refined.sum(axis=2, dtype=float) / n
        before = right
    return out


def finite_variance(accuracy: float, churn: float, memory: float) -> float:
    """What one validation example adds to the jitter's variance: fin_sd^2 times num_val.

    The contrast (1/2, -1, 1/2) of its correctness, over 3/2. Args as of Scenario, at no trend.
    """
    level = special.ndtri(accuracy)
    lag = np.array([1, 2])
    r = (1 + churn**2 * memory**lag) / (1 + churn**2)
    both = accuracy - 2 * special.owens_t(level, np.sqrt((1 - r) / (1 + r)))  # right at both epochs
    return float((1.5 * accuracy - 2 * both[0] + 0.5 * both[1]) / 1.5)


def _block_sizes(n: int, num_blocks: int) -> NDArray[np.int64]:
    return np.diff(np.arange(num_blocks + 1) * n // num_blocks)


def _softplus(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.log1p(np.exp(np.minimum(x, 60)))


def _best_fit(z: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sharpness that fits these scores best. (..., n) -> (..., 1).

    Two Newton steps from 2 mean / variance, the best one but for sampling error.
    """
    k = 2 * z.mean(axis=-1, keepdims=True) / z.var(axis=-1, keepdims=True)
    for _ in range(2):
        slope, curvature = _at_sharpness(z, k)
        k = k - slope / curvature
    return np.maximum(k, np.float32(0.05))


def _at_sharpness(
    z: NDArray[np.float32], k: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Derivatives of the mean loss in k. Args: z: (..., n); k: (..., 1). Returns: (..., 1)."""
    e = np.exp(np.minimum(-np.maximum(k, np.float32(0.05)) * z, 60))
    wrong = e / (1 + e)
    return (
        -(z * wrong).mean(axis=-1, keepdims=True),
        (z * z * wrong * (1 - wrong)).mean(axis=-1, keepdims=True),
    )


def _window_means(values: Floats) -> Floats:
    """(T,) -> (T - width + 1,), with the window that the method reads."""
    width = window_length(len(values))
    return np.lib.stride_tricks.sliding_window_view(values, width).mean(axis=-1)


def _rise(values: Floats) -> float:
    """Last window mean minus the smallest."""
    means = _window_means(values)
    return float(means[-1] - means.min())
