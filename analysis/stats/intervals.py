"""Intervals and power: small functions of numbers and arrays, all two-sided 95 %."""

from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from analysis.curves import Floats

LEVEL = 0.95
_TAIL = (1 - LEVEL) / 2


def variance_factors(df: ArrayLike) -> tuple[Floats, Floats]:
    """Factors that turn a variance estimate with `df` into its chi-square confidence interval."""
    nu = np.asarray(df, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return nu / stats.chi2.isf(_TAIL, nu), nu / stats.chi2.ppf(_TAIL, nu)


def ratio_factors(df: ArrayLike, below_df: ArrayLike) -> tuple[Floats, Floats]:
    """Factors that turn the ratio of two variance estimates into its F confidence interval.

    Args: df: of the upper estimate; below_df: of the lower one.
    """
    above, below = np.asarray(df, float), np.asarray(below_df, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 / stats.f.isf(_TAIL, above, below), 1 / stats.f.ppf(_TAIL, above, below)


def upper_tail(distance: ArrayLike) -> Floats:
    """How often a value may be estimated too large, if it can't be below a bound.

    The other part of 5 % is left for too small. Far from the bound both are 2.5 %; at the bound it
    is all 5 %, as an estimate below the bound is no evidence against it.

    Args: distance: from the bound, in standard errors. Source: the likelihood-ratio ordering of
    Feldman, Cousins 1998, Phys. Rev. D 57, 3873, for a normal estimate (abstract read).
    """
    return np.interp(np.asarray(distance, float), *_upper_tails())


@cache
def _upper_tails() -> tuple[Floats, Floats]:
    """Distances, and the upper tail at each of them; solved once, when first asked for."""
    distances = np.linspace(0.01, 1.95, 40)
    tails = [_upper_tail(float(distance)) for distance in distances]
    return np.append(distances, stats.norm.isf(_TAIL)), np.append(tails, _TAIL)


def _upper_tail(distance: float) -> float:
    """Accepted are estimates from distance - (distance^2 + t^2) / (2 distance), below the bound,
    to distance + t: there the likelihood ratio is the same."""

    def outside(t: float) -> float:
        below = stats.norm.cdf(-(distance**2 + t**2) / (2 * distance))
        return float(stats.norm.sf(t) + below - (1 - LEVEL))

    return float(stats.norm.sf(optimize.brentq(outside, 1.0, 3.0)))  # pyright: ignore[reportArgumentType]


def mean_interval(mean: ArrayLike, se: ArrayLike, df: ArrayLike) -> tuple[Floats, Floats]:
    """Student's 95 % confidence interval of a mean; NaN where df < 1."""
    nu = np.asarray(df, float)
    half = stats.t.ppf(1 - _TAIL, np.where(nu >= 1, nu, np.nan)) * np.asarray(se, float)
    return np.asarray(mean, float) - half, np.asarray(mean, float) + half


def pooled_df(parts: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """The sum of independent variance estimates and its degrees of freedom.

    Args: parts: (variance, df) of each. Source: Satterthwaite 1946.
    """
    total = np.sum([variance for variance, _ in parts], axis=0)
    below = np.sum([variance**2 / np.maximum(df, 1) for variance, df in parts], axis=0)
    return total, np.divide(total**2, below, out=np.full_like(total, np.inf), where=below > 0)


def sd_ratio(
    variance: ArrayLike, df: ArrayLike, reference: ArrayLike, reference_df: ArrayLike
) -> tuple[float, float, float]:
    """Ratio of two standard deviations and its 95 % interval, averaged over slices of a grid.

    Each argument holds one value per slice. One slice: the F interval. Several: the mean of the
    logarithms, whose bias and variance are those of a log chi-square, so no slice dominates by
    being the noisier one.

    Returns: ratio, low, high.
    """
    var, nu, var0, nu0 = (
        np.atleast_1d(np.asarray(v, float)) for v in (variance, df, reference, reference_df)
    )
    if len(var) == 1:
        ratio = float(var[0] / var0[0])
        low = ratio / stats.f.isf(_TAIL, nu[0], nu0[0])
        high = ratio / stats.f.ppf(_TAIL, nu[0], nu0[0])
        return float(np.sqrt(ratio)), float(np.sqrt(low)), float(np.sqrt(high))
    bias = _log_bias(nu) - _log_bias(nu0)
    mean = float(np.mean(np.log(var / var0) - bias)) / 2
    spread = special.polygamma(1, nu / 2) + special.polygamma(1, nu0 / 2)
    half = float(stats.norm.ppf(1 - _TAIL) * np.sqrt(spread.sum()) / len(var) / 2)
    return float(np.exp(mean)), float(np.exp(mean - half)), float(np.exp(mean + half))


def _log_bias(df: Floats) -> Floats:
    """E[log s^2] - log sigma^2 of a variance estimate with `df`."""
    return special.digamma(df / 2) - np.log(df / 2)


def detectable_ratio(df: float, finite_share: float = 0.0) -> float:
    """The ratio of two jitters that is found with 80 % power at two-sided 5 %.

    Args: df per arm; finite_share: for the ratio of the population parts, the share of the
    variance that is finite-set noise (the df count (1 - finite_share)^2 of themselves).
    Source: F test of two variances.
    """
    nu = df * (1 - finite_share) ** 2
    if nu < 1:
        return float("inf")
    return float(np.sqrt(stats.f.isf(_TAIL, nu, nu) / stats.f.ppf(0.2, nu, nu)))
