"""Short names of a sweep's configurations: a letter, the best first, and the words that differ."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import polars as pl

from analysis.causes.regions import Region
from analysis.sources.axes import short
from analysis.words import listed


class Setting(NamedTuple):
    """One configuration. letter: `A`, ..., `Z`, `AA`; words: `batch 32, lr 0.03`."""

    letter: str
    words: str

    @property
    def name(self) -> str:
        """The letter with the words: `A (batch 32, lr 0.03)`."""
        return f"{self.letter} ({self.words})" if self.words else self.letter


def settings(
    points: pl.DataFrame, axes: Sequence[str], first: Iterable[str], inert: Sequence[str] = ()
) -> dict[str, Setting]:
    """Name every configuration of a sweep.

    Args: points: config_id, point and a label per axis, a row per planned configuration; axes:
        columns of points; first: config_ids that have the first letters, in this order; inert:
        axes that the words leave out.
    """
    told = [name for name in axes if name not in inert] or list(axes)
    rows = {row["config_id"]: row for row in points.iter_rows(named=True)}
    order = list(dict.fromkeys([*(name for name in first if name in rows), *rows]))
    return {
        name: Setting(
            _letter(place), ", ".join(f"{short(axis)} {rows[name][axis]}" for axis in told)
        )
        for place, name in enumerate(order)
    }


def _letter(place: int) -> str:
    """`A` to `Z`, then `AA`, as columns of a spreadsheet."""
    letters = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def region_words(region: Region, names: Mapping[str, Setting]) -> str:
    """Name a region: `lr 0.3 with batch 32`, or the name of a single configuration."""
    if not region.levels:
        return listed([names[name].name for name in region.config_ids])
    # The learning rate is what a person turns first.
    levels = sorted(region.levels, key=lambda pair: pair[0] != "learning_rate")
    first, *others = [f"{short(axis)} {level}" for axis, level in levels]
    return f"{first} with {listed(others)}" if others else first
