"""What a sweep puts to the test: a sentence that people believe, and what decides it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from raysweep.errors import did_you_mean, shown
from raysweep.refusals import Frozen

Measure = Literal[
    "jitter",
    "late_jitter",
    "early_jitter",
    "averaged_jitter",
    "set_share",
    "final_accuracy",
    "kept_accuracy",
    "gap",
    "drop",
    "loss_rise",
    "seed_sd",
    "order_agreement",
]
_OF_ONE_SWEEP = ("early_jitter", "averaged_jitter", "set_share", "seed_sd")
_OF_ITSELF_A_CHANGE = ("early_jitter", "averaged_jitter")  # ratios, of which 1 is no change
_BETWEEN_ALL_LEVELS = "order_agreement"


class Claim(Frozen):
    """A sentence that people believe, and the measure that decides it. Once the sweep is trained it
    is answered: held, did not hold, or can't be told."""

    says: Annotated[str, Field(min_length=1, max_length=300)]
    """the sentence, as people say it"""
    measure: Measure
    """what decides it; docs/claims.md says what each one is"""
    expect: Literal["higher", "lower", "same"]
    """what the sentence says of the measure"""
    axis: str | None = None
    """the axis whose levels are compared; null: the measure of the whole sweep"""
    levels: tuple[Any, ...] | None = None
    """two levels of that axis, from the first to the second; null: its first and last one. Without
    an axis, two mappings of axes to levels"""
    given: dict[str, Any] = Field(default_factory=dict)
    """levels of other axes that hold meanwhile; an axis that is not named is averaged over"""
    than: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """what the measure is compared with; null: no change"""
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """the smallest change that counts; null: 0.1 of a ratio of jitters, 0.005 of an accuracy,
    0.05 of a loss, and nothing of the rest"""

    @field_validator("levels", mode="before")
    @classmethod
    def _two_levels(cls, levels: Any) -> Any:
        if levels is None:
            return None
        if not isinstance(levels, list | tuple) or len(levels) != 2:
            raise ValueError("a list of two levels of the axis")
        return tuple(levels)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        said, compares = shown(self.says), self.axis is not None or self.levels is not None
        if self.measure == _BETWEEN_ALL_LEVELS:
            if self.axis is None or self.levels is not None:
                raise ValueError(
                    f"the claim {said} needs an axis, all levels of which are compared"
                )
        elif compares and self.measure in _OF_ONE_SWEEP:
            raise ValueError(f"{self.measure} is of the whole sweep: the claim {said} has no axis")
        elif self.axis is None and not all(isinstance(at, dict) for at in self.levels or ()):
            raise ValueError(f"the claim {said} needs an axis, whose levels it compares")
        needs = not compares and self.measure not in _OF_ITSELF_A_CHANGE
        if self.than is None and (needs or self.measure == _BETWEEN_ALL_LEVELS):
            raise ValueError(f"the claim {said} needs than, which {self.measure} is compared with")
        return self


def listed(claims: Any) -> Any:
    """Make a list of claims of one claim, as a sweep file may hold either."""
    if claims is None:
        return ()
    return tuple(claims) if isinstance(claims, list | tuple) else (claims,)


Claims = Annotated[tuple[Claim, ...], BeforeValidator(listed)]


def check(claims: Iterable[Claim], axes: Mapping[str, Any]) -> None:
    """Refuse a claim about what the sweep lacks. Raises: ValueError."""
    for claim in claims:
        for sentence in misfits(claim, axes):
            raise ValueError(sentence)


def misfits(claim: Claim | Mapping[str, Any], axes: Mapping[str, Any]) -> Iterator[str]:
    """Say what a claim names that the sweep lacks, in a sentence each.

    Args: axes: the sweep's, a list of levels by name.
    """
    fields = claim.model_dump() if isinstance(claim, Claim) else claim
    axis, levels, given = (fields.get(key) for key in ("axis", "levels", "given"))
    wanted: list[tuple[Any, Any]] = []
    for level in levels if isinstance(levels, list | tuple) else ():
        is_point = axis is None and isinstance(level, Mapping)
        wanted += list(level.items()) if is_point else [(axis, level)]
    wanted += list(given.items()) if isinstance(given, Mapping) else []
    for name in dict.fromkeys([axis, *(name for name, _ in wanted)]):
        if name is not None and name not in axes:
            known = ", ".join(axes) or "none"
            yield f"claim: {shown(name)} is no axis{did_you_mean(name, axes)} Axes: {known}"
    for name, level in wanted:
        known = axes.get(name) if name is not None else None
        if isinstance(known, list | tuple) and level not in known:
            yield f"claim: {name} has no level {shown(level)}; it has {shown(list(known))}"
    if axis is not None and axis in axes and len(axes[axis]) < 2:
        yield f"claim: {axis} has one level, so there is nothing to compare"
