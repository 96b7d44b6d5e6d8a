"""A sweep's claims, answered from what was measured: held, did not hold, or can't be told."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from analysis.claims.measures import KINDS, Kind, estimate, sides
from analysis.claims.over_seeds import Estimate
from analysis.results import Analysis
from analysis.sources.axes import label, title
from analysis.words import capitalized, number
from raysweep.claims import Claim, listed

HELD, DID_NOT_HOLD, CANT_BE_TOLD = "held", "did not hold", "can't be told"


@dataclass(frozen=True)
class ClaimAnswer:
    """What became of a claim.

    says: the claim, as people say it
    verdict: held, did not hold, or can't be told
    finding: the measured number with its interval, in a sentence
    measure: what decided it; estimate, low, high: its value and 95 % interval, None where unknown
    num_seeds: independent groups behind the interval: seeds; of order_agreement, levels
    """

    says: str
    verdict: str
    finding: str
    measure: str
    estimate: float | None
    low: float | None
    high: float | None
    num_seeds: int

    @property
    def sentence(self) -> str:
        """The claim and its answer, for a terminal."""
        return f"claim: “{self.says}” {capitalized(self.verdict)}: {self.finding}"

    def as_dict(self) -> dict[str, Any]:
        """Give all fields as plain values."""
        return asdict(self)


def answer_claims(analysis: Analysis) -> list[ClaimAnswer]:
    """Answer every claim of a sweep, in the order of its file; an empty list where it has none."""
    spec = analysis.record["spec"]
    claims = [Claim.model_validate(claim) for claim in listed(spec.get("claim"))]
    return [answer_claim(claim, analysis) for claim in claims]


def answer_claim(claim: Claim, analysis: Analysis) -> ClaimAnswer:
    """Answer one claim from a sweep that has the axes and levels that it names."""
    found, kind = estimate(claim, analysis), KINDS[claim.measure]
    than, margin = threshold(claim)
    verdict = decide(claim.expect, found, than, margin, is_ratio=kind.is_ratio)
    known = [None if np.isnan(value) else float(value) for value in found[:3]]
    return ClaimAnswer(
        says=claim.says,
        verdict=verdict,
        finding=_finding(claim, analysis, found, kind),
        measure=claim.measure,
        estimate=known[0],
        low=known[1],
        high=known[2],
        num_seeds=found.num_groups,
    )


def threshold(claim: Claim) -> tuple[float, float]:
    """What a measure is compared with, and the smallest change of it that counts."""
    kind = KINDS[claim.measure]
    nothing = 1.0 if kind.is_ratio else 0.0
    return (
        nothing if claim.than is None else claim.than,
        kind.margin if claim.margin is None else claim.margin,
    )


def decide(expect: str, found: Estimate, than: float, margin: float, *, is_ratio: bool) -> str:
    """Decide a claim by its interval.

    "higher" holds where the whole interval is above `than`, and does not where it ends below `than`
    and the margin; "lower" likewise. "same" holds where the interval lies within the margin.
    """
    if np.isnan(found.low + found.high):
        return CANT_BE_TOLD
    least = than / (1 + margin) if is_ratio else than - margin
    most = than * (1 + margin) if is_ratio else than + margin
    held = {
        "higher": found.low > than,
        "lower": found.high < than,
        "same": least < found.low and found.high < most,
    }
    not_held = {
        "higher": found.high < most,
        "lower": found.low > least,
        "same": found.low > most or found.high < least,
    }
    if held[expect]:
        return HELD
    return DID_NOT_HOLD if not_held[expect] else CANT_BE_TOLD


def _finding(claim: Claim, analysis: Analysis, found: Estimate, kind: Kind) -> str:
    """The number with its interval, and of what it is."""
    held = "".join(f", {title(name)} {label(level)}" for name, level in claim.given.items())
    if np.isnan(found.value):
        return f"{kind.words} is not known{held}: {found.reason}."
    compared = sides(claim, analysis)
    value = _value(found, kind, is_change=compared is not None)
    if compared is None:
        text = f"{kind.words} is {value}{held}"
    else:
        first, second = map(_point_words, compared)
        if compared[0].keys() == compared[1].keys() and len(compared[0]) == 1:
            first = next(iter(compared[0].values()))  # the axis is named once
        text = (
            f"{kind.words} is {value} at {second} what it is at {first}{held}"
            if kind.is_ratio
            else f"{kind.words} changes by {value} at {second}, against {first}{held}"
        )
    return f"{text}{f'; {found.reason}' if found.reason else ''}."


def _point_words(point: dict[str, str]) -> str:
    return ", ".join(f"{title(name)} {level}" for name, level in point.items())


def _value(found: Estimate, kind: Kind, *, is_change: bool) -> str:
    """`0.55 times (0.45 to 0.68)`, `−0.72 pp (−1.10 to −0.30)`."""
    is_times = kind.is_ratio and (is_change or "over that" in kind.words)
    scale, unit = (1.0, "times") if is_times else (kind.scale, kind.unit)
    digits = 0 if unit == "%" else 2
    unit = "points" if unit == "%" and is_change else unit
    sign = "+" if is_change and not is_times and found.value > 0 else ""
    value, low, high = (number(scale * end, digits) for end in found[:3])
    limits = "" if np.isnan(found.low + found.high) else f" ({low} to {high})"
    return f"{sign}{value} {unit}{limits}"
